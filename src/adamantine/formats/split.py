r"""A float32 master weight in two parts: the bfloat16 that the model computes with, and what it leaves over.

The bits of a float32, read as an integer, count its magnitude in units of its last place. So a master weight
is hi·2¹⁶ + residual in those integers, across every exponent:

- ``split16``: residual in int16; the master is restored **exactly**. 4 bytes.
- ``split8``: the master's last 8 bits are rounded away (with the dither, so that small steps are not lost on
  average), the residual of the rest is in int8. 3 bytes; \|θ - θ̂\| < 2⁻¹⁵·\|θ\| each time it is stored for
  normal numbers, < 2⁻¹⁶ where rounded to nearest.

Both parts are all that is stored, so a model that is loaded, clamped or averaged in bfloat16 between steps
is off by at most half a unit of bfloat16: the residual that does not belong to it any more.

FlashOptim (arXiv 2602.23349) keeps (ρ/127)·ULP/2 instead, in floating point; here all is integer addition.
"""

from __future__ import annotations

from typing import Any

from adamantine.formats.ops import bits, floats, maximum, where


def join16(hi: Any, residual: Any) -> Any:
    """16 bits and an int16 as int32 → float32."""
    return floats((hi << 16) + _beside(hi, residual))


def split16(x: Any) -> tuple[Any, Any]:
    """float32 → ``(16 bits, residual in [-32768, 32767])``."""
    return _split(bits(x), x)


def join8(hi: Any, residual: Any) -> Any:
    """16 bits and an int8 as int32 → float32."""
    return floats((hi << 16) + (_beside(hi, residual) << 8))


def split8(x: Any, phase: Any) -> tuple[Any, Any]:
    """float32 → ``(16 bits, residual in [-128, 127])``; ``phase``: 32 bits, 0x80000000 for nearest."""
    b = bits(x)
    finite = (b & 0x7F800000) != 0x7F800000
    kept = where(finite, b + ((phase >> 24) & 0xFF), b) & -0x100
    hi, residual = _split(kept, x)
    return hi, residual >> 8


def _beside(hi: Any, residual: Any) -> Any:
    """The residual; none below 0, where a NaN's bits are: this 0 was put there since (a clamp, a mask)."""
    return where((hi & 0x7FFF) == 0, maximum(residual, 0), residual)


def _split(b: Any, x: Any) -> tuple[Any, Any]:
    hi = ((b + 0x8000) >> 16) & 0xFFFF
    residual = b - (hi << 16)
    number = x == x
    return where(number, hi, 0x7FC0), where(number, residual, 0)
