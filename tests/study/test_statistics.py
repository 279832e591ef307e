"""The statistics on made-up scores whose answers can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from adamantine.report.basin import width
from adamantine.report.model import Difference, Estimate
from adamantine.study.statistics import (
    basin,
    choose,
    difference,
    edges,
    estimate,
    paired_spread,
    seeds_to_decide,
    together,
)

NAN = math.nan


def test_estimate_is_students_interval() -> None:
    values = np.array([3.1, 2.7, 3.4, 2.9])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    e = estimate(values)
    assert (e.mean, e.std, e.n) == (values.mean(), values.std(ddof=1), 4)
    assert e.low == pytest.approx(low)
    assert e.high == pytest.approx(high)


def test_estimate_of_one_value_has_no_spread() -> None:
    e = estimate([2.0])
    assert e.mean == 2.0
    assert all(map(math.isnan, (e.std, e.low, e.high)))


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([1.0, 2.0, 3.0], [2.0, 3.1, 4.05], "A is better"),
        ([2.0, 3.1, 4.05], [1.0, 2.0, 3.0], "B is better"),
        ([1.0, 2.0, 3.0], [1.5, 1.5, 3.5], "not decided"),
        ([1.0, 2.0], [1.0, 2.0], "not decided"),
        ([1.0], [9.0], "not decided"),
        ([1.0, 2.0], [9.0, 10.1], "not decided"),  # two seeds
        ([1.0, 2.0, 3.0], [9.0, 10.0, 11.0], "not decided"),  # no spread to hold the difference against
    ],
)
def test_verdicts(a: list[float], b: list[float], verdict: str) -> None:
    assert difference("A", "B", a, b).verdict == verdict


def test_pairing_removes_what_the_seeds_share() -> None:
    seeds = np.array([0.0, 10.0, 20.0, 30.0])
    a, b = seeds, seeds + np.array([1.0, 1.1, 0.9, 1.0])
    assert difference("A", "B", a, b).verdict == "A is better"
    unpaired = stats.ttest_ind(a, b)
    assert unpaired.pvalue > 0.9


def test_seeds_to_decide_is_enough_and_no_more() -> None:
    needed = seeds_to_decide(Estimate(0.5, 1.0, -1.0, 2.0, 3))
    assert needed is not None

    def power(n: int) -> float:
        """Of the t test for a true difference of half a standard deviation, by the noncentral t."""
        critical = stats.t.ppf(0.975, n - 1)
        return float(stats.nct.sf(critical, n - 1, 0.5 * math.sqrt(n)))

    assert 0.78 < power(needed) < 0.83


def test_verdicts_hold_for_all_pairs_together() -> None:
    rng = np.random.default_rng(0)
    found = [difference(f"m{k}", "n", rng.normal(0, 1, 5), rng.normal(0, 1, 5)) for k in range(200)]
    alone = sum(d.verdict != "not decided" for d in found)
    assert 3 <= alone <= 20  # one in twenty, though all are equally good
    assert all(d.verdict == "not decided" for d in together(found))
    clear = difference("A", "B", [0.0, 0.1, 0.2, 0.15], [9.0, 9.3, 9.1, 9.2])
    assert [d.verdict for d in together([*found[:10], clear])][-1] == "A is better"
    assert together([]) == ()


def test_together_is_holms_procedure() -> None:
    """Against the step-down rule worked out by hand: 0.05/3, then 0.05/2, then 0.05."""

    def with_p(p: float) -> Difference:
        t = float(stats.t.ppf(1 - p / 2, 9))
        return Difference("A", "B", Estimate(t / math.sqrt(10), 1.0, 0.0, 0.0, 10), "A is better")

    def verdicts(*ps: float) -> list[bool]:
        return [d.verdict == "A is better" for d in together([with_p(p) for p in ps])]

    assert verdicts(0.04, 0.016, 0.024) == [True, True, True]
    assert verdicts(0.04, 0.016, 0.026) == [False, True, False]
    assert verdicts(0.001, 0.017, 0.03) == [True, True, True]
    assert verdicts(0.017, 0.9, 0.02) == [False, False, False]


@pytest.mark.parametrize(
    "paired",
    [
        Estimate(1.0, NAN, NAN, NAN, 1),
        Estimate(0.0, 1.0, -1.0, 1.0, 3),
        Estimate(1.0, 0.0, 1.0, 1.0, 3),
        Estimate(0.001, 1.0, -2.0, 2.0, 3),
    ],
)
def test_seeds_to_decide_knows_what_it_cannot_know(paired: Estimate) -> None:
    assert seeds_to_decide(paired) is None


def test_choose_takes_the_lowest_mean_and_skips_settings_without_every_seed() -> None:
    scores = np.full((2, 2, 2), 0.5)
    scores[0, 1] = [0.0, NAN]  # the best seed of all, but the other one diverged
    scores[1, 0] = [0.2, 0.4]
    assert choose(scores) == (1, 0)
    assert choose(np.full((2, 2, 2), NAN)) is None


def test_choose_breaks_ties_towards_good_neighbours() -> None:
    means = np.array([[1.0, 9.0, 9.0], [9.0, 2.0, 2.0], [9.0, 2.0, 1.0]])
    assert choose(means[:, :, None]) == (2, 2)


def test_a_tie_is_not_undone_by_rounding() -> None:
    scores = np.array([[[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]])
    means = scores.mean(axis=2)
    assert means[0, 0] > means[0, 1]  # by the order of summing alone
    assert choose(scores) == (0, 0)


@pytest.mark.parametrize(
    ("best", "lrs", "weight_decays", "expected"),
    [
        ((1, 1), (1, 2, 3), (0, 1, 2), ()),
        ((0, 1), (1, 2, 3), (0, 1, 2), ("lr low",)),
        ((2, 2), (1, 2, 3), (0, 1, 2), ("lr high", "weight_decay high")),
        ((1, 0), (1, 2, 3), (0, 1, 2), ()),  # no decay at all is a finding
        ((1, 0), (1, 2, 3), (1, 2, 3), ("weight_decay low",)),
        ((0, 0), (1,), (0,), ()),  # nothing was searched
    ],
)
def test_edges(
    best: tuple[int, int], lrs: tuple[float, ...], weight_decays: tuple[float, ...], expected: tuple[str, ...]
) -> None:
    assert edges(best, lrs, weight_decays) == expected


def test_basin_is_connected_and_paired() -> None:
    means = np.array([[1.0, 1.4, 9.0, 1.2], [1.3, 9.0, 9.0, 9.0]])
    seeds = np.array([0.0, 5.0])  # a spread that pairing takes out
    inside = basin(means[:, :, None] + seeds, (0, 0), tolerance=0.5)
    assert inside.tolist() == [[True, True, False, False], [True, False, False, False]]


def test_basin_leaves_out_settings_with_a_diverged_seed() -> None:
    scores = np.array([[[1.0, 1.0], [1.0, NAN]]])
    assert basin(scores, (0, 0), tolerance=9.0).tolist() == [[True, False]]


def test_width_is_at_least_so_wide_when_it_reaches_the_rim_or_no_decay() -> None:
    assert width([True, True, False], 1, (0.0, 1.0, 4.0)).open
    assert width([False, True, True], 1, (1.0, 2.0, 8.0)).octaves == 2.0
    assert width([True], 0, (1.0,)).open is False
    assert width([True, False], 0, (0.0, 1.0)).octaves == 0.0


def test_paired_spread_sees_only_the_noise() -> None:
    rng = np.random.default_rng(0)
    settings, seeds = np.arange(5.0)[:, None, None], 100.0 * np.arange(400.0)
    assert paired_spread([settings + seeds]) == pytest.approx(0.0, abs=1e-9)
    noise = rng.normal(scale=0.3, size=(5, 1, 400))
    assert paired_spread([settings + seeds + noise]) == pytest.approx(0.3, rel=0.05)
    quiet = rng.normal(scale=0.1, size=(5, 1, 400))
    assert paired_spread([noise, quiet]) == pytest.approx(math.sqrt((0.09 + 0.01) / 2), rel=0.05)


def test_paired_spread_looks_near_the_optimum_only() -> None:
    scores = np.zeros((6, 1, 3))
    scores[5] = [[1.0, 50.0, 90.0]]
    assert paired_spread([scores]) == 0.0
    assert paired_spread([np.zeros((3, 3, 1))]) == 0.0
    assert paired_spread([np.full((2, 2, 3), NAN)]) == 0.0
