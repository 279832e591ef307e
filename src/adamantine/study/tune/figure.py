"""A search in two panels: its trials over lr and the decay's strength, and the best score so far."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from adamantine.report.numbers import Scores, printable, setting
from adamantine.report.svg import themed
from adamantine.report.theme import COLOUR_MAP, METHOD_COLOURS, Theme
from adamantine.study.tune.result import AXES, Finding, Tried, Tuning

AXIS_WORDS = {
    "gamma": "γ = lr·λ per step",
    "weight_decay": "weight decay λ",
}
WORST = 80  # percentile of the scores at which the colours end: the worst would take them all


def figure_files(tuning: Tuning) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a figure per method: PNG and SVG, light and dark."""
    for finding in tuning.findings:
        if not finding.tried:
            continue
        letters = "".join(letter if letter.isalnum() else "-" for letter in finding.spec).strip("-")

        def draw(theme: Theme, finding: Finding = finding) -> Figure:
            return draw_search(finding, tuning, theme)

        yield from themed(f"tune-{letters}", draw)


def draw_search(finding: Finding, tuning: Tuning, theme: Theme) -> Figure:
    """The figure of one method."""
    figure = Figure((10.6, 4.7), layout=ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.12))
    figure.suptitle(
        printable(f"{finding.name}: {len(finding.tried)} trials on {tuning.title}"),
        x=0.012,
        ha="left",
        fontsize=13,
        fontweight="bold",
        color=theme.ink,
    )
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_trials(left, finding, tuning.scores, theme)
    _draw_progress(right, finding, tuning.scores, theme)
    shares = " · ".join(
        f"{AXES.get(name, name)} {100 * share:.0f} %" for name, share in finding.importance.items()
    )
    key = "star: best · small open circles: pruned · crosses: diverged"
    figure.supxlabel(
        key + (f" · share in the score's variance: {shares}" if shares else ""),
        x=0.012,
        ha="left",
        fontsize=9.5,
        color=theme.muted,
    )
    return figure


def _draw_trials(ax: Axes, finding: Finding, scores: Scores, theme: Theme) -> None:
    axis = finding.space.axis if finding.space.strength else None
    complete = _with(finding, "complete")
    values = np.array([tried.score * scores.scale for tried in complete])
    ax.set_xscale("log")
    ax.set_xlim(*_padded(finding.space.lr))
    if axis and finding.space.strength:
        ax.set_yscale("log")
        ax.set_ylim(*_padded(finding.space.strength))
        ax.set_ylabel(AXIS_WORDS[axis])
    else:
        ax.set_yticks([])
    for status, style in (
        ("pruned", {"marker": "o", "s": 16, "facecolors": "none", "edgecolors": theme.muted}),
        ("diverged", {"marker": "x", "s": 34, "color": theme.warn}),
    ):
        points = _points(_with(finding, status), finding)
        if points.size:
            kwargs: dict[str, Any] = style
            ax.scatter(points[:, 0], points[:, 1], linewidths=1.1, zorder=2, **kwargs)
    if values.size:
        low = float(values.min())
        norm = Normalize(low, max(float(np.percentile(values, WORST)), low + 1e-12))
        points = _points(complete, finding)
        order = np.argsort(-values, kind="stable")  # the best on top
        drawn = ax.scatter(
            points[order, 0],
            points[order, 1],
            c=values[order],
            cmap=COLOUR_MAP,
            norm=norm,
            s=52,
            edgecolors=theme.muted,
            linewidths=0.6,
            zorder=3,
        )
        bar = ax.figure.colorbar(drawn, ax=ax, extend="max", pad=0.03, fraction=0.05)
        bar.set_label(f"validation {scores.label}")
        bar.outline.set_visible(False)
    if finding.best is not None:
        x, y = _points((finding.best,), finding)[0]
        ax.scatter([x], [y], marker="*", s=250, color=theme.ink, edgecolors=theme.surface, zorder=5)
    ax.set_xlabel("learning rate")
    for one in (ax.xaxis, ax.yaxis) if axis else (ax.xaxis,):
        one.set_major_locator(LogLocator(subs=(1.0, 3.0) if _decades(one) < 2.6 else (1.0,)))
        one.set_minor_locator(NullLocator())
        one.set_major_formatter(FuncFormatter(lambda value, _: setting(value)))
    ax.grid(visible=True)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    best = finding.best.setting if finding.best else None
    where = f"; best at lr {setting(best.lr)}, λ {setting(best.weight_decay)}" if best else ""
    ax.set_title(f"Trials{where}")


def _draw_progress(ax: Axes, finding: Finding, scores: Scores, theme: Theme) -> None:
    values = np.array([t.score * scores.scale if t.status == "complete" else math.inf for t in finding.tried])
    number = np.arange(1, values.size + 1)
    best = np.minimum.accumulate(values)
    seen = np.isfinite(values)
    if seen.any():
        known = np.isfinite(best)
        ax.step(number[known], best[known], where="post", color=METHOD_COLOURS[0], linewidth=2.2, zorder=3)
        ax.scatter(number[seen], values[seen], s=16, color=theme.muted, linewidths=0, alpha=0.75, zorder=2)
        low, high = float(best[known][-1]), float(np.percentile(values[seen], WORST))
        room = max(high - low, 1e-12)
        ax.set_ylim(low - 0.08 * room, high + 0.15 * room)
        hidden = int((values[seen] > high + 0.15 * room).sum())
        if hidden:
            ax.annotate(
                f"{hidden} above",
                (0.99, 0.98),
                xycoords="axes fraction",
                ha="right",
                va="top",
                color=theme.muted,
                fontsize=9.5,
            )
    ax.set_xlim(0, values.size + 1)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_xlabel("trial")
    ax.set_ylabel(f"validation {scores.label}; lower is better")
    ax.grid(visible=True, axis="y")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title("Best so far (line) and each trial (dots)")


def _with(finding: Finding, status: str) -> tuple[Tried, ...]:
    return tuple(tried for tried in finding.tried if tried.status == status)


def _points(tried: tuple[Tried, ...], finding: Finding) -> Any:
    """``[trials, 2]``: lr and the strength, on the lower rim where there was no decay."""
    space = finding.space
    rows = []
    for one in tried:
        strength = one.params.get(space.axis, 1.0)
        if space.strength and one.setting.weight_decay == 0:
            strength = _padded(space.strength)[0]
        rows.append((one.params["lr"], strength))
    return np.array(rows).reshape(-1, 2)


def _padded(ends: tuple[float, float]) -> tuple[float, float]:
    factor = max(ends[1] / ends[0], 1.5) ** 0.05
    return ends[0] / factor, ends[1] * factor


def _decades(axis: Any) -> float:
    low, high = axis.get_view_interval()
    return math.log10(high / low)
