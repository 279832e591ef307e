"""Axes, growth of a grid, and plans as plain data."""

from __future__ import annotations

import json
import math

import pytest

from adamantine.study.cell import Cell, Result, from_json, to_json
from adamantine.study.errors import StudyError
from adamantine.study.methods import parse
from adamantine.study.plan import Method, Plan, cells, grown, plan_from_dict
from adamantine.study.ranges import default_lrs, default_weight_decays, extended, parse_axis
from adamantine.study.stages import confirmation, wanted
from adamantine.study.task import Settings

METHOD = Method("AdamW", "AdamW", "decoupled", (0.001, 0.01), (0.0, 0.1, 0.2))
PLAN = Plan("digits", Settings(), (METHOD,), (0, 1), "cosine", 2)


def run_all(plan: Plan, score: object) -> tuple[Method, int]:
    """Plays a whole search on a made-up score; gives the final grid and the number of runs."""
    results: dict[Cell, Result] = {}
    while todo := wanted(plan.methods[0], plan, results):
        for cell in todo:
            value = score(cell)  # type: ignore[operator]
            status = "ok" if math.isfinite(value) else "diverged"
            results[cell] = Result(cell, status, value, value)
    return grown(plan.methods[0], plan, results), len(results)


def bowl(lr: float, weight_decay: float):  # type: ignore[no-untyped-def]
    """Lowest at this setting, round in the logarithms."""

    def score(cell: Cell) -> float:
        decay = math.log(cell.weight_decay / weight_decay) if cell.weight_decay else 9.0
        return math.log(cell.lr / lr) ** 2 + decay**2 + 0.1 * cell.seed

    return score


def test_a_grid_grows_until_its_optimum_is_inside() -> None:
    method, runs = run_all(PLAN, bowl(0.1, 0.1))
    assert method.lrs == (0.001, 0.01, 0.1, 1.0)
    assert method.weight_decays == METHOD.weight_decays
    assert runs == 4 * 3 * 2


def test_a_grid_grows_no_more_often_than_allowed_and_on_both_axes() -> None:
    method, _ = run_all(PLAN, bowl(100.0, 100.0))
    assert method.lrs == (0.001, 0.01, 0.1, 1.0)
    assert method.weight_decays == (0.0, 0.1, 0.2, 0.4, 0.8)


def test_no_decay_and_divergence_do_not_make_a_grid_grow() -> None:
    def score(cell: Cell) -> float:
        return math.nan if cell.lr > 0.001 else cell.weight_decay

    fixed = Plan("digits", Settings(), (METHOD,), (0, 1), "cosine", 0)
    assert run_all(fixed, score)[1] == 12
    method, _ = run_all(PLAN, score)
    assert method.weight_decays == METHOD.weight_decays  # 0 is best, and nothing lies below it
    assert method.lrs[-1] == 0.01  # towards what diverged, nothing is sought
    assert run_all(PLAN, lambda cell: math.nan)[1] == 12


def test_an_unfinished_grid_wants_its_missing_cells_first() -> None:
    todo = cells(METHOD, (0, 1))
    done = {cell: Result(cell, "ok", 1.0, 1.0) for cell in todo[:-3]}
    assert wanted(METHOD, PLAN, done) == todo[-3:]


def test_fresh_seeds_follow_the_finished_search() -> None:
    plan = Plan("digits", Settings(), (METHOD,), (0, 5), "cosine", 2, confirm=3)
    assert plan.fresh_seeds == (6, 7, 8)
    assert run_all(plan, bowl(0.1, 0.1))[1] == 4 * 3 * 2 + 3
    assert confirmation(METHOD, plan, {}) == []
    assert run_all(plan, lambda cell: math.nan)[1] == 12  # nothing chosen, nothing to confirm


def test_plan_survives_json() -> None:
    assert plan_from_dict(json.loads(json.dumps(PLAN.to_dict()))) == PLAN


def test_result_survives_json_exactly() -> None:
    result = Result(
        Cell("AdamW", 0.1 + 0.2, 1e-300, 3), "diverged", math.nan, 1 / 3, "ü", {"norm": [0.1, math.nan]}, 0.25
    )
    assert repr(from_json(to_json(result))) == repr(result)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1", (0.1,)),
        ("0.1,0.01", (0.01, 0.1)),
        ("1e-3:1e-1:5", (0.001, 0.00316, 0.01, 0.0316, 0.1)),
        ("0,1:4:3", (0.0, 1.0, 2.0, 4.0)),
    ],
)
def test_axis(text: str, values: tuple[float, ...]) -> None:
    assert parse_axis(text, "--weight-decay") == values


def test_a_fine_axis_keeps_its_values_apart() -> None:
    assert len(set(parse_axis("1:1.001:9", "--lr"))) == 9


@pytest.mark.parametrize(
    "text", ["", "x", "1:2", "2:1:3", "1:2:1", "1:2:2.5", "0:1:3", "nan", "inf", "-1", "1,1"]
)
@pytest.mark.parametrize("option", ["--lr", "--weight-decay"])
def test_bad_axis_is_named(text: str, option: str) -> None:
    with pytest.raises(StudyError, match=option):
        parse_axis(text, option)


def test_lr_zero_is_refused_and_weight_decay_zero_is_not() -> None:
    with pytest.raises(StudyError, match="not positive"):
        parse_axis("0,1", "--lr")
    assert parse_axis("0,1", "--weight-decay")[0] == 0.0


def test_extended_never_repeats_a_value() -> None:
    assert extended((1.0, 1.0001), "high")[-1] > 1.0001
    assert extended((0.0, 0.5), "low") == (0.0, 0.125, 0.5)


def test_an_axis_of_half_decades_goes_on_in_half_decades() -> None:
    axis = (0.1, 0.316, 1.0)
    for expected in (3.16, 10.0):
        axis = extended(axis, "high")
        assert axis[-1] == expected


def test_coupled_and_decoupled_ranges_differ() -> None:
    spec = parse("AdamW")
    assert default_weight_decays(spec, "decoupled") != default_weight_decays(spec, "l2")
    assert default_weight_decays(parse("torch.optim:AdamW"), "") == default_weight_decays(spec, "decoupled")
    assert default_weight_decays(parse("torch.optim:RMSprop"), "") == default_weight_decays(spec, "l2")
    assert default_weight_decays(spec, "none") == (0.0,)


def test_unknown_optimizers_need_ranges() -> None:
    with pytest.raises(StudyError, match="--lr 'mine:Opt=low:high:count'"):
        default_lrs(parse("mine:Opt"))
    with pytest.raises(StudyError, match="--weight-decay 'mine:Opt="):
        default_weight_decays(parse("mine:Opt"), "")
