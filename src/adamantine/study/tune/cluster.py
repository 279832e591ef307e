"""Trains the trials of ``adamantine tune`` on a Ray cluster, with the workers of a comparison."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from types import TracebackType

from adamantine.study.cell import Cell, Result
from adamantine.study.cluster import RayRunner
from adamantine.study.plan import Method, Plan
from adamantine.study.task import Settings
from adamantine.study.tasks import load
from adamantine.study.tune.training import OnEpoch, parts


class ClusterTrials:
    """A :class:`~adamantine.study.tune.training.Runner` that sends whole trials to workers.

    The workers cannot ask the pruner while they train. So every trial runs to its end, and the pruner is
    asked afterwards, epoch by epoch, as if all had trained in step. With the pruners ``median`` and ``none``
    it stops the trials that it would stop locally, and saves none of the time that it would save there. The
    exception is a task that cannot be batched: locally nothing of it is pruned.

    Args:
        task, settings, schedule: as for :func:`adamantine.study.tasks.load` and the trainer.
        specs: the methods of the search, whose modules must be the same on every node.
        seed: one of the search, to compare the data by.
        address, jobs: as for :class:`RayRunner`.
    """

    def __init__(
        self,
        task: str,
        settings: Settings,
        schedule: str,
        specs: Sequence[str],
        *,
        seed: int = 0,
        address: str | None = None,
        jobs: int | None = None,
    ) -> None:
        methods = tuple(Method(spec, spec, "", (), ()) for spec in specs)
        plan = Plan(task, settings, methods, (seed,), schedule, grow=0)
        self.runner = RayRunner(plan, load(task, settings), address=address, jobs=jobs)

    def __enter__(self) -> ClusterTrials:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.runner.close()

    def __call__(self, cells: Sequence[Cell], on_epoch: OnEpoch) -> list[Result]:
        different = list(dict.fromkeys(cells))  # trials may share a setting: no decay at all, say
        share = math.ceil(len(different) / self.runner.jobs)
        self.runner.submit([tuple(part) for part in parts(different, share)])
        found: dict[Cell, Result] = {}
        while len(found) < len(different):
            found |= {result.cell: result for result in self.runner.next()}
        return pruned([found[cell] for cell in cells], on_epoch)


def pruned(results: Sequence[Result], on_epoch: OnEpoch) -> list[Result]:
    """The results, those that the pruner stops cut off where it does.

    ``on_epoch`` is told the scores of each epoch that were recorded, in the order of the epochs, of the runs
    that it has not stopped and that have not diverged by then.
    """
    told = [
        {int(epoch): score for epoch, score in zip(*_validation(result), strict=True) if math.isfinite(score)}
        for result in results
    ]
    ends: dict[int, int] = {}
    for epoch in sorted(set().union(*told)):
        scores = {
            index: known[epoch] for index, known in enumerate(told) if epoch in known and index not in ends
        }
        ends |= {index: epoch for index in on_epoch(epoch, scores) if index in scores} if scores else {}
    return [_cut(result, ends[index]) if index in ends else result for index, result in enumerate(results)]


def _validation(result: Result) -> tuple[list[float], list[float]]:
    return result.curves.get("epoch", []), result.curves.get("validation", [])


def _cut(result: Result, end: int) -> Result:
    kept = sum(epoch <= end for epoch in result.curves["epoch"])
    return dataclasses.replace(
        result,
        status="pruned",
        validation=math.nan,
        test=math.nan,
        message=f"after epoch {end}",
        curves={name: values[:kept] for name, values in result.curves.items()},
    )
