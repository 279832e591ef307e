"""Test score of every method at its own best setting: mean, confidence interval and seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from adamantine.report.model import Floats, MethodGrid
from adamantine.report.numbers import Scores
from adamantine.report.theme import LIGHT, Theme, stroke
from adamantine.report.words import Words

SCORE_AXIS = Words("test {score}; lower is better", "测试{score}；越低越好")


def nothing(method: MethodGrid) -> Words:
    """Why a method has no test score: its runs are not done (or failed), or they diverged."""
    if method.chosen is not None:
        return Words("no seed finished at its best setting", "最佳设置下没有训练完成的种子")
    if (np.isnan(method.validation) & ~method.diverged).any():
        return Words("no setting finished", "没有训练完成的设置")
    return Words("no setting converged", "没有收敛的设置")


def seed_scores(method: MethodGrid) -> Floats:
    """Test scores at the method's best setting of the seeds that judge it; empty when it has none."""
    return np.array(list(method.judged.values()))


def draw_test_scores(
    ax: Axes,
    methods: tuple[MethodGrid, ...],
    order: list[int],
    labels: list[str],
    scores: Scores,
    theme: Theme = LIGHT,
) -> None:
    """One row per method in the given order, best on top; ``labels`` go by place in ``methods``."""
    for row, index in enumerate(order):
        method, style, y = methods[index], stroke(index), -float(row)
        at_left: dict[str, Any] = {
            "xycoords": ("axes fraction", "data"),
            "textcoords": "offset points",
            "va": "bottom",
        }
        ax.annotate(
            labels[index],
            (0, y),
            (0, 13),
            ha="left",
            color=theme.ink,
            fontweight="bold",
            fontsize=10.5,
            **at_left,
        )
        if method.at_best is None:
            said = nothing(method).of(scores.language)
            ax.annotate(said, (0, y), (0, -4), ha="left", color=theme.muted, **at_left)
            continue
        ax.annotate(
            scores.mean(method.at_best),
            (1, y),
            (0, 13),
            ha="right",
            color=theme.ink,
            fontsize=10.5,
            **at_left,
        )
        ax.axhline(y, color=theme.line, linewidth=0.8, zorder=0)
        estimate = method.at_best
        low, high = scores.limits(estimate)
        if np.isfinite(low + high):
            ax.errorbar(
                estimate.mean * scores.scale,
                y,
                xerr=[[(estimate.mean - low) * scores.scale], [(high - estimate.mean) * scores.scale]],
                color=style.colour,
                linewidth=2.4,
                capsize=5,
                capthick=2,
                zorder=2,
            )
        ax.plot(
            estimate.mean * scores.scale,
            y,
            marker=style.marker,
            markersize=9,
            color=style.colour,
            markeredgecolor=theme.surface,
            markeredgewidth=1.2,
            zorder=4,
        )
        seeds = seed_scores(method) * scores.scale
        ax.plot(
            seeds,
            np.full(seeds.size, y - 0.2),
            linestyle="none",
            marker="o",
            markersize=5,
            markerfacecolor="none",
            markeredgecolor=style.colour,
            markeredgewidth=1.3,
            zorder=3,
        )
    ax.set_ylim(-len(order) + 0.55, 0.62)
    ax.set_yticks([])
    ax.margins(x=0.06)
    ax.grid(visible=True, axis="x")
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="x", length=3)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    ax.set_xlabel(SCORE_AXIS.of(scores.language).format(score=scores.label))
