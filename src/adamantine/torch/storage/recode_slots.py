"""The slots of a parameter in other storage formats, and what that cost.

Conversion rounds to nearest, never with dither: it happens once, so there is no average over steps to keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adamantine.torch.storage import codecs
from adamantine.torch.storage import layout as storage
from adamantine.torch.storage.change import Account
from adamantine.torch.storage.elements import Run, block_count, packed_size
from adamantine.torch.storage.layout import Formats, coded_keys, slot_keys
from adamantine.torch.storage.transfer import Transfer, pieces


def recode_slots(
    p: Tensor, name: str, transfer: Transfer, source: Mapping[str, Any], account: Account
) -> dict[str, Tensor]:
    """What is new in the state of one parameter: slots that were in other formats, under the keys of theirs.

    A slot whose codes are in units of another's root is new wherever that other is.

    Args:
        p: the parameter, looked at for its shape, dtype and device only.
        source: its state, which is not changed.
    """
    keys = list(transfer.rule.slots.values())
    transfer = replace(transfer, saved=_there(transfer.saved, source, keys))
    changed = _changed(p, transfer, source, keys)
    if not changed:
        return {}
    device = transfer.device(p)
    old = _Slots(_flat(source, keys, device), keys, transfer.saved)
    new = {key: value for place in changed for key, value in _room(p, transfer, keys[place], place, device)}
    made = _Slots(new, keys, transfer.live)
    tallies = {}
    for place in sorted(changed):
        before_after = (
            _label(each[how.key(place, keys[place])], how, place)
            for each, how in ((source, transfer.saved), (new, transfer.live))
        )
        tallies[place] = account.tally(keys[place], *before_after)
    for run in pieces(storage.real(p).numel(), device):
        before: dict[int, Tensor] = {}
        for place in filter(old.has, transfer.saved.order):
            before[place] = old.read(place, before, run)
        after = dict(before)
        for place in transfer.live.order:
            if place in changed:
                made.write(place, before[place], after, run)
                after[place] = made.read(place, after, run)
                tallies[place].measure(name, before[place], after[place])
    for place in changed:
        key = transfer.live.key(place, keys[place])
        new[key] = _shaped(new[key], p, transfer, place, keys[place])
        held, kept = (
            [each[part] for part in slot_keys(keys[place]) if each.get(part) is not None]
            for each in (source, new)
        )
        tallies[place].count(held, kept)
    return new


def _there(how: Formats, source: Mapping[str, Any], keys: list[str]) -> Formats:
    """The formats of what is there: a dense slot may still wait to be put into codes."""
    dense = [source.get(key) is not None for key in keys]
    return replace(
        how,
        slots=tuple(
            ("dense", slot[1]) if is_dense else slot for slot, is_dense in zip(how.slots, dense, strict=True)
        ),
        partners=tuple(None if is_dense else at for at, is_dense in zip(how.partners, dense, strict=True)),
    )


def _changed(p: Tensor, transfer: Transfer, source: Mapping[str, Any], keys: list[str]) -> list[int]:
    """The places of the slots that are to be made anew."""
    changed: list[int] = []
    for place in transfer.live.order:
        slot = source.get(transfer.saved.key(place, keys[place]))
        option = storage.slot_option(transfer.group, keys[place])
        form, new_form = transfer.saved.slots[place][0], transfer.live.slots[place][0]
        if slot is None or (transfer.policy == "as asked" and option is None and form == "dense"):
            continue
        dtype = storage.dense_dtype(p, option) if new_form == "dense" else torch.uint8
        if form != new_form or slot.dtype != dtype or transfer.live.partners[place] in changed:
            changed.append(place)
    return changed


@dataclass(frozen=True)
class _Slots:
    """All slots of one parameter, flat, as they are or as they are to be: read and written in pieces.

    ``others`` are the numbers of the same piece, by place, a partner's among them as it is kept.
    """

    flat: Mapping[str, Tensor]
    keys: Sequence[str]
    how: Formats

    def has(self, place: int) -> bool:
        return self.how.key(place, self.keys[place]) in self.flat

    def read(self, place: int, others: Mapping[int, Tensor], run: Run) -> Tensor:
        code, partner = self.how.code(place), self.how.partners[place]
        if code is None:
            return storage.widen(self.flat[self.keys[place]][run.here])
        codes, headers = (self.flat[each] for each in coded_keys(self.keys[place]))
        kept = None if partner is None else others[partner]
        return codecs.decode(codes[run.codes(code.bits)], headers[run.headers], run, code, kept)

    def write(self, place: int, values: Tensor, others: Mapping[int, Tensor], run: Run) -> None:
        code, partner = self.how.code(place), self.how.partners[place]
        if code is None:
            self.flat[self.keys[place]][run.here] = values
            return
        codes, headers = (self.flat[each] for each in coded_keys(self.keys[place]))
        kept = None if partner is None else others[partner]
        codes[run.codes(code.bits)], headers[run.headers] = codecs.encode(
            values.float(), codecs.NEAREST, code, kept
        )


def _flat(source: Mapping[str, Any], keys: list[str], device: torch.device) -> dict[str, Tensor]:
    """Slots and headers in one dimension, in row-major order."""
    return {
        key: storage.real(source[key].detach()).reshape(-1).to(device)
        for slot in keys
        for key in slot_keys(slot)
        if source.get(key) is not None
    }


def _room(
    p: Tensor, transfer: Transfer, key: str, place: int, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    """Flat memory for one new slot, and its headers."""
    n = storage.real(p).numel()
    code = transfer.live.code(place)
    if code is None:
        dtype = storage.dense_dtype(p, storage.slot_option(transfer.group, key))
        yield key, torch.empty(n, dtype=dtype.to_real() if dtype.is_complex else dtype, device=device)
    else:
        codes, headers = coded_keys(key)
        yield codes, torch.empty(packed_size(n, code.bits), dtype=torch.uint8, device=device)
        yield headers, torch.empty(block_count(n), dtype=torch.int32, device=device)


def _shaped(value: Tensor, p: Tensor, transfer: Transfer, place: int, key: str) -> Tensor:
    """A flat slot as it is kept: dense ones in p's order of memory, 8-bit codes row-major in its shape."""
    if (code := transfer.live.code(place)) is not None:
        return value.view(storage.codes_shape(p, code))
    dtype = storage.dense_dtype(p, storage.slot_option(transfer.group, key))
    dense = torch.empty_like(p, dtype=dtype, device=value.device, requires_grad=False)
    storage.real(dense).copy_(value.view(storage.real(p).shape))
    return dense


def _label(slot: Tensor, how: Formats, place: int) -> str:
    form, _ = how.slots[place]
    return storage.dtype_name(slot.dtype) if form == "dense" else form
