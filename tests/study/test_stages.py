"""Whole searches played by the chunks that a run trains, on made-up scores."""

from __future__ import annotations

import math

from adamantine.study.cell import Cell, Result
from adamantine.study.plan import Method, Plan
from adamantine.study.stages import Chunk, chunks, planned
from adamantine.study.task import Settings

METHOD = Method("AdamW", "AdamW", "decoupled", (0.001, 0.004, 0.016), (0.01, 0.04, 0.16))
PLAN = Plan("tiny", Settings(), (METHOD,), (0, 1), "cosine", grow=2, confirm=3, refine=3)
SIZE = 10


def result(cell: Cell) -> Result:
    """Best at lr 0.03, which lies outside the grid, and weight decay 0.03."""
    score = math.log(cell.lr / 0.03) ** 2 + math.log(cell.weight_decay / 0.03) ** 2 + 0.1 * cell.seed
    return Result(cell, "ok", score, score)


def played() -> list[Chunk]:
    """All chunks of an unbroken run, in its order."""
    results: dict[Cell, Result] = {}
    trained: list[Chunk] = []
    while todo := chunks(METHOD, PLAN, results, SIZE):
        trained += todo
        results.update((cell, result(cell)) for chunk in todo for cell in chunk)
    return trained


def test_growth_refinement_and_confirmation_train_no_cell_twice() -> None:
    trained = [cell for chunk in played() for cell in chunk]
    assert len(set(trained)) == len(trained)
    known = {cell: result(cell) for cell in trained}
    assert trained == planned(METHOD, PLAN, known)
    assert len({cell.lr for cell in trained}) > 3 + 3  # it grew, and every level found new values
    assert [cell.seed for cell in trained[-3:]] == [2, 3, 4]


def test_a_run_that_is_killed_anywhere_goes_on_with_the_same_chunks() -> None:
    trained = played()
    for done, chunk in enumerate(trained):  # killed in the middle of writing this chunk's results
        kept = [cell for before in trained[:done] for cell in before] + list(chunk[: len(chunk) // 2])
        todo = chunks(METHOD, PLAN, {cell: result(cell) for cell in kept}, SIZE)
        assert todo[0] == chunk
        assert set(todo) <= set(trained)
