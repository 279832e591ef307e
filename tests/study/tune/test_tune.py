"""Whole searches: on a valley with a known bottom, and on a task that trains in milliseconds."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from adamantine.study.cell import Cell, Result
from adamantine.study.errors import StudyError
from adamantine.study.task import Settings
from adamantine.study.tune import Tuning, tune
from adamantine.study.tune.parallel import Parallel
from adamantine.study.tune.result import advice
from adamantine.study.tune.training import Objective, OnEpoch, Report


def test_the_bottom_of_a_valley_is_found(search: Callable[..., Tuning]) -> None:
    best = search(trials=40, batch=8, sampler="tpe", seeds=(0,)).findings[0].best
    assert best is not None
    gamma = best.setting.lr * best.setting.weight_decay
    # Within 0.11 decades in both for every sampler seed of 0 to 19. A sampler that was told of other
    # coordinates than it had asked for would be off by a decade.
    assert abs(math.log10(best.setting.lr) + 2) < 0.2
    assert abs(math.log10(gamma) + 3) < 0.2


def test_a_score_is_the_mean_of_its_seeds_and_fresh_ones_judge(search: Callable[..., Tuning]) -> None:
    tuning = search(seeds=(0, 4))
    finding = tuning.findings[0]
    assert finding.best is not None
    assert finding.best.scores[1] - finding.best.scores[0] == pytest.approx(0.04)
    assert finding.best.score == pytest.approx(sum(finding.best.scores) / 2)
    assert sorted(finding.fresh) == [5, 6, 7]
    assert finding.confirmed is not None
    assert finding.confirmed.mean == pytest.approx(finding.best.scores[0] + 0.06)
    assert f"lr={finding.best.setting.lr}" in finding.code


def test_a_seed_that_diverges_makes_the_trial_bad_and_not_unknown(
    search: Callable[..., Tuning], diverging: Objective
) -> None:
    finding = search(diverging, trials=20).findings[0]
    states = {tried.status for tried in finding.tried}
    assert states == {"complete", "diverged"}
    assert all((t.setting.lr > 0.02) == (t.status == "diverged") for t in finding.tried)
    assert all(math.isinf(t.score) for t in finding.tried if t.status == "diverged")
    assert finding.best is not None
    assert finding.best.setting.lr < 0.02


def test_all_diverged_is_said(search: Callable[..., Tuning]) -> None:
    tuning = search(lambda lr, weight_decay, seed, report: math.nan)
    assert tuning.findings[0].best is None
    assert "lower --lr" in advice(tuning)[0]


def test_the_pruner_stops_what_is_worse_than_the_median(
    search: Callable[..., Tuning], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []

    def objective(lr: float, weight_decay: float, seed: int, report: Report) -> float:
        called.append(seed)
        for epoch in range(1, 10):
            report(epoch, lr)
        return lr

    finding = search(objective, trials=40, pruner="median", epochs=9).findings[0]
    pruned = [tried for tried in finding.tried if tried.status == "pruned"]
    complete = [tried for tried in finding.tried if tried.status == "complete"]
    assert len(pruned) > 5
    assert min(t.setting.lr for t in pruned) > min(t.setting.lr for t in complete)
    assert called[:-3].count(1) == len(complete)  # a pruned trial's other seeds are not run


def test_a_higher_total_goes_on(search: Callable[..., Tuning], tmp_path: Path) -> None:
    first = search(out=tmp_path / "run", trials=4).findings[0]
    calls: list[float] = []

    def counting(lr: float, weight_decay: float, seed: int, report: Report) -> float:
        calls.append(lr)
        return 1.0

    more = search(counting, out=tmp_path / "run", trials=6, confirm=3).findings[0]
    assert more.tried[:4] == first.tried
    assert len(more.tried) == 6
    assert len(calls) == 4  # two trials of two seeds; the best is the same, so it is not confirmed again
    assert search(counting, out=tmp_path / "run", trials=6, confirm=3).findings[0] == more
    assert len(calls) == 4


def test_the_folder(whole: None, search: Callable[..., Tuning], tmp_path: Path) -> None:
    tuning = search(out=tmp_path / "run", trials=6, batch=3)
    data = json.loads((tmp_path / "run" / "results.json").read_text())
    best = tuning.findings[0].best
    assert best is not None
    assert data["methods"][0]["best"]["lr"] == best.setting.lr
    rows = list(csv.DictReader((tmp_path / "run" / "results.csv").read_text().splitlines()))
    assert [float(row["lr"]) for row in rows] == [tried.setting.lr for tried in tuning.findings[0].tried]
    for kind in ("light.png", "dark.png", "light.svg", "dark.svg"):
        assert (tmp_path / "run" / "figures" / f"tune-AdamW-{kind}").stat().st_size > 1000
    url = f"sqlite:///{tmp_path}/run/study.db"
    (name,) = optuna.get_all_study_names(url)  # anybody's Optuna reads it
    assert optuna.load_study(study_name=name, storage=url).best_value == best.score
    with pytest.raises(StudyError, match="holds another run"):
        search(out=tmp_path / "run", trials=6, batch=3, sampler="tpe")
    again = search(lambda *_: 0.5, out=tmp_path / "run", trials=6, batch=3, fresh=True)
    assert {tried.score for tried in again.findings[0].tried} == {0.5}


def test_any_storage_of_optuna(search: Callable[..., Tuning], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    first = search(storage=url, out=tmp_path / "run")
    assert not (tmp_path / "run" / "study.db").exists()
    assert search(storage=url) == first  # a study is found by what it is of, with a folder and without


def test_several_methods_each_have_their_own_study(search: Callable[..., Tuning]) -> None:
    tuning = search(methods=("AdamW", "Adam"), trials=4)
    assert [(f.name, f.space.axis) for f in tuning.findings] == [
        ("AdamW", "gamma"),
        ("Adam + L2", "weight_decay"),
    ]
    assert any("λ is searched" in line for line in advice(tuning))


def test_no_decay_as_a_choice(search: Callable[..., Tuning]) -> None:
    def objective(lr: float, weight_decay: float, seed: int, report: Report) -> float:
        return 1.0 if weight_decay else 0.5

    finding = search(objective, trials=8, zero=True).findings[0]
    assert finding.best is not None
    assert finding.best.setting.weight_decay == 0
    assert finding.units is not None
    assert finding.units.gamma is None


def test_a_rim_is_told_and_widened(search: Callable[..., Tuning]) -> None:
    def slope(lr: float, weight_decay: float, seed: int, report: Report) -> float:
        return -math.log10(lr)  # the larger the better

    narrow = search(slope, trials=12, sampler="grid")
    assert narrow.findings[0].edges[0] == "lr high"
    assert any("--widen 1" in line and "AdamW=0.001:0.316" in line for line in advice(narrow))
    wide = search(slope, trials=12, sampler="grid", widen=1).findings[0]
    assert wide.space.lr == (1e-3, 0.316)
    assert len(wide.tried) == 12 + 6
    assert wide.tried[:12] == narrow.findings[0].tried
    assert wide.best is not None
    assert wide.best.setting.lr > 0.1


def test_an_objective_that_raises_is_not_swallowed(search: Callable[..., Tuning]) -> None:
    def objective(lr: float, weight_decay: float, seed: int, report: Report) -> float:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        search(objective)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 0}, "--trials must be"),
        ({"batch": 0}, "--batch must be"),
        ({"seeds": ()}, "--seeds"),
        ({"seeds": (1, 1)}, "--seeds 1,1"),
        ({"sampler": "best"}, "--sampler 'best'"),
        ({"coordinates": "beta"}, "--coordinates 'beta'"),
        ({"schedule": "warm"}, "--schedule 'warm'"),
        ({"lr": {"SGD": (1e-3, 1e-1)}}, "--lr 'SGD=...'"),
        ({"methods": ("AdamW", "AdamW")}, "each once"),
    ],
)
def test_wrong_arguments(search: Callable[..., Tuning], changes: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        search(**changes)


def test_a_task_trains_as_one_batch(workshop: Path) -> None:
    tuning = tune("tiny_task:", trials=12, batch=6, seeds=(0, 1), confirm=3, lr=(1e-2, 1.0))
    finding = tuning.findings[0]
    assert tuning.tested
    assert len(finding.tried) == 12
    assert finding.best is not None
    assert finding.units is not None
    assert finding.units.epochs == pytest.approx((finding.units.steps or 0) / 2)  # 40 examples, batches of 16
    assert len(finding.fresh) == 3
    assert tune("tiny_task:", trials=12, batch=6, seeds=(0, 1), confirm=3, lr=(1e-2, 1.0)) == tuning


def test_the_number_of_processes_changes_nothing_and_one_that_dies_is_said(workshop: Path) -> None:
    arguments: dict[str, Any] = {"trials": 14, "batch": 7, "seeds": (0, 1), "confirm": 3, "lr": (1e-2, 1.0)}
    with Parallel("tiny_task:", Settings(), "cosine", 2) as runner:
        shared = tune("tiny_task:", runner=runner, **arguments)
        runner.workers[1].process.kill()
        with pytest.raises(StudyError, match="a worker process died"):
            tune("tiny_task:", runner=runner, **arguments)
    assert shared == tune("tiny_task:", **arguments)


def test_what_cannot_be_batched_is_trained_one_by_one(workshop: Path) -> None:
    import tiny_task  # type: ignore[import-not-found]

    class Noisy:  # random numbers in the forward pass: every member would need its own
        epochs, batch_size = 2, 16
        data, loss, metric = map(staticmethod, (tiny_task.data, tiny_task.loss, tiny_task.metric))

        @staticmethod
        def model(seed: int) -> torch.nn.Module:
            return torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(4, 2))

    finding = tune(Noisy(), trials=4, batch=4, seeds=(0,), confirm=2, lr=(1e-2, 1.0)).findings[0]
    assert [tried.status for tried in finding.tried] == ["complete"] * 4
    assert len(finding.fresh) == 2


class Fake:
    """A runner that tells of epochs and keeps what it was asked."""

    def __init__(self) -> None:
        self.batches: list[list[Cell]] = []
        self.stopped: list[set[int]] = []

    def __call__(self, cells: Sequence[Cell], on_epoch: OnEpoch) -> list[Result]:
        self.batches.append(list(cells))
        alive = set(range(len(cells)))
        lost: set[int] = set()
        for epoch in (1, 2, 3):
            if epoch == 2 and len(self.batches) == 1:
                lost = {3}  # the second seed of the second trial diverges
                alive -= lost
            stop = set(on_epoch(epoch, {index: cells[index].lr for index in sorted(alive)}))
            assert stop <= alive
            alive -= stop
        self.stopped.append(set(range(len(cells))) - alive - lost)
        status = dict.fromkeys(alive, "ok") | dict.fromkeys(lost, "diverged")
        return [
            Result(cell, status.get(index, "pruned"), cell.lr if index in alive else math.nan, test=0.1)
            for index, cell in enumerate(cells)
        ]


def test_another_runner(workshop: Path) -> None:
    fake = Fake()
    tuning = tune("tiny_task:", trials=8, batch=4, seeds=(0, 1), confirm=2, runner=fake)
    assert [len(batch) for batch in fake.batches] == [8, 8, 2]
    assert [cell.seed for cell in fake.batches[0]] == [0, 1] * 4
    assert fake.stopped[0] == {2}  # its trial has diverged already
    assert [tried.status for tried in tuning.findings[0].tried].count("diverged") == 1
    assert tuning.findings[0].fresh == {2: 0.1, 3: 0.1}


def test_a_batch_that_fails_stops_the_search_and_says_why(workshop: Path) -> None:
    def failing(cells: Sequence[Cell], on_epoch: OnEpoch) -> list[Result]:
        return [Result(cell, "failed", message="no step today") for cell in cells]

    with pytest.raises(StudyError, match="no step today"):
        tune("tiny_task:", trials=8, batch=4, seeds=(0,), runner=failing)
