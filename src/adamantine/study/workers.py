"""Worker processes that train chunks of cells, one chunk at a time each.

A pool of our own rather than ``concurrent.futures``: a worker that is killed costs neither its
chunk nor the run, and a worker whose parent is killed ends within a moment instead of living on.
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

from adamantine.study.cell import Result
from adamantine.study.errors import StudyError
from adamantine.study.plan import Plan
from adamantine.study.stages import Chunk
from adamantine.study.task import Task


class Runner(Protocol):
    """Takes chunks of cells, each to be trained as one batch, and gives their results back, in any order."""

    def submit(self, chunks: list[Chunk]) -> None:
        """Queues chunks."""

    def next(self) -> list[Result]:
        """Waits for the results of a whole chunk, or of a part of one that a lost worker left over."""

    def close(self) -> None:
        """Drops what is queued and ends the workers."""


def cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Inline:
    """Trains in this process: ``--jobs 1``."""

    def __init__(self, plan: Plan, task: Task) -> None:
        from adamantine.study.trainer import Trainer

        self.trainer = Trainer(plan, task)
        self.queue: deque[Chunk] = deque()

    def submit(self, chunks: list[Chunk]) -> None:
        self.queue.extend(chunks)

    def next(self) -> list[Result]:
        return self.trainer.run_chunk(self.queue.popleft())

    def close(self) -> None:
        self.queue.clear()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    ready: bool = False
    chunk: Chunk | None = None


class Pool:
    """Trains in ``jobs`` spawned processes."""

    def __init__(self, plan: Plan, jobs: int) -> None:
        self.plan = plan
        self.queue: deque[Chunk] = deque()
        self.lost: set[Chunk] = set()  # with their worker, once
        self.workers: list[_Worker] = []
        with _interrupts_ignored():
            for _ in range(jobs):
                self.workers.append(self._start())

    def submit(self, chunks: list[Chunk]) -> None:
        self.queue.extend(chunks)

    def next(self) -> list[Result]:
        while True:
            for worker in self.workers:
                if worker.ready and worker.chunk is None and self.queue:
                    chunk = self.queue.popleft()
                    worker.chunk = chunk
                    with contextlib.suppress(OSError):  # it died meanwhile: its pipe tells so below
                        worker.pipe.send(chunk)
            ready = wait([worker.pipe for worker in self.workers])
            for worker in self.workers:
                if worker.pipe in ready:
                    results = self._receive(worker)
                    if results:
                        return results

    def _receive(self, worker: _Worker) -> list[Result]:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        if isinstance(message, StudyError):
            raise message
        worker.ready = True
        worker.chunk = None
        return message if isinstance(message, list) else []

    def _bury(self, worker: _Worker) -> list[Result]:
        """Another worker takes a dead one's place, and its chunk: first whole, then cell by cell, for it may
        have needed too much memory. A single cell that is lost twice has failed."""
        worker.process.join()
        worker.pipe.close()
        code = worker.process.exitcode
        if not worker.ready:
            raise StudyError(f"a worker process ended before its first cell (exit code {code}); try --jobs 1")
        self.workers.remove(worker)
        with _interrupts_ignored():
            self.workers.append(self._start())
        chunk = worker.chunk
        if chunk is None:
            return []
        if chunk not in self.lost:
            self.lost.add(chunk)
            self.queue.appendleft(chunk)
            return []
        if len(chunk) > 1:
            self.queue.extendleft((cell,) for cell in reversed(chunk))
            return []
        return [Result(chunk[0], "failed", message=f"the worker process died (exit code {code})")]

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
    """The life of a worker: train each chunk received until the parent hangs up."""
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
            chunk = pipe.recv()
        except EOFError:
            return
        pipe.send(trainer.run_chunk(chunk))


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, even killed with SIGKILL in the middle of a chunk."""
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
