"""Where the cells of a heat map lie, in either system of coordinates: what every painter of one draws from.

Units are decades: x is log10 of λ or γ, y is log10 of lr. The column without decay has no logarithm and
stands apart at the left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from adamantine.report.coordinates import is_sheared
from adamantine.report.model import Bools, Floats, MethodGrid
from adamantine.report.separability_model import Coordinates
from adamantine.report.ticks import logarithmic

_GAP = 0.35  # between the column without decay and the logarithmic ones, in columns

Interval = tuple[float, float]
Segment = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Box:
    """A cell's borders."""

    left: float
    right: float
    bottom: float
    top: float

    @property
    def centre(self) -> tuple[float, float]:
        """x and y."""
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2


@dataclass(frozen=True)
class Layout:
    """``x`` holds left and right of each column of an unsheared row, ``y`` bottom and top of each row, and
    ``shift`` by how much each row's cells with decay are moved to the right."""

    x: list[Interval]
    y: list[Interval]
    shift: list[float]
    shear: float  # by how much a decade of lr moves a row's cells, in decades
    detached: bool  # is the first column the one without decay, set apart from the rest?

    @classmethod
    def of(cls, method: MethodGrid, coordinates: Coordinates = "λ") -> Layout:
        """Of a method's grid in these coordinates."""
        lrs = np.log10(np.asarray(method.lrs))
        rows = _edges(lrs)
        decays = np.asarray(method.weight_decays)
        columns: list[Interval] = []
        if (decays > 0).any():
            borders = _edges(np.log10(decays[decays > 0]))
            columns = list(itertools.pairwise(borders.tolist()))
        shear = 0.0
        if is_sheared(method, coordinates):
            shear = 1.0 if coordinates == "γ" else -1.0
        shift = (shear * lrs).tolist()
        has_zero = bool(decays[0] == 0)
        if has_zero:
            left, right = columns[0] if columns else (0.0, 1.0)
            width, start = right - left, left + min(shift)
            columns.insert(0, (start - (1 + _GAP) * width, start - _GAP * width))
        return cls(columns, list(itertools.pairwise(rows.tolist())), shift, shear, has_zero)

    def box(self, i: int, j: int) -> Box:
        """The cell in row ``i`` (lr) and column ``j`` (decay)."""
        moved = 0.0 if self.detached and j == 0 else self.shift[i]
        return Box(self.x[j][0] + moved, self.x[j][1] + moved, *self.y[i])

    def place(self, lr: float, weight_decay: float) -> tuple[float, float]:
        """Of a setting between the cells' centres, x and y."""
        if weight_decay == 0:
            return sum(self.x[0]) / 2, math.log10(lr)
        return math.log10(weight_decay) + self.shear * math.log10(lr), math.log10(lr)

    @property
    def limits(self) -> tuple[Interval, Interval]:
        """Leftmost and rightmost x, lowest and highest y."""
        boxes = [self.box(i, j) for i in range(len(self.y)) for j in (0, len(self.x) - 1)]
        return (min(b.left for b in boxes), max(b.right for b in boxes)), (self.y[0][0], self.y[-1][1])

    def cell_size(self, width: float, height: float) -> tuple[float, float]:
        """Width and height of the smallest cell where the map is so large."""
        (left, right), (bottom, top) = self.limits
        return (
            min(b - a for a, b in self.x) / (right - left) * width,
            min(b - a for a, b in self.y) / (top - bottom) * height,
        )

    def decades(self, most: int) -> list[tuple[float, float]]:
        """Powers of ten below the columns with decay, x and value: where rows are shifted, no column has one
        value of its own."""
        first = int(self.detached)
        if len(self.x) == first:
            return []
        left = min(self.box(i, first).left for i in range(len(self.y)))
        _, right = self.limits[0]
        return [(math.log10(value), value) for value in logarithmic(10**left, 10**right, (1,), most)]

    def outline(self, inside: Bools) -> list[Segment]:
        """The border of the cells that are ``inside``, ``[lr, weight_decay]``, as straight pieces."""
        runs = [self._runs(i, inside[i]) for i in range(len(self.y))]
        pieces: list[Segment] = []
        for (bottom, top), spans in zip(self.y, runs, strict=True):
            pieces += [((x, bottom), (x, top)) for span in spans for x in span]
        levels = [self.y[0][0], *(top for _, top in self.y)]
        for level, below, above in zip(levels, [[], *runs], [*runs, []], strict=True):
            pieces += [((left, level), (right, level)) for left, right in _in_one_only(below, above)]
        return pieces

    def _runs(self, i: int, inside: Bools) -> list[Interval]:
        """Left and right end of every run of neighbours that are inside."""
        runs: list[Interval] = []
        for j in np.flatnonzero(inside).tolist():
            box = self.box(i, j)
            joins = j > 0 and inside[j - 1] and not (self.detached and j == 1)
            runs.append((runs.pop()[0] if joins else box.left, box.right))
        return runs


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


def _in_one_only(a: list[Interval], b: list[Interval]) -> Iterator[Interval]:
    """What exactly one of two sets of intervals covers.

    >>> list(_in_one_only([(0, 3)], [(1, 2), (3, 4)]))
    [(0, 1), (2, 4)]
    """
    ends = sorted({x for span in (*a, *b) for x in span})
    start: float | None = None
    for left, right in itertools.pairwise(ends):
        middle = (left + right) / 2
        covered = sum(any(low < middle < high for low, high in spans) for spans in (a, b))
        if covered == 1 and start is None:
            start = left
        if covered != 1 and start is not None:
            yield start, left
            start = None
    if start is not None:
        yield start, ends[-1]
