"""The figure has a bar for every ratio, and nothing where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from adamantine.bench import figure
from adamantine.bench.case import DEFAULT, FLAT, FUSED, LIMIT, OURS
from adamantine.bench.formats import BITSANDBYTES, EIGHT, FOUR, TORCHAO_4
from adamantine.bench.results import Outcome, Results
from adamantine.report.theme import DARK, LIGHT

ROUNDS = np.linspace(0.98, 1.02, 12)
Make = Callable[..., Outcome]


def _drawn(*outcomes: Outcome) -> Figure:
    return figure._draw([(outcome, figure._bars(outcome)) for outcome in outcomes], 2, LIGHT)


def test_bars_are_the_ratios_on_a_logarithmic_axis(outcome: Make) -> None:
    values = {OURS: ROUNDS, LIMIT: ROUNDS, FLAT: 0.5 * ROUNDS, FUSED: 12 * ROUNDS, DEFAULT: 100 * ROUNDS}
    (ax,) = _drawn(outcome("many", values)).axes
    assert ax.get_xscale() == "log"
    bars = [bar.get_x() + bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(bars, [0.5, 12, 100])  # ours is the line at 1, and the limit no contestant
    texts = {text.get_text() for text in ax.texts}
    assert {"1000 small tensors", f"12.0 × {FUSED}", f"100 × {DEFAULT}", f"0.500 × {FLAT}"} <= texts
    low, high = ax.get_xlim()
    assert low < 0.5
    assert high > 100


def test_colours_tell_torch_other_packages_and_ours_apart(outcome: Make) -> None:
    values = {OURS: ROUNDS, FLAT: 0.5 * ROUNDS, FUSED: 2 * ROUNDS, "optimi": 3 * ROUNDS, DEFAULT: 4 * ROUNDS}
    (ax,) = _drawn(outcome("many", values)).axes
    flat, fused, optimi, default = (bar.get_facecolor() for bar in ax.patches)
    assert fused == default
    assert len({flat, fused, optimi}) == 3


def test_files_in_both_themes(outcome: Make, results: Callable[..., Results], tmp_path: Path) -> None:
    figure.write(results(outcome("one", {OURS: ROUNDS, FUSED: 4 * ROUNDS})), tmp_path)
    light, dark = ((tmp_path / "figures" / f"ratios-{name}.svg").read_text() for name in ("light", "dark"))
    assert LIGHT.ink in light
    assert LIGHT.surface in light
    assert DARK.ink in dark
    assert LIGHT.ink not in dark


def test_no_ratio_no_figure(outcome: Make, results: Callable[..., Results], tmp_path: Path) -> None:
    found = outcome("rules/lion", {OURS: ROUNDS, LIMIT: ROUNDS})
    peaks = outcome("memory", {OURS: ROUNDS, FUSED: ROUNDS})
    figure.write(results(found, peaks), tmp_path)
    assert not list(tmp_path.iterdir())


def test_formats_show_their_bytes_and_no_label_leaves_the_picture(outcome: Make) -> None:
    values = {EIGHT: ROUNDS, FOUR: 1.2 * ROUNDS, BITSANDBYTES: 30 * ROUNDS, TORCHAO_4: 80 * ROUNDS}
    found = outcome("format-peers", values)
    held = {EIGHT: 10.0625, FOUR: 9.0625, BITSANDBYTES: 10.03, TORCHAO_4: 9.06}
    object.__setattr__(found, "held", {name: round(b * found.work.elements) for name, b in held.items()})
    drawn = _drawn(found)
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    (ax,) = drawn.axes
    texts = {text.get_text(): text for text in ax.texts}
    assert {f"1.00 × {EIGHT}, 10.1 bytes", f"30.0 × {BITSANDBYTES}, 10.0 bytes"} <= texts.keys()
    for text in texts.values():
        assert text.get_window_extent(canvas.get_renderer()).x1 <= drawn.bbox.x1
