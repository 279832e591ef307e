"""Whole runs: the same bits for any number of workers, after a kill, and with workers that die."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from adamantine.study.analysis import read
from adamantine.study.cell import Cell, Result
from adamantine.study.compare import Run, compare, prepare
from adamantine.study.errors import StudyError
from adamantine.study.folder import JOURNAL, TABLE, read_manifest

Prepare = Callable[..., Run]


def test_two_workers_give_the_bits_of_one(tiny: Prepare) -> None:
    one, two = (tiny(out, grow=1, confirm=1) for out in ("one", "two"))
    compare(one, jobs=1)
    compare(two, jobs=2)
    assert (one.out / TABLE).read_bytes() == (two.out / TABLE).read_bytes()
    lines = (one.out / TABLE).read_text().splitlines()
    assert len(lines) > 2 * 2 * 2 * 2  # 2 methods, 2 x 2 settings, 2 seeds, and a heading


def command(out: Path) -> list[str]:
    methods = "--task tiny_task: --method Adam --method AdamW --lr 0.01,0.1 --wd 0,0.1"
    options = f"{methods} --seeds 2 --grow 1 --refine 1 --confirm 2 --quiet"
    return [sys.executable, "-m", "adamantine", "compare", *options.split(), "--jobs", "2", "--out", str(out)]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_resumes_to_the_bits_of_an_unbroken_one(
    workshop: Path, tiny: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(workshop), "TINY_PAUSE": "0.3"}
    broken, whole = (tiny(out, grow=1, refine=1, confirm=2) for out in ("broken", "whole"))
    journal = broken.out / JOURNAL
    with subprocess.Popen(command(broken.out), env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    workers = {int(line) for line in (tmp_path / "pids").read_text().split()} - {process.pid}
    assert len(workers) == 2
    deadline = time.monotonic() + 5
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.02)
    done = journal.read_bytes()
    journal.write_bytes(done + b'{"method": "Adam", "lr"')  # killed while writing a line

    compare(broken, jobs=1)
    compare(whole, jobs=1)
    assert journal.read_bytes().startswith(done)
    assert (broken.out / TABLE).read_bytes() == (whole.out / TABLE).read_bytes()
    assert (
        journal.read_bytes().count(b"\n") == (broken.out / TABLE).read_bytes().count(b"\n") - 1
    )  # none twice
    manifests = [read_manifest(run.out) for run in (broken, whole)]
    assert manifests[0].pop("command").startswith("adamantine compare --task")
    assert (
        manifests[0].items()
        == {key: value for key, value in manifests[1].items() if key != "command"}.items()
    )


def test_a_finished_run_trains_nothing_again(tiny: Prepare) -> None:
    first = compare(tiny()).comparison
    journal = (tiny().out / JOURNAL).read_bytes()
    again = compare(tiny()).comparison
    assert (tiny().out / JOURNAL).read_bytes() == journal
    assert again.answer == first.answer == read(tiny().out).answer


class Stop:
    """A watcher that presses Ctrl-C after some cells."""

    def __init__(self, after: int) -> None:
        self.left = after

    def planned(self, *facts: object) -> None: ...

    def finished(self, result: Result, results: Mapping[Cell, Result]) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_an_interrupted_run_keeps_what_it_has(tiny: Prepare) -> None:
    broken, whole = (dataclasses.replace(tiny(name), members=3) for name in ("broken", "whole"))
    with pytest.raises(KeyboardInterrupt):
        compare(broken, jobs=1, watcher=Stop(5))
    assert (broken.out / TABLE).read_text().count("\n") == 1 + 6  # two chunks of three
    half = read(broken.out)
    assert any("Not finished: 10 runs" in line.en for line in half.advice)
    compare(broken, jobs=1)
    compare(whole, jobs=1)
    assert (broken.out / TABLE).read_bytes() == (whole.out / TABLE).read_bytes()


def test_a_chunk_of_which_a_part_is_lost_is_trained_again(tiny: Prepare) -> None:
    broken, whole = (dataclasses.replace(tiny(name), members=3) for name in ("broken", "whole"))
    for run in (broken, whole):
        compare(run, jobs=1)
    journal = broken.out / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:4]) + lines[4][:30])
    compare(broken, jobs=1)
    assert (broken.out / TABLE).read_bytes() == (whole.out / TABLE).read_bytes()


def test_jobs_and_the_size_of_a_batch_do_not_show(tiny: Prepare) -> None:
    runs = [dataclasses.replace(tiny(f"run{n}"), members=n) for n in (1, 3, 64)]
    tables = []
    for run, jobs in zip(runs, (1, 2, 2), strict=True):
        compare(run, jobs=jobs)
        tables.append((run.out / TABLE).read_text())
    assert tables[1] == tables[2]
    rows = [[line.split(",") for line in table.splitlines()[1:]] for table in tables]
    for alone, batched in zip(rows[0], rows[1], strict=True):
        assert alone[:7] == batched[:7]  # up to the scores, which count errors
        assert [float(x) for x in batched[7:9]] == pytest.approx([float(x) for x in alone[7:9]], rel=1e-5)


def test_diverged_cells_are_results(tiny: Prepare) -> None:
    run = tiny(specs=("SGD(momentum=0.9)",), lrs={"": "0.1,1e30"})
    outcome = compare(run)
    (method,) = outcome.comparison.methods
    assert outcome.failed == 0
    assert method.diverged[1].all()
    assert not method.diverged[0].any()
    assert method.best is not None
    assert method.best[0] == 0
    assert np.isnan(method.validation[1]).all()
    assert "diverged" in (run.out / TABLE).read_text()


def test_when_everything_diverges_the_answer_says_so(tiny: Prepare) -> None:
    outcome = compare(tiny(specs=("SGD",), lrs={"": "1e29,1e30"}))
    (method,) = outcome.comparison.methods
    assert method.best is None
    assert "No method" in outcome.comparison.answer.en
    assert any("lower --lr" in line.en for line in outcome.comparison.advice)


def test_a_failing_optimizer_does_not_stop_the_others(tiny: Prepare) -> None:
    outcome = compare(tiny(specs=("AdamW", "tiny_optimizers:Raises")))
    assert outcome.failed == 8
    good, bad = outcome.comparison.methods
    assert good.best is not None
    assert bad.best is None
    assert not bad.diverged.any()
    assert any("no step today" in line.en for line in outcome.comparison.advice)


def test_a_dying_worker_costs_its_cell_only(tiny: Prepare) -> None:
    run = tiny(specs=("AdamW", "tiny_optimizers:Dies"), lrs={"": "0.01"}, weight_decays={"": "0"}, seeds=(0,))
    outcome = compare(run, jobs=2)
    assert outcome.failed == 1
    assert outcome.comparison.methods[0].best is not None
    assert any("worker process died (exit code 7)" in line.en for line in outcome.comparison.advice)


def test_seeds_are_shared_so_that_pairs_are_pairs(tiny: Prepare) -> None:
    comparison = compare(tiny(weight_decays={"": "0"})).comparison
    adam, adamw = comparison.methods
    assert np.array_equal(adam.validation, adamw.validation)  # without decay they are the same optimizer
    (pair,) = comparison.differences
    assert (pair.estimate.mean, pair.verdict) == (0.0, "not decided")


def test_the_default_folder_is_named_by_what_decides_the_result(tiny: Prepare) -> None:
    first, again, other = tiny(out=None), tiny(out=None, command="x"), tiny(out=None, seeds=(0, 2))
    assert first.out == again.out != other.out
    assert first.out.parts[0] == "runs"
    assert first.out.name.startswith("tiny_task-")


def test_a_run_of_something_else_is_refused(tiny: Prepare) -> None:
    compare(tiny())
    with pytest.raises(StudyError, match=r"configuration\.schedule: cosine there, linear here"):
        compare(tiny(schedule="linear"))
    compare(tiny(schedule="linear"), fresh=True)


def test_an_edited_task_is_another_run(tiny: Prepare, workshop: Path) -> None:
    source = (workshop / "tiny_task.py").read_text()
    try:
        (workshop / "edited_task.py").write_text(source)
        compare(tiny(task="edited_task:"))
        (workshop / "edited_task.py").write_text(source + "\n")
        with pytest.raises(StudyError, match=r"code\.edited_task: \w+ there"):
            compare(tiny(task="edited_task:"))
    finally:
        sys.modules.pop("edited_task", None)


def test_installed_code_counts_by_its_version(tiny: Prepare) -> None:
    code = tiny(specs=("torch.optim:AdamW", "tiny_optimizers:Raises")).manifest["code"]
    assert code.keys() == {"torch", "tiny_task", "tiny_optimizers"}
    assert code["torch"] == torch.__version__


def test_methods_of_one_kind_are_told_apart(tiny: Prepare) -> None:
    options = {"lrs": {"": "0.01"}, "weight_decays": {"": "0"}, "seeds": (0,)}
    compare(tiny(specs=("SGD(momentum=0.9)", "SGD(momentum=0.99)"), **options))
    other = tiny(specs=("SGD(momentum=0.8)", "SGD(momentum=0.99)"), **options)
    with pytest.raises(
        StudyError, match=r"methods: SGD\(momentum=0\.9\), .* there, SGD\(momentum=0\.8\), [^;]*\);"
    ):
        compare(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosin"}, "--schedule 'cosin'"),
        ({"seeds": (1, 1)}, "--seeds 1,1"),
        ({"seeds": ()}, "--seeds"),
        ({"grow": -1}, "--grow"),
        ({"specs": ("AdamW", "AdamW()")}, "given twice"),
        ({"specs": ("Adam(eps=1, amsgrad=True)", "Adam(amsgrad=True, eps=1)")}, "given twice"),
        ({"lrs": {"Adagrad": "1"}}, r"--lr 'Adagrad=\.\.\.': no such method here"),
        ({"lrs": {"": "-1"}}, "--lr '-1'"),
        ({"specs": ("AdamW(betas=(0.9, 1.5))",)}, "beta"),
        ({"seeds": (2**32,)}, "seeds must stay below 4294967296"),
        ({"seeds": (2**32 - 2,), "confirm": 7}, "seeds must stay below 4294967296"),
        ({"seeds": tuple(range(1001))}, "1001 given"),
        ({"confirm": 1001}, "--confirm must be 0 to 1000"),
        ({"lrs": {"": "1e-3:1:1e9"}}, "at most 1000 values"),
        ({"specs": ("tiny_optimizers:NeverSteps",)}, "'tiny_task:': RuntimeError: no step at all"),
        ({"specs": ("torch.optim:LBFGS",), "weight_decays": {"": "0"}}, "--method torch.optim:LBFGS"),
        ({"specs": ("torch.optim:Rprop",)}, "Rprop has no weight_decay; give --weight-decay"),
    ],
)
def test_wrong_arguments(tiny: Prepare, changes: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        tiny(**changes)


def test_wrong_jobs(tiny: Prepare) -> None:
    with pytest.raises(StudyError, match="--jobs must be at least 1"):
        compare(tiny(), jobs=0)


def test_an_axis_for_one_method_wins_over_one_for_all(tiny: Prepare) -> None:
    specs = ("AdamW", "AdamW(eps=1e-6)")
    run = tiny(specs=specs, lrs={"": "1", "AdamW": "2", "AdamW(eps=0.000001)": "3"})
    assert [method.lrs for method in run.plan.methods] == [(2.0,), (3.0,)]


def test_the_default_comparison_gives_each_method_its_own_range() -> None:
    plan = prepare().plan
    assert [method.name for method in plan.methods] == ["SGD + momentum + L2", "Adam + L2", "AdamW"]
    _, coupled, decoupled = plan.methods
    assert coupled.lrs == decoupled.lrs
    assert set(coupled.weight_decays) & set(decoupled.weight_decays) == {0.0}
    assert plan.seeds == (0, 1, 2)
