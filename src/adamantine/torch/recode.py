"""State and weights from one storage format into another, with a statement of what that cost.

Conversion rounds to nearest, never with dither: it happens once, so there is no average over steps to keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from adamantine.formats.block import BLOCK, CODES, Code
from adamantine.rules import Rule
from adamantine.torch import codecs, storage
from adamantine.torch.engines.explain import name_parameters
from adamantine.torch.options import check_state_keys
from adamantine.torch.storage import BLOCK_BITS, RESIDUAL, ROUNDING, SCALE, Formats
from adamantine.torch.storage_change import WEIGHTS, Account, StorageChange

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer

Group = dict[str, Any]
#: ``weights=`` whose master weight is in two parts.
WITH_RESIDUAL = ("kahan", "split8", "split16")
Policy = Literal["as saved", "as asked", "as live"]

#: Elements at a time: the codes make a dozen temporaries of this size. A multiple of `BLOCK`.
PIECE = 2**20
_NEAREST_PHASE = -(2**31)  # as a phase: half of what split8 rounds away


@dataclass(frozen=True)
class Transfer:
    """One group's way from one storage into another.

    Attributes:
        group: with the options under which the state is to be kept.
        rule: of the group.
        saved: how it is stored.
        live: how it is to be stored.
        policy: ``"as saved"`` keeps every slot; ``"as asked"`` converts those for which the options name a
            format, ``"as live"`` also those for which they say None, the parameter's dtype.
    """

    group: Group
    rule: Rule
    saved: Formats
    live: Formats
    policy: Policy


def store_as(optimizer: Optimizer, *, state: Any = "unchanged", weights: Any = "unchanged") -> StorageChange:
    """See `Optimizer.store_as`. Every check is made before any change."""
    asked = {"state": state, "weights": weights}
    asked = {key: value for key, value in asked.items() if not _is_unchanged(value)}
    names = name_parameters(optimizer.param_groups)
    transfers = []
    for group in optimizer.param_groups:
        wanted = {**group, **asked}
        optimizer._check_options(wanted)
        rule = optimizer.rule(group)
        owner = f"{type(optimizer).__name__} ({rule.name})"
        check_state_keys(wanted["state"], list(rule.slots.values()), owner)
        live = storage.formats(wanted, rule)
        for p in group["params"]:
            storage.check_storable(p, names[p], live)
        transfers.append(Transfer(wanted, rule, storage.formats(group, rule), live, "as live"))
    account = Account()
    for group, transfer in zip(optimizer.param_groups, transfers, strict=True):
        for p in group["params"]:
            if entry := optimizer.state.get(p):
                with torch.no_grad():
                    if "state" in asked:
                        entry.update(recode_slots(p, names[p], transfer, entry, account))
                    recode_weights(p, names[p], transfer, entry, account)
                drop_superfluous(entry, p, transfer.rule, transfer.live)
        group.update({key: transfer.group[key] for key in asked})
        optimizer.defaults.update({key: transfer.group[key] for key in asked})
    optimizer._native = optimizer._laid_out = None
    return account.statement()


def recode_slots(
    p: Tensor, name: str, transfer: Transfer, source: Mapping[str, Any], account: Account
) -> dict[str, Tensor]:
    """What is new in the state of one parameter: slots, with headers, that were in other formats.

    Args:
        p: the parameter, looked at for its shape, dtype and device only.
        source: its state, which is not changed.
    """
    made: dict[str, Tensor] = {}
    slots = zip(transfer.rule.slots.values(), transfer.saved.slots, transfer.live.slots, strict=True)
    for key, (form, signed), (new_form, _) in slots:
        slot = source.get(key)
        option = storage.slot_option(transfer.group, key)
        if slot is None or (transfer.policy == "as asked" and option is None and form == "dense"):
            continue
        dtype = storage.dense_dtype(p, option) if new_form == "dense" else torch.uint8
        if form == new_form and slot.dtype == dtype:
            continue
        held = [slot, *([source[key + SCALE]] if form != "dense" else [])]
        tally = account.tally(key, _label(form, slot.dtype), _label(new_form, dtype))
        new = _recoded(held, form, new_form, signed, p, dtype, partial(tally.measure, name))
        tally.count(held, new)
        made |= zip((key, key + SCALE), new, strict=False)
    return made


def _recoded(
    held: list[Tensor], form: str, new_form: str, signed: bool, p: Tensor, dtype: torch.dtype, measure: Any
) -> list[Tensor]:
    """The slot's tensors in the new format."""
    like = storage.real(p.detach())
    n = like.numel()
    old_code, new_code = _code(form, signed), _code(new_form, signed)
    values = storage.real(held[0]).reshape(-1).to(p.device)
    headers = held[1].to(p.device) if old_code else None
    if new_code is None:
        flat = torch.empty(n, dtype=dtype.to_real() if dtype.is_complex else dtype, device=p.device)
        made = [flat]
    else:
        flat = torch.empty(codecs.packed_size(n, new_code.bits), dtype=torch.uint8, device=p.device)
        made = [flat, torch.empty(-(-n // BLOCK), dtype=torch.int32, device=p.device)]
    for start, stop in _pieces(n):
        if old_code is None:
            before = storage.widen(values[start:stop])
        else:
            assert headers is not None
            before = codecs.decode(
                values[_bytes(start, stop, old_code)], headers[_headers(start, stop)], stop - start, old_code
            )
        if new_code is None:
            flat[start:stop] = before
            after = flat[start:stop]
        else:
            codes, found = codecs.encode(before.float(), codecs.NEAREST, new_code)
            flat[_bytes(start, stop, new_code)] = codes
            made[1][_headers(start, stop)] = found
            after = codecs.decode(codes, found, stop - start, new_code)
        measure(before, after)
    if new_code is None:
        made[0] = torch.empty_like(p, dtype=dtype, requires_grad=False)  # in p's order of memory
        storage.real(made[0]).copy_(flat.view(like.shape))
    elif new_code.bits == 8:
        made[0] = flat.view(like.shape)
    return made


def recode_weights(p: Tensor, name: str, transfer: Transfer, entry: dict[str, Any], account: Account) -> None:
    """The master weight of one parameter in another format; θ moves by a unit of its last place at most.

    From and to formats without a residual, θ is what it was; the residual that goes is the loss. A residual
    that is needed and was not there starts at zero, with the next step.
    """
    old, new = transfer.saved.weights_of(p), transfer.live.weights_of(p)
    residual = entry.get(RESIDUAL)
    if old == new or residual is None:
        return
    tally = account.tally(WEIGHTS, old, new)
    flat, left = storage.real(p.detach()).reshape(-1), storage.real(residual).reshape(-1)
    dtype = residual_dtype(p, transfer.live)
    made = torch.empty(flat.shape, dtype=dtype, device=p.device)
    for start, stop in _pieces(flat.numel()):
        theta = flat[start:stop]
        before = master(theta, left[start:stop], old)
        if new == "kahan":
            short = before.to(theta.dtype)
            rest = (before - short.float()).to(theta.dtype)
        elif new == "split16":
            short, rest = codecs.split16(before)
        elif new == "split8":
            short, rest = codecs.split8(before, torch.full_like(before, _NEAREST_PHASE, dtype=torch.int32))
        else:
            tally.measure(name, before, theta.float())
            continue
        flat[start:stop] = short
        made[start:stop] = rest
        tally.measure(name, before, master(short, rest, new))
    del entry[RESIDUAL]
    kept = []
    if dtype is not None:
        storage.real(p.detach()).copy_(flat.view(storage.real(p).shape))
        entry[RESIDUAL] = torch.empty_like(p, dtype=dtype, requires_grad=False)
        storage.real(entry[RESIDUAL]).copy_(made.view(storage.real(p).shape))
        kept = [entry[RESIDUAL]]
    tally.count([p, residual], [p, *kept])


def master(theta: Tensor, residual: Tensor, weights: str) -> Tensor:
    """The float32 weights that θ and its residual stand for."""
    if weights == "kahan":
        return theta.float() + residual.float()
    return codecs.join(theta, residual)


def drop_superfluous(entry: dict[str, Any], p: Tensor, rule: Rule, how: Formats) -> None:
    """Parts of other formats than these."""
    for key, (form, _) in zip(rule.slots.values(), how.slots, strict=True):
        if form == "dense":
            entry.pop(key + SCALE, None)
    if residual_dtype(p, how) is None:
        entry.pop(RESIDUAL, None)
    if not how.rounds(p):
        entry.pop(ROUNDING, None)


def residual_dtype(p: Tensor, how: Formats) -> torch.dtype | None:
    """In which dtype p has a residual; None: it has none."""
    return {"kahan": p.dtype, "split8": torch.int8, "split16": torch.int16}.get(how.weights_of(p))


def _is_unchanged(value: Any) -> bool:
    return isinstance(value, str) and value == "unchanged"


def _label(form: str, dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.") if form == "dense" else form


def _code(form: str, signed: bool) -> Code | None:
    return None if form == "dense" else CODES[BLOCK_BITS[form], signed]


def _pieces(n: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n, PIECE):
        yield start, min(start + PIECE, n)


def _bytes(start: int, stop: int, code: Code) -> slice:
    first = start * code.bits // 8
    return slice(first, first + codecs.packed_size(stop - start, code.bits))


def _headers(start: int, stop: int) -> slice:
    return slice(start // BLOCK, -(-stop // BLOCK))
