"""What a search trains, and when: the grid, its growth, finer steps around the best, fresh seeds.

A stage is known once the one before it is finished; all is a pure function of the results, so a resumed run
goes the way of the unbroken one. Chunks, the cells trained as one batch, are cut from whole stages and not
from what is missing: should a member's last bits depend on its company somewhere, it still has the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from adamantine.study.cell import Cell
from adamantine.study.plan import Method, Plan, Results, cells, grown, growth
from adamantine.study.refine import Setting, by_level, refinement
from adamantine.study.refine import best_setting as best_of

Chunk = tuple[Cell, ...]


def stages(method: Method, plan: Plan, results: Results) -> list[list[Cell]]:
    """The cells of every stage that the results so far call for, done or not, in canonical order."""
    found: list[list[Cell]] = []
    known: set[Cell] = set()
    grids = growth(method, plan, results)
    for stage in [
        *(cells(grid, plan.seeds) for grid in grids),
        *by_level(grids[-1], plan.seeds, results, plan.refine),
        confirmation(method, plan, results),
    ]:
        fresh = [cell for cell in stage if cell not in known]
        known.update(fresh)
        if fresh:
            found.append(fresh)
    return found


def best_setting(method: Method, plan: Plan, results: Results) -> Setting | None:
    """lr and weight decay with the best mean validation score so far; None where every setting diverged."""
    return best_of(grown(method, plan, results), plan.seeds, results, plan.refine)


def confirmation(method: Method, plan: Plan, results: Results) -> list[Cell]:
    """The best setting of a finished search with each fresh seed; none before it is finished."""
    final = grown(method, plan, results)
    searched = [*cells(final, plan.seeds), *refinement(final, plan.seeds, results, plan.refine)]
    if any(cell not in results for cell in searched):
        return []
    best = best_setting(method, plan, results)
    return [] if best is None else [Cell(method.spec, *best, seed) for seed in plan.fresh_seeds]


def planned(method: Method, plan: Plan, results: Results) -> list[Cell]:
    """All cells of the method that the results so far call for, in canonical order."""
    return [cell for stage in stages(method, plan, results) for cell in stage]


def wanted(method: Method, plan: Plan, results: Results) -> list[Cell]:
    """The cells to run now; none when the method is done."""
    return [cell for cell in planned(method, plan, results) if cell not in results]


def chunks(method: Method, plan: Plan, results: Results, size: int) -> list[Chunk]:
    """What to train now: the chunks of at most ``size`` cells, of all stages, that lack a result."""
    return [
        chunk
        for stage in stages(method, plan, results)
        for chunk in cut(stage, size)
        if any(cell not in results for cell in chunk)
    ]


def cut(stage: Sequence[Cell], size: int) -> list[Chunk]:
    """The stage in as few pieces as ``size`` allows, as equal as can be.

    >>> [len(chunk) for chunk in cut([Cell("AdamW", 0.1, 0.0, seed) for seed in range(10)], 4)]
    [4, 3, 3]
    """
    pieces = math.ceil(len(stage) / size)
    ends = [math.ceil(len(stage) * k / pieces) for k in range(pieces + 1)] if pieces else [0]
    return [tuple(stage[start:stop]) for start, stop in itertools.pairwise(ends)]
