"""Coarse to fine: further settings around the best one of a finished grid.

Each level looks halfway (in ratio) between the best setting so far and its neighbours, the eight of a 3 x 3
block at most, and the best setting is then sought among all that were trained. So the result is no longer a
rectangle: `Search` holds it as one with holes, over all values that occur on each axis.

Everything here is a pure function of the results, so a resumed run refines as the unbroken one did. Give it
the *grown* method: growth has priority, since a grid that has just grown is not finished, and an unfinished
grid is not refined.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from adamantine.report.model import Bools, Floats
from adamantine.study.cell import Cell
from adamantine.study.errors import StudyError
from adamantine.study.plan import Method, Results, cells
from adamantine.study.ranges import FACTOR, round_to
from adamantine.study.statistics import SAME, edges

MOST = 6  # levels: the last then divides a step into 64, far below what seeds can tell apart

Setting = tuple[float, float]  # lr, weight decay


@dataclass(frozen=True)
class Search:
    """Settings that need not form a rectangle, as a rectangle with holes."""

    lrs: tuple[float, ...]  # all that occur, ascending
    weight_decays: tuple[float, ...]  # the same
    there: Bools  # [lr, weight_decay]: part of the search; the others are holes
    validation: Floats  # [lr, weight_decay, seed]; NaN in holes, and where there is no score

    @property
    def best(self) -> tuple[int, int] | None:
        """The setting with the lowest mean over seeds; `statistics.choose` where there are no holes.

        Among ties the one whose neighbourhood scores best on average, then the smallest lr and weight decay.
        The neighbourhood reaches to the next setting in each of the four directions.
        """
        means = self.validation.mean(axis=2)
        if not np.isfinite(means).any():
            return None
        lowest = np.nanmin(means)
        ties = np.argwhere(means <= lowest + SAME * max(abs(lowest), 1e-3))
        filled = np.where(np.isnan(means), np.nanmax(means), means)

        def around(i: int, j: int) -> float:
            rows, columns = _reach(self.there[:, j], i), _reach(self.there[i], j)
            return round(float(filled[rows, columns][self.there[rows, columns]].mean()), 12)

        i, j = min(((int(i), int(j)) for i, j in ties), key=lambda cell: (around(*cell), *cell))
        return i, j

    @property
    def best_setting(self) -> Setting | None:
        """The same as values: lr and weight decay."""
        best = self.best
        return (self.lrs[best[0]], self.weight_decays[best[1]]) if best else None

    @property
    def edges(self) -> tuple[str, ...]:
        """Where the best setting touches the rim, as `statistics.edges` has it: no level goes beyond it."""
        return edges(self.best, self.lrs, self.weight_decays) if self.best else ()


def search(method: Method, seeds: tuple[int, ...], results: Results, levels: int) -> Search:
    """The grid of ``method`` and the refinement that the results so far call for."""
    rows = _rows(method, seeds, results)
    for cell in refinement(method, seeds, results, levels):
        rows.setdefault((cell.lr, cell.weight_decay), _scores(cell, seeds, results))
    return _search(rows, len(seeds))


def refinement(method: Method, seeds: tuple[int, ...], results: Results, levels: int) -> list[Cell]:
    """The cells of all levels that the results so far call for; see `by_level`."""
    return [cell for level in by_level(method, seeds, results, levels) for cell in level]


def by_level(method: Method, seeds: tuple[int, ...], results: Results, levels: int) -> list[list[Cell]]:
    """The cells of each level that the results so far call for, done or not, in canonical order.

    None before the grid is finished, none of a level before the one above it is. Calling it again with the
    results of these cells gives the same cells first, so that ``[c for c in … if c not in results]`` is
    what to run next.

    Args:
        method: with the axes that growth has led to (`plan.grown`).
        seeds: of the grid; each setting is trained with all of them.
        results: of any methods; those of others are not looked at.
        levels: how often to halve the steps, 0 to `MOST`.

    Raises:
        StudyError: ``levels`` out of range.
    """
    if not 0 <= levels <= MOST:
        raise StudyError(f"--refine must be 0 to {MOST}, not {levels}")
    found: list[list[Cell]] = []
    rows = _rows(method, seeds, results)
    latest = cells(method, seeds)
    for _ in range(levels):
        if any(cell not in results for cell in latest):
            break
        grid = _search(rows, len(seeds))
        if grid.best is None:
            break
        settings = [setting for setting in _around(grid, grid.best) if setting not in rows]
        if not settings:
            break
        latest = [Cell(method.spec, *setting, seed) for setting in settings for seed in seeds]
        found.append(latest)
        for setting in settings:
            rows[setting] = _scores(Cell(method.spec, *setting, seeds[0]), seeds, results)
    return found


def best_setting(method: Method, seeds: tuple[int, ...], results: Results, levels: int) -> Setting | None:
    """lr and weight decay of the best setting of the grid and its refinement; None if every one diverged."""
    return search(method, seeds, results, levels).best_setting


def _around(grid: Search, best: tuple[int, int]) -> Iterable[Setting]:
    """The block around the best setting in half steps, by ascending lr, then weight decay."""
    i, j = best
    decays = _halfway(grid.weight_decays, j)
    return [(lr, decay) for lr in _halfway(grid.lrs, i) for decay in decays]


def _halfway(axis: tuple[float, ...], index: int) -> list[float]:
    """The value at ``index`` between the ones halfway to its neighbours, where it has them.

    0 has no ratio to its neighbour: the value between them is the lowest positive one, less half a step of
    the axis there.

    >>> _halfway((0.01, 0.04, 0.16), 1), _halfway((0.0, 0.01, 0.04), 1), _halfway((0.0, 0.01, 0.04), 0)
    ([0.02, 0.04, 0.08], [0.005, 0.01, 0.02], [0.0, 0.005])
    """
    found = [axis[index]]
    if index > 0:
        found.insert(0, _between(axis, index - 1))
    if index < len(axis) - 1:
        found.append(_between(axis, index))
    return found


def _between(axis: tuple[float, ...], index: int) -> float:
    """A value between this one and the next, with as few digits, three or more, as keep it there."""
    low, high = axis[index], axis[index + 1]
    if low > 0:
        exact = math.sqrt(low * high)
    else:
        ratio = axis[index + 2] / high if index + 2 < len(axis) else FACTOR
        exact = high / math.sqrt(ratio)
    rounded = (round_to(exact, digits) for digits in range(3, 17))
    return next((value for value in rounded if low < value < high), exact)


def _rows(method: Method, seeds: tuple[int, ...], results: Results) -> dict[Setting, Floats]:
    firsts = cells(method, seeds[:1])
    return {(cell.lr, cell.weight_decay): _scores(cell, seeds, results) for cell in firsts}


def _scores(cell: Cell, seeds: tuple[int, ...], results: Results) -> Floats:
    """The setting's validation score with each seed; NaN where there is none."""
    runs = (Cell(cell.method, cell.lr, cell.weight_decay, seed) for seed in seeds)
    return np.array([results[run].validation if run in results else math.nan for run in runs])


def _search(rows: dict[Setting, Floats], seeds: int) -> Search:
    lrs = tuple(sorted({lr for lr, _ in rows}))
    weight_decays = tuple(sorted({weight_decay for _, weight_decay in rows}))
    validation = np.full((len(lrs), len(weight_decays), seeds), math.nan)
    there = np.zeros(validation.shape[:2], np.bool_)
    for (lr, weight_decay), scores in rows.items():
        index = lrs.index(lr), weight_decays.index(weight_decay)
        validation[index], there[index] = scores, True
    return Search(lrs, weight_decays, there, validation)


def _reach(there: Bools, index: int) -> slice:
    """From the nearest setting before ``index`` on a line of the grid to the nearest one after it."""
    others = np.flatnonzero(there)
    before, after = others[others < index], others[others > index]
    return slice(int(before[-1]) if before.size else index, (int(after[0]) if after.size else index) + 1)
