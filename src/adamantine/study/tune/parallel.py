"""Several processes that share a batch and go through its epochs in step: nothing depends on timing."""

from __future__ import annotations

import contextlib
import itertools
import math
import multiprocessing
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType

from adamantine.study.cell import Cell, Result
from adamantine.study.errors import StudyError
from adamantine.study.task import Settings
from adamantine.study.tune.training import OnEpoch, parts


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection


class Parallel:
    """A runner with ``jobs`` processes; with the pruners ``median`` and ``none`` its results are those of
    :class:`~adamantine.study.tune.training.Batched`, bit for bit.

    After an epoch each process waits until all have told their scores, and the pruner decides on them in the
    order of the trials. A process that dies ends the search, which the same command resumes.
    """

    def __init__(self, task: str, settings: Settings, schedule: str, jobs: int) -> None:
        if jobs < 1:
            raise StudyError(f"--jobs must be at least 1, not {jobs}")
        context = multiprocessing.get_context("spawn")  # fork is unsafe once torch has started its threads
        self.workers: list[_Worker] = []
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(task, settings, schedule, theirs), daemon=True)
            process.start()
            theirs.close()
            self.workers.append(_Worker(process, ours))

    def __enter__(self) -> Parallel:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()

    def __call__(self, cells: Sequence[Cell], on_epoch: OnEpoch) -> list[Result]:
        shares = _shares(cells, len(self.workers))
        firsts = [sum(map(len, shares[:index])) for index in range(len(shares))]
        working = dict(zip(firsts, self.workers, strict=False))  # by the first of its cells
        for worker, share in zip(self.workers, shares, strict=False):
            _say(worker, share)
        results: dict[int, list[Result]] = {}
        while working:
            told: dict[int, tuple[int, dict[int, float]]] = {}
            for first, worker in list(working.items()):
                message = self._hear(worker)
                if isinstance(message, list):
                    results[first] = message
                    del working[first]
                else:
                    told[first] = message
            stopped: set[int] = set()
            for epoch in sorted(
                {epoch for epoch, _ in told.values()}
            ):  # one, unless a share has several parts
                now = {first: scores for first, (its, scores) in told.items() if its == epoch}
                merged = {first + i: score for first, scores in now.items() for i, score in scores.items()}
                stopped |= set(on_epoch(epoch, merged))
            for first, (_, scores) in told.items():
                _say(working[first], {index for index in scores if first + index in stopped})
        return [result for first in firsts for result in results[first]]

    def _hear(self, worker: _Worker) -> list[Result] | tuple[int, dict[int, float]]:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            raise StudyError(
                f"a worker process died (exit code {worker.process.exitcode}); the same command goes on, "
                "with --jobs 1 in one process"
            ) from None
        if isinstance(message, StudyError):
            raise message
        found: list[Result] | tuple[int, dict[int, float]] = message
        return found


def _say(worker: _Worker, message: object) -> None:
    with contextlib.suppress(OSError):  # it died meanwhile: its silence will tell
        worker.pipe.send(message)


def _shares(cells: Sequence[Cell], workers: int) -> list[list[Cell]]:
    """The cells in their order, a share for each worker as far as there are trials."""
    groups = parts(cells, 0)
    each = math.ceil(len(groups) / workers)
    return [
        list(itertools.chain.from_iterable(groups[first : first + each]))
        for first in range(0, len(groups), each)
    ]


def _work(task: str, settings: Settings, schedule: str, pipe: Connection) -> None:
    """The life of a worker; it ends when the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        from adamantine.study.tasks import load
        from adamantine.study.tune.training import Batched

        train = Batched(load(task, settings), schedule)
    except StudyError as error:
        pipe.send(error)
        return

    def on_epoch(epoch: int, validation: dict[int, float]) -> set[int]:
        pipe.send((epoch, dict(validation)))
        stopped: set[int] = pipe.recv()
        return stopped

    try:
        while True:
            pipe.send(train(pipe.recv(), on_epoch))  # type: ignore[arg-type]
    except (EOFError, OSError):
        return
