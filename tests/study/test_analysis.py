"""From made-up results to the sentence, the advice and the basin a reader sees."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from adamantine.report.model import Comparison
from adamantine.study.analysis import analyse
from adamantine.study.cell import Cell, Result
from adamantine.study.console import show
from adamantine.study.plan import Method, Plan
from adamantine.study.ranges import parse_axis
from adamantine.study.stages import wanted
from adamantine.study.task import Settings

LRS, WEIGHT_DECAYS = (0.01, 0.1, 1.0), (0.0, 0.1, 0.2)
METHODS = (
    Method("Adam + L2", "Adam", "l2", LRS, WEIGHT_DECAYS),
    Method("AdamW", "AdamW", "decoupled", LRS, WEIGHT_DECAYS),
)


def analysed(
    score: Callable[[Cell], float], seeds: int = 3, grow: int = 0, confirm: int = 0, refine: int = 0
) -> Comparison:
    plan = Plan("digits", Settings(), METHODS, tuple(range(seeds)), "cosine", grow, confirm, refine)
    results: dict[Cell, Result] = {}
    for method in METHODS:
        while todo := wanted(method, plan, results):
            cell = todo[-1]
            value = score(cell)
            curves = {name: [value, value] for name in ("epoch", "train_loss", "validation", "norm")}
            if value == -1:
                results[cell] = Result(cell, "failed", message="RuntimeError: broken")
            else:
                status = "ok" if math.isfinite(value) else "diverged"
                results[cell] = Result(cell, status, value, value, "", curves)
    task = {"title": "made up", "score_name": "error", "score_unit": "%"}
    manifest: dict[str, Any] = {"configuration": plan.to_dict(), "task": task}
    return analyse(manifest, results)


def bowl(cell: Cell) -> float:
    """Best at lr 0.1, weight decay 0.1; a seed shifts everything; a little noise that pairing leaves."""
    noise = 1e-4 * math.sin(1000 * cell.lr + 100 * cell.weight_decay + 7 * cell.seed)
    worse = 0.02 * abs(math.log10(cell.lr / 0.1)) + 0.1 * abs(cell.weight_decay - 0.1)
    return 0.02 + worse + 0.01 * cell.seed + noise


def ahead(cell: Cell) -> float:
    return bowl(cell) - (0.005 + 1e-4 * (cell.seed % 3) if cell.method == "AdamW" else 0.0)


def test_a_decided_comparison_says_who_and_by_how_much() -> None:
    comparison = analysed(ahead)
    (pair,) = comparison.differences
    assert (pair.a, pair.b, pair.verdict) == ("AdamW", "Adam + L2", "AdamW is better")
    assert pair.estimate.mean == pytest.approx(-0.0051)
    assert comparison.answer.en.startswith("AdamW is best: ")
    assert "0.51 percentage points below Adam + L2, beyond the spread of 3 seeds" in comparison.answer.en
    for method in comparison.methods:
        assert method.best == (1, 1)
        assert method.edges == ()
        assert method.basin.sum() == 1
    assert any("AdamW: use lr=0.1, weight_decay=0.1" in line.en for line in comparison.advice)


def test_what_is_not_decided_is_not_claimed() -> None:
    comparison = analysed(
        lambda cell: bowl(cell) + (0.003 * (cell.seed - 0.9) if cell.method == "Adam" else 0.0)
    )
    assert comparison.answer.en.startswith("Not decided: ")
    assert "within the spread of 3 seeds" in comparison.answer.en
    assert "best" not in comparison.answer.en
    assert any("would be decided four times in five with about" in line.en for line in comparison.advice)


def test_what_shows_no_difference_is_called_level() -> None:
    comparison = analysed(bowl)
    assert comparison.differences[0].estimate.mean == 0.0
    assert "level with AdamW" in comparison.answer.en


def test_fresh_seeds_judge_and_choose_nothing() -> None:
    """On the grid's seeds AdamW looks better; on the fresh ones, that is luck, and it is worse."""

    def score(cell: Cell) -> float:
        luck = (0.005 if cell.seed < 3 else -0.005) + 1e-4 * (cell.seed % 3)
        return bowl(cell) - (luck if cell.method == "AdamW" else 0.0)

    assert analysed(score).differences[0].verdict == "AdamW is better"
    comparison = analysed(score, confirm=4)
    assert comparison.differences[0].verdict == "Adam + L2 is better"
    assert comparison.differences[0].estimate.n == 4
    for method in comparison.methods:
        assert method.best == (1, 1)
        assert list(method.judged) == [3, 4, 5, 6]
        assert method.at_best is not None
        assert method.at_best.mean == pytest.approx(sum(method.judged.values()) / 4)
        assert method.validation.shape == (3, 3, 3)


def test_a_fresh_seed_that_diverges_is_said_and_left_out_of_both() -> None:
    def score(cell: Cell) -> float:
        return math.nan if (cell.method, cell.seed) == ("AdamW", 4) else ahead(cell)

    comparison = analysed(score, confirm=4)
    assert list(comparison.methods[1].judged) == [3, 5, 6]
    assert comparison.differences[0].estimate.n == 3
    assert analysed(ahead, confirm=4).differences[0].verdict == "AdamW is better"
    assert comparison.differences[0].verdict == "not decided"  # the survivors alone would look too good
    said = "AdamW: 1 of 4 fresh runs at its best setting diverged"
    assert any(said in line.en for line in comparison.advice)


def test_where_all_fresh_seeds_diverge_the_grid_does_not_stand_in() -> None:
    comparison = analysed(lambda cell: math.nan if cell.seed > 2 else ahead(cell), confirm=2)
    assert [m.at_best for m in comparison.methods] == [None, None]
    assert comparison.differences == ()
    assert any("2 of 2 fresh runs at its best setting diverged" in line.en for line in comparison.advice)


def test_nobody_is_worse_while_its_best_is_on_the_edge() -> None:
    def score(cell: Cell) -> float:
        return ahead(cell) + (0.1 / cell.lr if cell.method == "Adam" else 0.0)

    comparison = analysed(score)
    assert comparison.methods[0].edges == ("lr high",)
    assert comparison.differences[0].estimate.high < 0
    assert comparison.differences[0].verdict == "not decided"
    assert any("Adam + L2: not called worse" in line.en for line in comparison.advice)


def test_fresh_seeds_judge_a_method_whose_optimum_stays_on_the_edge() -> None:
    """However often its grid was to grow: it must not be grown once more to find them."""

    def score(cell: Cell) -> float:
        return 0.5 - 0.01 * math.log10(cell.lr) + 0.001 * (cell.seed % 3)

    method = analysed(score, grow=2, confirm=4).methods[0]
    assert len(method.lrs) == len(LRS) + 2
    assert "lr high" in method.edges
    assert sorted(method.judged) == list(method.fresh_seeds) == [3, 4, 5, 6]


def test_a_finer_setting_is_chosen_shown_and_judged() -> None:
    def score(cell: Cell) -> float:
        """Best between the grid's learning rates, with a test score that only fresh seeds have."""
        return bowl(cell) + 0.05 * abs(math.log10(cell.lr / 0.3)) + (0.5 if cell.seed >= 3 else 0.0)

    comparison = analysed(score, confirm=2, refine=1)
    method = comparison.methods[0]
    assert any("found between the grid's settings" in line.en for line in comparison.advice)
    assert method.best is not None
    assert method.finest is not None
    assert method.chosen == method.finest
    assert 0 < len(method.finer) <= 8
    assert method.finest.validation.mean() < method.validation[method.best].mean()
    assert method.finest.lr not in LRS
    assert method.curves is not None
    assert method.curves.validation[0, 0] == method.finest.validation[0]
    fresh = Cell("Adam", method.finest.lr, method.finest.weight_decay, 3)
    assert method.judged[3] == score(fresh)
    coarse = analysed(score, confirm=2).methods[0]
    assert coarse.finest is None
    assert coarse.chosen is not None
    assert coarse.chosen.lr in LRS


def test_of_tied_grid_settings_the_one_that_refinement_prefers_is_chosen_shown_and_judged() -> None:
    grid = {(0.1, 0.1): 0.02, (1.0, 0.2): 0.02, (0.1, 0.2): 0.06, (1.0, 0.1): 0.06}

    def score(cell: Cell) -> float:
        """The middle of the grid ties with a corner; half a step around the middle, all is bad."""
        if cell.lr not in LRS or cell.weight_decay not in WEIGHT_DECAYS:
            return 0.5
        return grid.get((cell.lr, cell.weight_decay), 0.03) + (cell.lr if cell.seed >= 3 else 0.0)

    coarse, refined = (analysed(score, confirm=2, refine=refine).methods[0] for refine in (0, 1))
    assert coarse.best == (1, 1)
    assert refined.best == (2, 2)
    assert refined.edges == ("lr high", "weight_decay high")
    for method in (coarse, refined):
        assert method.chosen is not None
        assert method.judged[3] == score(Cell("Adam", method.chosen.lr, method.chosen.weight_decay, 3))


def test_one_seed_decides_nothing() -> None:
    comparison = analysed(ahead, seeds=1)
    assert comparison.differences[0].verdict == "not decided"
    assert "one seed" in comparison.basin_rule.en


def test_an_edge_is_flagged_with_a_grid_that_can_be_pasted() -> None:
    comparison = analysed(lambda cell: 1 / cell.lr + 0.01 * cell.seed)
    assert comparison.methods[1].edges == ("lr high",)
    (line,) = [line.en for line in comparison.advice if line.en.startswith("AdamW: its best lr")]
    assert "highest tried; grow the grid: --lr 'AdamW=0.01,0.1,1,10,100'" in line
    assert parse_axis(line.split("AdamW=")[1].split("'")[0], "--lr")[-1] == 100.0


def test_no_decay_as_the_best_is_a_finding() -> None:
    comparison = analysed(lambda cell: bowl(cell) + cell.weight_decay)
    assert comparison.methods[0].edges == ()
    assert any("no weight decay did best here" in line.en for line in comparison.advice)


def test_failures_are_told_apart_from_divergence() -> None:
    def score(cell: Cell) -> float:
        if cell.method == "Adam":
            return -1
        return math.nan if cell.lr == 1.0 else bowl(cell)

    comparison = analysed(score)
    adam, adamw = comparison.methods
    assert (adam.best, adam.diverged.sum()) == (None, 0)
    assert adamw.diverged.sum() == 9
    assert any("RuntimeError: broken" in line.en for line in comparison.advice)
    assert comparison.differences == ()


@pytest.mark.parametrize(
    "score",
    [
        ahead,
        bowl,
        lambda cell: bowl(cell) + (0.003 * (cell.seed - 0.9) if cell.method == "Adam" else 0.0),
        lambda cell: bowl(cell) + cell.weight_decay,
        lambda cell: 1 / cell.lr + 0.01 * cell.seed,
        lambda cell: math.nan,
        lambda cell: math.nan if (cell.method, cell.seed) == ("AdamW", 4) else ahead(cell),
    ],
)
def test_both_languages_say_the_same(score: Callable[[Cell], float]) -> None:
    comparison = analysed(score, confirm=4)
    for words in (comparison.answer, comparison.basin_rule, *comparison.advice):
        number = r"(?<![A-Za-z])\d+(?:\.\d+)?"
        assert sorted(re.findall(number, words.en)) == sorted(re.findall(number, words.zh)), words
        named = r"'[^']*'|--[a-z-]+|AdamW|Adam \+ L2|lr|weight_decay|Holm"
        assert not re.search("[A-Za-z]{2,}", re.sub(named, "", words.zh)), words.zh


@pytest.mark.parametrize("score", [ahead, lambda cell: math.nan, lambda cell: 1 / cell.lr])
def test_the_tables_fit_eighty_columns(score: Callable[[Cell], float]) -> None:
    console = Console(width=80, file=io.StringIO())
    show(analysed(score), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert "AdamW" in text
