"""The figures of a report: as files for other documents, and as single panels for the page.

A file holds a whole figure with titles and legend. The page takes the panels one by one, without titles, so
that they sit side by side on a desk and below each other on a phone, and says titles and legends in HTML.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from adamantine.report.curves import Quantity, draw_curves, has_curves, legend_handles, quantities
from adamantine.report.heatmap import cell_scores, draw_colour_bar, draw_heatmap, shared_norm
from adamantine.report.model import Comparison, MethodGrid
from adamantine.report.numbers import Scores, counted, printable, setting
from adamantine.report.svg import drawing, inline, svg, themed
from adamantine.report.testscores import draw_test_scores, seed_scores
from adamantine.report.theme import Theme, recoloured

_PANEL = (4.5, 3.7)  # inches: 324 x 266 points, what a phone shows at full size


def order_by_test(methods: tuple[MethodGrid, ...]) -> list[int]:
    """Places of the methods, best mean test score first; methods without one at the end, as given."""
    return sorted(
        range(len(methods)),
        key=lambda i: math.inf if (e := methods[i].at_best) is None or math.isnan(e.mean) else e.mean,
    )


def _label(name: str, width: int, lines: int) -> str:
    """A method's name in a figure: wrapped, and shortened where it would crowd out the data."""
    return "\n".join(
        textwrap.wrap(printable(name), width, max_lines=lines, placeholder=" …", break_long_words=True)
    )


# ---------------------------------------------------------------------------------------------- the page's


@dataclass(frozen=True)
class Panel:
    """One drawing of the page. ``svg`` is safe HTML; its colours are the page's CSS variables."""

    name: str
    svg: str


class Panels:
    """Draws the panels of one comparison for its page."""

    def __init__(self, comparison: Comparison) -> None:
        self._methods = comparison.methods
        self._scores = Scores.of(comparison)
        self._norm = shared_norm(comparison.methods)
        self._order = order_by_test(comparison.methods)

    def test_scores(self) -> str:
        """Dots and intervals of all methods."""
        labels = [_label(m.name, 26, 1) for m in self._methods]
        shown = [m for m in self._methods if m.at_best is not None]
        alt = f"Test {self._scores.name} at each method's own best setting. " + " ".join(
            f"{m.name}: {self._scores.mean(m.at_best)} over {counted(seed_scores(m).size, 'seed')}."
            for m in shown
            if m.at_best is not None
        )
        height = 0.75 + 0.7 * max(len(self._methods), 1)
        return self._panel(
            "test-scores",
            alt,
            lambda figure: draw_test_scores(
                figure.subplots(), self._methods, self._order, labels, self._scores
            ),
            size=(5.0, height),
        )

    def heatmap(self, index: int) -> str:
        """The heatmap of the method at place ``index``."""
        method = self._methods[index]
        return self._panel(
            f"heatmap-{index}",
            heatmap_alt(method, self._scores),
            lambda figure: draw_heatmap(figure.subplots(), method, self._norm, self._scores),
        )

    def colour_bar(self) -> str:
        """The key of the heatmaps' shared colours."""
        return self._panel(
            "colour-bar",
            f"Colour scale of the heatmaps: validation {self._scores.label}, lower is better.",
            lambda figure: draw_colour_bar(figure.subplots(), self._norm, self._scores),
            size=(4.8, 0.62),
        )

    def curves(self) -> list[tuple[Quantity, str]]:
        """One panel for each quantity that was measured."""
        shown = [q for q in quantities(self._scores) if has_curves(self._methods, q)]
        return [(q, self._curves(q)) for q in shown]

    def _curves(self, quantity: Quantity) -> str:
        return self._panel(
            f"curves-{quantity.name}",
            self._curves_alt(quantity),
            lambda figure: draw_curves(figure.subplots(), self._methods, quantity),
        )

    def _curves_alt(self, quantity: Quantity) -> str:
        ends = []
        for method in self._methods:
            if method.curves is not None:
                last = quantity.of(method.curves)
                last = last[np.isfinite(last)].reshape(-1)
                if last.size:
                    ends.append(f"{method.name}: lowest {setting(float(last.min()) * quantity.scale)}.")
        return f"{quantity.title} over epochs at each method's best setting. " + " ".join(ends)

    def _panel(
        self, name: str, alt: str, draw: Callable[[Figure], None], size: tuple[float, float] = _PANEL
    ) -> str:
        with drawing():
            figure = Figure(size, layout="constrained", facecolor="none")
            draw(figure)
            source = svg(figure, text="text")
        return recoloured(inline(source, prefix=name, alt=printable(alt)), None)


def heatmap_alt(method: MethodGrid, scores: Scores) -> str:
    """What the heatmap shows, in words."""
    means = cell_scores(method)
    diverged = int(method.diverged.any(axis=2).sum())
    lrs, decays = (
        counted(len(method.lrs), "learning rate"),
        counted(len(method.weight_decays), "weight decay"),
    )
    words = [f"Heatmap of the validation {scores.name} of {method.name} over {lrs} and {decays}."]
    if method.best is not None:
        i, j = method.best
        words.append(
            f"Best: {scores.value(float(means[i, j]))} at learning rate {setting(method.lrs[i])}, "
            f"weight decay {setting(method.weight_decays[j])}; "
            f"{int(method.basin.sum())} of {method.basin.size} settings are in its basin."
        )
    if diverged:
        words.append(f"{counted(diverged, 'setting')} diverged.")
    return " ".join(words)


# ---------------------------------------------------------------------------------------------- the files


def figure_files(comparison: Comparison) -> Iterator[tuple[str, bytes]]:
    """Names and contents of every figure file: PNG and SVG, light and dark.

    Figures without any data (no curves recorded, no method) are left out.
    """
    for name, draw in _drawings(comparison).items():
        yield from themed(name, draw)


def _drawings(comparison: Comparison) -> dict[str, Callable[[Theme], Figure]]:
    if not comparison.methods:
        return {}
    scores = Scores.of(comparison)
    learning = [q for q in quantities(scores) if q.name != "norm" and has_curves(comparison.methods, q)]
    norms = [q for q in quantities(scores) if q.name == "norm" and has_curves(comparison.methods, q)]
    drawings: dict[str, Callable[[Theme], Figure]] = {
        "test-scores": lambda theme: _test_scores(comparison, scores, theme),
        "heatmaps": lambda theme: _heatmaps(comparison, scores, theme),
    }
    if learning:
        drawings["learning-curves"] = lambda theme: _curves(comparison, learning)
    if norms:
        drawings["weight-norm"] = lambda theme: _curves(comparison, norms)
    return drawings


def _figure(size: tuple[float, float]) -> Figure:
    return Figure(size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))


def _test_scores(comparison: Comparison, scores: Scores, theme: Theme) -> Figure:
    methods = comparison.methods
    figure = _figure((7.0, 1.35 + 0.75 * len(methods)))
    ax = figure.subplots()
    labels = [_label(m.name, 42, 1) for m in methods]
    draw_test_scores(ax, methods, order_by_test(methods), labels, scores, theme)
    ax.set_title(f"Test {scores.name} at each method's own best setting", pad=16)
    _key(
        figure, "circles: seeds · filled mark: their mean · bar: 95 % confidence interval of the mean", theme
    )
    return figure


def _key(figure: Figure, text: str, theme: Theme) -> None:
    """A line below everything else."""
    figure.supxlabel(text, x=0.012, ha="left", fontsize=9.5, color=theme.muted)


def _heatmaps(comparison: Comparison, scores: Scores, theme: Theme) -> Figure:
    methods = comparison.methods
    columns = min(3, len(methods))
    rows = math.ceil(len(methods) / columns)
    width = max(5.0 * columns, 6.5)
    figure = _figure((width, 4.6 * rows + 1.3))
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[*[1.0] * rows, 0.035])
    figure.suptitle(
        f"Validation {scores.name} over learning rate and weight decay",
        x=0.012,
        ha="left",
        fontsize=13,
        fontweight="bold",
        color=theme.ink,
    )
    norm = shared_norm(methods)
    for index, method in enumerate(methods):
        ax = figure.add_subplot(grid[index // columns, index % columns])
        draw_heatmap(ax, method, norm, scores, theme)
        ax.set_title(_label(method.name, 40, 2), pad=24 if "lr high" in method.edges else 8)
    draw_colour_bar(figure.add_subplot(grid[rows, :]), norm, scores, theme)
    _key(
        figure,
        "star: best setting · outline: its basin · hatched: a seed diverged · arrow: best on the grid's edge",
        theme,
    )
    return figure


def _curves(comparison: Comparison, panels: list[Quantity]) -> Figure:
    figure = _figure((max(5.6 * len(panels), 6.5), 4.8))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, quantity in zip(axes, panels, strict=True):
        draw_curves(ax, comparison.methods, quantity)
        ax.set_title(f"{quantity.title}, each method at its best setting")
    figure.legend(
        handles=legend_handles(comparison.methods, [_label(m.name, 40, 2) for m in comparison.methods]),
        loc="outside lower left",
        ncols=min(3, len(comparison.methods)),
        handlelength=3.2,
    )
    return figure
