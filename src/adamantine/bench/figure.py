"""The figure: how much longer everyone else takes than we do, case by case."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from adamantine.bench.case import LIMIT
from adamantine.bench.numbers import three
from adamantine.bench.peers import PEERS
from adamantine.bench.results import Line, Outcome, Results
from adamantine.bench.statistics import Estimate
from adamantine.report.files import write_atomic
from adamantine.report.numbers import counted
from adamantine.report.svg import themed
from adamantine.report.theme import METHOD_COLOURS, Theme

NAME = "ratios"
BAR, GAP = 0.2, 0.17  # inches: a bar with its room, and between two cases
NAMES = 1.9  # inches for the cases' names
LETTER = 0.073  # inches that a letter of a label takes
# Whose a bar is; its label says more.
TORCH, PACKAGE, OURS = METHOD_COLOURS[0], METHOD_COLOURS[1], METHOD_COLOURS[2]


def write(results: Results, folder: Path) -> None:
    """Writes ``figures/ratios-{light,dark}.{png,svg}``; nothing where no ratio was measured."""
    shown = [(outcome, lines) for outcome in results.outcomes if (lines := _bars(outcome))]
    if not shown:
        return
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, content in themed(NAME, lambda theme: _draw(shown, results.manifest["threads"], theme)):
        write_atomic(folder / "figures" / name, content)


def _bars(outcome: Outcome) -> list[Line]:
    """Everyone with a ratio to ours, but the limit, which nobody can use; among formats also the one that the
    others are measured by, for its bytes."""
    bars = [line for line in outcome.lines if line.over_ours is not None and line.name != LIMIT]
    if bars and outcome.case.formats:
        own = next(line for line in outcome.lines if line.name == outcome.case.ours[0])
        bars.insert(0, replace(own, over_ours=Estimate(1.0, 1.0, 1.0)))
    return bars


def _label(outcome: Outcome, line: Line) -> str:
    assert line.over_ours is not None
    text = f"{three(line.over_ours.median)} × {line.name}"
    held = outcome.bytes_per_parameter(line.name)
    return text if held is None else f"{text}, {held:.1f} bytes"


def _draw(shown: list[tuple[Outcome, list[Line]]], threads: int, theme: Theme) -> Figure:
    height = sum(GAP + BAR * len(lines) for _, lines in shown)
    size = (7.6, height + 1.2)
    figure = Figure(size)
    ax = figure.add_axes((NAMES / size[0], 0.75 / size[1], 1 - (NAMES + 0.2) / size[0], height / size[1]))
    top = 0.0
    for outcome, lines in shown:
        if top:
            ax.axhline(top, xmin=-NAMES, color=theme.line, linewidth=0.8, clip_on=False, zorder=0)
        bottom = top + GAP + BAR * len(lines)
        ax.annotate(
            outcome.case.title,
            (0, (top + bottom) / 2),
            (-NAMES * 72 + 12, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontweight="bold",
            color=theme.ink,
        )
        for row, line in enumerate(lines):
            _bar(ax, top + GAP / 2 + BAR * (row + 0.5), line, _label(outcome, line), theme)
        top = bottom
    room = LETTER / (size[0] - NAMES - 0.2)  # of a letter, as a share of the width
    bars = [
        (line.over_ours, room * len(_label(outcome, line)))
        for outcome, lines in shown
        for line in lines
        if line.over_ours is not None
    ]
    _axis(ax, top, bars, theme)
    edge = 12 / 72 / size[0]
    figure.text(
        edge,
        1 - 0.2 / size[1],
        "Time for the same work, adamantine = 1",
        va="center",
        fontsize=13,
        fontweight="bold",
        color=theme.ink,
    )
    key = ["right of the line: slower than adamantine", "whisker: 95 % interval", counted(threads, "thread")]
    if any(outcome.busy for outcome, _ in shown):
        key.append("other programs were running")
    figure.text(edge, 0.17 / size[1], " · ".join(key), va="center", fontsize=9.5, color=theme.muted)
    return figure


def _bar(ax: Axes, y: float, line: Line, label: str, theme: Theme) -> None:
    ratio = line.over_ours
    assert ratio is not None
    ax.barh(y, ratio.median - 1, left=1, height=BAR * 0.7, color=_colour(line.name), zorder=2)
    ax.plot([ratio.low, ratio.high], [y, y], color=theme.ink, linewidth=1.2, zorder=5)
    ax.annotate(
        label,
        (max(1.0, ratio.median, ratio.high), y),
        (6, 0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=9,
        color=theme.ink,
        bbox={"facecolor": theme.surface, "edgecolor": "none", "pad": 1},  # no grid line through it
        zorder=3,
    )


def _colour(name: str) -> str:
    peers = {peer.name: peer for peer in PEERS.values()}
    if name not in peers:
        return OURS
    return TORCH if peers[name].module == "torch" else PACKAGE


def _axis(ax: Axes, bottom: float, bars: list[tuple[Estimate, float]], theme: Theme) -> None:
    """``bars``: how far each goes, and the share of the width that its label takes."""
    low = min(0.8, *(ratio.low for ratio, _ in bars)) / 1.2
    high = max(2.0, *(ratio.high for ratio, _ in bars))
    # In decades: as wide as whoever needs most for its bar and its label.
    width = max(math.log10(max(r.high, r.median, 1.0) / low) / (1 - min(label, 0.7)) for r, label in bars)
    ax.set_xscale("log")
    ax.set_xlim(low, max(low * 10 ** (width * 1.03), 2 * high))
    ax.set_ylim(bottom, 0)
    ax.axvline(1, color=theme.ink, linewidth=1.2, zorder=4)
    ax.xaxis.set_major_locator(LogLocator(10, (1, 2, 5) if high / low < 50 else (1,)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ×"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", which="minor", length=0)
    ax.set_yticks([])
    ax.grid(visible=True, axis="x")
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
