"""The codes under study: the committed text with any part replaced. Other curves: quantization_curves.py."""

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


def phases(shape: tuple[int, ...], rounding: Rounding, at: At, slot: int) -> Any:
    """Of `block.encode`, for every element."""
    if rounding == "nearest":
        return np.int32(block.NEAREST)
    key = words.signed(words.first_key(at.seed, at.tensor) + (at.step - 1) * words.GOLDEN_64, 64)
    low, high = words.halves(key)
    count, size = shape
    with np.errstate(over="ignore"):
        if rounding == "weyl":
            within, number = np.arange(size, dtype=np.int32)[None], np.arange(count, dtype=np.int32)[:, None]
            return np.asarray(words.phase(within, number, high, slot))
        return words.word(np.arange(count * size, dtype=np.int32).reshape(shape), low, high)


def shares(phases: Any) -> Any:
    """The same as float32 in [0, 1): what is added to a code in fractions of one."""
    return to_float((phases >> 8) & 0xFFFFFF) * np.float32(1 / 16777216.0)


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
        y = self.roundtrip(values, phases(values.shape, self.rounding, at, 0 if self.code.signed else 1))
        if self.domain == "root":
            y = y * y
        return y.ravel()[: x.size].reshape(x.shape).astype(np.float32)

    def roundtrip(self, x: Array, phase: Any) -> Array:
        """``[blocks, n]`` → as it is decoded."""
        if self.choose is None:
            return np.asarray(block.decode(*block.encode(x, phase, self.code), self.code))
        octaves = self.choose(x, self.code)
        asked = np.clip(np.ceil(np.log2(np.maximum(octaves, 1))), 0, self.code.most)
        y, phase = np.zeros(x.shape, np.float32), np.broadcast_to(phase, x.shape)
        for k in np.unique(asked):  # a code whose slope is 0, for every range
            here = (asked == k).ravel()
            code = replace(self.code, slope=0.0, offset=float(2**k))
            y[here] = block.decode(
                *block.encode(x[here], phase[here] if np.ndim(phase) else phase, code), code
            )
        return y


@dataclass(frozen=True)
class AnyRange(Ours):
    """The same curves with an R of any number of ``steps`` (octaves), not only powers of two.

    Neighbouring codes are R·2²³/C of a float32's bits apart, so a code takes a conversion and a product where
    a power of two takes a shift. The largest R is that of the code it stands for.
    """

    steps: tuple[float, ...] = ()

    def roundtrip(self, x: Array, phase: Any) -> Array:
        choose = self.choose or by_mean_gap
        steps = np.array([r for r in self.steps or HALF_OCTAVES if r <= 2**self.code.most])
        r = steps[np.minimum(np.searchsorted(steps, choose(x, self.code)), len(steps) - 1)]
        most = 2**self.code.magnitude_bits - 1
        h = (r * 2.0 ** (23 - self.code.magnitude_bits)).astype(np.int32)
        a = np.abs(x)
        top = np.maximum(a.max(-1, keepdims=True), np.float32(2.0**-126))
        scale = top / (floats(block.ONE + most * h) - 1)
        c = np.minimum(to_float(bits(a / scale + 1) - block.ONE) / to_float(h) + shares(phase), most)
        c = c.astype(np.int32)
        if not self.code.signed:
            c = np.maximum(c, a > 0)
        return np.asarray(np.copysign((floats(block.ONE + c * h) - 1) * scale, x))


HALF_OCTAVES = tuple(r / 2 for r in range(2, 129))
TWO_A_DOUBLING = tuple(sorted({r for k in range(7) for r in (2.0**k, 1.5 * 2.0**k) if r <= 64}))

#: The constants for an R of any half octave, up to which it goes too.
ANY = {
    (8, True): replace(CODES[8, True], slope=2.25, offset=-3.5),
    (8, False): replace(CODES[8, False], slope=2.25, offset=-1.0),
    (4, True): replace(CODES[4, True], slope=2.25, offset=-3.5),
    (4, False): replace(CODES[4, False], slope=2.25, offset=-2.0),
}


def our_code(width: int, signed: bool, **changes: Any) -> Code:
    """One of the committed codes, with changed constants."""
    return replace(CODES[width, signed], **changes)


# -- choosers ---------------------------------------------------------------------------------------------


def octaves_below_top(x: Array) -> Array:
    """Of every element, as `block.encode` measures it (piecewise linear), float64; NaN for zeros."""
    b = (bits(x) & 0x7FFFFFFF).astype(np.int64)
    return np.where(b > 0, (b.max(-1, keepdims=True) - b) / 2.0**23, np.nan)


def by_mean_gap(x: Array, code: Code) -> Array:
    """As `block.encode` chooses."""
    count = np.maximum((x != 0).sum(-1, keepdims=True), 1)
    gap = np.nan_to_num(octaves_below_top(x)).sum(-1, keepdims=True) / count
    return np.asarray(code.slope * gap + code.offset)


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


def any_range(m: int, v: int, steps: tuple[float, ...] = ()) -> tuple[Ours | Relative, Ours]:
    """The same with ranges of any half octave, or of these steps; 4-bit m/√v, which is linear, stays."""
    code_m = AnyRange(ANY[m, True], "nearest", steps=steps) if m == 8 else relative(m, "weyl")
    return code_m, AnyRange(ANY[v, False], "weyl", steps=steps)


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
