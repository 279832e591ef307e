"""Are two ways of training equivalent? Two one-sided t-tests (TOST) of losses paired by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit

FIVE = 5  # the margin is the standard error of so many seeds' mean
LEVEL = 0.05  # of each one-sided test


@dataclass(frozen=True)
class Equivalence:
    """Of one arm to float32: ``difference`` of the means, 90 % interval, margin, all in nats.

    ``p`` is that of the TOST: the larger of the two one-sided p values.
    """

    difference: float
    low: float
    high: float
    margin: float
    p: float

    @property
    def verdict(self) -> Literal["equivalent", "different", "not decided"]:
        if -self.margin < self.low and self.high < self.margin:
            return "equivalent"
        outside = self.low > self.margin or self.high < -self.margin
        return "different" if outside else "not decided"


def equivalence(arm: Sequence[float], reference: Sequence[float]) -> Equivalence:
    """TOST of losses paired by seed; the margin comes from the reference's own spread.

    >>> equivalence([1.00, 1.11, 0.90], [1.0, 1.1, 0.9]).verdict
    'equivalent'
    >>> equivalence([2.00, 2.11, 1.90], [1.0, 1.1, 0.9]).verdict
    'different'
    """
    a, b = np.asarray(arm), np.asarray(reference)
    n = len(a)
    margin = float(b.std(ddof=1)) / math.sqrt(FIVE)
    if not np.isfinite(a).all():
        return Equivalence(math.inf, math.inf, math.inf, margin, 1.0)
    mean, error = float((a - b).mean()), float((a - b).std(ddof=1)) / math.sqrt(n)
    half = float(stdtrit(n - 1, 1 - LEVEL)) * error
    p = float(stdtr(n - 1, (abs(mean) - margin) / error)) if error else float(abs(mean) >= margin)
    return Equivalence(mean, mean - half, mean + half, margin, p)


def seeds_needed(paired: float, spread: float) -> int:
    """How many seeds show, four times in five, that two arms without any difference are equivalent.

    ``paired``: standard deviation of the differences; ``spread``: of the float32 losses.

    >>> seeds_needed(0.5, 1.0), seeds_needed(1.0, 1.0)
    (13, 45)
    """
    n = np.arange(3, 10_000)
    quantiles = stdtrit(n - 1, 1 - LEVEL) + stdtrit(n - 1, 0.9)
    return int(n[np.argmax(quantiles * paired / np.sqrt(n) <= spread / math.sqrt(FIVE))])
