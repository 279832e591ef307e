"""bfloat16 and float16 weights: float32 rounded to nearest (ties to even) or stochastically.

Numbers are given and returned as int32: a float32's bits, or the 16 bits of the short format (sign extended
or not; only the low 16 count).
"""

from __future__ import annotations

from typing import Any

from adamantine.formats.ops import bits, floats, maximum, minimum, to_float, to_int, where


def decode_bfloat16(short: Any) -> Any:
    """16 bits → float32."""
    return floats(short << 16)


def nearest_bfloat16(x: Any) -> Any:
    """float32 → 16 bits; beyond the largest, infinity; a NaN stays one."""
    b = bits(x)
    rounded = (b + 0x7FFF + ((b >> 16) & 1)) >> 16
    return where(x == x, rounded, (b >> 16) | 0x40) & 0xFFFF


def stochastic_bfloat16(x: Any, half_word: Any) -> Any:
    """float32 → 16 bits, away from zero in the share of half words that the dropped bits are of a unit.

    What is exactly representable stays; infinities and NaN stay; a finite number stays finite.
    """
    b = bits(x)
    magnitude = where(x == x, b, b | 0x400000) & 0x7FFFFFFF  # quiet, as arithmetic makes a NaN
    finite = minimum(magnitude + half_word, 0x7F7FFFFF)
    return ((maximum(finite, magnitude) | (b & -0x80000000)) >> 16) & 0xFFFF


def stochastic_float16(x: Any, half_word: Any) -> Any:
    """float32 → a float32 that float16 holds exactly, likewise; beyond 65520 infinity, as to nearest."""
    b = bits(x)
    sign, magnitude = b & -0x80000000, b & 0x7FFFFFFF
    normal = minimum((magnitude + (half_word & 0x1FFF)) & -0x2000, 0x477FE000)  # 65504
    # Below 2⁻¹⁴ the units are 2⁻²⁴.
    scaled = floats(minimum(magnitude, 0x38800000)) * 16777216.0
    whole = to_int(scaled)
    left = to_int((scaled - to_float(whole)) * 8192.0)
    subnormal = bits(to_float(whole + ((left + (half_word & 0x1FFF)) >> 13)) * (1.0 / 16777216.0))
    small = where(magnitude < 0x38800000, subnormal, normal)
    return floats(sign | where(magnitude < 0x477FF000, small, maximum(magnitude, 0x7F800000)))
