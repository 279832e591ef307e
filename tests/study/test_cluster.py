"""Chunks on a local Ray cluster of two workers: the bits of the local engine, and no result lost."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs ray")

from adamantine.study import cluster
from adamantine.study.cell import Cell, Result
from adamantine.study.cluster import TRIES, Chunk, RayRunner
from adamantine.study.compare import Run, prepare
from adamantine.study.errors import StudyError
from adamantine.study.plan import cells
from adamantine.study.workers import Inline

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")

MORTAL = """
import os, signal, pathlib
import torch

class Dies(torch.optim.AdamW):
    '''Ends its process in mid-run, as long as the marker is not there.'''

    def __init__(self, params, lr, weight_decay=0.0, *, marker):
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        self.marker, self.steps = pathlib.Path(marker), 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps == 4 and not self.marker.exists():
            self.last_words()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(closure)

    def last_words(self):
        with open(self.marker.parent / "deaths", "a") as file:
            file.write(f"{os.getpid()}\\n")

class DiesOnce(Dies):
    def last_words(self):
        self.marker.touch()
"""


@pytest.fixture(scope="module")
def run(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four methods on two settings with two seeds: ours, one that raises, two that end their process."""
    place = tmp_path_factory.mktemp("mortal")
    (workshop / "mortal.py").write_text(MORTAL)
    specs = (
        "AdamW",
        "tiny_optimizers:Raises",
        f'mortal:DiesOnce(marker="{place}/died")',
        f'mortal:Dies(marker="{place}/never")',
    )
    axes = {"lrs": {"": "0.01"}, "weight_decays": {"": "0,0.1"}}
    return prepare("tiny_task:", specs, **axes, seeds=(0, 1), grow=0, confirm=0, out=place)


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
        found = [result for _ in chunks for result in runner.next()]
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
    ours, raises, _, _ = chunks_of(run)
    assert {results[cell].status for cell in ours} == {"ok"}
    assert {results[cell].status for cell in raises} == {"failed"}
    for cell in ours + raises:
        assert untimed(results[cell]) == untimed(here.trainer.run(cell))


def test_a_worker_killed_in_mid_run_costs_nothing(run: Run, results: dict[Cell, Result]) -> None:
    here = Inline(run.plan, run.task)
    mortal = chunks_of(run)[2]
    assert (run.out / "died").exists()
    assert {results[cell].status for cell in mortal} == {"ok"}
    for cell in mortal:
        assert untimed(results[cell]) == untimed(here.trainer.run(cell))


def test_a_chunk_that_kills_every_worker_fails_alone(run: Run, results: dict[Cell, Result]) -> None:
    assert (run.out / "deaths").read_text().count("\n") == TRIES
    for cell in chunks_of(run)[3]:
        assert results[cell].status == "failed"
        assert results[cell].message.startswith(f"{TRIES} workers died while they trained it")


def test_a_worker_with_other_versions_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    there = cluster.facts(run.plan, run.task)
    monkeypatch.setattr(cluster, "facts", lambda *_: {**there, "version of torch": "1.0"})
    runner = RayRunner(run.plan, run.task, jobs=1)
    try:
        runner.submit(chunks_of(run)[:1])
        with pytest.raises(StudyError, match=r"another version of torch \(.*\) than this process \(1\.0\)"):
            runner.next()
    finally:
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
