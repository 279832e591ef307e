"""Ask and tell under kills: at any write to the storage, and for real."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

from adamantine.study.tune import Tuning, engine

WRITES = (
    "create_new_study",
    "set_study_user_attr",
    "create_new_trial",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
)


class Killed(BaseException):
    """No handler for errors catches it: the process is gone."""


class Fragile(InMemoryStorage):
    """Dies before its n-th write, again and again."""

    def __init__(self, after: int | None = None) -> None:
        super().__init__()
        self.after, self.writes = after, 0

    def _write(self, name: str, *arguments: Any, **options: Any) -> Any:
        self.writes += 1
        if self.after is not None and self.writes > self.after:
            raise Killed
        return getattr(InMemoryStorage, name)(self, *arguments, **options)


for _name in WRITES:

    def _written(self: Fragile, *arguments: Any, _name: str = _name, **options: Any) -> Any:
        return self._write(_name, *arguments, **options)

    setattr(Fragile, _name, _written)


def facts(tuning: Tuning) -> list[object]:
    """What must be equal: all but the trials' numbers."""
    finding = tuning.findings[0]
    return [
        [(t.status, t.setting, t.params, t.score, t.scores) for t in finding.tried],
        finding.best and finding.best.setting,
        finding.fresh,
        finding.importance,
    ]


@pytest.mark.parametrize(
    ("sampler", "pruner", "kills"),
    [
        ("random", "median", 30),
        ("tpe", "median", 12),
        ("gp", "none", 1),  # a fit takes its time
        ("grid", "none", 8),
        ("qmc", "none", 8),
    ],
)
def test_killed_at_any_write_it_resumes_to_the_unbroken_search(
    search: Callable[..., Tuning], monkeypatch: pytest.MonkeyPatch, sampler: str, pruner: str, kills: int
) -> None:
    def run(storage: Fragile) -> Tuning:
        monkeypatch.setattr(engine, "open_storage", lambda url, folder: storage)
        trials = 6 if sampler == "gp" else 10
        return search(trials=trials, batch=4, sampler=sampler, pruner=pruner, seeds=(0,), confirm=2)

    monkeypatch.setattr(engine, "STARTUP", 4)  # so that models are asked, and trials pruned, early
    unbroken = Fragile()
    expected = facts(run(unbroken))
    if pruner == "median":
        assert any(fact[0] == "pruned" for fact in expected[0]), "nothing was pruned"  # type: ignore[attr-defined]
    points = [unbroken.writes * kill // kills for kill in range(kills)] if kills > 1 else [30]
    for after in points:
        storage = Fragile(after)
        with pytest.raises(Killed):
            run(storage)
        storage.after = None
        assert facts(run(storage)) == expected, f"killed before write {after + 1}"


def test_killed_again_and_again(search: Callable[..., Tuning], monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Fragile()
    monkeypatch.setattr(engine, "open_storage", lambda url, folder: storage)
    storage.after, killed, lives = 40, None, 0
    while killed is None:
        try:
            killed = search(trials=12, seeds=(0,))
        except Killed:
            storage.writes, lives = 0, lives + 1
            assert lives < 20
    assert lives > 1
    unbroken = Fragile()
    monkeypatch.setattr(engine, "open_storage", lambda url, folder: unbroken)
    assert facts(killed) == facts(search(trials=12, seeds=(0,)))


PROGRAM = """
import time
import adamantine.study.tune.figure as figure
from adamantine.study.tune import tune

def objective(lr, weight_decay, seed, report):
    time.sleep(0.05)
    return lr + weight_decay

figure.figure_files = lambda tuning: []
tune(objective=objective, trials=12, batch=4, seeds=(0,), confirm=0, sampler="tpe", pruner="none", out="run")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_kill_9(search: Callable[..., Tuning], tmp_path: Path) -> None:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=tmp_path)

    def values(state: str) -> list[float | None]:
        """Of the trials in that state, straight from the file."""
        try:
            with contextlib.closing(sqlite3.connect(tmp_path / "run" / "study.db")) as database:
                rows = database.execute(
                    "select value from trials left join trial_values using (trial_id)"
                    " where state = ? order by trial_id",
                    (state,),
                ).fetchall()
        except sqlite3.OperationalError:  # no file yet, or no tables
            return []
        return [value for (value,) in rows]

    killed, deadline = start(), time.monotonic() + 120
    while len(values("COMPLETE")) < 4 or not values("RUNNING"):
        assert time.monotonic() < deadline
        assert killed.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert values("RUNNING"), "killed between two batches"
    assert len(values("COMPLETE")) < 12
    assert start().wait(120) == 0
    assert not values("RUNNING")
    unbroken = search(
        lambda lr, weight_decay, seed, report: lr + weight_decay,
        trials=12,
        seeds=(0,),
        confirm=0,
        sampler="tpe",
        epochs=None,
    ).findings[0]
    assert values("COMPLETE") == [tried.score for tried in unbroken.tried]
    written = csv.DictReader((tmp_path / "run" / "results.csv").read_text().splitlines())
    assert [float(row["lr"]) for row in written] == [tried.setting.lr for tried in unbroken.tried]
