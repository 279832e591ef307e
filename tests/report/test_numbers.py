"""Numbers as a reader sees them; the short cases are doctests."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from adamantine.report import Comparison, Difference, Estimate, MethodGrid
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
    method = replace(make_grid(), at_best=Estimate(0.5, std, 0.4, 0.6, 3))
    assert Scores.of(make(method, unit=unit)).decimals == decimals


def test_differences_show_a_digit_of_their_own_spread(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    method = replace(make_grid(), at_best=Estimate(0.5, 0.017, 0.4, 0.6, 3))
    paired = Difference("A", "B", Estimate(-0.002, 0.0004, -0.0024, -0.0016, 7), "A is better")
    assert Scores.of(make(method)).decimals == 1
    assert Scores.of(make(method, differences=(paired,))).decimals == 2


def test_a_limit_shows_its_side_of_zero() -> None:
    scores = Scores("error", "%", 1)
    assert scores.interval(Estimate(-0.002, 0.0, -0.004, -0.00004, 3)) == "−0.4 to −0.004"
    assert scores.interval(Estimate(0.0, 0.0, -0.0, 1e-18, 3)) == "0.0 to 0.0"


def test_an_error_is_a_percentage_and_a_loss_may_be_anything() -> None:
    wide = Estimate(0.5, 1.0, -0.7, 1.7, 3)
    assert Scores("error", "%", 0).mean_interval(wide) == "0 to 100"
    assert Scores("loss", "nats", 1).mean_interval(wide) == "−0.7 to 1.7"
    assert Scores("error", "%", 0).mean_interval(Estimate(0.5, math.nan, math.nan, math.nan, 1)) == ""


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
    same = replace(make_grid(), at_best=Estimate(0.0, 0.0, 0.0, 0.0, 3))
    scores = Scores.of(make(same))
    assert float(scores.number(0.0)) == 0.0


@pytest.mark.parametrize("value", [1e-9, 3.125e-5, 0.00999, 0.05, 12.5, 640.0, 1e6])
def test_a_setting_can_be_typed_back(value: float) -> None:
    assert float(setting(value)) == pytest.approx(value, rel=5e-3)
