"""The formats' own texts (`adamantine.formats`) over torch's operations: the same bits, on any device.

Tensors here are flat, float32 or int32; `adamantine.torch.storage.elements` says of which elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adamantine.formats import block, half, split, words
from adamantine.formats.block import BLOCK, Code
from adamantine.rules import bind_module
from adamantine.torch.storage.elements import Elements, Run


def _where(condition: Tensor, x: Any, y: Any) -> Tensor:
    if not isinstance(x, Tensor) and not isinstance(y, Tensor):
        x = torch.full_like(condition, x, dtype=torch.int32)  # of two numbers torch would make int64
    return torch.where(condition, x, y)


def _minimum(x: Tensor, y: Tensor | int) -> Tensor:
    return torch.minimum(x, y) if isinstance(y, Tensor) else torch.clamp_max(x, y)


def _maximum(x: Tensor, y: Tensor | int) -> Tensor:
    return torch.maximum(x, y) if isinstance(y, Tensor) else torch.clamp_min(x, y)


#: torch's meaning of what `adamantine.formats.ops` means in NumPy.
OPS: dict[str, Any] = {
    "bits": lambda x: x.view(torch.int32),
    "floats": lambda i: i.view(torch.float32),
    "to_float": lambda i: i.to(torch.float32),
    "to_int": lambda x: x.to(torch.int32),
    "largest": lambda x: x.amax(-1, keepdim=True),
    "total": lambda i: i.sum(-1, keepdim=True, dtype=torch.int32),
    "where": _where,
    "minimum": _minimum,
    "maximum": _maximum,
}

_BLOCK = bind_module(block, **OPS)
_HALF = bind_module(half, **OPS)
_SPLIT = bind_module(split, **OPS)
_WORDS = bind_module(words, **OPS)

NEAREST = block.NEAREST


def encode(
    x: Tensor, phases: Tensor | int, code: Code, kept: Tensor | None = None, elements: Elements | None = None
) -> tuple[Tensor, Tensor]:
    """float32 ``[n]`` → stored codes (uint8, see `Run.pack`) and headers ``[blocks]``.

    Args:
        x: the numbers.
        phases: of the dither, int32 ``[blocks, 128]``, or `NEAREST`.
        code: of `CODES`, or `RELATIVE`.
        kept: the second moment as it is kept, ``[n]``, in units of whose root x is to be; with `RELATIVE`.
        elements: which ones; None: the first n of a parameter.
    """
    elements = elements or Run(0, x.numel(), x.device)
    if kept is None:
        codes, headers = _BLOCK.encode(elements.blocks(x), phases, code)
    else:
        v = elements.blocks(kept.float())
        codes, headers = _BLOCK.encode_relative(elements.blocks(x), v, phases, code)
    return elements.pack(codes, code.bits), headers.view(-1)


def decode(
    stored: Tensor, headers: Tensor, elements: Elements | int, code: Code, kept: Tensor | None = None
) -> Tensor:
    """Stored codes and headers → float32 ``[n]``; ``kept`` as `encode` had it; an int: the first n."""
    if isinstance(elements, int):
        elements = Run(0, elements, stored.device)
    codes = elements.unpack(stored, code.bits)
    if kept is None:
        return elements.flat(_BLOCK.decode(codes, headers.view(-1, 1), code))
    return elements.flat(
        _BLOCK.decode_relative(codes, headers.view(-1, 1), elements.blocks(kept.float()), code)
    )


def phases(elements: Elements, keys: Sequence[int], slot: int) -> Tensor:
    """Of the dither of a rule's slot, int32 ``[blocks, 128]``; ``keys``: of each parameter among them."""
    found: Tensor = _WORDS.phase(*_places(elements, keys), slot)
    return found


def stochastic(x: Tensor, elements: Elements, keys: Sequence[int], dtype: torch.dtype) -> Tensor:
    """float32 ``[n]`` → bfloat16 or float16, rounded by the words of these elements."""
    low, high = map(elements.by_element, zip(*map(words.halves, keys), strict=True))
    word = _WORDS.half_word(elements.index(), low, high)
    if dtype == torch.bfloat16:
        return _bfloat16(_HALF.stochastic_bfloat16(x, word))
    rounded: Tensor = _HALF.stochastic_float16(x, word)
    return rounded.to(torch.float16)


def join(theta: Tensor, residual: Tensor) -> Tensor:
    """16-bit weights and what they leave over (int8, int16, or Kahan's in θ's dtype) → float32 masters."""
    if residual.is_floating_point():
        return theta.float() + residual.float()
    hi = theta.view(torch.int16).to(torch.int32)
    joined = _SPLIT.join8 if residual.dtype == torch.int8 else _SPLIT.join16
    master: Tensor = joined(hi, residual.to(torch.int32))
    return master


def split_off(
    x: Tensor, weights: str, dtype: torch.dtype, phases: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """float32 masters → θ in its dtype, and the residual of ``"kahan"``, ``"split16"`` or ``"split8"``.

    ``phases``: what split8 rounds by.
    """
    if weights == "kahan":
        short = x.to(dtype)
        return short, (x - short.float()).to(dtype)
    if weights == "split16":
        hi, residual = _SPLIT.split16(x)
        return _bfloat16(hi), residual.to(torch.int16)
    hi, residual = _SPLIT.split8(x, phases)
    return _bfloat16(hi), residual.to(torch.int8)


def _bfloat16(bits: Tensor) -> Tensor:
    return bits.to(torch.int16).view(torch.bfloat16)


def _places(elements: Elements, keys: Sequence[int]) -> tuple[Tensor, Tensor, Tensor | int]:
    """Each element's place within its block, ``[128]``, its block's number and its key's high half."""
    numbers = elements.numbers()
    high = elements.by_block([words.halves(key)[1] for key in keys])
    return torch.arange(BLOCK, dtype=torch.int32, device=numbers.device), numbers, high
