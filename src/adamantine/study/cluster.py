"""Trains chunks of cells on the workers of a Ray cluster: ``--engine ray``.

A worker is an actor with one core. One that is lost in mid-run, with its process or with its whole node,
costs nothing but time: its chunk is trained again elsewhere. Ray is optional and imported only here.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import platform
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from adamantine.study import methods
from adamantine.study.cell import Result
from adamantine.study.errors import StudyError
from adamantine.study.origin import origins
from adamantine.study.plan import Plan
from adamantine.study.stages import Chunk
from adamantine.study.task import Task, check
from adamantine.study.tasks import TASKS
from adamantine.study.trainer import Trainer
from adamantine.study.workers import cores

log = logging.getLogger(__name__)

TRIES = 3  # of a cell, each on another worker, before it has failed; the last one by itself
STARTS = 3  # workers in a row that may be lost before the first is ready
PATIENCE = 600.0  # seconds until a cluster must have one core for us
OBJECT_STORE = 80 * 2**20  # bytes of shared memory, near Ray's minimum: results are a few kilobytes
NOT_UPLOADED = ["/runs/"]  # besides what Ray leaves out: .git, .venv, and what .gitignore names


class Worker:
    """Trains chunks in a process of the cluster. Made cheaply: what can go wrong goes wrong in `ready`."""

    def __init__(self, plan: Plan, paths: tuple[str, ...]) -> None:
        self.plan = plan
        sys.path += [path for path in paths if path not in sys.path and Path(path).exists()]

    def ready(self) -> dict[str, str] | StudyError:
        """Loads the task; returns what decides the results here, for the driver to compare with its own."""
        try:
            self.trainer = Trainer(self.plan)
            return facts(self.plan, self.trainer.task)
        except StudyError as error:
            return error

    def train(self, chunk: Chunk) -> list[Result]:
        return self.trainer.run_chunk(chunk)


@dataclass
class Job:
    """A chunk, and how many workers were lost while they trained its cells."""

    chunk: Chunk
    lost: int = 0


class RayRunner:
    """A :class:`~adamantine.study.workers.Runner` on a Ray cluster.

    ``address``: ``"auto"``, ``"host:port"`` or ``"ray://host:port"``; without one, what the environment
    variable ``RAY_ADDRESS`` names, else a cluster of this machine's cores is started and ended with the
    run. ``jobs``: workers, one core each; all cores of the cluster by default.

    Raises :class:`StudyError` without Ray, without a cluster at the address, and when a worker's code,
    data or versions are not those of this process, for then its results would not be either.
    """

    def __init__(
        self, plan: Plan, task: Task, *, address: str | None = None, jobs: int | None = None
    ) -> None:
        if jobs is not None and jobs < 1:
            raise StudyError(f"--jobs must be at least 1, not {jobs}")
        self.plan = plan
        self.expected = facts(plan, task)
        self.queue: deque[Job] = deque()
        self.workers: list[Any] = []  # handles of actors
        self.idle: list[Any] = []
        self.starting: dict[Any, Any] = {}  # what `ready` will return → its worker
        self.running: dict[Any, tuple[Any, Job]] = {}  # what `train` will return → its worker and chunk
        self.lost_starts = 0
        self.ray = import_ray()
        self.ours = not self.ray.is_initialized()  # in a notebook Ray may be running already, and goes on
        if self.ours:
            connect(self.ray, address, jobs, upload=needs_folder(plan))
        capacity = int(self.ray.cluster_resources().get("CPU", 0))
        if not (jobs or capacity):
            self.close()
            raise StudyError(
                "--engine ray: the cluster has no CPU; start its nodes with --num-cpus 1 or more, or let it "
                "grow: --jobs says how far"
            )
        self.jobs = jobs or capacity  # workers without a core wait, and make a cluster grow that can
        self.actor = self.ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Worker)

    def submit(self, chunks: list[Chunk]) -> None:
        self.queue.extend(map(Job, chunks))
        while len(self.workers) < min(self.jobs, len(self.queue) + len(self.running)):
            self._start()

    def next(self) -> list[Result]:
        while True:
            while self.idle and self.queue:
                worker, job = self.idle.pop(), self.queue.popleft()
                self.running[worker.train.remote(job.chunk)] = worker, job
            ref = self._wait()
            if ref in self.starting:
                self._welcome(ref)
            elif results := self._receive(ref):
                return results

    def close(self) -> None:
        self.queue.clear()
        for worker in self.workers:
            self.ray.kill(worker)
        for waiting in (self.workers, self.idle, self.starting, self.running):
            waiting.clear()
        if self.ours and self.ray.is_initialized():
            self.ray.shutdown()

    def _start(self) -> None:
        worker = self.actor.remote(self.plan, tuple(sys.path))
        self.workers.append(worker)
        self.starting[worker.ready.remote()] = worker

    def _wait(self) -> Any:
        waited = [*self.running, *self.starting]
        hopeful = self.running or self.idle
        done, _ = self.ray.wait(waited, num_returns=1, timeout=None if hopeful else PATIENCE)
        if not done:
            raise StudyError(
                f"--engine ray: no worker could start within {PATIENCE:.0f} s; the cluster has "
                f"{self.ray.available_resources().get('CPU', 0):g} free cores of "
                f"{self.ray.cluster_resources().get('CPU', 0):g}"
            )
        return done[0]

    def _welcome(self, ref: Any) -> None:
        """A worker has started; it may train if what decides results is there as it is here."""
        worker = self.starting.pop(ref)
        try:
            there = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            reason = str(error).strip().splitlines()[-1]
            raise StudyError(
                "--engine ray: a worker cannot start; install the same adamantine and its dependencies on "
                f"every node ({reason})"
            ) from error
        except self.ray.exceptions.RayError as error:
            self._replace(worker)
            self.lost_starts += 1
            if self.lost_starts == STARTS:
                raise StudyError(
                    f"--engine ray: {STARTS} workers died as they started ({_line(error)})"
                ) from error
            return
        if isinstance(there, StudyError):
            raise there
        different = sorted(
            k for k in there.keys() | self.expected.keys() if there.get(k) != self.expected.get(k)
        )
        if different:
            key = different[0]
            raise StudyError(
                f"--engine ray: a worker has another {key} ({there.get(key)}) than this process "
                f"({self.expected.get(key)}), so its results would differ; make them the same on every node"
            )
        self.lost_starts = 0
        self.idle.append(worker)

    def _receive(self, ref: Any) -> list[Result]:
        """The results of a chunk; none if its worker was lost and it is to be trained again."""
        worker, job = self.running.pop(ref)
        try:
            results: list[Result] = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError:  # not a loss: an error in our own code, which has to be seen
            raise
        except self.ray.exceptions.RayError as error:
            self._replace(worker)
            return self._lost(job, error)
        self.idle.append(worker)
        return results

    def _lost(self, job: Job, error: Exception) -> list[Result]:
        """Queues what a lost worker was training: first whole, then cell by cell, for it may have needed too
        much memory. Fails what has been tried enough."""
        lost = job.lost + 1
        if lost == TRIES:
            message = f"{TRIES} workers died while they trained it ({_line(error)})"
            return [Result(cell, "failed", message=message) for cell in job.chunk]
        log.warning("a Ray worker died; its %d runs go to another one", len(job.chunk))
        whole = lost < TRIES - 1
        chunks = [job.chunk] if whole else [(cell,) for cell in job.chunk]
        self.queue.extendleft(Job(chunk, lost) for chunk in chunks)
        return []

    def _replace(self, worker: Any) -> None:
        self.workers.remove(worker)
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.kill(worker)  # one that only seems lost must not train on
        self._start()


def import_ray() -> ModuleType:
    """Ray, quiet and without its usage statistics, unless the environment already says otherwise."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray is going to do; else it warns
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise StudyError(
            f'--engine ray: Ray cannot be imported ({error}); run: pip install "adamantine[ray]"'
        ) from error
    return ray


def connect(ray: ModuleType, address: str | None, jobs: int | None, *, upload: bool) -> None:
    """Joins the cluster at ``address``, or starts one. ``upload`` sends the current folder to its nodes."""
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        options |= {
            "num_cpus": jobs or cores(),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
        }
    elif upload:
        options["runtime_env"] = {"working_dir": str(Path.cwd()), "excludes": NOT_UPLOADED}
    _hush()
    try:
        ray.init(address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise StudyError(
            f"--address {address}: cannot use a Ray cluster there ({_line(error)}); if it asks for a token, "
            "set RAY_AUTH_MODE=token; without --address, Ray runs on this machine alone"
        ) from error


def _hush() -> None:
    """Ray prints a paragraph for each lost worker, whatever ``log_to_driver`` says; its debugger turns that
    off in this way. Where a version of Ray has no such switch, it speaks."""
    worker = sys.modules.get("ray._private.worker")
    if hasattr(worker, "_worker_logs_enabled"):
        worker._worker_logs_enabled = False  # type: ignore[union-attr]


def facts(plan: Plan, task: Task) -> dict[str, str]:
    """What decides the results besides the plan: versions, the user's code, the first seed's data."""
    modules = [] if plan.task in TASKS else [plan.task.partition(":")[0]]
    for method in plan.methods:
        spec = methods.parse(method.spec)
        methods.resolve(spec)  # imports the user's module, so that its source is known
        modules.append(spec.module)
    versions = {name: importlib.metadata.version(name) for name in ("adamantine", "torch", "numpy")}
    return {
        "version of python": platform.python_version(),
        **{f"version of {name}": version for name, version in versions.items()},
        **{f"code of {name}": code for name, code in origins(modules).items()},
        **{f"data ({key})": str(value) for key, value in check(task, plan.seeds[0]).items()},
    }


def needs_folder(plan: Plan) -> bool:
    """Whether something of the plan may lie in the current folder."""
    files = [plan.settings.data_dir, plan.settings.text]
    return (
        plan.task not in TASKS
        or any(methods.parse(method.spec).module for method in plan.methods)
        or any(file is not None and not Path(file).is_absolute() for file in files)
    )


def _line(error: BaseException) -> str:
    """The gist of Ray's errors, which are paragraphs."""
    return " ".join(str(error).split())[:200]
