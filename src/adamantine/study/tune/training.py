"""From settings to outcomes: a batch of trials with all their seeds, trained as one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from adamantine.study.cell import Cell, Result
from adamantine.study.task import Task
from adamantine.study.tune.search import Outcome

if TYPE_CHECKING:
    from optuna.trial import Trial

REPORTS = 10  # to the pruner in a training, at most: each is written to the storage
Report = Callable[[int, float], None]
Objective = Callable[[float, float, int, Report], float]


class OnEpoch(Protocol):
    """Is told the validation scores of an epoch by index, and says which indices to stop."""

    def __call__(self, epoch: int, validation: Mapping[int, float]) -> Collection[int]: ...


class Runner(Protocol):
    """Trains cells; the seam for other engines.

    ``on_epoch(epoch, {index of a cell: validation score})`` is to be called after each evaluated epoch with
    all cells still in training, and returns the indices to stop, whose status is then ``"pruned"``. Results
    come in the order of the cells.
    """

    def __call__(self, cells: Sequence[Cell], on_epoch: OnEpoch) -> list[Result]: ...


class Batched:
    """The default: all cells as one model with a leading member axis, in this process."""

    def __init__(self, task: Task, schedule: str) -> None:
        self.task = task
        self.schedule = schedule

    def __call__(self, cells: Sequence[Cell], on_epoch: OnEpoch) -> list[Result]:
        from adamantine.study.ensemble import train

        return train(self.task, list(cells), schedule=self.schedule, on_epoch=on_epoch)


class Pruned(Exception):
    """Raised by ``report`` inside an objective whose trial is to stop: let it pass."""


class Called:
    """Runs a function of the user's for each cell, one after the other.

    The pruner sees what the trial's first seed reports; further seeds of a trial that was not pruned run to
    their end, without reports. NaN and infinity count as diverged.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def __call__(self, cells: Sequence[Cell], on_epoch: OnEpoch) -> list[Result]:
        found: list[Result] = []
        stopped: set[tuple[float, float]] = set()
        for index, cell in enumerate(cells):
            setting = (cell.lr, cell.weight_decay)
            first = not any((c.lr, c.weight_decay) == setting for c in cells[:index])
            status, score = "pruned", math.nan
            if setting not in stopped:
                report = _reporter(index, on_epoch) if first else _deaf
                try:
                    score = float(self.objective(cell.lr, cell.weight_decay, cell.seed, report))
                    status = "ok" if math.isfinite(score) else "diverged"
                except Pruned:
                    stopped.add(setting)
            found.append(Result(cell, status, score if status == "ok" else math.nan))
        return found


def _reporter(index: int, on_epoch: OnEpoch) -> Report:
    def report(epoch: int, score: float) -> None:
        if index in on_epoch(epoch, {index: score}):
            raise Pruned

    return report


def _deaf(epoch: int, score: float) -> None:
    """For the seeds after the first."""


class Reports:
    """Stands between a training and the pruner: the mean over a trial's seeds, epoch by epoch.

    The members of trial ``k`` are ``k * seeds`` to ``(k + 1) * seeds - 1``. When one of them diverges the
    trial is decided, and the others are stopped.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        seeds: int,
        epochs: int,
        tick: Callable[[int], None] = lambda epoch: None,
    ) -> None:
        self.trials = trials
        self.seeds = seeds
        self.every = max(math.ceil(epochs / REPORTS), 1)
        self.tick = tick
        self.members: list[frozenset[int]] = [frozenset()] * len(trials)  # that ever had a score
        self.reported = [0] * len(trials)  # the latest epoch
        self.stopped: set[int] = set()  # trials

    def __call__(self, epoch: int, validation: Mapping[int, float]) -> set[int]:
        """The members to stop."""
        self.tick(epoch)
        doubtful = []
        for k, trial in enumerate(self.trials):
            own = range(k * self.seeds, (k + 1) * self.seeds)
            scores = {m: validation[m] for m in own if m in validation and math.isfinite(validation[m])}
            if k in self.stopped or not scores:
                continue
            if scores.keys() < self.members[k]:
                self.stopped.add(k)  # a seed diverged
                continue
            self.members[k] = frozenset(scores)
            if epoch >= self.reported[k] + self.every:
                self.reported[k] = epoch
                trial.report(statistics.fmean(scores.values()), epoch)
                doubtful.append(k)
        self.stopped |= {k for k in doubtful if self.trials[k].should_prune()}
        return {m for m in validation if m // self.seeds in self.stopped}


def outcomes(results: Sequence[Result], seeds: int) -> list[Outcome]:
    """One for every ``seeds`` results. What failed outweighs what diverged, and that what was pruned."""
    found = []
    for first in range(0, len(results), seeds):
        own = results[first : first + seeds]
        failed = [result for result in own if result.status == "failed"]
        statuses = {result.status for result in own}
        if failed:
            found.append(Outcome("failed", (), failed[0].message))
        elif "diverged" in statuses:
            found.append(Outcome("diverged"))
        elif "pruned" in statuses:
            found.append(Outcome("pruned"))
        else:
            found.append(Outcome("complete", tuple(result.validation for result in own)))
    return found
