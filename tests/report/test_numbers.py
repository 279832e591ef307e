"""Numbers as a reader sees them; the short cases are doctests."""

import math
from collections.abc import Callable

import pytest

from adamantine.report import Comparison, Estimate, MethodGrid
from adamantine.report.numbers import Scores, setting


@pytest.mark.parametrize(
    ("std", "unit", "decimals"),
    [(0.0011, "%", 2), (0.017, "%", 1), (0.2, "%", 0), (0.0031, "nats", 4), (0.25, "", 2), (40.0, "", 0)],
)
def test_decimals_show_two_digits_of_the_spread(
    std: float,
    unit: str,
    decimals: int,
    make: Callable[..., Comparison],
    make_grid: Callable[..., MethodGrid],
) -> None:
    from dataclasses import replace

    method = replace(make_grid(), at_best=Estimate(0.5, std, 0.4, 0.6, 3))
    assert Scores.of(make(method, unit=unit)).decimals == decimals


def test_one_seed_has_no_spread_and_no_interval() -> None:
    scores = Scores("error", "%", 2)
    single = Estimate(0.0194, math.nan, math.nan, math.nan, 1)
    assert scores.mean(single) == "1.94\u202f%"
    assert scores.interval(single) == ""


def test_signs_and_units_of_differences() -> None:
    estimate = Estimate(0.0312, 0.01, -0.005, 0.0674, 3)
    assert Scores("error", "%", 1).difference(estimate) == "+3.1 percentage points"
    assert Scores("error", "%", 1).interval(estimate) == "−0.5 to 6.7"
    assert Scores("loss", "nats", 3).difference(estimate) == "+0.031\u202fnats"
    assert Scores("loss", "", 3).difference(estimate) == "+0.031"


def test_scores_that_are_all_the_same_or_zero_can_be_written(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    from dataclasses import replace

    same = replace(make_grid(), at_best=Estimate(0.0, 0.0, 0.0, 0.0, 3))
    scores = Scores.of(make(same))
    assert float(scores.number(0.0)) == 0.0


@pytest.mark.parametrize("value", [1e-9, 3.125e-5, 0.00999, 0.05, 12.5, 640.0, 1e6])
def test_a_setting_can_be_typed_back(value: float) -> None:
    assert float(setting(value)) == pytest.approx(value, rel=5e-3)
