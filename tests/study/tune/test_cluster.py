"""Trials on a cluster, without one: what the workers would give back comes from a list."""

from __future__ import annotations

from collections import deque

import pytest

from adamantine.study.cell import Cell, Result
from adamantine.study.errors import StudyError
from adamantine.study.stages import Chunk
from adamantine.study.task import Settings
from adamantine.study.tune.cluster import ClusterTrials


class Played:
    """A runner of four workers that gives the chunks back one at a time."""

    jobs = 4

    def __init__(self) -> None:
        self.queue: deque[Chunk] = deque()

    def submit(self, chunks: list[Chunk]) -> None:
        self.queue.extend(chunks)

    def next(self) -> list[Result]:
        return [Result(cell, "ok", cell.lr, cell.lr) for cell in self.queue.popleft()]

    def close(self) -> None: ...


@pytest.fixture
def trials() -> ClusterTrials:
    made = object.__new__(ClusterTrials)
    made.runner = Played()  # type: ignore[assignment]
    return made


@pytest.mark.parametrize("jobs", [0, -1])
def test_a_cluster_without_workers_is_refused(jobs: int) -> None:
    with pytest.raises(StudyError, match=f"--jobs must be at least 1, not {jobs}"):
        ClusterTrials("digits", Settings(), "cosine", ["AdamW"], jobs=jobs)


def test_trials_that_share_a_setting_are_trained_once_and_leave_nothing_behind(trials: ClusterTrials) -> None:
    first = [Cell("AdamW", lr, 0.0, 0) for lr in (0.1, 0.2, 0.1, 0.2)]  # no decay at all, asked for twice
    fresh = [Cell("AdamW", 0.1, 0.0, seed) for seed in (1, 2, 3)]
    for cells in (first, fresh):
        found = trials(cells, lambda epoch, validation: ())
        assert [result.cell for result in found] == cells
        assert not trials.runner.queue
