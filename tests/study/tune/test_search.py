"""Ask and tell under kills: at any write to the storage, and for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

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
    ("sampler", "pruner", "every"),
    [
        ("random", "median", 1),
        ("tpe", "median", 9),
        ("gp", "none", 53),
        ("grid", "none", 5),
        ("qmc", "none", 5),
    ],
)
def test_killed_at_any_write_it_resumes_to_the_unbroken_search(
    search: Callable[..., Tuning],
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    pruner: str,
    every: int,
) -> None:
    def run(storage: Fragile) -> Tuning:
        monkeypatch.setattr(engine, "open_storage", lambda url, folder: storage)
        return search(
            trials=9 if every == 1 else 16, batch=4, sampler=sampler, pruner=pruner, seeds=(0,), confirm=2
        )

    monkeypatch.setattr(engine, "STARTUP", 5)  # so that models are asked, and trials pruned, early
    whole = Fragile()
    expected = facts(run(whole))
    if pruner == "median":
        assert any(fact[0] == "pruned" for fact in expected[0]), "nothing was pruned"  # type: ignore[attr-defined]
    for after in range(0, whole.writes, every):
        storage = Fragile(after)
        with pytest.raises(Killed):
            run(storage)
        storage.after = None
        assert facts(run(storage)) == expected, f"killed before write {after + 1}"


def test_killed_again_and_again(search: Callable[..., Tuning], monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Fragile()
    monkeypatch.setattr(engine, "open_storage", lambda url, folder: storage)
    expected_storage, storage.after = Fragile(), 30
    for _ in range(200):
        try:
            killed = search(seeds=(0,))
            break
        except Killed:
            storage.writes = 0
    monkeypatch.setattr(engine, "open_storage", lambda url, folder: expected_storage)
    assert facts(killed) == facts(search(seeds=(0,)))


PROGRAM = """
import time
from adamantine.study.tune import tune

def objective(lr, weight_decay, seed, report):
    time.sleep(0.03)
    return lr + weight_decay

tune(objective=objective, trials=12, batch=4, seeds=(0,), confirm=0, sampler="tpe", pruner="none", out="run")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_kill_9(tmp_path: Path) -> None:
    def start(folder: Path) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=folder)

    def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
        with engine.quiet():
            storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/run/study.db")
            found = [
                trial
                for study in optuna.get_all_study_names(storage)
                for trial in optuna.load_study(study_name=study, storage=storage).get_trials()
            ]
        engine.close_storage(storage)
        return found

    unbroken, broken = start(tmp_path / "unbroken"), start(tmp_path / "broken")
    deadline = time.monotonic() + 60
    database = tmp_path / "broken" / "run" / "study.db"
    while (
        not database.exists() or sum(t.state == TrialState.COMPLETE for t in trials(tmp_path / "broken")) < 4
    ):
        assert time.monotonic() < deadline
        assert broken.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    os.kill(broken.pid, signal.SIGKILL)
    broken.wait()
    left = trials(tmp_path / "broken")
    assert any(trial.state == TrialState.RUNNING for trial in left), "killed between two batches"
    assert start(tmp_path / "broken").wait(60) == 0
    assert unbroken.wait(60) == 0

    def finished(folder: str) -> list[object]:
        return [(t.params, t.value) for t in trials(tmp_path / folder) if t.state == TrialState.COMPLETE]

    assert len(finished("broken")) == 12
    assert finished("broken") == finished("unbroken")
    results = [(tmp_path / folder / "run" / "results.csv").read_text() for folder in ("broken", "unbroken")]
    without_numbers = [[line.split(",")[2:] for line in text.splitlines()] for text in results]
    assert without_numbers[0] == without_numbers[1]
