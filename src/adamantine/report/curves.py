"""Learning curves and weight norms of every method at its own best setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from adamantine.report.model import Curves, Floats, MethodGrid
from adamantine.report.numbers import setting
from adamantine.report.phrases import Written, fill
from adamantine.report.theme import stroke
from adamantine.report.words import Language, Words

EPOCHS = Words("epoch", "训练轮数")
_MARKERS, _MARKER_SIZE = 6, 6.0  # per curve; points
_MOST_POINTS = 300  # per curve: more than a panel has pixels for


@dataclass(frozen=True)
class Quantity:
    """One panel of curves: what it shows of `Curves`, and how its axis reads."""

    name: str
    title: Words
    label: Words
    of: Callable[[Curves], Floats]
    scale: float = 1.0


def quantities(scores: Written) -> tuple[Quantity, ...]:
    """The three panels of every report."""
    return (
        Quantity(
            "train-loss",
            Words("Train loss", "训练损失"),
            Words("train loss (without the L2 penalty)", "训练损失（不含 L2 惩罚项）"),
            lambda c: c.train_loss,
        ),
        Quantity(
            "validation",
            fill(Words("Validation {score}", "验证{score}"), score=scores(lambda s: s.name)),
            fill(Words("validation {score}", "验证{score}"), score=scores(lambda s: s.label)),
            lambda c: c.validation,
            scores.en.scale,
        ),
        Quantity(
            "norm",
            Words("Norm of the decaying weights", "参与衰减的权重的范数"),
            Words("‖θ‖₂ of the weights that decay", "参与衰减的权重的 ‖θ‖₂"),
            lambda c: c.norm,
        ),
    )


@dataclass(frozen=True)
class Line:
    """A curve's mean, lowest and highest seed, at the points where at least one seed was measured."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, epoch: Floats, rows: Floats) -> Line:
        measured = np.isfinite(rows).any(axis=0)
        x, rows = epoch[measured], rows[:, measured]
        if x.size > _MOST_POINTS:
            kept = np.unique(np.linspace(0, x.size - 1, _MOST_POINTS).round().astype(np.int64))
            x, rows = x[kept], rows[:, kept]
        if x.size == 0:
            return cls(x, x, x, x)
        rows = np.where(np.isfinite(rows), rows, np.nan)
        return cls(x, np.nanmean(rows, axis=0), np.nanmin(rows, axis=0), np.nanmax(rows, axis=0))


def has_curves(methods: tuple[MethodGrid, ...], quantity: Quantity) -> bool:
    """Is there anything to draw?"""
    return any(m.curves is not None and bool(np.isfinite(quantity.of(m.curves)).any()) for m in methods)


def draw_curves(
    ax: Axes, methods: tuple[MethodGrid, ...], quantity: Quantity, language: Language = "en"
) -> None:
    """One line per method (mean over seeds) in a band from the lowest to the highest seed."""
    values = []
    for index, method in enumerate(methods):
        if method.curves is None:
            continue
        line = Line.of(method.curves.epoch, quantity.of(method.curves) * quantity.scale)
        if line.x.size == 0:
            continue
        style = stroke(index)
        step = max(1, line.x.size // _MARKERS)
        ax.fill_between(line.x, line.low, line.high, color=style.colour, alpha=0.18, linewidth=0)
        ax.plot(
            line.x,
            line.mean,
            color=style.colour,
            linewidth=2,
            linestyle=(0, style.dash) if style.dash else "solid",
            marker=style.marker,
            markersize=_MARKER_SIZE,
            # A few along the line, for methods next to each other not at the same epochs.
            markevery=(index * step // len(methods), step),
        )
        values.append(line.low)
        values.append(line.high)
    ax.grid(visible=True, axis="y")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", length=3)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    ax.margins(x=0.02)
    ax.set_xlabel(EPOCHS.of(language))
    ax.set_ylabel(quantity.label.of(language))
    _scale_axis(ax, np.concatenate(values) if values else np.empty(0))


def _scale_axis(ax: Axes, values: Floats) -> None:
    """Logarithmic where the values are positive and span more than a factor of eight."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if low > 0 and high > 8 * low:
        ax.set_yscale("log")
        few_decades = high < 300 * low
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few_decades else (1.0,), numticks=8))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: setting(value)))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.tick_params(axis="y", which="minor", length=0)
    else:
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))


def legend_handles(methods: tuple[MethodGrid, ...], labels: list[str]) -> list[Line2D]:
    """Lines for a figure's legend, in the methods' order."""
    return [
        Line2D(
            [],
            [],
            color=stroke(i).colour,
            linewidth=2,
            linestyle=(0, stroke(i).dash) if stroke(i).dash else "solid",
            marker=stroke(i).marker,
            markersize=_MARKER_SIZE,
            label=label,
        )
        for i, (method, label) in enumerate(zip(methods, labels, strict=True))
        if method.curves is not None
    ]
