"""Coarse to fine: which settings a refinement asks for, and what it finds, on made-up scores."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from adamantine.study.cell import Cell, Result
from adamantine.study.errors import StudyError
from adamantine.study.plan import Method, Plan, cells, grown, validation_scores
from adamantine.study.refine import MOST, Search, best_setting, refinement, search
from adamantine.study.stages import wanted
from adamantine.study.statistics import choose
from adamantine.study.task import Settings

METHOD = Method("AdamW", "AdamW", "decoupled", (0.001, 0.004, 0.016), (0.0, 0.01, 0.04, 0.16))
SEEDS = (0, 1)
Score = Callable[[Cell], float]


def bowl(lr: float, weight_decay: float) -> Score:
    """Lowest at this setting, round in the logarithms."""

    def score(cell: Cell) -> float:
        decay = math.log(cell.weight_decay / weight_decay) if cell.weight_decay else 9.0
        return math.log(cell.lr / lr) ** 2 + decay**2 + 0.1 * cell.seed

    return score


def run(todo: list[Cell], score: Score, results: dict[Cell, Result]) -> None:
    for cell in todo:
        value = score(cell)
        results[cell] = Result(cell, "ok" if math.isfinite(value) else "diverged", value, value)


def refined(score: Score, levels: int, method: Method = METHOD) -> tuple[dict[Cell, Result], list[int]]:
    """Plays a whole search; gives all results, and how many cells each round asked for."""
    results: dict[Cell, Result] = {}
    run(cells(method, SEEDS), score, results)
    rounds = []
    while todo := [cell for cell in refinement(method, SEEDS, results, levels) if cell not in results]:
        run(todo, score, results)
        rounds.append(len(todo))
    return results, rounds


def settings(found: list[Cell]) -> set[tuple[float, float]]:
    return {(cell.lr, cell.weight_decay) for cell in found}


def test_a_level_is_the_eight_half_steps_around_the_best() -> None:
    results, rounds = refined(bowl(0.004, 0.04), levels=1)
    assert rounds == [8 * len(SEEDS)]
    assert settings(refinement(METHOD, SEEDS, results, 1)) == {
        (lr, decay) for lr in (0.002, 0.004, 0.008) for decay in (0.02, 0.04, 0.08)
    } - {(0.004, 0.04)}


def test_levels_close_in_on_the_optimum() -> None:
    truth = 0.0055, 0.025
    errors = []
    for levels in range(5):
        results, rounds = refined(bowl(*truth), levels)
        assert len(rounds) == levels
        best = best_setting(METHOD, SEEDS, results, levels)
        assert best is not None
        errors.append(max(abs(math.log(value / goal)) for value, goal in zip(best, truth, strict=True)))
    # halves of a step of 4: after k levels no further off than a half of a half … in each direction
    for levels, error in enumerate(errors):
        assert error <= math.log(4) / 2 ** (levels + 1) * 1.01


def test_the_same_results_give_the_same_cells_whatever_their_order() -> None:
    results, _ = refined(bowl(0.005, 0.03), levels=3)
    shuffled = list(results.items())
    random.Random(0).shuffle(shuffled)
    expected = refinement(METHOD, SEEDS, results, 3)
    assert refinement(METHOD, SEEDS, dict(shuffled), 3) == expected
    assert len(set(expected)) == len(expected)
    assert not set(expected) & set(cells(METHOD, SEEDS))


def test_a_killed_run_goes_on_as_the_unbroken_one_did() -> None:
    score = bowl(0.005, 0.03)
    whole, _ = refined(score, levels=3)
    journal = list(whole)
    for kept in range(len(cells(METHOD, SEEDS)), len(journal), 5):
        results = {cell: whole[cell] for cell in journal[:kept]}
        while todo := [c for c in refinement(METHOD, SEEDS, results, 3) if c not in results]:
            run(todo, score, results)
        assert results == whole


def test_more_levels_begin_with_the_cells_of_fewer() -> None:
    results, _ = refined(bowl(0.005, 0.03), levels=3)
    two, three = (refinement(METHOD, SEEDS, results, levels) for levels in (2, 3))
    assert three[: len(two)] == two
    assert len(three) > len(two)


def test_an_unfinished_grid_or_level_is_not_refined() -> None:
    results: dict[Cell, Result] = {}
    grid = cells(METHOD, SEEDS)
    run(grid[:-1], bowl(0.004, 0.04), results)
    assert refinement(METHOD, SEEDS, results, 2) == []
    run(grid[-1:], bowl(0.004, 0.04), results)
    first = refinement(METHOD, SEEDS, results, 2)
    run(first[:-1], bowl(0.004, 0.04), results)
    assert refinement(METHOD, SEEDS, results, 2) == first


def test_growth_comes_first() -> None:
    plan = Plan("digits", Settings(), (METHOD,), SEEDS, "cosine", grow=3)
    score = bowl(0.1, 0.04)
    results: dict[Cell, Result] = {}
    while todo := wanted(METHOD, plan, results):
        method = grown(METHOD, plan, results)
        assert refinement(method, SEEDS, results, 2) == []  # its latest column is still missing
        run(todo, score, results)
    method = grown(METHOD, plan, results)
    assert method.lrs[-1] > METHOD.lrs[-1]
    found = refinement(method, SEEDS, results, 1)
    assert {cell.lr for cell in found} == {0.032, 0.064, 0.128}


def test_no_decay_has_a_neighbour_above_and_is_one() -> None:
    def least_at_zero(cell: Cell) -> float:
        return cell.weight_decay + math.log(cell.lr / 0.004) ** 2

    results, _ = refined(least_at_zero, levels=2)
    assert best_setting(METHOD, SEEDS, results, 2) == (0.004, 0.0)
    decays = sorted({cell.weight_decay for cell in refinement(METHOD, SEEDS, results, 2)})
    assert decays == [0.0, 0.00354, 0.005]
    results, _ = refined(bowl(0.004, 0.01), levels=1)
    assert {cell.weight_decay for cell in refinement(METHOD, SEEDS, results, 1)} == {0.005, 0.01, 0.02}


def test_the_rim_is_not_left_and_stays_an_edge() -> None:
    results, rounds = refined(bowl(1.0, 1.0), levels=2)
    assert rounds == [3 * len(SEEDS)] * 2
    found = search(METHOD, SEEDS, results, 2)
    assert found.best_setting == (0.016, 0.16)
    assert found.edges == ("lr high", "weight_decay high")


def test_an_axis_of_one_value_stays_one() -> None:
    fixed = Method("SGD", "SGD", "none", (0.01, 0.1, 1.0), (0.0,))
    results, _ = refined(lambda cell: math.log(cell.lr / 0.1) ** 2, 1, fixed)
    assert settings(refinement(fixed, SEEDS, results, 1)) == {(0.0316, 0.0), (0.316, 0.0)}


def test_divergence_is_never_chosen_and_all_of_it_ends_the_search() -> None:
    def torn(cell: Cell) -> float:
        return math.nan if cell.lr > 0.0045 else bowl(0.016, 0.04)(cell)

    results, _ = refined(torn, levels=2)
    best = best_setting(METHOD, SEEDS, results, 2)
    assert best is not None
    assert best[0] == 0.004  # half a step above it diverged
    results, rounds = refined(lambda cell: math.nan, levels=2)
    assert rounds == []
    assert best_setting(METHOD, SEEDS, results, 2) is None
    assert search(METHOD, SEEDS, results, 2).edges == ()


def test_without_holes_the_choice_is_that_of_a_grid() -> None:
    random_scores = np.random.default_rng(0)
    for _ in range(200):  # few different values, so that most have ties; some diverge
        values = random_scores.integers(1, 4, size=len(METHOD.lrs) * len(METHOD.weight_decays)).tolist()
        results: dict[Cell, Result] = {}
        for value, cell in zip(values, cells(METHOD, (0,)), strict=True):
            run([cell], lambda _, score=value: math.nan if score == 3 else float(score), results)
        grid = search(METHOD, (0,), results, 0)
        assert grid.best == choose(validation_scores(METHOD, (0,), results))


def test_ties_are_broken_by_the_nearest_settings_across_holes() -> None:
    nan = math.nan
    scores = np.array([[1.0, nan, 2.0, nan, 1.0], [9.0, nan, 2.0, nan, 3.0]])
    grid = Search((0.1, 0.2), (1.0, 2.0, 3.0, 4.0, 5.0), np.isfinite(scores), scores[:, :, None])
    assert grid.best == (0, 4)  # its neighbours 2, 2, 3 are better than 9, 2, 2


@pytest.mark.parametrize("levels", [-1, MOST + 1])
def test_levels_out_of_range_are_refused(levels: int) -> None:
    with pytest.raises(StudyError, match=f"--refine must be 0 to {MOST}, not {levels}"):
        refinement(METHOD, SEEDS, {}, levels)
