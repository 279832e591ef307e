"""Medians over rounds, with intervals that assume nothing about how times are distributed."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A median over rounds, and the interval that holds the true one with 95 % confidence."""

    median: float
    low: float
    high: float


def median(values: Floats) -> Estimate:
    """The sample median with the interval of the sign test (Conover 1999, §3.2), between order statistics.

    At most 95 % certain below six values, where even smallest and largest are not enough. NaN is no value.

    >>> median(np.arange(12.0))
    Estimate(median=5.5, low=2.0, high=9.0)
    """
    ordered = np.sort(values[~np.isnan(values)])
    out = _left_out(len(ordered))
    return Estimate(float(np.median(ordered)), float(ordered[out]), float(ordered[-1 - out]))


def ratio(numerator: Floats, denominator: Floats) -> Estimate:
    """The median of the per-round ratios: what drifts from round to round cancels.

    >>> drift = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    >>> ratio(3 * drift, drift)
    Estimate(median=3.0, low=3.0, high=3.0)
    """
    return median(numerator / denominator)


def _left_out(count: int, confidence: float = 0.95) -> int:
    """How many values may be left out at each end: the most with P(Binomial(n, ½) ≤ out) ≤ 2.5 %.

    >>> [_left_out(n) for n in (1, 5, 6, 12, 40)]
    [0, 0, 0, 2, 13]
    """
    out, tail = 0, 1.0
    while 2 * tail <= (1 - confidence) * 2.0**count:
        out += 1
        tail += comb(count, out)
    return max(out - 1, 0)
