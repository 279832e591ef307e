"""Draws docs/images/quantization-*.png from benchmarks/results/quantization.json.

python benchmarks/quantization_figures.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from quantization_cases import BETA2, At
from quantization_codes import Ours, Rounding, our_code

from adamantine.report.claimfigure import Sheet
from adamantine.report.svg import themed
from adamantine.report.theme import Theme, stroke

ROOT = Path(__file__).parent.parent
OURS, BNB, AO, FLASH = stroke(0), stroke(1), stroke(2), stroke(3)
PEERS = {
    "bitsandbytes 8-bit": BNB,
    "torchao 8-bit": AO,
    "torchao 4-bit": AO,
    "torchao fp8": AO,
    "FlashOptim 8-bit": FLASH,
}
#: Where a label would lie on another: points to the right and up.
NUDGES = {(case, "bfloat16"): (-7, 0) for case in ("alike", "spread", "text")} | {
    ("alike", "8/8"): (-7, -3),
    ("alike", "bitsandbytes 8-bit"): (7, 9),
    ("alike", "torchao 8-bit"): (-7, 6),
    ("alike", "4/8"): (7, 4),
    ("alike", "8/4"): (7, -4),
    ("alike", "4/4"): (7, -5),
    ("spread", "torchao 8-bit"): (-7, 2),
    ("text", "4/8"): (7, 5),
    ("text", "8/4"): (7, -5),
    ("text", "torchao 8-bit"): (7, 4),
    ("text", "torchao 4-bit"): (7, 8),
}


def _figure(title: str, theme: Theme, size: tuple[float, float]) -> Sheet:
    figure = Figure(size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    figure.suptitle(title, x=0.012, ha="left", fontsize=12.5, fontweight="bold", color=theme.ink)
    return Sheet(figure, theme, "en")


def _per_cent(ax: Axes, ticks: tuple[float, ...]) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} %"))


def pareto(results: dict[str, Any], theme: Theme) -> Figure:
    """Error over bytes, with the peers, in the goals' two tests and on real gradients."""
    sheet = _figure(
        "The same bytes, a smaller error: AdamW's displacement after 200 steps", theme, (11.4, 5.0)
    )
    main, peers = results["studies"]["main"], results["studies"]["peers"]
    panels = {
        "alike": "Gradients' scales alike in a block",
        "spread": "Scales over 4 decades",
        "text": "Real gradients: char Transformer",
    }
    for ax, (case, title) in zip(sheet.axes(3, sharey=True), panels.items(), strict=True):
        ax.set_title(title)
        ax.set_xlabel("bytes of state per parameter")
        _per_cent(ax, (0.3, 1, 3, 10, 30, 100, 1000, 10000))
        for names, goals in ((("alike",), ((2.1, 0.75), (1.15, 12))), (("spread",), ((2.1, 5),))):
            if case in names:
                for most, error in goals:
                    ax.plot(
                        [0.9, most, most], [error, error, 0.25], color=theme.ink, lw=1.2, ls=(0, (1, 1.6))
                    )
        stores = [(main, store, OURS) for store in ("8/8", "4/8", "8/4", "4/4", "bfloat16")]
        for study, label, look in stores + [(peers, peer, look) for peer, look in PEERS.items()]:
            x, y = study["bytes"][label], 100 * study["errors"][label][case][0]
            sheet.points(ax, [x], [y], look)
            across, up = NUDGES.get((case, label), (7, 0))
            sheet.write(ax, x, y, label.removesuffix(" 8-bit"), look, offset=(across, up), va="center",
                        ha="left" if across > 0 else "right", fontsize=9, fontweight="normal")  # fmt: skip
        ax.set_xlim(0.9, 4.2)
    sheet.figure.axes[0].set_ylabel("‖d̂ - d‖ / ‖d‖")
    sheet.figure.supxlabel(
        "ours: bits of m / bits of v · dotted: the goals · lower left is better",
        x=0.012,
        ha="left",
        fontsize=9.5,
        color=theme.muted,
    )
    return sheet.figure


def cost(results: dict[str, Any], theme: Theme) -> Figure:
    """Error over the time of a step, on real gradients."""
    sheet = _figure("What a step costs on a CPU, and what it is off by", theme, (7.2, 4.8))
    (ax,) = sheet.axes()
    main, peers, ns = results["studies"]["main"], results["studies"]["peers"], results["nanoseconds"]
    stores = [(main, store, OURS) for store in ("8/8", "4/8", "4/4", "bfloat16")]
    for study, label, look in stores + [(peers, name, look) for name, look in PEERS.items() if name in ns]:
        y = 100 * study["errors"][label]["text"][0]
        sheet.points(ax, [ns[label]], [y], look)
        up = 9 if label == "torchao 4-bit" else -9 if label == "torchao 8-bit" else 0
        sheet.write(ax, ns[label], y, label, look, offset=(8, up), va="center", fontsize=9.5,
                    fontweight="normal")  # fmt: skip
    ax.axvline(ns["float32"], color=theme.ink, lw=1.5, ls=(0, (1, 1.6)))
    sheet.write(ax, ns["float32"], 60, "float32", ha="right", offset=(-5, 0), fontsize=9.5)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10, 20, 50]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.set_xlim(0.35, 90)
    _per_cent(ax, (0.3, 1, 3, 10, 30, 100, 300))
    ax.set_xlabel("ns of CPU time per parameter and step, one thread")
    ax.set_ylabel("‖d̂ - d‖ / ‖d‖ on text")
    return sheet.figure


def spread(results: dict[str, Any], theme: Theme) -> Figure:
    """Error over the spread of the scales within a block."""
    sheet = _figure("Spread scales cost a 4-bit m nothing when it is in units of √v", theme, (7.2, 4.8))
    (ax,) = sheet.axes()
    errors = results["studies"]["related"]["errors"]
    decades = np.arange(7)
    for place, (store, label) in enumerate(
        (
            ("4/4, m by itself", "4/4, m by itself"),
            ("4/8, m by itself", "4/8, m by itself"),
            ("4/4, m/√v, weyl", "4/4, m/√v"),
            ("4/8, m/√v, weyl", "4/8, m/√v"),
            ("8/8, m by itself", "8/8, m by itself"),
            ("8/8, m/√v, nearest", "8/8, m/√v"),
        )
    ):
        y = [100 * errors[store][f"{d} decades"][0] for d in decades]
        sheet.line(ax, decades, y, stroke(place), marker=stroke(place).marker, label=label)
    _per_cent(ax, (0.5, 1, 2, 5, 10, 20, 50, 100))
    ax.set_xlabel("decades over which the scales of a block spread")
    ax.set_ylabel("‖d̂ - d‖ / ‖d‖ after 200 steps")
    sheet.legend(ax, loc="lower right", ncols=2)
    ax.set_ylim(0.25, 130)
    return sheet.figure


def decay(results: dict[str, Any], theme: Theme) -> Figure:
    """What rounding makes of a v that shrinks slowly: eight elements whose gradients fall to a thirtieth."""
    sheet = _figure(
        "Rounded to nearest, 8-bit v stands still; dithered, it follows",
        theme,
        (7.2, 4.8),
    )
    (ax,) = sheet.axes()
    rng = np.random.default_rng(0)
    steps, size = 3000, 128
    scale = 10 ** rng.uniform(-2, 0, size)
    ways: dict[Rounding, str] = {
        "nearest": "to nearest",
        "independent": "random words",
        "weyl": "Weyl dither",
    }
    found = {way: np.full(size, 0, np.float32) for way in ways}
    true = np.full(size, 0, np.float32)
    at_element: dict[str, list[float]] = {way: [] for way in (*ways, "true")}
    for t in range(1, steps + 1):
        g = (scale * rng.standard_normal(size)).astype(np.float32)
        if t > 500:
            g[:8] /= 30
        true = np.float32(BETA2) * true + np.float32(1 - BETA2) * g * g
        at_element["true"].append(float(np.sqrt(true[:8]).mean()))
        for way, v in found.items():
            v = np.float32(BETA2) * v + np.float32(1 - BETA2) * g * g
            found[way] = Ours(our_code(8, False), way)(v, At(t, 0, 0, v))
            at_element[way].append(float(np.sqrt(found[way][:8]).mean()))
    x = np.arange(1, steps + 1)
    for place, (way, label) in enumerate(ways.items()):
        sheet.line(ax, x, at_element[way], stroke(place + 1 if way != "weyl" else 0), label=label)
    sheet.prediction(ax, x, at_element["true"], label="float32")
    ax.set_yscale("log")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(FixedLocator([0.02, 0.05, 0.1, 0.2, 0.5]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.set_xlabel("step (from step 500 on these elements' gradients are 30 times smaller)")
    ax.set_ylabel("√v, mean of 8 elements")
    ax.set_ylim(0.015, 0.3)
    sheet.legend(ax, loc="lower center")
    return sheet.figure


DRAWINGS: dict[str, Callable[[dict[str, Any], Theme], Figure]] = {
    "quantization-pareto": pareto,
    "quantization-time": cost,
    "quantization-spread": spread,
    "quantization-decay": decay,
}

if __name__ == "__main__":
    numbers = json.loads((ROOT / "benchmarks/results/quantization.json").read_text())
    for name, draw in DRAWINGS.items():
        for file, content in themed(name, lambda theme, draw=draw: draw(numbers, theme), kinds=("png",)):
            (ROOT / "docs/images" / file).write_bytes(content)
