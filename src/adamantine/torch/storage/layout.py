"""What is stored of a parameter and how: which format each slot and the weights have, made, read and written.

The state of a parameter beside the rule's counters:

- a dense slot: a tensor under the slot's key;
- a slot in blocks (`adamantine.formats.block`), under two keys of its own (`coded_keys`): codes, uint8 in θ's
  row-major order, of θ's shape at 8 bits, packed bytes at 4; and headers, int32, one per 128 elements.
  Under the slot's own key there is nothing then: who would take codes for numbers is to find none;
- `RESIDUAL`: what bfloat16 or float16 weights leave over (kahan: their dtype; split8: int8; split16: int16);
- `ROUNDING`: the 64-bit key by which the next step rounds, on the host, where anything is dithered.

Complex numbers are pairs of real ones throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adamantine.formats import words
from adamantine.formats.block import CODES, RELATIVE, Code
from adamantine.rules import Rule
from adamantine.torch.kernel import filled_like
from adamantine.torch.options import StateFormat, WeightsFormat, check_choice
from adamantine.torch.storage import codecs
from adamantine.torch.storage.elements import block_count, packed_size

CODES_SUFFIX = "_codes"
SCALE = "_scale"
RESIDUAL = "residual"
ROUNDING = "rounding"

#: Block formats and their bits; every other is a dtype.
BLOCK_BITS = {"8bit": 8, "4bit": 4}

_HALF = (torch.bfloat16, torch.float16)
RESIDUAL_DTYPES = {"split8": torch.int8, "split16": torch.int16}
#: ``weights=`` whose master weight is in two parts.
WITH_RESIDUAL = ("kahan", *RESIDUAL_DTYPES)

Group = dict[str, Any]


@dataclass(frozen=True)
class Formats:
    """How one group's parameters are stored.

    Attributes:
        slots: of each of the rule's slots ``("dense" | "8bit" | "4bit", whether it has a sign)``.
        weights: ``"nearest"``, ``"stochastic"``, ``"kahan"``, ``"split8"`` or ``"split16"``.
        partners: of each slot the place of the second moment in whose root its codes are, or None.
    """

    slots: tuple[tuple[str, bool], ...]
    weights: str
    partners: tuple[int | None, ...] = ()

    def code(self, place: int) -> Code | None:
        """The block code of the slot at this place of the rule's; None where it is dense."""
        form, signed = self.slots[place]
        if form == "dense":
            return None
        return CODES[BLOCK_BITS[form], signed] if self.partners[place] is None else RELATIVE

    @property
    def order(self) -> list[int]:
        """The places of the slots, each behind that of its partner."""
        return sorted(range(len(self.slots)), key=lambda place: self.partners[place] is not None)

    @property
    def has_blocks(self) -> bool:
        return any(form != "dense" for form, _ in self.slots)

    def key(self, place: int, slot: str) -> str:
        """The key of the slot's numbers or codes; ``slot``: the slot's own, which is at this place."""
        return slot if self.slots[place][0] == "dense" else coded_keys(slot)[0]

    def is_dithered(self, place: int) -> bool:
        """Whether the slot at this place is rounded by the dither; other codes are the nearest."""
        form, signed = self.slots[place]
        return form != "dense" and (not signed or self.partners[place] is not None)

    def is_plain(self, p: Tensor) -> bool:
        """Whether this parameter and its state are ordinary tensors, rounded to nearest."""
        return not self.has_blocks and self.weights_of(p) in {"exact", "nearest"}

    def weights_of(self, p: Tensor) -> str:
        """How this parameter's weights are stored: as the group says, or ``"exact"`` in full precision."""
        return self.weights if real_dtype(p) in _HALF else "exact"

    def rounds(self, p: Tensor) -> bool:
        """Whether this parameter's state has a key to round by."""
        dithered = any(map(self.is_dithered, range(len(self.slots))))
        return dithered or self.weights_of(p) in {"stochastic", "split8"}


def coded_keys(key: str) -> tuple[str, str]:
    """Under which keys a slot in blocks lies: its codes and, behind their key, the headers."""
    codes = key + CODES_SUFFIX
    return codes, codes + SCALE


def slot_keys(key: str) -> tuple[str, str, str]:
    """Every key under which something of a slot may lie: its own, and `coded_keys`."""
    return key, *coded_keys(key)


#: Dense slots and weights rounded to nearest, of a rule of any number of slots.
PLAIN = Formats((), "nearest")


def formats(group: Group, rule: Rule) -> Formats:
    """How this group's parameters are stored under this rule.

    Raises:
        ValueError: a format that is none, which a group may have been given since it was made; blocks for
            slots that this rule subtracts from each other.
    """
    weights = group["weights"] or "nearest"
    check_choice("weights", weights, WeightsFormat)
    for letter, key in rule.slots.items():
        if (asked := slot_option(group, key)) is not None:
            check_choice(f"state of {key}", asked, StateFormat)
        if asked in BLOCK_BITS and letter in rule.cancelling:
            raise ValueError(_cancels(rule, key, asked))
    slots = slot_formats(group, rule)
    letters = list(rule.slots)
    partners = [
        letters.index(rule.relative[letter]) if form == "4bit" and letter in rule.relative else None
        for letter, (form, _) in zip(letters, slots, strict=True)
    ]
    return Formats(tuple(slots), weights, tuple(partners))


def _cancels(rule: Rule, key: str, asked: str) -> str:
    others = {name: asked for letter, name in rule.slots.items() if letter not in rule.cancelling}
    return (
        f"Invalid state: {asked!r} for {key} of rule {rule.name!r}, which divides by the root of a "
        "difference, square_avg - grad_avg²: codes can make it 0, and a step as long as 1/eps. Give "
        + (f"state={others}, or " if others else "")
        + "state='float32', or centered=False"
    )


def slot_formats(group: Group, rule: Rule) -> list[tuple[str, bool]]:
    """Of each slot, in the rule's order: ``("dense" | "8bit" | "4bit", whether it has a sign)``."""
    return [
        (asked if asked in BLOCK_BITS else "dense", letter not in rule.unsigned)
        for letter, key in rule.slots.items()
        for asked in [slot_option(group, key)]
    ]


def slot_option(group: Group, key: str) -> str | None:
    """What the group's ``state`` says of one slot; None: the parameter's dtype."""
    state = group["state"]
    option: str | None = state if state is None or isinstance(state, str) else state.get(key)
    return option


def dense_dtype(p: Tensor, option: str | None) -> torch.dtype:
    """In which dtype a dense slot of p is made."""
    if option is None:
        return p.dtype
    dtype: torch.dtype = getattr(torch, option)
    return dtype.to_complex() if p.is_complex() else dtype


def fill_slots(state: dict[str, Any], p: Tensor, group: Group, rule: Rule, how: Formats) -> bool:
    """Make the slots that are missing; whether any was.

    A dense slot where the group now asks for a block format is encoded, to nearest. What is
    there fits (`adamantine.torch.storage.checks.check_kept`).
    """
    fresh = False
    letters, keys = list(rule.slots), list(rule.slots.values())
    for place in how.order:
        letter, key = letters[place], keys[place]
        if state.get(how.key(place, key)) is not None:
            continue
        code, is_new = how.code(place), state.get(key) is None
        value = group[rule.initial[letter]] if letter in rule.initial else 0.0
        if code is None:
            fill = complex(value, value) if p.is_complex() else value
            state[key] = filled_like(p, fill, dense_dtype(p, slot_option(group, key)))
        else:
            parts = _constant(p, float(value), code) if is_new else _encoded(state, p, keys, place, how)
            state.update(zip(coded_keys(key), parts, strict=True))
            state.pop(key, None)
        fresh |= is_new
    return fresh


def fill_residual(state: dict[str, Any], p: Tensor, how: Formats) -> None:
    """Make what the weights' format keeps beside them, where it is missing."""
    if (dtype := residual_dtype(p, how)) is not None and state.get(RESIDUAL) is None:
        state[RESIDUAL] = filled_like(p, 0, dtype)


def residual_dtype(p: Tensor, how: Formats) -> torch.dtype | None:
    """In which dtype p has a residual; None: it has none."""
    return {"kahan": p.dtype, **RESIDUAL_DTYPES}.get(how.weights_of(p))


def _encoded(
    state: dict[str, Any], p: Tensor, keys: list[str], place: int, how: Formats
) -> tuple[Tensor, Tensor]:
    """Codes and headers of a dense slot, to nearest."""
    code, partner = how.code(place), how.partners[place]
    assert code is not None
    values = real(state[keys[place]].detach()).reshape(-1).float()
    kept = None
    if partner is not None:
        kept = _read_slot(state, keys[partner], how.code(partner), values.numel())
    codes, headers = codecs.encode(values, codecs.NEAREST, code, kept)
    return codes.view(codes_shape(p, code)), headers


def advance_key(state: dict[str, Any]) -> None:
    """The rounding key of the step after."""
    if ROUNDING in state:
        state[ROUNDING].fill_(words.next_key(int(state[ROUNDING])))


def real(tensor: Tensor) -> Tensor:
    """A complex number is two real ones to every rule and format, as in torch.optim."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def widen(tensor: Tensor) -> Tensor:
    """Half precision as float32; all else as it is."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def _read_slot(state: dict[str, Any], key: str, code: Code | None, n: int) -> Tensor:
    """A slot that has no partner itself, float32 ``[n]``."""
    if code is None:
        return real(state[key]).reshape(-1).float()
    codes, headers = (state[each] for each in coded_keys(key))
    return codecs.decode(codes.reshape(-1), headers, n, code)


def _constant(p: Tensor, value: float, code: Code) -> tuple[Tensor, Tensor]:
    """Codes and headers of a slot that is the same everywhere."""
    n = real(p.detach()).numel()
    shape = codes_shape(p, code)
    codes = filled_like(torch.empty(shape, dtype=torch.uint8, device=p.device), 0, torch.uint8)
    headers = torch.zeros(block_count(n), dtype=torch.int32, device=p.device)
    if value:
        stored, found = codecs.encode(torch.full((n,), value, device=p.device), codecs.NEAREST, code)
        codes.copy_(stored.view(shape))
        headers.copy_(found)
    return codes, headers


def codes_shape(p: Tensor, code: Code) -> tuple[int, ...]:
    """Of a slot's codes: θ's at 8 bits, in one dimension at 4."""
    shape = real(p.detach()).shape
    return tuple(shape) if code.bits == 8 else (packed_size(shape.numel(), code.bits),)


def dtype_name(dtype: torch.dtype) -> str:
    """As ``state=`` says it.

    >>> dtype_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def real_dtype(p: Tensor) -> torch.dtype:
    return p.dtype.to_real() if p.is_complex() else p.dtype
