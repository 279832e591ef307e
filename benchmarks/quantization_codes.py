"""The codes under study: the committed text with any part replaced, and the curves that others use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from quantization_cases import At

from adamantine.formats import block, words
from adamantine.formats.block import CODES, Code
from adamantine.formats.ops import bits, floats, to_float

Array = NDArray[Any]
Rounding = Literal["nearest", "weyl", "independent"]
HEADER = 4  # bytes


def blocks_of(x: Array, size: int) -> Array:
    """``[blocks, size]``, zeros behind the end."""
    flat = x.ravel()
    padded = np.zeros(-(-flat.size // size) * size, np.float32)
    padded[: flat.size] = flat
    return padded.reshape(-1, size)


def dither(shape: tuple[int, ...], rounding: Rounding, at: At, slot: int) -> Any:
    """u of `block.encode` for every element."""
    if rounding == "nearest":
        return np.float32(0.5)
    key = words.signed(words.first_key(at.seed, at.tensor) + (at.step - 1) * words.GOLDEN_64, 64)
    low, high = words.halves(key)
    count, size = shape
    with np.errstate(over="ignore"):
        if rounding == "weyl":
            within, number = np.arange(size, dtype=np.int32)[None], np.arange(count, dtype=np.int32)[:, None]
            return np.asarray(words.dither(within, number, high, slot))
        word = words.word(np.arange(count * size, dtype=np.int32).reshape(shape), low, high)
        return to_float((word >> 8) & 0xFFFFFF) * np.float32(1 / 16777216.0)


Chooser = Callable[[Array, Code], Array]  # [blocks, n] → R in octaves, [blocks, 1]


@dataclass(frozen=True)
class Ours:
    """`adamantine.formats.block`, with another block size, rounding, chooser or other constants."""

    code: Code
    rounding: Rounding
    size: int = block.BLOCK
    choose: Chooser | None = None
    domain: Literal["itself", "root"] = "itself"

    def __call__(self, x: Array, at: At) -> Array:
        values = blocks_of(x, self.size)
        if self.domain == "root":
            values = np.sqrt(values)
        u = dither(values.shape, self.rounding, at, 0 if self.code.signed else 1)
        if self.choose is None:
            c, header = block.encode(values, u, self.code)
        else:
            c, header = encode_with(values, u, self.code, self.choose(values, self.code))
        y = block.decode(c, header, self.code)
        if self.domain == "root":
            y = y * y
        return y.ravel()[: x.size].reshape(x.shape).astype(np.float32)


def encode_with(x: Array, u: Any, code: Code, octaves: Array) -> tuple[Array, Array]:
    """`block.encode` with a range that somebody else has chosen: a code whose slope is 0 for every range."""
    rho = np.clip(np.floor(2 * octaves - 2), 0, code.most).astype(np.int32)
    c, header = np.zeros(x.shape, np.int32), np.zeros((len(x), 1), np.int32)
    for value in np.unique(rho):
        here = (rho == value).ravel()
        fixed = Code(code.bits, code.signed, 0.0, (float(value) + 2) / 2, code.most)
        c[here], header[here] = block.encode(x[here], u[here] if np.ndim(u) else u, fixed)
    return c, header


def our_code(width: int, signed: bool, **changes: Any) -> Code:
    """One of the committed codes, with changed constants."""
    return replace(CODES[width, signed], **changes)


# -- choosers ---------------------------------------------------------------------------------------------


def octaves_below_top(x: Array) -> Array:
    """Of every element, as `block.encode` measures it (piecewise linear), float64; NaN for zeros."""
    b = (bits(x) & 0x7FFFFFFF).astype(np.int64)
    return np.where(b > 0, (b.max(-1, keepdims=True) - b) / 2.0**23, np.nan)


def by_sample(every: int) -> Chooser:
    """The mean gap of every n-th element only (the largest is known from all of them)."""

    def choose(x: Array, code: Code) -> Array:
        gap = np.nan_to_num(octaves_below_top(x))[:, ::every].mean(-1, keepdims=True)
        return np.asarray(code.slope * gap + code.offset)

    return choose


def by_ratio(slope: float, offset: float) -> Chooser:
    """log2(largest/mean): one sum of the values themselves, no logarithms."""

    def choose(x: Array, code: Code) -> Array:
        a = np.abs(x)
        ratio = a.max(-1, keepdims=True) / np.maximum(a.mean(-1, keepdims=True), 1e-38)
        return np.asarray(slope * np.log2(np.maximum(ratio, 1.0)) + offset)

    return choose


def fixed(octaves: float) -> Chooser:
    """The same range for every block."""
    return lambda x, code: np.full((len(x), 1), octaves)


@dataclass(frozen=True)
class Oracle:
    """Tries every candidate and keeps, block by block, the one that hurts the *step* least.

    It knows the true v: the harm is Σ δm²/v for m and Σ (δv/v)² for v (an element's share is at most 1:
    more than lost it cannot be). No real code can know that much; it says what choosing can gain.
    """

    candidates: Sequence[Any]
    of: Literal["m", "v"]
    size: int = block.BLOCK

    def __call__(self, x: Array, at: At) -> Array:
        v = blocks_of(at.v, self.size)
        values = blocks_of(x, self.size)
        unit = np.sqrt(v) if self.of == "m" else v
        results = [blocks_of(candidate(x, at), self.size) for candidate in self.candidates]
        harm = [
            np.minimum(np.square((y - values) / np.where(unit > 0, unit, 1)), 1.0).sum(-1) for y in results
        ]
        best = np.argmin(harm, axis=0)
        chosen = np.take_along_axis(np.stack(results), best[None, :, None], 0)[0]
        return np.asarray(chosen.ravel()[: x.size].reshape(x.shape))


# -- other curves -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curved:
    """A curve of [0, 1] for all blocks: codes are equal steps of ``bend(\\|x\\|/largest)``."""

    width: int
    signed: bool
    bend: Callable[[Array], Array]
    unbend: Callable[[Array], Array]
    rounding: Rounding = "nearest"
    size: int = block.BLOCK
    zero: Literal["excluded", "allowed"] = "excluded"  # for what is positive

    def __call__(self, x: Array, at: At) -> Array:
        values = blocks_of(x, self.size).astype(np.float64)
        a = np.abs(values)
        top = a.max(-1, keepdims=True)
        top = np.where(top > 0, top, 1)
        most = 2 ** (self.width - self.signed) - 1
        u = dither(values.shape, self.rounding, at, 0 if self.signed else 1)
        c = np.minimum(np.floor(self.bend(a / top) * most + u), most)
        if not self.signed and self.zero == "excluded":
            c = np.where(a > 0, np.maximum(c, 1), 0)
        y = np.copysign(self.unbend(c / most) * top, values)
        return y.ravel()[: x.size].reshape(x.shape).astype(np.float32)


def power(p: float, width: int, signed: bool, **options: Any) -> Curved:
    """x^(1/p): p = 1 is linear, p = 2 codes the square root."""
    return Curved(width, signed, lambda a: a ** (1 / p), lambda y: y**p, **options)


def logarithm(octaves: float, width: int, signed: bool, **options: Any) -> Curved:
    """The true logarithm that `block` approximates: log₂(1 + x·(2^R - 1))/R."""
    top = 2.0**octaves - 1
    return Curved(
        width,
        signed,
        lambda a: np.log2(1 + a * top) / octaves,
        lambda y: (2 ** (y * octaves) - 1) / top,
        **options,
    )


@dataclass(frozen=True)
class Nearest16:
    """bfloat16, to nearest."""

    def __call__(self, x: Array, at: At) -> Array:
        b = bits(x)
        return (((b + 0x7FFF + ((b >> 16) & 1)) >> 16) << 16).view(np.float32)


@dataclass(frozen=True)
class Fed:
    """Error feedback: what the first code leaves over is coded by a second (signed) one and added back."""

    first: Ours
    second: Ours

    def __call__(self, x: Array, at: At) -> Array:
        first = self.first(x, at)
        y = first + self.second(x - first, at)
        return np.asarray(y if self.first.code.signed else np.maximum(y, first / 2), np.float32)


@dataclass(frozen=True)
class Relative:
    """m in units of √v, as v is kept (`block.encode_relative`); or of the power of two below."""

    code: Ours
    unit: Literal["root", "power of two"] = "root"

    def __call__(self, x: Array, at: At) -> Array:
        unit = block.root(at.v)
        if self.unit == "power of two":
            unit = floats(bits(unit) & 0x7F800000)
        return np.asarray(self.code(x / unit, at) * unit)


def relative(width: int, rounding: Rounding, size: int = block.BLOCK) -> Relative:
    """m in so many bits."""
    return Relative(Ours(replace(block.RELATIVE, bits=width), rounding, size))


def alone(width: int, size: int = block.BLOCK) -> Ours:
    """m coded without looking at v."""
    return Ours(CODES[width, True], "nearest", size)


def ours(m: int, v: int, size: int = block.BLOCK) -> tuple[Ours | Relative, Ours]:
    """AdamW's m and v as adamantine keeps them in so many bits."""
    code_m = alone(m, size) if m == 8 else relative(m, "weyl", size)
    return code_m, Ours(CODES[v, False], "weyl", size)


# -- v of fewer numbers -----------------------------------------------------------------------------------


def rank_one(x: Array, at: At) -> Array:
    """Row means times column means over the mean: Adafactor. A convolution is outputs by the rest."""
    if x.ndim < 2 or not x.any():
        return x
    a = x.reshape(len(x), -1).astype(np.float64)
    return (
        (a.mean(1, keepdims=True) * a.mean(0, keepdims=True) / a.mean()).reshape(x.shape).astype(np.float32)
    )


def per_row(x: Array, at: At) -> Array:
    """One v per output: Adam-mini."""
    if x.ndim < 2:
        return x
    a = x.reshape(len(x), -1)
    return np.broadcast_to(a.mean(1, keepdims=True), a.shape).reshape(x.shape).astype(np.float32)
