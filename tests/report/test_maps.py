"""Heat maps: where cells lie in both coordinates, what they tell, and what a screen reader finds."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from adamantine.report import Comparison, MethodGrid
from adamantine.report.coordinates import is_sheared, per_step, timescale
from adamantine.report.geometry import Layout
from adamantine.report.heatmap import shared_norm
from adamantine.report.maptext import told
from adamantine.report.numbers import Scores
from adamantine.report.svgmap import Maps

SVG = "{http://www.w3.org/2000/svg}"
ERROR = Scores("error", "%", 2)
LRS, DECAYS = np.array([1e-3, 1e-2, 1e-1]), np.array([0.0, 0.01, 0.1, 1.0])


def _drawn(comparison: Comparison, index: int = 0, coordinates: str = "λ") -> ET.Element:
    maps = Maps(comparison, shared_norm(comparison.methods), "en")
    source = str(maps.draw(index, coordinates))  # type: ignore[arg-type]
    return ET.fromstring(source.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))


def test_in_gamma_cells_lie_at_the_product(make_grid: Callable[..., MethodGrid]) -> None:
    layout = Layout.of(make_grid(lrs=LRS, weight_decays=DECAYS), "γ")
    for i, lr in enumerate(LRS):
        for j, decay in enumerate(DECAYS):
            x, y = layout.box(i, j).centre
            assert y == pytest.approx(math.log10(lr))
            if decay:
                assert x == pytest.approx(math.log10(lr * decay))
            else:  # no decay stays no decay, left of everything
                assert x == layout.box(0, 0).centre[0] < min(layout.box(k, 1).left for k in range(3))


@pytest.mark.parametrize(("decay", "sheared"), [("decoupled", "γ"), ("l2", "γ"), ("independent", "λ")])
def test_a_grid_is_a_rectangle_in_what_its_optimizer_takes(
    decay: str, sheared: str, make_grid: Callable[..., MethodGrid]
) -> None:
    method = make_grid(decay=decay, lrs=LRS, weight_decays=DECAYS)
    for coordinates in ("λ", "γ"):
        assert is_sheared(method, coordinates) == (coordinates == sheared)
        columns = {round(Layout.of(method, coordinates).box(i, 2).left, 9) for i in range(3)}
        assert len(columns) == (3 if coordinates == sheared else 1)


def test_the_outline_closes_in_both_coordinates(make_grid: Callable[..., MethodGrid]) -> None:
    """Every border point is the end of an even number of pieces once pieces that meet half-way are cut."""
    inside = np.zeros((3, 4), bool)
    inside[0, 1:3] = inside[1, 2:4] = inside[2, 0] = True
    method = make_grid(lrs=LRS, weight_decays=DECAYS)
    for coordinates in ("λ", "γ"):
        layout = Layout.of(method, coordinates)
        pieces = layout.outline(inside)
        points = {point for piece in pieces for point in piece}
        ends: dict[tuple[float, float], int] = {}
        for a, b in pieces:
            between = [p for p in points if p != a and p != b and _lies_on(p, a, b)]
            for start, end in pairwise(sorted([a, b, *between])):
                for point in (start, end):
                    ends[point] = ends.get(point, 0) + 1
        assert all(count % 2 == 0 for count in ends.values())


def _lies_on(p: tuple[float, float], a: tuple[float, float], b: tuple[float, float]) -> bool:
    return all(min(s, t) <= v <= max(s, t) for v, s, t in zip(p, a, b, strict=True))


def test_cells_without_decay_alone(
    make_grid: Callable[..., MethodGrid], make: Callable[..., Comparison]
) -> None:
    comparison = make(make_grid(decay="none", weight_decays=np.array([0.0]), lrs=LRS))
    for coordinates in ("λ", "γ"):
        cells = _drawn(comparison, 0, coordinates).findall(f".//{SVG}g[@role='gridcell']")
        assert len(cells) == 3


def test_a_map_is_a_grid_in_the_order_it_is_seen(complete: Comparison) -> None:
    for index, method in enumerate(complete.methods):
        for coordinates in ("λ", "γ"):
            root = _drawn(complete, index, coordinates)
            assert root.get("role") == "grid"
            rows = root.findall(f"{SVG}g[@role='row']")
            cells = [row.findall(f"{SVG}g[@role='gridcell']") for row in rows]
            assert [len(row) for row in cells] == [len(method.weight_decays)] * len(method.lrs)
            tops = [float(row[0].find(f"{SVG}rect").get("y")) for row in cells]  # type: ignore[union-attr, arg-type]
            assert tops == sorted(tops)
            assert cells[0][1].get("data-cell") == f"{index}-{len(method.lrs) - 1}-1"
            entrances = [cell for row in cells for cell in row if cell.get("data-entrance") is not None]
            assert [e.get("data-cell") for e in entrances] == ["-".join(map(str, (index, *method.best)))]


def test_a_cell_tells_score_spread_setting_and_timescale(make_grid: Callable[..., MethodGrid]) -> None:
    method = make_grid(lrs=LRS, weight_decays=DECAYS, max_lr=1.0)
    validation = np.full_like(method.validation, 0.5)
    validation[1, 2] = [0.01, 0.02, 0.03]
    method = replace(
        method,
        validation=validation,
        diverged=np.zeros_like(method.diverged),
        best=(1, 2),
        basin=method.basin & False,
    )
    assert [line.en for line in told(method, (1, 2), ERROR, 10)] == [
        "Validation error 2.00 ± 1.00 %",
        "learning rate η: 0.01",
        "weight decay λ: 0.1",
        "per step γ = ηλ: 1e-3",
        "timescale τ = 1/γ: 1000 steps = 100 epochs",
        "seeds: 3 of 3 finished",
        "★ best setting of its method",
    ]


def test_a_cell_tells_what_diverged(make_grid: Callable[..., MethodGrid]) -> None:
    method = make_grid(lrs=LRS, weight_decays=DECAYS)
    validation, diverged = method.validation.copy(), np.zeros_like(method.diverged)
    validation[0, 1], diverged[0, 1, :2] = [np.nan, np.nan, 0.25], True
    lines = [
        line.en
        for line in told(replace(method, validation=validation, diverged=diverged), (0, 1), ERROR, None)
    ]
    assert lines[0] == "Validation error 25.00 %"
    assert "seeds: 1 of 3 finished" in lines
    assert "diverged: 2 seeds" in lines
    assert "timescale τ = 1/γ: 100000 steps" in lines  # and no epochs, for their length is not known


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("decoupled", 1000.0),
        ("corrected", 1000.0),
        ("independent", 10.0),
        ("l2", None),
        ("cautious", None),
        ("", None),
    ],
)
def test_timescale_only_where_the_mode_has_one(
    decay: str, expected: float | None, make_grid: Callable[..., MethodGrid]
) -> None:
    method = make_grid(decay=decay, lrs=LRS, weight_decays=DECAYS)
    assert timescale(method, method.lrs[1], method.weight_decays[2]) == (
        None if expected is None else pytest.approx(expected)
    )
    assert (
        timescale(method, method.lrs[1], method.weight_decays[0]) is None
    )  # without decay nothing is forgotten
    assert per_step(method, method.lrs[1], method.weight_decays[2]) == pytest.approx(
        0.1 if decay == "independent" else 1e-3
    )


def test_the_twins_of_a_cell_share_its_name_and_its_words(complete: Comparison) -> None:
    both = []
    for coordinates in ("λ", "γ"):
        cells = _drawn(complete, 1, coordinates).iter(f"{SVG}g")
        both.append({c.get("data-cell"): c.findtext(f"{SVG}title") for c in cells if c.get("data-cell")})
    assert both[0] == both[1]


def test_diverged_cells_are_hatched_and_numbers_are_the_means(complete: Comparison) -> None:
    method = complete.methods[2]
    root = _drawn(complete, 2)
    for cell in root.iter(f"{SVG}g"):
        if cell.get("data-cell"):
            i, j = (int(part) for part in re.findall(r"\d+", cell.get("data-cell") or "")[1:])
            hatched = any(p.get("class") == "hatch" for p in cell.iter(f"{SVG}path"))
            assert hatched == method.diverged[i, j].any()
            if not hatched:
                assert cell.findtext(f"{SVG}text") == ERROR.cell(float(method.validation[i, j].mean()))
