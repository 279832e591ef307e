"""The heatmaps of the terminal, from results made up for the purpose."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from rich.console import Console

from adamantine.report.theme import COLOUR_MAP
from adamantine.study.cell import Cell, Result
from adamantine.study.plan import Method, Plan, cells
from adamantine.study.task import Settings
from adamantine.study.watch.heatmap import GAP, Heatmaps, Map, arranged, paged, shared_scale
from adamantine.study.watch.scale import Scale, colour, ink

METHOD = Method("AdamW", "AdamW", "decoupled", (0.001, 0.01, 0.1), (0.0, 0.01, 1.0))
PLAN = Plan("digits", Settings(), (METHOD,), (0, 1), "cosine", grow=0)

# [lr][weight decay]: the scores of both seeds; None: not done, inf: diverged
SCORES: list[list[list[float | None]]] = [
    [[0.40, 0.42], [0.30, 0.30], [0.31, None]],
    [[0.10, 0.12], [0.04, 0.06], [None, None]],
    [[math.inf, 0.20], [math.inf, math.inf], [None, None]],
]


def results(method: Method = METHOD) -> dict[Cell, Result]:
    found = {}
    flat = [score for row in SCORES for pair in row for score in pair]
    for cell, score in zip(cells(method, PLAN.seeds), flat, strict=True):
        if score is not None:
            ok = math.isfinite(score)
            found[cell] = Result(cell, "ok" if ok else "diverged", score if ok else math.nan)
    return found


def drawn(
    plan: Plan, known: Mapping[Cell, Result], *, width: int = 80, height: int = 24, **options: object
) -> str:
    console = Console(
        width=width, height=height, file=io.StringIO(), record=True, force_terminal=True, **options
    )  # type: ignore[arg-type]
    heatmaps = Heatmaps(plan, "error", "%", reserved=4)
    for method in plan.methods:
        heatmaps.update(method, known)
    console.print(heatmaps)
    return console.export_text()


def many(count: int) -> tuple[Plan, dict[Cell, Result]]:
    """A plan of methods with the same grid and scores."""
    methods = tuple(replace(METHOD, name=f"method {k}", spec=f"AdamW(eps={k})") for k in range(count))
    known = {cell: result for method in methods for cell, result in results(method).items()}
    return replace(PLAN, methods=methods), known


def test_every_state_of_a_cell_has_a_sign_of_its_own() -> None:
    lines = drawn(PLAN, results(), color_system=None).splitlines()
    assert [line.rstrip() for line in lines] == [
        "AdamW",
        " 0.1 × × ·",
        "0.01 ▓▓★█·",
        "1e-3 ▒▒▒▒░░",
        "   λ 0    1",
        "error 5 % █▓▒ 41 %    ★ best  ░ unfinished  × diverged",
    ]


def test_before_the_first_score_all_settings_wait_in_as_many_lines() -> None:
    lines = drawn(PLAN, {}, color_system=None).splitlines()
    assert [line.rstrip() for line in lines] == [
        "AdamW",
        " 0.1 · · ·",
        "0.01 · · ·",
        "1e-3 · · ·",
        "   λ 0    1",
        "",
    ]


def test_a_terminal_without_unicode_gets_ascii() -> None:
    file = io.TextIOWrapper(io.BytesIO(), "ascii")
    console = Console(width=80, file=file, force_terminal=True, color_system=None)
    heatmaps = Heatmaps(PLAN, "error", "%", reserved=4)
    heatmaps.update(METHOD, results())
    console.print(heatmaps)
    console.file.flush()
    text = console.file.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "*@" in text
    assert "x diverged" in text


def test_the_colours_are_those_of_the_report() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    heatmaps = Heatmaps(PLAN, "error", "%", reserved=4)
    heatmaps.update(METHOD, results())
    (star,) = [s for s in console.render(heatmaps) if "★" in s.text and s.style and s.style.bgcolor]
    assert star.style is not None
    assert star.style.bgcolor == colour(0.0)
    assert not star.style.dim
    assert colour(0.0).triplet == tuple(map(int, mpl.colormaps[COLOUR_MAP](0.0, bytes=True)[:3]))
    assert colour(1.0).triplet == tuple(map(int, mpl.colormaps[COLOUR_MAP](1.0, bytes=True)[:3]))
    assert ink(0.0).name == "#000000"  # on bright yellow
    assert ink(1.0).name == "#ffffff"  # on dark violet


def test_the_best_setting_is_chosen_as_in_the_report_and_the_mean_is_of_the_seeds_there_are() -> None:
    found = Map.of(METHOD, PLAN, results())
    assert found.best == (1, 1)
    assert found.scores[0, 2] == 0.31
    assert np.isnan(found.scores[2, 0])  # one seed diverged: no mean
    assert found.diverged.tolist() == [[False] * 3, [False] * 3, [True, True, False]]
    assert found.finished.tolist() == [[True, True, False], [True, True, False], [True, True, False]]


def test_a_setting_that_misses_a_seed_does_not_move_the_scale() -> None:
    lucky = results()
    cell = Cell("AdamW", 0.1, 1.0, 0)
    lucky[cell] = Result(cell, "ok", 0.001)
    assert shared_scale([Map.of(METHOD, PLAN, lucky)]) == shared_scale([Map.of(METHOD, PLAN, results())])
    assert shared_scale([Map.of(METHOD, PLAN, {cell: lucky[cell]})]) is not None  # nothing else
    assert shared_scale([Map.of(METHOD, PLAN, {})]) is None


@pytest.mark.parametrize(
    ("scores", "low", "high"),
    [
        ([0.02, 0.05], 0.02, 0.05),
        ([0.02, 0.9], 0.02, 0.2),  # ten times the best: beyond, all is equally bad
        ([0.0, 0.02, 0.05], 0.02, 0.05),  # no error at all is off a logarithmic scale, at its best end
        ([-3.0, -1.0], -3.0, -1.0),
    ],
)
def test_the_scale_is_the_reports(scores: list[float], low: float, high: float) -> None:
    means = np.array([*scores, math.nan])
    scale = Scale.of(means, np.isfinite(means))
    assert scale is not None
    assert (scale.low, scale.high) == pytest.approx((low, high))
    assert scale.place(min(scores)) == 0.0
    assert scale.place(max(scores)) == pytest.approx(1.0)


@pytest.mark.parametrize(("width", "count"), [(80, 3), (80, 7), (40, 3), (20, 2), (11, 2)])
def test_maps_stay_within_the_terminal(width: int, count: int) -> None:
    plan, known = many(count)
    lines = drawn(plan, known, width=width, color_system=None).splitlines()
    assert lines
    assert max(map(len, lines)) <= width
    assert len(lines) <= 24 - 4


def test_too_narrow_or_too_low_a_terminal_gets_no_map() -> None:
    assert drawn(PLAN, results(), width=7, color_system=None).strip() == ""
    assert drawn(PLAN, results(), height=8, color_system=None).strip() == ""


def test_what_does_not_fit_is_shown_in_turn_without_moving_what_is_below() -> None:
    plan, known = many(5)
    maps = [Map.of(method, plan, known) for method in plan.methods]
    wide = maps[0].width(2)
    rows = arranged(maps, 2 * wide + GAP)
    assert [len(row) for row in rows] == [2, 2, 1]
    pages = paged(rows, 2 * maps[0].height)
    assert [len(page) for page in pages] == [2, 1]
    assert paged(rows, maps[0].height - 1) == []


def test_pages_are_named_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, known = many(5)
    seen = set()
    for now in (0.0, 4.5, 9.0):
        monkeypatch.setattr("adamantine.study.watch.heatmap.time.monotonic", lambda now=now: now)
        text = drawn(plan, known, width=30, height=11, color_system=None)
        assert f"{len(seen) + 1}/3" in text
        seen.add(text)
    assert len({len(text.splitlines()) for text in seen}) == 1  # nothing below moves
    assert all(any(f"method {k}" in text for text in seen) for k in range(5))


def test_a_refined_grid_has_holes() -> None:
    full = {
        cell: Result(cell, "ok", 0.1 + abs(math.log10(cell.lr) + 2)) for cell in cells(METHOD, PLAN.seeds)
    }
    plan = replace(PLAN, refine=1)
    found = Map.of(METHOD, plan, full)
    assert found.scores.shape > (3, 3)
    assert not found.there.all()
    assert "·" in drawn(plan, full, color_system=None)  # the finer settings wait
