"""What is stored of a parameter and how: which format each slot and the weights have, made, read and written.

The state of a parameter beside the rule's counters:

- the slot's key: a dense tensor, or the codes of a block format, uint8 in θ's row-major order: θ's shape at
  8 bits, packed bytes at 4 (`adamantine.formats.block`);
- the key with `SCALE` behind: a block format's headers, int32, one per 128 elements;
- `RESIDUAL`: what bfloat16 or float16 weights leave over (kahan: their dtype; split8: int8; split16: int16);
- `ROUNDING`: the 64-bit key by which the next step rounds, on the host, where anything is dithered.

Complex numbers are pairs of real ones throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adamantine.formats import words
from adamantine.formats.block import BLOCK, CODES, Code
from adamantine.rules import Rule
from adamantine.torch import codecs
from adamantine.torch.kernel import filled_like

SCALE = "_scale"
RESIDUAL = "residual"
ROUNDING = "rounding"

#: Block formats and their bits; every other is a dtype.
BLOCK_BITS = {"8bit": 8, "4bit": 4}

_HALF = (torch.bfloat16, torch.float16)
_RESIDUAL_DTYPES = {"split8": torch.int8, "split16": torch.int16}
_SPLIT8_SLOT = 3  # the place of θ's own dither behind those of the slots

Group = dict[str, Any]


@dataclass(frozen=True)
class Formats:
    """How one group's parameters are stored.

    Attributes:
        slots: of each of the rule's slots ``("dense" | "8bit" | "4bit", whether it has a sign)``.
        weights: ``"nearest"``, ``"stochastic"``, ``"kahan"``, ``"split8"`` or ``"split16"``.
    """

    slots: tuple[tuple[str, bool], ...]
    weights: str

    @property
    def has_blocks(self) -> bool:
        return any(form != "dense" for form, _ in self.slots)

    @property
    def has_dithered_blocks(self) -> bool:
        return any(form != "dense" and not signed for form, signed in self.slots)

    def is_plain(self, p: Tensor) -> bool:
        """Whether this parameter and its state are ordinary tensors, rounded to nearest."""
        return not self.has_blocks and self.weights_of(p) in {"exact", "nearest"}

    def weights_of(self, p: Tensor) -> str:
        """How this parameter's weights are stored: as the group says, or ``"exact"`` in full precision."""
        return self.weights if _real_dtype(p) in _HALF else "exact"

    def rounds(self, p: Tensor) -> bool:
        """Whether this parameter's state has a key to round by."""
        return self.has_dithered_blocks or self.weights_of(p) in {"stochastic", "split8"}


#: Dense slots and weights rounded to nearest, of a rule of any number of slots.
PLAIN = Formats((), "nearest")


def formats(group: Group, rule: Rule) -> Formats:
    """How this group's parameters are stored under this rule."""
    return Formats(tuple(slot_formats(group, rule)), group["weights"] or "nearest")


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


def check_storable(p: Tensor, name: str, how: Formats) -> None:
    """ValueError where a parameter cannot be stored so; the message says what else it can be."""
    if how.is_plain(p):
        return
    if type(p) not in {Tensor, torch.nn.Parameter}:
        raise ValueError(
            f"{name} is a {type(p).__name__}, of which one process holds a part and no format knows the "
            "borders; give state='bfloat16' (or another dtype) and weights='nearest'"
        )
    if how.weights in _RESIDUAL_DTYPES and _real_dtype(p) == torch.float16:
        raise ValueError(
            f"Invalid weights: {how.weights!r} for {name}, which is float16: split weights are bfloat16 and "
            "a residual; give weights='kahan' or 'stochastic', or convert the model to bfloat16"
        )


def fill_slots(state: dict[str, Any], p: Tensor, group: Group, rule: Rule, how: Formats) -> bool:
    """Make the slots that are missing; whether any was.

    A dense slot where the group now asks for a block format is encoded, to nearest.

    Raises:
        ValueError: a slot is in another block format than the group asks for.
    """
    fresh = False
    for (letter, key), (form, signed) in zip(rule.slots.items(), how.slots, strict=True):
        if state.get(key) is None:
            value = group[rule.initial[letter]] if letter in rule.initial else 0.0
            if form == "dense":
                fill = complex(value, value) if p.is_complex() else value
                state[key] = filled_like(p, fill, dense_dtype(p, slot_option(group, key)))
            else:
                code = CODES[BLOCK_BITS[form], signed]
                state[key], state[key + SCALE] = _constant(p, float(value), code)
            fresh = True
        elif form != "dense" or key + SCALE in state:
            _settle(state, p, key, form, signed)
    return fresh


def fill_residual(state: dict[str, Any], p: Tensor, how: Formats) -> None:
    """Make what the weights' format keeps beside them, where it is missing."""
    weights = how.weights_of(p)
    if weights in {"kahan", *_RESIDUAL_DTYPES} and state.get(RESIDUAL) is None:
        state[RESIDUAL] = filled_like(p, 0, _RESIDUAL_DTYPES.get(weights, p.dtype))


def _settle(state: dict[str, Any], p: Tensor, key: str, form: str, signed: bool) -> None:
    """A slot that is there, in the format that is asked for."""
    slot, headers = state[key], state.get(key + SCALE)
    n = real(p).numel()
    if headers is None and form != "dense" and slot.is_floating_point() | slot.is_complex():
        code = CODES[BLOCK_BITS[form], signed]
        codes, found = codecs.encode(real(slot.detach()).reshape(-1).float(), codecs.NEAREST, code)
        state[key] = codes.view(_codes_shape(p, code))
        state[key + SCALE] = found
    elif (
        form == "dense"
        or headers is None
        or (slot.dtype, slot.numel()) != (torch.uint8, codecs.packed_size(n, BLOCK_BITS[form]))
        or headers.shape != (-(-n // BLOCK),)
    ):
        raise ValueError(
            f"{key} is stored as {str(slot.dtype).removeprefix('torch.')} {tuple(slot.shape)}, not as the "
            f"group's state={form!r} has it for a parameter of shape {tuple(p.shape)}; set group['state'] to "
            "the format that the state was made in"
        )


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


class Stored:
    """One parameter and its slots as the rule takes them: flat pieces in row-major order, decoded.

    What does not lie in that order is copied, and put back by `close`.
    """

    def __init__(self, theta: Tensor, state: dict[str, Any], keys: Sequence[str], how: Formats) -> None:
        self._how = how
        self._weights = how.weights_of(theta)
        self._state = state
        self._copied: list[tuple[Tensor, Tensor]] = []
        self._theta = self._flat(theta)
        self._residual = self._flat(state[RESIDUAL]) if RESIDUAL in state else None
        self._slots = [self._flat(state[key]) for key in keys]
        self._headers = [
            self._flat(state[key + SCALE]) if form != "dense" else None
            for key, (form, _) in zip(keys, how.slots, strict=True)
        ]
        self._key = int(state[ROUNDING]) if ROUNDING in state else 0
        self.numel = self._theta.numel()

    def _flat(self, tensor: Tensor) -> Tensor:
        tensor = real(tensor)
        flat = tensor.reshape(-1)
        if flat.data_ptr() != tensor.data_ptr():
            self._copied.append((tensor, flat))
        return flat

    def read(self, start: int, stop: int) -> tuple[Tensor, list[Tensor]]:
        """θ and the slots of elements start to stop; start is a multiple of 128."""
        theta = self._theta[start:stop]
        if self._weights in _RESIDUAL_DTYPES:
            assert self._residual is not None
            theta = codecs.join(theta, self._residual[start:stop])
        elif self._weights == "kahan":
            assert self._residual is not None
            theta = theta.float() + self._residual[start:stop].float()
        theta = widen(theta)
        slots = []
        for slot, headers, (form, signed) in zip(self._slots, self._headers, self._how.slots, strict=True):
            if headers is None:
                slots.append(widen(slot[start:stop]))
                continue
            code = CODES[BLOCK_BITS[form], signed]
            found = codecs.decode(
                slot[_bytes(start, stop, code)], headers[_blocks(start, stop)], stop - start, code
            )
            slots.append(found.to(theta.dtype))
        return theta, slots

    def write(self, start: int, stop: int, theta: Tensor, slots: Sequence[Tensor]) -> None:
        """The new θ and slots of the same elements."""
        self._write_theta(start, stop, theta)
        _, high = words.halves(self._key)
        for place, (slot, headers, (form, signed), new) in enumerate(
            zip(self._slots, self._headers, self._how.slots, slots, strict=True)
        ):
            if headers is None:
                slot[start:stop].copy_(new)
                continue
            code = CODES[BLOCK_BITS[form], signed]
            u = codecs.NEAREST if signed else codecs.dither(start, stop - start, high, place, new.device)
            stored, heads = codecs.encode(new.float(), u, code)
            slot[_bytes(start, stop, code)].copy_(stored)
            headers[_blocks(start, stop)].copy_(heads)

    def _write_theta(self, start: int, stop: int, new: Tensor) -> None:
        theta = self._theta[start:stop]
        if self._weights in {"exact", "nearest"}:
            theta.copy_(new)
            return
        new = new.float()
        if self._weights == "stochastic":
            theta.copy_(codecs.stochastic(new, start, self._key, theta.dtype))
            return
        assert self._residual is not None
        if self._weights == "split16":
            short, left = codecs.split16(new)
        elif self._weights == "split8":
            _, high = words.halves(self._key)
            short, left = codecs.split8(
                new, codecs.phase(start, stop - start, high, _SPLIT8_SLOT, new.device)
            )
        else:
            short = new.to(theta.dtype)
            left = (new - short.float()).to(theta.dtype)
        theta.copy_(short)
        self._residual[start:stop].copy_(left)

    def close(self) -> None:
        """End the step: copies back to their places, and the next key."""
        for tensor, flat in self._copied:
            tensor.copy_(flat.view(tensor.shape))
        advance_key(self._state)


def _constant(p: Tensor, value: float, code: Code) -> tuple[Tensor, Tensor]:
    """Codes and headers of a slot that is the same everywhere."""
    n = real(p.detach()).numel()
    shape = _codes_shape(p, code)
    codes = filled_like(torch.empty(shape, dtype=torch.uint8, device=p.device), 0, torch.uint8)
    headers = torch.zeros(-(-n // BLOCK), dtype=torch.int32, device=p.device)
    if value:
        stored, found = codecs.encode(torch.full((n,), value, device=p.device), codecs.NEAREST, code)
        codes.copy_(stored.view(shape))
        headers.copy_(found)
    return codes, headers


def _codes_shape(p: Tensor, code: Code) -> tuple[int, ...]:
    shape = real(p.detach()).shape
    return tuple(shape) if code.bits == 8 else (codecs.packed_size(shape.numel(), code.bits),)


def _bytes(start: int, stop: int, code: Code) -> slice:
    """Where the codes of elements start to stop lie; start is a multiple of 128."""
    first = start * code.bits // 8
    return slice(first, first + codecs.packed_size(stop - start, code.bits))


def _blocks(start: int, stop: int) -> slice:
    return slice(start // BLOCK, -(-stop // BLOCK))


def _real_dtype(p: Tensor) -> torch.dtype:
    return p.dtype.to_real() if p.is_complex() else p.dtype
