"""Worker processes that train cells, one cell at a time each.

A pool of our own rather than ``concurrent.futures``: a worker that is killed costs its cell and not the
run, and a worker whose parent is killed ends within a moment instead of living on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from adamantine.study.cell import Cell, Result
from adamantine.study.errors import StudyError
from adamantine.study.plan import Plan
from adamantine.study.task import Task


class Runner(Protocol):
    """Takes cells and gives results back, in any order."""

    def submit(self, cells: list[Cell]) -> None:
        """Queues cells."""

    def next(self) -> Result:
        """Waits for the next result."""

    def close(self) -> None:
        """Drops what is queued and ends the workers."""


def cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Inline:
    """Runs the cells in this process: ``--jobs 1``."""

    def __init__(self, plan: Plan, task: Task) -> None:
        from adamantine.study.trainer import Trainer

        self.trainer = Trainer(plan, task)
        self.queue: deque[Cell] = deque()

    def submit(self, cells: list[Cell]) -> None:
        self.queue.extend(cells)

    def next(self) -> Result:
        return self.trainer.run(self.queue.popleft())

    def close(self) -> None:
        self.queue.clear()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    ready: bool = False
    cell: Cell | None = None


class Pool:
    """Runs the cells in ``jobs`` spawned processes."""

    def __init__(self, plan: Plan, jobs: int) -> None:
        self.plan = plan
        self.queue: deque[Cell] = deque()
        self.workers: list[_Worker] = []
        with _interrupts_ignored():
            for _ in range(jobs):
                self.workers.append(self._start())

    def submit(self, cells: list[Cell]) -> None:
        self.queue.extend(cells)

    def next(self) -> Result:
        while True:
            for worker in self.workers:
                if worker.ready and worker.cell is None and self.queue:
                    cell = self.queue.popleft()
                    worker.cell = cell
                    with contextlib.suppress(OSError):  # it died meanwhile: its pipe tells so below
                        worker.pipe.send(cell)
            ready = wait([worker.pipe for worker in self.workers])
            for worker in self.workers:
                if worker.pipe in ready:
                    result = self._receive(worker)
                    if result is not None:
                        return result

    def _receive(self, worker: _Worker) -> Result | None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        if isinstance(message, StudyError):
            raise message
        worker.ready = True
        worker.cell = None
        return message if isinstance(message, Result) else None

    def _bury(self, worker: _Worker) -> Result | None:
        """A dead worker's cell has failed; another worker takes its place."""
        worker.process.join()
        worker.pipe.close()
        code = worker.process.exitcode
        if not worker.ready:
            raise StudyError(f"a worker process ended before its first cell (exit code {code}); try --jobs 1")
        self.workers.remove(worker)
        with _interrupts_ignored():
            self.workers.append(self._start())
        if worker.cell is None:
            return None
        return Result(worker.cell, "failed", message=f"the worker process died (exit code {code})")

    def close(self) -> None:
        self.queue.clear()
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()
        self.workers.clear()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")  # fork is unsafe once torch has started its threads
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(self.plan, theirs), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)


def _work(plan: Plan, pipe: Connection) -> None:
    """The life of a worker: train each cell received until the parent hangs up."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        from adamantine.study.trainer import Trainer

        trainer = Trainer(plan)
    except StudyError as error:
        pipe.send(error)
        return
    pipe.send("ready")
    while True:
        try:
            cell = pipe.recv()
        except EOFError:
            return
        pipe.send(trainer.run(cell))


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, even killed with SIGKILL in the middle of a cell."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes started here ignore Ctrl-C from their first moment: it is the parent's to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
