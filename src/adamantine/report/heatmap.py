"""Heatmap of the validation score over learning rate and weight decay, one method per heatmap."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from adamantine.report.geometry import Layout
from adamantine.report.model import Bools, Floats, MethodGrid
from adamantine.report.numbers import Scores, setting
from adamantine.report.separability_model import Coordinates
from adamantine.report.theme import COLOUR_MAP, LIGHT, Theme
from adamantine.report.ticks import label, logarithmic
from adamantine.report.words import Words

LR_AXIS = Words("learning rate η", "学习率 η")
DECAY_AXES = {
    "λ": Words("weight decay λ", "权重衰减系数 λ"),
    "γ": Words("weight decay per step γ = ηλ", "每步权重衰减 γ = ηλ"),
}
COLOURS = Words("mean validation {score}; lower is better", "验证{score}均值；越低越好")
WORST_SHOWN = 10.0  # the colour scale ends at this multiple of the best score: beyond, all is equally bad

_AXES_WIDTH, _AXES_HEIGHT = 262.0, 220.0  # points, about what a panel leaves to its axes
_DIGIT_WIDTH, _POINT_WIDTH = 0.64, 0.36  # of the font size, DejaVu Sans; a hyphen is as wide as a point
_ARROW = 14.0  # points


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


def draw_heatmap(
    ax: Axes,
    method: MethodGrid,
    norm: Normalize,
    scores: Scores,
    theme: Theme = LIGHT,
    coordinates: Coordinates = "λ",
) -> None:
    """Draw one method's grid: colour and number per cell, best cell, basin, divergence, arrows at an edge."""
    layout = Layout.of(method, coordinates)
    means = cell_scores(method)
    _draw_cells(ax, method, layout, means, norm, theme)
    _draw_numbers(ax, method, layout, means, norm, scores)
    if method.best is not None:
        _draw_basin(ax, layout, method)
        _draw_best(ax, layout, method, method.best)
        _draw_edge_arrows(ax, layout, method.best, method.edges, theme)
    limits_x, limits_y = layout.limits
    ax.set_xlim(*limits_x)
    ax.set_ylim(*limits_y)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=2.5, pad=3)
    if "lr low" in method.edges:  # room for the arrow
        ax.tick_params(axis="x", pad=_ARROW)
    if "weight_decay low" in method.edges:
        ax.tick_params(axis="y", pad=_ARROW)
    ax.xaxis.set_minor_locator(NullLocator())
    _label_axes(ax, method, layout)
    if any(layout.shift):
        _label_decades(ax, layout)
    ax.set_xlabel(DECAY_AXES[coordinates].of(scores.language))
    ax.set_ylabel(LR_AXIS.of(scores.language))


def _label_axes(ax: Axes, method: MethodGrid, layout: Layout) -> None:
    """Every value where there is room, else every second, third, ... of them: the best setting's always."""
    best_row, best_column = method.best or (len(method.lrs) - 1, len(method.weight_decays) - 1)
    labels = [setting(v) for v in method.weight_decays]
    widest = max(sum(_POINT_WIDTH if c in ".-" else _DIGIT_WIDTH for c in label) for label in labels)
    width, height = layout.cell_size(_AXES_WIDTH, _AXES_HEIGHT)
    size = next((size for size in (10.0, 8.5) if widest * size + 4 <= width), 10.0)
    stride = math.ceil((widest * size + 4) / width)
    # The column without decay stands apart and has room for its own.
    first = int(layout.detached)
    anchor = best_column if best_column >= first else len(labels) - 1
    columns = [*range(first), *(j for j in range(first, len(labels)) if (j - anchor) % stride == 0)]
    ax.set_xticks([sum(layout.x[j]) / 2 for j in columns], [labels[j] for j in columns], fontsize=size)
    rows = [i for i in range(len(method.lrs)) if (i - best_row) % math.ceil(12 / height) == 0]
    ax.set_yticks([sum(layout.y[i]) / 2 for i in rows], [setting(method.lrs[i]) for i in rows])


def _label_decades(ax: Axes, layout: Layout) -> None:
    """Rows are moved, so no value stands below its column: round values along the axis instead."""
    places = [(x, label(value)) for x, value in layout.decades(6)]
    if layout.detached:
        places.insert(0, (sum(layout.x[0]) / 2, "0"))
    ax.set_xticks([x for x, _ in places], [text for _, text in places], fontsize=10)


def _draw_cells(
    ax: Axes, method: MethodGrid, layout: Layout, means: Floats, norm: Normalize, theme: Theme
) -> None:
    colours = mpl.colormaps[COLOUR_MAP]
    diverged: Bools = np.asarray(method.diverged.any(axis=2))
    for i in range(len(layout.y)):
        for j in range(len(layout.x)):
            box = layout.box(i, j)
            corner, width, height = (box.left, box.bottom), box.right - box.left, box.top - box.bottom
            finite = np.isfinite(means[i, j])
            cell = Rectangle(
                corner,
                width,
                height,
                facecolor=colours(float(np.clip(norm(max(means[i, j], norm.vmin or 0.0)), 0, 1)))
                if finite
                else theme.void,
                edgecolor=theme.surface,
                linewidth=0.8,
            )
            ax.add_patch(cell)
            if diverged[i, j]:
                hatch = Rectangle(corner, width, height, fill=False, hatch="////", linewidth=0)
                hatch.set_edgecolor(theme.muted)
                ax.add_patch(hatch)


def _draw_numbers(
    ax: Axes, method: MethodGrid, layout: Layout, means: Floats, norm: Normalize, scores: Scores
) -> None:
    texts = [scores.cell(v) for v in means[np.isfinite(means)]]
    width, height = layout.cell_size(_AXES_WIDTH, _AXES_HEIGHT)
    size = min(9.0, (width - 4) / (_DIGIT_WIDTH * max(map(len, texts), default=1)), 0.6 * height)
    if size < 6.0:
        return
    for i, j in zip(*np.nonzero(np.isfinite(means)), strict=True):
        is_dark = float(norm(max(means[i, j], norm.vmin or 0.0))) > 0.5
        ax.text(
            *layout.box(i, j).centre,
            scores.cell(means[i, j]),
            ha="center",
            va="center_baseline",
            fontsize=size,
            fontweight="bold" if (i, j) == method.best else "normal",
            color="#ffffff" if is_dark else "#000000",
        )


def _draw_basin(ax: Axes, layout: Layout, method: MethodGrid) -> None:
    """Outline the cells that the analysis cannot tell from the best one."""
    segments = layout.outline(method.basin)
    for width, colour in ((3.6, "#ffffff"), (1.6, "#000000")):
        ax.add_collection(
            LineCollection(
                segments, linewidths=width, colors=colour, capstyle="projecting", clip_on=False, zorder=3
            ),
            autolim=False,
        )


def _draw_best(ax: Axes, layout: Layout, method: MethodGrid, best: tuple[int, int]) -> None:
    """A star in the cell's upper right corner, clear of its number; or at the best of the finer settings,
    which are dots."""
    box = layout.box(*best)
    star = (box.left + 0.88 * (box.right - box.left), box.bottom + 0.85 * (box.top - box.bottom))
    for tried in method.finer:
        place = layout.place(tried.lr, tried.weight_decay)
        ax.plot(*place, marker="o", markersize=3.0, color="#ffffff", markeredgecolor="#000000", zorder=5)
    if method.finest is not None:
        star = layout.place(method.finest.lr, method.finest.weight_decay)
    ax.plot(
        *star,
        marker="*",
        markersize=min(12.0, max(9.0, 0.4 * min(layout.cell_size(_AXES_WIDTH, _AXES_HEIGHT)))),
        markerfacecolor="#ffffff",
        markeredgecolor="#000000",
        markeredgewidth=0.9,
        clip_on=False,
        zorder=6,
    )


def _draw_edge_arrows(
    ax: Axes, layout: Layout, best: tuple[int, int], edges: tuple[str, ...], theme: Theme
) -> None:
    """An arrow out of the grid where the best cell lies on its rim: the optimum may be further out."""
    box = layout.box(*best)
    x, y = box.centre
    arrows = {
        "lr low": ((x, box.bottom), (0, -_ARROW)),
        "lr high": ((x, box.top), (0, _ARROW)),
        "weight_decay low": ((box.left, y), (-_ARROW, 0)),
        "weight_decay high": ((box.right, y), (_ARROW, 0)),
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


def colour_ticks(norm: Normalize) -> list[float]:
    """Round scores along the key of the colours."""
    low, high = float(norm.vmin or 0.0), float(norm.vmax or 1.0)
    if isinstance(norm, LogNorm):
        ticks = logarithmic(low, high, (1, 1.5, 2, 3, 5, 7), 12)
        if len(ticks) >= 4:
            return ticks
    return [float(t) for t in MaxNLocator(5).tick_values(low, high) if low <= t <= high]


def draw_colour_bar(bar_ax: Axes, norm: Normalize, scores: Scores, theme: Theme = LIGHT) -> None:
    """The key of the shared colour scale, lying."""
    bar = Colorbar(bar_ax, ScalarMappable(norm, COLOUR_MAP), orientation="horizontal", extend="max")
    ticks = colour_ticks(norm)
    bar.ax.xaxis.set_major_locator(FixedLocator(ticks))
    bar.ax.xaxis.set_major_formatter(FixedFormatter([setting(t * scores.scale) for t in ticks]))
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    bar.set_label(COLOURS.of(scores.language).format(score=scores.label), color=theme.muted)
