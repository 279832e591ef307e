r"""Moments in 8 or 4 bits: blocks of 128 elements with a scale and a curve of their own.

A code c stands for scale·(2̃^(R·c/C) - 1), where 2̃ˣ is 2ˣ with straight lines between whole powers (the
bits of a float32, read as an integer, are its logarithm so) and C the number of codes of one sign. R, the
block's range in octaves, bends the curve: R = 1 is a linear code, R = 32 nearly a logarithmic one. Each block
takes the R that its values ask for, by their mean distance below the largest one, in octaves, and up to the
next power of two: neighbouring codes are then a power of two of a float32's bits apart, and a code is found
with shifts (docs/quantization.md).

    header    int32: a float32 scale whose low 7 bits hold k, with R = 2ᵏ; 0 for a block of zeros
    8 bits    uint8 a code; signed: the sign in bit 7, the magnitude in the rest
    4 bits    two a byte: of n elements the first ⌈n/2⌉ low, the others high; signed: the sign in bit 3

A first moment in 4 bits has few codes to spend, so where its rule has a second moment (`Rule.relative`) it is
coded in units of √v: that ratio is alike within a block even where the gradients' scales are not.

Zero stays zero and nothing else becomes zero in an unsigned code (a second moment of 0 would be divided by).
A block whose largest value is below 2⁻¹²⁶ is stored as zeros; one with an infinity or NaN as NaN; one with a
value beyond 2¹²⁷ may come back as infinities or NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adamantine.formats.ops import bits, floats, largest, maximum, minimum, to_float, total, where

BLOCK = 128
ONE = 0x3F800000  # bits of 1.0
SMALLEST = 0x00800000  # bits of 2⁻¹²⁶
NAN = 0x7FC00000


@dataclass(frozen=True)
class Code:
    """One kind of block code.

    Attributes:
        bits: per element, 8 or 4.
        signed: whether values may be negative; if not, no positive value becomes zero.
        slope, offset: R = slope·gap + offset, up to a power of two; gap being the mean distance in octaves
            below the largest value.
        most: the largest k of R = 2ᵏ.
    """

    bits: int
    signed: bool
    slope: float
    offset: float
    most: int

    @property
    def magnitude_bits(self) -> int:
        return self.bits - self.signed


#: By measurement (benchmarks/quantization.py).
CODES = {
    (8, True): Code(8, True, 2.0, -3.0, 6),
    (8, False): Code(8, False, 2.1, -1.5, 6),
    (4, True): Code(4, True, 1.8, -3.0, 3),
    (4, False): Code(4, False, 1.8, -1.5, 6),
}

#: Of ratios m/√v: linear, for every block; rounded by the dither.
RELATIVE = Code(4, True, 0.0, 1.0, 0)

NEAREST = -(2**31)  # as a dither's phase: half a code


def distance(k: Any, code: Code) -> Any:
    """Units of a float32's bits between neighbouring codes, as a power of two's exponent."""
    return k + (23 - code.magnitude_bits)


def encode(x: Any, phase: Any, code: Code) -> tuple[Any, Any]:
    """float32 ``[blocks, n]`` → codes ``[blocks, n]`` and headers ``[blocks, 1]``, both int32.

    Args:
        x: values; an unsigned code takes them as not negative. Missing elements of a last block are 0.
        phase: of the dither (`words.phase`), int32 ``[blocks, n]``: a code is rounded up where it is beyond
            the rest's share of 2³²; or `NEAREST`.
        code: one of `CODES`.
    """
    most = 2**code.magnitude_bits - 1
    b = bits(x) & 0x7FFFFFFF
    found = largest(b)  # of positive floats the bits have the order of the numbers, NaN above all
    stored = (found >= SMALLEST) & (found < 0x7F800000)
    top = where(stored, found, ONE)
    count = maximum(total(minimum(b, 1)), 1)
    gap = to_float((top >> 8) * count - total(b >> 8)) / to_float(count) * (1.0 / 32768.0)
    # No more than leaves the scale a normal number.
    octaves = minimum(gap * code.slope + code.offset, to_float(top >> 23) * 0.5)
    k = maximum(minimum(((bits(octaves) + 0x7FFFFF) >> 23) - 127, code.most), 0)
    h = distance(k, code)
    scale = (bits(floats(top) * (1.0 / (floats(ONE + (most << h)) - 1.0))) + 64) & -128
    y = floats(b) * (1.0 / floats(scale)) + 1.0
    c = minimum((bits(y) - ONE + ((phase >> (32 - h)) & ((1 << h) - 1))) >> h, most)
    if code.signed:
        c = c | ((bits(x) >> (31 - code.magnitude_bits)) & (1 << code.magnitude_bits))
    else:
        c = maximum(c, minimum(b, 1))
    header = where(stored, scale | k, where(found < SMALLEST, 0, NAN))
    return where(stored, c, 0), header


def decode(c: Any, header: Any, code: Code) -> Any:
    """Codes ``[blocks, n]`` and headers ``[blocks, 1]`` → float32."""
    magnitude = c & (2**code.magnitude_bits - 1)
    x = (floats(ONE + (magnitude << distance(header & 7, code))) - 1.0) * floats(header & -128)
    if code.signed:
        sign = (c & (1 << code.magnitude_bits)) << (31 - code.magnitude_bits)
        x = floats(bits(x) | sign)
    return x


def root(v: Any) -> Any:
    """√v within 6 %, for every v ≥ 0 a positive number: half of the logarithm, as an integer.

    A NaN's is large. The same bits everywhere, which a library's square root need not have
    (benchmarks/rounding.py).
    """
    return floats((minimum(bits(v) & 0x7FFFFFFF, 0x7F800000) >> 1) + 0x1FC00000)


def encode_relative(m: Any, v: Any, phase: Any, code: Code) -> tuple[Any, Any]:
    """`encode` of m in units of the root of v, both float32 ``[blocks, n]``.

    ``v`` is to be what `decode_relative` will have: v as it is kept, decoded again.
    """
    return encode(m / root(v), phase, code)


def decode_relative(c: Any, header: Any, v: Any, code: Code) -> Any:
    """Codes, headers and v as it is kept → m, float32."""
    return decode(c, header, code) * root(v)
