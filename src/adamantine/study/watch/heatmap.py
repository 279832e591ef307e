"""The growing heatmaps of a comparison as text: a block of colour per setting, a map per method.

The colours are the report's: one scale for all methods, bright is good, safe for colour-blind readers. Colour
is never the only cue: a cell's state has a sign of its own, and without colours shades take their place.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from adamantine.report.model import Bools, Floats
from adamantine.report.numbers import printable, setting
from adamantine.study.cell import Cell, Result
from adamantine.study.plan import Method, Plan, grown
from adamantine.study.refine import search
from adamantine.study.watch.scale import Scale, colour, ink

GAP = 3  # columns between maps
TURN = 4.0  # seconds that a page is shown, where not all maps fit
STEPS = 12  # blocks of the colour key
DIM, PLAIN = Style(dim=True), Style()


@dataclass(frozen=True)
class Signs:
    """What stands in a cell besides its colour; ``shades`` go from the best score to the worst."""

    best: str
    diverged: str
    failed: str
    partial: str
    waiting: str
    shades: str
    decay: str


UNICODE = Signs(best="★", diverged="×", failed="!", partial="░", waiting="·", shades="█▓▒", decay="λ")
ASCII = Signs(best="*", diverged="x", failed="!", partial=":", waiting=".", shades="@#+", decay="wd")


@dataclass(frozen=True)
class Map:
    """What is known of one method's grid, ``[lr, weight_decay]``; with holes once it has been refined.

    ``scores`` are means over the seeds that have one so far; NaN without any, and where one has diverged.
    ``finished``: every seed is done. ``best`` is chosen among settings with a score for every seed, as in the
    report.
    """

    name: str
    lrs: tuple[float, ...]
    weight_decays: tuple[float, ...]
    there: Bools
    scores: Floats
    diverged: Bools
    finished: Bools
    best: tuple[int, int] | None

    @classmethod
    def of(cls, method: Method, plan: Plan, results: Mapping[Cell, Result]) -> Map:
        found = search(grown(method, plan, results), plan.seeds, results, plan.refine)
        known = np.isfinite(found.validation)
        total, count = np.where(known, found.validation, 0.0).sum(axis=2), known.sum(axis=2)
        diverged, finished = np.zeros_like(found.there), np.zeros_like(found.there)
        for i, j in zip(*np.nonzero(found.there), strict=True):
            lr, weight_decay = found.lrs[i], found.weight_decays[j]
            runs = [results.get(Cell(method.spec, lr, weight_decay, seed)) for seed in plan.seeds]
            diverged[i, j] = any(run is not None and run.status == "diverged" for run in runs)
            finished[i, j] = None not in runs
        return cls(
            name=method.name,
            lrs=found.lrs,
            weight_decays=found.weight_decays,
            there=found.there,
            scores=np.where((count > 0) & ~diverged, total / np.maximum(count, 1), math.nan),
            diverged=diverged,
            finished=finished,
            best=found.best,
        )

    @property
    def margin(self) -> int:
        """Columns left of the cells: the labels of the lr axis and a space."""
        return max(len(setting(lr)) for lr in self.lrs) + 1

    @property
    def height(self) -> int:
        """Lines: the name, a row per lr, the λ axis."""
        return len(self.lrs) + 2

    def width(self, cell: int) -> int:
        return self.margin + max(len(self.weight_decays) * cell, len(self._ends()))

    def lines(self, cell: int, scale: Scale | None, signs: Signs, colours: bool) -> Iterator[Text]:
        """The map as lines of equal width, the largest lr on top, with ``cell`` columns per setting."""
        width = self.width(cell)
        name = Text(printable(self.name), "bold", no_wrap=True)
        name.truncate(width, overflow="ellipsis", pad=True)
        yield name
        for i in reversed(range(len(self.lrs))):
            line = Text(no_wrap=True)  # without a style of its own, which the cells would inherit
            line.append(f"{setting(self.lrs[i]):>{self.margin - 1}} ", DIM)
            for j in range(len(self.weight_decays)):
                line.append(*self._cell((i, j), cell, scale, signs, colours))
            line.pad_right(width - line.cell_len)
            yield line
        room = max(len(self.weight_decays) * cell, len(self._ends()))
        first, last = setting(self.weight_decays[0]), setting(self.weight_decays[-1])
        ends = first if len(self.weight_decays) == 1 else f"{first}{last:>{room - len(first)}}"
        yield Text(f"{signs.decay:>{self.margin - 1}} {ends:<{room}}", DIM)

    def _ends(self) -> str:
        return " ".join(setting(self.weight_decays[k]) for k in {0, len(self.weight_decays) - 1})

    def _cell(
        self, at: tuple[int, int], width: int, scale: Scale | None, signs: Signs, colours: bool
    ) -> tuple[str, Style]:
        score = float(self.scores[at])
        if not self.there[at]:
            return " " * width, PLAIN
        if self.diverged[at]:
            return signs.diverged.center(width), PLAIN
        if scale is None or not math.isfinite(score):
            sign = signs.failed if self.finished[at] else signs.waiting
            return sign.center(width), PLAIN if self.finished[at] else DIM
        place = scale.place(score)
        if not self.finished[at]:
            return signs.partial * width, Style(color=colour(place)) if colours else DIM
        if colours:
            sign = signs.best if at == self.best else " "
            return sign.center(width), Style(color=ink(place), bgcolor=colour(place), bold=True)
        shade = signs.shades[min(int(place * len(signs.shades)), len(signs.shades) - 1)]
        return (signs.best if at == self.best else shade).center(width, shade), PLAIN


class Heatmaps:
    """All methods' maps, side by side where they fit, in turn where they do not.

    A rich renderable: give it to a ``Live`` display and call :meth:`update` with each result. ``reserved``
    lines of the terminal are left to what stands below.
    """

    def __init__(self, plan: Plan, score: str, unit: str, reserved: int) -> None:
        self.plan = plan
        self.score, self.unit = score, unit
        self.reserved = reserved
        self.turning = True  # until the run ends; then all pages stay on the screen
        self.maps: dict[str, Map] = {method.spec: Map.of(method, plan, {}) for method in plan.methods}

    def update(self, method: Method, results: Mapping[Cell, Result]) -> None:
        """Takes in what is new of ``method``."""
        self.maps[method.spec] = Map.of(method, self.plan, results)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        maps = list(self.maps.values())
        scale = shared_scale(maps)
        rows = arranged(maps, options.max_width)
        if not rows:
            return
        room = console.height - self.reserved - 1  # the last one for the key
        pages = paged(rows, room) if self.turning else [rows]
        if not pages:
            return
        signs = ASCII if options.ascii_only else UNICODE
        colours = console.color_system is not None and not console.no_color
        page = int(time.monotonic() / TURN) % len(pages)
        lines = [line for row in pages[page] for line in beside(row, scale, signs, colours)]
        tallest = max(sum(_height(row) for row in page) for page in pages)
        yield from lines
        yield from [Text()] * (tallest - len(lines))  # so that a turn moves nothing below
        turn = f"{page + 1}/{len(pages)}" if len(pages) > 1 else ""
        yield self._key(scale, signs, colours, options.max_width, turn)

    def _key(self, scale: Scale | None, signs: Signs, colours: bool, width: int, turn: str) -> Text:
        if scale is None:
            return Text()  # keeps the line
        factor = 100.0 if self.unit == "%" else 1.0
        unit = f" {self.unit}" if self.unit else ""
        key = Text(no_wrap=True)
        key.append(f"{printable(self.score)} {scale.low * factor:.3g}{printable(unit)} ", DIM)
        if colours:
            for step in range(STEPS):
                key.append(" ", Style(bgcolor=colour(step / (STEPS - 1))))
        else:
            key.append(signs.shades)
        key.append(f" {scale.high * factor:.3g}{printable(unit)}  {turn}", DIM)
        for sign, word in ((signs.best, "best"), (signs.partial, "unfinished"), (signs.diverged, "diverged")):
            key.append(f"  {sign} {word}", DIM)
        key.truncate(width, overflow="ellipsis")
        return key


def shared_scale(maps: list[Map]) -> Scale | None:
    """One scale for all methods, as in the report."""
    return Scale.of(
        np.concatenate([one.scores.ravel() for one in maps]),
        np.concatenate([one.finished.ravel() for one in maps]),
    )


Row = list[tuple[Map, int]]  # maps side by side, each with the width of its cells


def arranged(maps: list[Map], width: int) -> list[Row]:
    """The maps in rows of at most ``width`` columns; what is too wide even with narrow cells is left out."""
    rows: list[Row] = []
    used = width
    for one in maps:
        fitting = [cell for cell in (2, 1) if one.width(cell) <= width]
        if not fitting:
            continue
        needed = one.width(fitting[0])
        if used + GAP + needed <= width and rows:
            rows[-1].append((one, fitting[0]))
            used += GAP + needed
        else:
            rows.append([(one, fitting[0])])
            used = needed
    return rows


def paged(rows: list[Row], height: int) -> list[list[Row]]:
    """The rows in pages of at most ``height`` lines; a row that is taller is left out."""
    pages: list[list[Row]] = []
    used = height
    for row in rows:
        needed = _height(row)
        if needed > height:
            continue
        if pages and used + needed <= height:
            pages[-1].append(row)
            used += needed
        else:
            pages.append([row])
            used = needed
    return pages


def beside(row: Row, scale: Scale | None, signs: Signs, colours: bool) -> Iterator[Text]:
    """The lines of a row of maps, aligned at their lower edge, where the λ axes are."""
    columns = []
    for one, cell in row:
        name, *grid = one.lines(cell, scale, signs, colours)
        blank = Text(" " * one.width(cell))
        columns.append([name, *[blank] * (_height(row) - one.height), *grid])
    for pieces in zip(*columns, strict=True):
        yield Text(" " * GAP, no_wrap=True).join(pieces)


def _height(row: Row) -> int:
    return max(one.height for one, _ in row)
