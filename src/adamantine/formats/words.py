r"""Random words and dither: functions of a key and an element's index, so of no thread and no order.

A parameter's state keeps one 64-bit key. Every step uses it and then adds 2⁶⁴/φ, modulo 2⁶⁴: a counter-based
generator whose whole state is one number in the checkpoint.

`half_word` is for stochastic rounding of weights: bits that look independent (the mixing constants of
C. Wellons, "Prospecting for Hash Functions", 2018). `phase` is the dither of moments: a Weyl sequence in
time, which rounds up in exactly the share of *steps* that is due, where independent words would let a slow
average walk at random (docs/quantization.md).

``low`` and ``high`` are the key's halves as int32; arithmetic wraps modulo 2³².
"""

from __future__ import annotations

from typing import Any

GOLDEN_64 = 0x9E3779B97F4A7C15  # 2⁶⁴/φ, odd: what a step adds to the key
GOLDEN = -1640531527  # 2³²/φ as int32
MIX_1 = 0x7FEB352D
MIX_2 = -2073254261  # 0x846CA68B
WITHIN = -1052792407  # 2³²·0.7548776662 (the plastic number's reciprocal): between elements of a block
BETWEEN = -1847521883  # 2³²·0.5698402910 (its square): between blocks


def word(index: Any, low: int, high: int) -> Any:
    """32 random bits of this index (int32)."""
    x = (index * GOLDEN + low) ^ high
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * MIX_1
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * MIX_2
    return x ^ ((x >> 16) & 0xFFFF)


def half_word(index: Any, low: int, high: int) -> Any:
    """16 random bits for the element of this index (int32): its half of a word that two share."""
    return (word(index >> 1, low, high) >> ((index & 1) << 4)) & 0xFFFF


def phase(within: Any, block: Any, high: int, slot: int) -> Any:
    """Where an element's Weyl sequence stands, as 32 bits of [0, 1); each slot has a sequence of its own."""
    return high + within * WITHIN + block * BETWEEN + signed(slot * GOLDEN, 32)


def first_key(seed: int, position: int) -> int:
    """A parameter's key before its first step (SplitMix64, Steele et al. 2014), as a signed 64-bit number.

    >>> first_key(0, 0) != first_key(0, 1) != first_key(1, 0)
    True
    """
    mask = (1 << 64) - 1
    z = (seed * 0xD1342543DE82EF95 + (position + 1) * GOLDEN_64) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return signed(z ^ (z >> 31), 64)


def next_key(key: int) -> int:
    """The key of the step after."""
    return signed(key + GOLDEN_64, 64)


def halves(key: int) -> tuple[int, int]:
    """``(low, high)`` of a key, each as int32."""
    return signed(key, 32), signed(key >> 32, 32)


def signed(number: int, bits: int) -> int:
    """The number modulo 2^bits as a signed one.

    >>> signed(255, 8), signed(-129, 8)
    (-1, 127)
    """
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> (bits - 1) else number
