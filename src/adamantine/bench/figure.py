"""The figure: how much longer everyone else takes than we do, case by case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from adamantine.bench.cases import LIMIT
from adamantine.bench.numbers import three
from adamantine.bench.peers import PEERS
from adamantine.bench.results import Line, Outcome, Results
from adamantine.report.files import write_atomic
from adamantine.report.numbers import counted
from adamantine.report.svg import themed
from adamantine.report.theme import METHOD_COLOURS, Theme

NAME = "ratios"
BAR, GAP = 0.21, 0.62  # inches: of a bar, and above each case for its name


def write(results: Results, folder: Path) -> None:
    """Writes ``figures/ratios-{light,dark}.{png,svg}``; nothing where no ratio was measured."""
    shown = [(outcome, lines) for outcome in results.outcomes if (lines := _bars(outcome))]
    if not shown:
        return
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, content in themed(NAME, lambda theme: _draw(shown, results.manifest["threads"], theme)):
        write_atomic(folder / "figures" / name, content)


def _bars(outcome: Outcome) -> list[Line]:
    """Everyone with a ratio to ours, but the limit, which nobody can use."""
    return [line for line in outcome.lines if line.over_ours is not None and line.name != LIMIT]


def _draw(shown: list[tuple[Outcome, list[Line]]], threads: int, theme: Theme) -> Figure:
    rows = sum(len(lines) for _, lines in shown)
    figure = Figure(
        (7.6, 1.5 + GAP * len(shown) + BAR * rows), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    )
    ax = figure.subplots()
    y = 0.0
    for outcome, lines in shown:
        y += GAP
        _case_name(ax, y, outcome.case.title, theme)
        for line in lines:
            y += BAR
            _bar(ax, y, line, theme)
    _axis(ax, y, shown, theme)
    figure.suptitle(
        "Time compared with adamantine", x=0.012, ha="left", fontsize=13, fontweight="bold", color=theme.ink
    )
    figure.supxlabel(
        f"right of the line: slower than adamantine · whisker: 95 % interval · {counted(threads, 'thread')}",
        x=0.012,
        ha="left",
        fontsize=9.5,
        color=theme.muted,
    )
    return figure


def _case_name(ax: Axes, y: float, title: str, theme: Theme) -> None:
    ax.annotate(
        title,
        (0, y),
        (-150, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        fontweight="bold",
        color=theme.ink,
    )


def _bar(ax: Axes, y: float, line: Line, theme: Theme) -> None:
    ratio = line.over_ours
    assert ratio is not None
    colour = _colour(line.name)
    ax.barh(y, ratio.median - 1, left=1, height=BAR * 0.72, color=colour, zorder=2)
    ax.plot([ratio.low, ratio.high], [y, y], color=theme.ink, linewidth=1.1, zorder=3)
    ends: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 9}
    ax.annotate(
        line.name, (0, y), (-6, 0), xycoords=("axes fraction", "data"), ha="right", color=theme.muted, **ends
    )
    faster = ratio.median < 1
    at = min(ratio.low, ratio.median) if faster else max(ratio.high, ratio.median)
    ax.annotate(
        f"{three(ratio.median)} ×",
        (at, y),
        (-5 if faster else 5, 0),
        ha="right" if faster else "left",
        color=theme.ink,
        **ends,
    )


def _colour(name: str) -> str:
    """Of a peer, the same in every case; our other forms have the last."""
    names = [peer.name for peer in PEERS.values()]
    return (
        METHOD_COLOURS[names.index(name) % (len(METHOD_COLOURS) - 1)] if name in names else METHOD_COLOURS[-1]
    )


def _axis(ax: Axes, bottom: float, shown: list[tuple[Outcome, list[Line]]], theme: Theme) -> None:
    ratios = [line.over_ours for _, lines in shown for line in lines if line.over_ours is not None]
    low, high = min(0.8, *(r.low for r in ratios)), max(2.0, *(r.high for r in ratios))
    ax.set_xscale("log")
    ax.set_xlim(low / 1.5, high * 1.9)
    ax.set_ylim(bottom + BAR, 0)
    ax.axvline(1, color=theme.ink, linewidth=1.2, zorder=4)
    ax.xaxis.set_major_locator(LogLocator(10, (1, 2, 5) if high / low < 300 else (1,)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ×"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", which="minor", length=0)
    ax.set_yticks([])
    ax.grid(visible=True, axis="x")
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
