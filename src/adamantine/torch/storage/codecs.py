"""The formats' own texts (`adamantine.formats`) over torch's operations: the same bits, on any device.

Tensors here are flat pieces of a parameter, float32 or int32, in row-major order. A piece starts at a
multiple of `BLOCK` elements, so that its blocks are the parameter's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from adamantine.formats import block, half, split, words
from adamantine.formats.block import BLOCK, Code
from adamantine.rules import bind_module


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

NEAREST = 0.5  # as dither: half a code


def encode(x: Tensor, u: Tensor | float, code: Code, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """float32 ``[n]`` → stored codes (uint8, see `pack`) and headers ``[⌈n/128⌉]``.

    Args:
        x: the numbers.
        u: dither ``[n]`` in [0, 1), or `NEAREST`.
        code: of `CODES`, or `RELATIVE`.
        kept: the second moment as it is kept, ``[n]``, in units of whose root x is to be; with `RELATIVE`.
    """
    given = blocks(u) if isinstance(u, Tensor) else u
    if kept is None:
        codes, headers = _BLOCK.encode(blocks(x), given, code)
    else:
        codes, headers = _BLOCK.encode_relative(blocks(x), blocks(kept.float()), given, code)
    return pack(codes, x.numel(), code.bits), headers.view(-1)


def decode(stored: Tensor, headers: Tensor, n: int, code: Code, kept: Tensor | None = None) -> Tensor:
    """Stored codes and headers → float32 ``[n]``; ``kept`` as `encode` had it."""
    codes = unpack(stored, n, code.bits)
    decoded: Tensor
    if kept is None:
        decoded = _BLOCK.decode(codes, headers.view(-1, 1), code)
    else:
        decoded = _BLOCK.decode_relative(codes, headers.view(-1, 1), blocks(kept.float()), code)
    return decoded.view(-1)[:n]


def pack(codes: Tensor, n: int, bits: int) -> Tensor:
    """int32 codes ``[blocks, 128]`` → uint8: one each, or two a byte, a block's first half low."""
    flat = codes.view(-1)[:n].to(torch.uint8)
    if bits == 8:
        return flat
    whole = n - n % BLOCK
    return torch.cat([_pair(flat[:whole].view(-1, BLOCK)), _pair(flat[whole:].view(1, -1))])


def unpack(stored: Tensor, n: int, bits: int) -> Tensor:
    """The inverse; codes that are no element's are 0."""
    if bits == 8:
        return blocks(stored.to(torch.int32))
    whole = n - n % BLOCK
    full = _part(stored[: whole // 2].view(-1, BLOCK // 2))
    rest = _part(stored[whole // 2 :].view(1, -1))[: n - whole]
    return blocks(torch.cat([full, rest]).to(torch.int32))


def packed_size(n: int, bits: int) -> int:
    """Bytes of n codes."""
    return n if bits == 8 else (n + 1) // 2


def block_count(n: int) -> int:
    """Headers of n codes."""
    return -(-n // BLOCK)


def dither(start: int, n: int, high: int, slot: int, device: torch.device) -> Tensor:
    """That of a rule's slot for elements start to start + n of a parameter, float32 ``[n]``."""
    u: Tensor = _WORDS.dither(*_places(start, n, device), high, slot)
    return u.view(-1)[:n]


def phase(start: int, n: int, high: int, slot: int, device: torch.device) -> Tensor:
    """The 32 bits behind that dither, int32 ``[n]``."""
    found: Tensor = _WORDS.phase(*_places(start, n, device), high, slot)
    return found.view(-1)[:n]


def stochastic(x: Tensor, start: int, key: int, dtype: torch.dtype) -> Tensor:
    """float32 ``[n]`` → bfloat16 or float16, rounded by the words of elements start to start + n."""
    low, high = words.halves(key)
    index = torch.arange(start, start + x.numel(), device=x.device).to(torch.int32)
    word = _WORDS.word(index, low, high)
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


def blocks(x: Tensor) -> Tensor:
    """``[n]`` → ``[⌈n/128⌉, 128]``, filled up with zeros."""
    return pad(x, (0, -x.numel() % BLOCK)).view(-1, BLOCK)


def _places(start: int, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Each element's place within its block, ``[128]``, and its block's number, ``[blocks, 1]``."""
    numbers = torch.arange(start // BLOCK, block_count(start + n), device=device).to(torch.int32)
    return torch.arange(BLOCK, dtype=torch.int32, device=device), numbers.view(-1, 1)


def _pair(codes: Tensor) -> Tensor:
    """``[blocks, n]`` → the bytes of their blocks one after the other, ``[blocks·⌈n/2⌉]``."""
    half_ = (codes.shape[1] + 1) // 2
    high = pad(codes[:, half_:], (0, codes.shape[1] % 2))
    return (codes[:, :half_] | (high << 4)).view(-1)


def _part(stored: Tensor) -> Tensor:
    """The inverse; an odd block's last code is one too many, 0."""
    return torch.cat([stored & 15, stored >> 4], dim=1).view(-1)
