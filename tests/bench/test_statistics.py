"""Intervals that hold what they promise; ratios that forget drift."""

from __future__ import annotations

import numpy as np
import pytest

from adamantine.bench.statistics import median, ratio


@pytest.mark.parametrize("rounds", [6, 12, 40])
def test_the_interval_holds_the_true_median(rounds: int) -> None:
    generator = np.random.default_rng(0)
    trials = 2000
    inside = sum(
        found.low <= 1.0 <= found.high  # the median of exp(normal) is 1
        for found in (median(np.exp(generator.standard_normal(rounds))) for _ in range(trials))
    )
    # 95 % are promised; three standard deviations of a count of 2000 are 1.5 %.
    assert inside / trials > 0.935


def test_more_rounds_narrow_the_interval() -> None:
    values = np.random.default_rng(1).standard_normal(400)
    few, many = median(values[:12]), median(values)
    assert many.high - many.low < (few.high - few.low) / 2


def test_one_wild_round_moves_nothing() -> None:
    values = np.linspace(1.0, 1.1, 12)
    wild = values.copy()
    wild[-1] = 1000.0
    assert median(wild) == median(values)


def test_a_ratio_is_taken_round_by_round() -> None:
    one, other = np.array([1.0, 10.0, 6.0]), np.array([10.0, 4.0, 3.0])
    assert ratio(one, other) == median(np.array([0.1, 2.5, 2.0]))
    assert ratio(one, other).median == 2.0 != np.median(one) / np.median(other)


def test_few_values_give_the_whole_range() -> None:
    assert median(np.array([3.0, 1.0, 2.0])) == median(np.array([1.0, 2.0, 3.0]))
    found = median(np.array([3.0, 1.0, 2.0]))
    assert (found.low, found.median, found.high) == (1.0, 2.0, 3.0)
