"""Separability scores on made-up surfaces whose scores are known."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from adamantine.report.model import Floats
from adamantine.report.separability_model import MEANINGS, NAMES, SEPARABLE, Separability
from adamantine.study.separability import separability

LRS = 1e-3 * 2.0 ** np.arange(9)
DECAYS = 1e-2 * 2.0 ** np.arange(9)
X = (np.log2(LRS) - np.log2(LRS).mean())[:, None]
Y = (np.log2(DECAYS) - np.log2(DECAYS).mean())[None, :]
EXACT = 1e-9  # float64 through a logarithm and a fit of 27 points


def scores(log_error: Floats, seeds: int = 1, noise: float = 0.0, rng: int = 0) -> Floats:
    """Errors [lr, decay, seed] with this logarithm, times log-normal noise."""
    normal = np.random.default_rng(rng).normal(size=(*log_error.shape, seeds))
    return np.asarray(0.02 * np.exp(log_error[:, :, None] + noise * normal))


def both(error: Floats, decay: str = "decoupled", **axes: Floats) -> tuple[Separability, Separability]:
    lrs, decays = axes.get("lrs", LRS), axes.get("decays", DECAYS)
    return separability("made up", lrs, decays, error, np.isnan(error), decay=decay)


def test_exactly_additive_is_separable_in_every_score() -> None:
    found, sheared = both(scores(0.1 * (X - 0.5) ** 2 + 0.2 * (Y + 0.25) ** 2 + 0 * X))
    for number, score in found.scores.items():
        assert score.value == pytest.approx(SEPARABLE[number], abs=0.15 if number == "S5" else EXACT), number
    assert sheared.additivity.value < 0.9
    assert sheared.ridge_slope.value == pytest.approx(1.0, abs=EXACT)
    assert found.coordinates == "λ"
    assert sheared.coordinates == "γ"


def test_additive_need_not_be_quadratic() -> None:
    found, _ = both(scores(np.abs(X) ** 1.5 + np.sin(Y) ** 2))
    assert found.additivity.value == pytest.approx(1.0, abs=EXACT)


@pytest.mark.parametrize("tilt", [-0.9, -0.3, 0.6, 0.95])
def test_a_rotated_quadratic_shows_its_tilt(tilt: float) -> None:
    a, c = 0.1, 0.3
    b = tilt * math.sqrt(a * c)
    found, sheared = both(scores(a * X**2 / 2 + b * X * Y + c * Y**2 / 2))
    assert found.tilt.value == pytest.approx(tilt, abs=EXACT)
    assert found.ridge_slope.value == pytest.approx(-b / c, abs=EXACT)
    # with y = z - x: H11 = a - 2b + c, H12 = b - c, H22 = c
    assert sheared.tilt.value == pytest.approx((b - c) / math.sqrt((a - 2 * b + c) * c), abs=EXACT)
    assert sheared.ridge_slope.value == pytest.approx(1 - b / c, abs=EXACT)
    assert math.copysign(1, found.correlation.value) == -math.copysign(1, tilt)


def test_a_ridge_along_one_over_lr_is_upright_in_gamma() -> None:
    found, sheared = both(scores(0.02 * X**2 + (X + Y) ** 2))
    assert found.ridge_slope.value == pytest.approx(-1.0, abs=EXACT)
    assert found.tilt.value > 0.9
    assert found.correlation.value < -0.9
    assert found.additivity.value < 0.6
    assert found.regret.value > 0.1
    for number in ("S1", "S2", "S3", "S4"):
        assert sheared.scores[number].value == pytest.approx(SEPARABLE[number], abs=EXACT), number


def test_independent_decay_is_gamma_and_lambda_is_the_sheared_one() -> None:
    in_lambda, in_gamma = both(scores(0.02 * X**2 + Y**2), decay="independent")
    assert (in_lambda.coordinates, in_gamma.coordinates) == ("λ", "γ")
    assert in_gamma.ridge_slope.value == pytest.approx(0.0, abs=EXACT)
    assert in_lambda.ridge_slope.value == pytest.approx(-1.0, abs=EXACT)
    assert in_gamma.regret.value == pytest.approx(0.0, abs=EXACT)
    assert in_lambda.regret.value > 0.1


def test_regret_is_what_a_hand_search_loses() -> None:
    log_error = 0.1 * X**2 + (X + Y) ** 2
    found, _ = both(scores(log_error))
    ends = [log_error[:, log_error[start].argmin()].min() for start in range(len(LRS))]
    assert found.regret.value == pytest.approx(np.mean(ends) - log_error.min(), abs=EXACT)


def test_gamma_needs_no_interpolation_where_axes_step_alike_and_little_where_not() -> None:
    decays = 1e-2 * 3.0 ** np.arange(7)
    y = (np.log2(decays) - np.log2(decays).mean())[None, :]
    _, aligned = both(scores(np.abs(X + Y) + 0.1 * np.abs(X)))
    assert aligned.additivity.value == pytest.approx(1.0, abs=EXACT)
    _, oblique = both(scores(0.3 * (X + y) ** 2 + 0.1 * X**2), decays=decays)
    assert oblique.additivity.value > 0.98  # linear in between on a parabola: a step²/8 too high
    assert oblique.tilt.value == pytest.approx(0.0, abs=EXACT)  # the fit uses the cells themselves


def test_the_order_of_the_seeds_does_not_matter() -> None:
    error = scores(0.1 * X**2 + 0.2 * (X + Y) ** 2, seeds=5, noise=0.05)
    assert both(error) == both(error[:, :, [3, 0, 4, 2, 1]])


@pytest.mark.parametrize(("seeds", "studies", "enough"), [(3, 60, 52), (6, 24, 20)])
def test_intervals_cover_the_truth(seeds: int, studies: int, enough: int) -> None:
    """S2 and S3 of made-up studies. 95 % is the aim; by chance alone fewer than these come out in less than
    one of a hundred such tests (binomial)."""
    b, c = 0.1, 0.2
    truth = {"S2": b / math.sqrt(0.2 * c), "S3": -b / c}
    hits = dict.fromkeys(truth, 0)
    for study in range(studies):
        error = scores(0.1 * X**2 + b * X * Y + c * Y**2 / 2, seeds, noise=0.05, rng=study)
        found = both(error)[0].scores
        for number, value in truth.items():
            hits[number] += found[number].low <= value <= found[number].high
    assert min(hits.values()) >= enough, hits


def test_intervals_shrink_with_seeds_and_hold_their_value() -> None:
    few = both(scores(0.1 * X**2 + 0.1 * (X + Y) ** 2, seeds=3, noise=0.1))[0].scores
    many = both(scores(0.1 * X**2 + 0.1 * (X + Y) ** 2, seeds=40, noise=0.1))[0].scores
    for number in ("S2", "S3"):
        assert few[number].low < few[number].value < few[number].high
        assert many[number].high - many[number].low < few[number].high - few[number].low


def test_one_seed_has_no_interval() -> None:
    found, _ = both(scores(0.1 * X**2 + 0.1 * Y**2))
    assert all(math.isnan(score.low) and math.isnan(score.high) for score in found.scores.values())


def test_diverged_runs_are_clipped_counted_and_in_no_basin() -> None:
    bowl = 0.1 * X**2 + 0.2 * Y**2
    error = scores(bowl, seeds=3)
    error[-2:, :, 1] = math.nan
    found, _ = both(error)
    assert (found.settings, found.clipped, found.seeds) == (81, 18, 3)
    assert found.tilt.value == pytest.approx(0.0, abs=EXACT)
    assert found.additivity.value < 1.0  # means with one clipped seed are not additive


def test_runs_that_are_not_done_leave_what_needs_the_rectangle_undefined() -> None:
    error = scores(0.1 * X**2 + 0.2 * Y**2, seeds=2)
    error[0, 0, 1] = math.nan
    found, _ = separability("made up", LRS, DECAYS, error, np.zeros(error.shape, bool))
    assert found.settings == 80
    for number in ("S1", "S4"):
        assert math.isnan(found.scores[number].value)
        assert "no score yet" in found.scores[number].note.en
    assert found.tilt.value == pytest.approx(0.0, abs=EXACT)


@pytest.mark.parametrize(
    ("surface", "numbers", "reason"),
    [
        (0 * X * Y, ("S1", "S4"), "alike"),
        (0 * X * Y, ("S2",), "no bowl"),
        (X * Y / 10, ("S2",), "no bowl"),
        (X + Y, ("S3",), "inside the grid"),
        ((X + Y)[:3, :3], ("S5",), "only 9 settings"),
        ((X + Y)[:2, :], ("S1",), "three values"),
        ((X + Y)[:1, :], ("S4",), "two values"),
        ((X + Y)[:, :1], ("S1", "S2", "S3", "S4", "S5"), ""),
    ],
)
def test_undefined_scores_are_nan_and_say_why(surface: Floats, numbers: tuple[str, ...], reason: str) -> None:
    rows, columns = surface.shape
    for found in both(scores(surface, seeds=2), lrs=LRS[:rows], decays=DECAYS[:columns]):
        for number in numbers:
            score = found.scores[number]
            assert all(map(math.isnan, (score.value, score.low, score.high))), (found.coordinates, number)
            assert reason in score.note.en
            assert score.note.en
            assert score.note.zh


def test_noise_alone_has_no_reliable_tilt() -> None:
    found, _ = both(scores(0 * X * Y, seeds=3, noise=0.1))
    assert math.isnan(found.tilt.low)
    assert found.additivity.value < 0.6
    assert abs(found.correlation.value) < 0.8


@pytest.mark.parametrize("error", [math.nan, -1.0, 0.0])
def test_without_logarithms_every_score_says_so(error: float) -> None:
    for found in both(np.full((9, 9, 2), error)):
        for score in found.scores.values():
            assert math.isnan(score.value)
            assert score.note.zh


def test_no_decay_is_left_out_and_an_error_of_zero_is_half_a_mistake() -> None:
    error = scores(0.1 * X**2 + 0.2 * Y**2, seeds=2)
    with_zero = np.concatenate([np.full((9, 1, 2), 0.5), error], axis=1)
    assert both(with_zero, decays=np.array([0.0, *DECAYS])) == both(error)
    error[4, 4] = 0.0
    assert math.isfinite(both(error)[0].additivity.value)


def test_a_large_grid_takes_little_time_and_every_score_has_words() -> None:
    error = scores(0.1 * X**2 + 0.1 * (X + Y) ** 2, seeds=10, noise=0.1)
    start = time.perf_counter()
    found, _ = both(error)
    assert time.perf_counter() - start < 5.0  # about 0.15 s; a loaded machine gets its time
    assert list(found.scores) == list(NAMES) == list(MEANINGS) == list(SEPARABLE)
