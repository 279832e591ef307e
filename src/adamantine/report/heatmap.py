"""Heatmap of the validation score over learning rate and weight decay, one method per heatmap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from adamantine.report.model import Bools, Floats, MethodGrid
from adamantine.report.numbers import Scores, setting
from adamantine.report.theme import COLOUR_MAP, LIGHT, Theme

WORST_SHOWN = 10.0  # the colour scale ends at this multiple of the best score: beyond, all is equally bad

_AXES_WIDTH, _AXES_HEIGHT = 262.0, 220.0  # points, about what a panel leaves to its axes
_DIGIT_WIDTH, _POINT_WIDTH = 0.64, 0.36  # of the font size, DejaVu Sans; a hyphen is as wide as a point
_ARROW = 14.0  # points
_GAP = 0.35  # between the column without decay and the logarithmic ones, in columns


def cell_scores(method: MethodGrid) -> Floats:
    """Mean validation score per cell, ``[lr, weight_decay]``; NaN unless every seed of it has a score."""
    mean: Floats = np.where(method.diverged, np.nan, method.validation).mean(axis=2)
    return mean


def shared_norm(methods: tuple[MethodGrid, ...]) -> Normalize:
    """One colour scale for all methods: logarithmic, from the best score to ten times the best.

    Negative scores get a linear scale. A score of zero (no error at all) is off a logarithmic scale and takes
    the colour of its best end.
    """
    scores = np.concatenate([cell_scores(m).ravel() for m in methods] or [np.empty(0)])
    scores = scores[np.isfinite(scores)]
    positive = scores[scores > 0]
    if scores.size == 0 or positive.size == 0:
        return Normalize(0.0, 1.0)
    if scores.min() < 0:
        return Normalize(float(scores.min()), float(max(scores.max(), scores.min() + 1e-12)))
    low = float(positive.min())
    return LogNorm(low, float(np.clip(positive.max(), 1.05 * low, WORST_SHOWN * low)))


def _edges(centres: Floats) -> Floats:
    """Cell borders half way between the centres.

    >>> _edges(np.array([0.0, 1.0, 3.0]))
    array([-0.5,  0.5,  2. ,  4. ])
    """
    if centres.size == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = centres[0] - (middle[0] - centres[0]), centres[-1] + (centres[-1] - middle[-1])
    return np.concatenate([[first], middle, [last]])


@dataclass(frozen=True)
class _Layout:
    """Where the cells lie: ``x`` holds left and right of each column, ``y`` bottom and top of each row."""

    x: list[tuple[float, float]]
    y: list[tuple[float, float]]
    detached: bool  # is the first column the one without decay, set apart from the rest?

    @classmethod
    def of(cls, method: MethodGrid) -> _Layout:
        rows = _edges(np.log10(np.asarray(method.lrs)))
        decays = np.asarray(method.weight_decays)
        columns: list[tuple[float, float]] = []
        if (decays > 0).any():
            borders = _edges(np.log10(decays[decays > 0]))
            columns = list(zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True))
        has_zero = bool(decays[0] == 0)
        if has_zero:
            left, right = columns[0] if columns else (0.0, 1.0)
            width = right - left
            columns.insert(0, (left - (1 + _GAP) * width, left - _GAP * width))
        return cls(columns, list(zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True)), has_zero)

    @property
    def cell_size(self) -> tuple[float, float]:
        """Width and height of the smallest cell in points, in a panel of the usual size."""
        width, height = self.x[-1][1] - self.x[0][0], self.y[-1][1] - self.y[0][0]
        return (
            min(right - left for left, right in self.x) / width * _AXES_WIDTH,
            min(top - bottom for bottom, top in self.y) / height * _AXES_HEIGHT,
        )


def draw_heatmap(ax: Axes, method: MethodGrid, norm: Normalize, scores: Scores, theme: Theme = LIGHT) -> None:
    """Draw one method's grid: colour and number per cell, best cell, basin, divergence, arrows at an edge."""
    layout = _Layout.of(method)
    means = cell_scores(method)
    _draw_cells(ax, method, layout, means, norm, theme)
    _draw_numbers(ax, method, layout, means, norm, scores)
    if method.best is not None:
        _draw_basin(ax, layout, method)
        _draw_best(ax, layout, method.best)
        _draw_edge_arrows(ax, layout, method.best, method.edges, theme)
    ax.set_xlim(layout.x[0][0], layout.x[-1][1])
    ax.set_ylim(layout.y[0][0], layout.y[-1][1])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=2.5, pad=3)
    if "lr low" in method.edges:  # room for the arrow
        ax.tick_params(axis="x", pad=_ARROW)
    if "weight_decay low" in method.edges:
        ax.tick_params(axis="y", pad=_ARROW)
    ax.xaxis.set_minor_locator(NullLocator())
    _label_axes(ax, method, layout)
    ax.set_xlabel("weight decay λ")
    ax.set_ylabel("learning rate η")


def _label_axes(ax: Axes, method: MethodGrid, layout: _Layout) -> None:
    """Every value where there is room, else every second, third, ... of them: the best setting's always."""
    best_row, best_column = method.best or (len(method.lrs) - 1, len(method.weight_decays) - 1)
    labels = [setting(v) for v in method.weight_decays]
    widest = max(sum(_POINT_WIDTH if c in ".-" else _DIGIT_WIDTH for c in label) for label in labels)
    width, height = layout.cell_size
    size = next((size for size in (10.0, 8.5) if widest * size + 4 <= width), 10.0)
    stride = math.ceil((widest * size + 4) / width)
    # The column without decay stands apart and has room for its own.
    first = int(layout.detached)
    anchor = best_column if best_column >= first else len(labels) - 1
    columns = [*range(first), *(j for j in range(first, len(labels)) if (j - anchor) % stride == 0)]
    ax.set_xticks([sum(layout.x[j]) / 2 for j in columns], [labels[j] for j in columns], fontsize=size)
    rows = [i for i in range(len(method.lrs)) if (i - best_row) % math.ceil(12 / height) == 0]
    ax.set_yticks([sum(layout.y[i]) / 2 for i in rows], [setting(method.lrs[i]) for i in rows])


def _draw_cells(
    ax: Axes, method: MethodGrid, layout: _Layout, means: Floats, norm: Normalize, theme: Theme
) -> None:
    colours = mpl.colormaps[COLOUR_MAP]
    diverged: Bools = np.asarray(method.diverged.any(axis=2))
    for i, (bottom, top) in enumerate(layout.y):
        for j, (left, right) in enumerate(layout.x):
            finite = np.isfinite(means[i, j])
            cell = Rectangle(
                (left, bottom),
                right - left,
                top - bottom,
                facecolor=colours(float(np.clip(norm(max(means[i, j], norm.vmin or 0.0)), 0, 1)))
                if finite
                else theme.void,
                edgecolor=theme.surface,
                linewidth=0.8,
            )
            ax.add_patch(cell)
            if diverged[i, j]:
                hatch = Rectangle(
                    (left, bottom), right - left, top - bottom, fill=False, hatch="////", linewidth=0
                )
                hatch.set_edgecolor(theme.muted)
                ax.add_patch(hatch)


def _draw_numbers(
    ax: Axes, method: MethodGrid, layout: _Layout, means: Floats, norm: Normalize, scores: Scores
) -> None:
    texts = [scores.cell(v) for v in means[np.isfinite(means)]]
    width, height = layout.cell_size
    size = min(9.0, (width - 4) / (_DIGIT_WIDTH * max(map(len, texts), default=1)), 0.6 * height)
    if size < 6.0:
        return
    for i, j in zip(*np.nonzero(np.isfinite(means)), strict=True):
        is_dark = float(norm(max(means[i, j], norm.vmin or 0.0))) > 0.5
        ax.text(
            sum(layout.x[j]) / 2,
            sum(layout.y[i]) / 2,
            scores.cell(means[i, j]),
            ha="center",
            va="center_baseline",
            fontsize=size,
            fontweight="bold" if (i, j) == method.best else "normal",
            color="#ffffff" if is_dark else "#000000",
        )


def _draw_basin(ax: Axes, layout: _Layout, method: MethodGrid) -> None:
    """Outline the cells that the analysis cannot tell from the best one."""
    inside = np.pad(method.basin, 1)
    segments = []
    for i, j in zip(*np.nonzero(method.basin), strict=True):
        (left, right), (bottom, top) = layout.x[j], layout.y[i]
        apart_left, apart_right = layout.detached and j == 1, layout.detached and j == 0
        if apart_left or not inside[i + 1, j]:
            segments.append([(left, bottom), (left, top)])
        if apart_right or not inside[i + 1, j + 2]:
            segments.append([(right, bottom), (right, top)])
        if not inside[i, j + 1]:
            segments.append([(left, bottom), (right, bottom)])
        if not inside[i + 2, j + 1]:
            segments.append([(left, top), (right, top)])
    for width, colour in ((3.6, "#ffffff"), (1.6, "#000000")):
        ax.add_collection(
            LineCollection(
                segments, linewidths=width, colors=colour, capstyle="projecting", clip_on=False, zorder=3
            ),
            autolim=False,
        )


def _draw_best(ax: Axes, layout: _Layout, best: tuple[int, int]) -> None:
    """A star in the cell's upper right corner, clear of its number."""
    (left, right), (bottom, top) = layout.x[best[1]], layout.y[best[0]]
    ax.plot(
        left + 0.88 * (right - left),
        bottom + 0.85 * (top - bottom),
        marker="*",
        markersize=min(12.0, max(9.0, 0.4 * min(layout.cell_size))),
        markerfacecolor="#ffffff",
        markeredgecolor="#000000",
        markeredgewidth=0.9,
        clip_on=False,
        zorder=5,
    )


def _draw_edge_arrows(
    ax: Axes, layout: _Layout, best: tuple[int, int], edges: tuple[str, ...], theme: Theme
) -> None:
    """An arrow out of the grid where the best cell lies on its rim: the optimum may be further out."""
    (left, right), (bottom, top) = layout.x[best[1]], layout.y[best[0]]
    x, y = (left + right) / 2, (bottom + top) / 2
    arrows = {
        "lr low": ((x, bottom), (0, -_ARROW)),
        "lr high": ((x, top), (0, _ARROW)),
        "weight_decay low": ((left, y), (-_ARROW, 0)),
        "weight_decay high": ((right, y), (_ARROW, 0)),
    }
    for edge in edges:
        if edge in arrows:
            start, offset = arrows[edge]
            ax.annotate(
                "",
                start,
                offset,
                textcoords="offset points",
                arrowprops={
                    "arrowstyle": "<|-,head_width=0.4,head_length=0.6",
                    "linewidth": 2.4,
                    "color": theme.warn,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
                annotation_clip=False,
                zorder=6,
            )


def draw_colour_bar(bar_ax: Axes, norm: Normalize, scores: Scores, theme: Theme = LIGHT) -> None:
    """The key of the shared colour scale, lying."""
    bar = Colorbar(bar_ax, ScalarMappable(norm, COLOUR_MAP), orientation="horizontal", extend="max")
    low, high = float(norm.vmin or 0.0), float(norm.vmax or 1.0)
    if isinstance(norm, LogNorm):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [m * 10.0**d for d in decades for m in (1, 1.5, 2, 3, 5, 7) if low <= m * 10.0**d <= high]
        if len(ticks) < 4:
            ticks = [float(t) for t in MaxNLocator(5).tick_values(low, high) if low <= t <= high]
    else:
        ticks = [float(t) for t in MaxNLocator(5).tick_values(low, high) if low <= t <= high]
    bar.ax.xaxis.set_major_locator(FixedLocator(ticks))
    bar.ax.xaxis.set_major_formatter(FixedFormatter([setting(t * scores.scale) for t in ticks]))
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    bar.set_label(f"mean validation {scores.label}; lower is better", color=theme.muted)
