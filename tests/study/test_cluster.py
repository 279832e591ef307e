"""Chunks on a local Ray cluster of two workers: the bits of the local engine, and no result lost."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs ray")

from adamantine.study import cluster
from adamantine.study.cell import Cell, Result
from adamantine.study.cluster import TRIES, RayRunner
from adamantine.study.compare import Run, compare, prepare
from adamantine.study.errors import StudyError
from adamantine.study.folder import JOURNAL, TABLE
from adamantine.study.plan import cells
from adamantine.study.stages import Chunk
from adamantine.study.task import Settings
from adamantine.study.tune.cluster import ClusterTrials
from adamantine.study.tune.training import Batched, OnEpoch
from adamantine.study.workers import Inline

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")

MORTAL = """
import os, signal, pathlib
import torch

class DiesOnce(torch.optim.AdamW):
    '''Kills its process in mid-run, as long as the marker is not there.'''

    def __init__(self, params, lr, weight_decay=0.0, *, marker):
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        self.marker, self.steps = pathlib.Path(marker), 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps == 4 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(closure)
"""


@pytest.fixture(scope="module")
def run(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three methods on two settings with two seeds: ours, one that raises, one that kills its process."""
    place = tmp_path_factory.mktemp("mortal")
    (workshop / "mortal.py").write_text(MORTAL)
    specs = ("AdamW", "tiny_optimizers:Raises", f'mortal:DiesOnce(marker="{place}/died")')
    axes = {"lrs": {"": "0.01"}, "weight_decays": {"": "0,0.1"}}
    return prepare("tiny_task:", specs, **axes, seeds=(0, 1), grow=0, refine=0, confirm=0, out=place)


@pytest.fixture(scope="module", autouse=True)
def started() -> Iterator[None]:
    """One cluster for all tests, as in a notebook: a runner uses the one that runs and leaves it running."""
    ray = cluster.import_ray()
    cluster.connect(ray, "local", 2, upload=False)
    yield
    ray.shutdown()


def chunks_of(run: Run) -> list[Chunk]:
    """A chunk per method."""
    return [tuple(cells(method, run.plan.seeds)) for method in run.plan.methods]


@pytest.fixture(scope="module")
def results(run: Run) -> dict[Cell, Result]:
    runner = RayRunner(run.plan, run.task)
    try:
        chunks = chunks_of(run)
        runner.submit(chunks)
        found: list[Result] = []
        while len(found) < sum(map(len, chunks)):
            found += runner.next()
    finally:
        runner.close()
    by_cell = {result.cell: result for result in found}
    assert len(by_cell) == len(found)
    return by_cell


def untimed(result: Result) -> tuple[object, ...]:
    """Everything but the seconds; floats as text, which is exact and has NaN equal to NaN."""
    return result.cell, result.status, repr(result.validation), repr(result.test), repr(result.curves)


def test_no_result_is_lost(run: Run, results: dict[Cell, Result]) -> None:
    assert set(results) == {cell for chunk in chunks_of(run) for cell in chunk}


def test_a_cluster_gives_the_bits_of_this_process(run: Run, results: dict[Cell, Result]) -> None:
    here = Inline(run.plan, run.task)
    ours, raises, _ = chunks_of(run)
    assert {results[cell].status for cell in ours} == {"ok"}
    assert {results[cell].status for cell in raises} == {"failed"}
    for chunk in (ours, raises):
        for result in here.trainer.run_chunk(chunk):
            assert untimed(results[result.cell]) == untimed(result)


def test_a_worker_killed_in_mid_run_costs_nothing(run: Run, results: dict[Cell, Result]) -> None:
    here = Inline(run.plan, run.task)
    mortal = chunks_of(run)[2]
    assert (run.out / "died").exists()
    assert {results[cell].status for cell in mortal} == {"ok"}
    for result in here.trainer.run_chunk(mortal):
        assert untimed(results[result.cell]) == untimed(result)


def test_before_the_last_try_a_chunk_falls_into_cells() -> None:
    chunk = tuple(Cell("AdamW", 0.1, 0.0, seed) for seed in range(3))
    runner = object.__new__(RayRunner)
    runner.queue = deque()
    assert runner._lost(cluster.Job(chunk), RuntimeError("gone")) == []
    assert list(runner.queue) == [cluster.Job(chunk, 1)]
    assert runner._lost(runner.queue.popleft(), RuntimeError("gone")) == []
    assert {job.chunk for job in runner.queue} == {(cell,) for cell in chunk}
    failed = [result for job in list(runner.queue) for result in runner._lost(job, RuntimeError("gone"))]
    assert [result.status for result in failed] == ["failed"] * 3
    assert failed[0].message == f"{TRIES} workers died while they trained it (gone)"


def test_a_worker_with_other_versions_is_refused(run: Run) -> None:
    runner = RayRunner(run.plan, run.task, jobs=1)
    said = runner.ray.put({**runner.expected, "version of torch": "1.0"})  # what its `ready` returns
    runner.starting[said] = None
    with pytest.raises(StudyError, match=r"another version of torch \(1\.0\) than this process \(\d"):
        runner.next()
    runner.close()


def test_without_ray_the_error_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StudyError, match=r'pip install "adamantine\[ray\]"'):
        RayRunner(run.plan, run.task)


def test_files_of_the_user_travel_and_built_in_tasks_need_none(run: Run) -> None:
    built_in = dataclasses.replace(run.plan, task="digits", methods=run.plan.methods[:1])
    assert cluster.needs_folder(run.plan)
    assert not cluster.needs_folder(built_in)
    relative = dataclasses.replace(built_in.settings, text="notes.txt")
    assert cluster.needs_folder(dataclasses.replace(built_in, settings=relative))
    absolute = dataclasses.replace(built_in.settings, text=os.path.abspath("notes.txt"))
    assert not cluster.needs_folder(dataclasses.replace(built_in, settings=absolute))


def alive(session: int) -> list[str]:
    """The processes of a session, without zombies and without Ray's agents: these find their cluster gone,
    try for a minute to report it, and end."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, sid = (process / "stat").read_text().rpartition(")")[2].split()[:4]
            name = (process / "cmdline").read_text().strip("\0")
            if int(sid) == session and state != "Z" and not re.fullmatch(r"ray::\w+Agent", name):
                found.append(name)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_driver_leaves_no_process_and_resumes_to_the_same_bits(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    grid = "--task tiny_task: --method AdamW --lr 0.01,0.1 --wd 0,0.1 --seeds 2"
    options = f"{grid} --grow 0 --refine 0 --confirm 3"
    command = f"{sys.executable} -m adamantine compare {options} --quiet --engine ray --jobs 1 --out broken"
    ours = {"PYTHONPATH": str(workshop), "TINY_PAUSE": "0.5", "RAY_ADDRESS": "local"}
    journal = tmp_path / "broken" / JOURNAL
    with subprocess.Popen(
        command.split(), env={**os.environ, **ours}, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 120
        while not journal.exists() or not journal.read_bytes().count(b"\n"):
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(alive(process.pid)) > 3  # with Ray's and the worker's
        process.kill()
    deadline = time.monotonic() + 20
    while left := alive(process.pid):
        assert time.monotonic() < deadline, f"processes outlive their driver: {left}"
        time.sleep(0.1)

    axes = {"lrs": {"": "0.01,0.1"}, "weight_decays": {"": "0,0.1"}}
    for name in ("broken", "whole"):
        run = prepare(
            "tiny_task:",
            ("AdamW",),
            **axes,
            seeds=(0, 1),
            grow=0,
            refine=0,
            confirm=3,
            out=tmp_path / name,
        )
        compare(run, jobs=1)
    tables = [(tmp_path / name / TABLE).read_bytes() for name in ("broken", "whole")]
    assert tables[0] == tables[1]
    assert tables[0].count(b"\n") == 1 + 8 + 3


def worse_than(limit: float) -> OnEpoch:
    """A pruner that stops, from the second epoch on, what scores above ``limit``."""

    def on_epoch(epoch: int, validation: Mapping[int, float]) -> set[int]:
        return {index for index, score in validation.items() if epoch >= 2 and score > limit}

    return on_epoch


def test_the_trials_of_tune_are_trained_and_pruned_as_here(run: Run) -> None:
    trials = [Cell("AdamW", lr, 0.1, seed) for lr in (1e-6, 0.01, 0.1) for seed in (0, 1)]
    here = Batched(run.task, "cosine")(trials, worse_than(0.4))
    with ClusterTrials("tiny_task:", Settings(), "cosine", ["AdamW"]) as there:
        found = there(trials, worse_than(0.4))
    assert {result.status for result in found} == {"ok", "pruned"}
    assert [result.cell for result in found] == trials
    for ours, theirs in zip(here, found, strict=True):
        assert (ours.status, ours.message) == (theirs.status, theirs.message)
        assert ours.validation == theirs.validation or ours.status == "pruned"
