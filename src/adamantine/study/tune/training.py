"""From settings to outcomes: a batch of trials with all their seeds, trained as one."""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from adamantine.study.cell import Cell, Result
from adamantine.study.plan import Plan
from adamantine.study.task import Settings, Task
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
    """The default: in this process, as many whole trials together as `members_at_once` finds good.

    A task that cannot be batched, or a batch in which something raises, is trained cell by cell; nothing is
    pruned then.
    """

    def __init__(self, task: Task, schedule: str) -> None:
        from adamantine.study.ensemble.size import members_at_once
        from adamantine.study.trainer import Trainer

        self.trainer = Trainer(Plan(task.name, Settings(), (), (), schedule, 0), task)
        self.members = members_at_once(task)

    def __call__(self, cells: Sequence[Cell], on_epoch: OnEpoch) -> list[Result]:
        results: list[Result] = []
        for part in parts(cells, self.members):
            results += self._train(part, _shifted(on_epoch, len(results)))
        return results

    def _train(self, cells: Sequence[Cell], on_epoch: OnEpoch) -> list[Result]:
        from adamantine.study.ensemble import train

        trainer = self.trainer
        # NotBatchable, or whatever an optimizer or task of the user's raises: then, which cell was it?
        with contextlib.suppress(Exception):
            return train(
                trainer.task, cells, schedule=trainer.plan.schedule, on_epoch=on_epoch, data=trainer.data
            )
        return [trainer.run(cell) for cell in cells]


def parts(cells: Sequence[Cell], most: int) -> list[list[Cell]]:
    """The cells in their order, in parts of at most ``most`` that do not divide a setting's seeds.

    >>> cells = [Cell("AdamW", lr, 0.1, seed) for lr in (0.1, 0.2, 0.3) for seed in (0, 1)]
    >>> [len(part) for part in parts(cells, 5)]
    [4, 2]
    """
    found: list[list[Cell]] = []
    for _, group in itertools.groupby(cells, lambda cell: (cell.method, cell.lr, cell.weight_decay)):
        own = list(group)
        if found and len(found[-1]) + len(own) <= most:
            found[-1] += own
        else:
            found.append(own)
    return found


def _shifted(on_epoch: OnEpoch, first: int) -> OnEpoch:
    """For a part of the cells: from its own indices to those of all, and back."""

    def shifted(epoch: int, validation: Mapping[int, float]) -> set[int]:
        stopped = on_epoch(epoch, {first + index: score for index, score in validation.items()})
        return {index - first for index in stopped}

    return shifted


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
    trial is decided, and the others are stopped. ``tick`` is told the share of the work that is done.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        seeds: int,
        epochs: int,
        tick: Callable[[float], None] = lambda share: None,
    ) -> None:
        self.trials = trials
        self.seeds = seeds
        self.epochs = epochs
        self.every = max(math.ceil(epochs / REPORTS), 1)
        self.tick = tick
        self.members: list[frozenset[int]] = [frozenset()] * len(trials)  # that ever had a score
        self.reached = [0] * len(trials)  # the latest epoch
        self.reported = [0] * len(trials)  # the latest of them that the pruner knows
        self.stopped: set[int] = set()  # trials

    def __call__(self, epoch: int, validation: Mapping[int, float]) -> set[int]:
        """The members to stop."""
        doubtful = []
        for k in sorted({member // self.seeds for member in validation} - self.stopped):
            own = range(k * self.seeds, (k + 1) * self.seeds)
            scores = {member: validation[member] for member in own if member in validation}
            self.reached[k] = epoch
            if scores.keys() < self.members[k]:  # a seed diverged
                self.stopped.add(k)
                continue
            self.members[k] = frozenset(scores)
            if epoch >= self.reported[k] + self.every and math.isfinite(sum(scores.values())):
                self.reported[k] = epoch
                self.trials[k].report(statistics.fmean(scores.values()), epoch)
                doubtful.append(k)
        self.stopped |= {k for k in doubtful if self.trials[k].should_prune()}
        done = sum(self.epochs if k in self.stopped else reached for k, reached in enumerate(self.reached))
        self.tick(min(done / (self.epochs * len(self.trials)), 1.0))
        return {member for member in validation if member // self.seeds in self.stopped}


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
