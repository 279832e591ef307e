"""A member of a batch becomes what it would become alone, whatever its company does."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import adamantine.torch as at
from adamantine.study.cell import Cell, Result
from adamantine.study.ensemble import NotBatchable, train
from adamantine.study.ensemble.trainer import why_not_batchable
from adamantine.study.plan import Plan
from adamantine.study.task import Data, Settings, Task
from adamantine.study.tasks import load
from adamantine.study.trainer import Trainer

#: Tasks as short as they can be and still take a few dozen steps.
SHORT = {
    "digits": Settings(epochs=2, train_size=200),
    "digits-resnet": Settings(epochs=1, train_size=120),
    "digits-transformer": Settings(epochs=1, train_size=120),
    "text": Settings(epochs=1, train_size=48),
    "modular": Settings(epochs=8),
}
#: Batched products add in another order than single ones. In float64 a few dozen steps cannot make that
#: visible at this size; in float32 every step multiplies it by what the network makes of it.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-3}


def in_precision(task: Task, dtype: torch.dtype) -> Task:
    def data(seed: int) -> Data:
        train, *held_out = ((x.to(dtype) if x.is_floating_point() else x, y) for x, y in task.data(seed))
        return Data(train, *((x[:200], y[:200]) for x, y in held_out))

    return replace(task, model=lambda seed: task.model(seed).to(dtype), data=data)


def alone(task: Task, cells: list[Cell], schedule: str = "cosine") -> list[Result]:
    trainer = Trainer(Plan(task.name, Settings(), (), (0,), schedule, 0), task)
    return [trainer.run(cell) for cell in cells]


def assert_same(together: Result, alone: Result, tolerance: float) -> None:
    assert together.cell == alone.cell
    assert (together.status, together.message) == (alone.status, alone.message)
    for name, curve in alone.curves.items():
        if name != "validation":
            assert together.curves[name] == pytest.approx(curve, rel=tolerance, nan_ok=True)
    if tolerance < 1e-6:  # an error rate counts: it jumps where an output crosses another
        assert together.curves["validation"] == pytest.approx(
            alone.curves["validation"], rel=tolerance, nan_ok=True
        )
        assert together.validation == pytest.approx(alone.validation, rel=tolerance, nan_ok=True)
        assert together.test == pytest.approx(alone.test, rel=tolerance, nan_ok=True)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", SHORT)
def test_members_train_as_alone(name: str, dtype: torch.dtype) -> None:
    task = in_precision(load(name, SHORT[name]), dtype)
    cells = [
        Cell("AdamW", 3e-3, 0.1, 0),
        Cell("Adam", 1e-3, 1e-3, 1),
        Cell("SGD(momentum=0.9)", 1e-2, 1e-3, 0),
        Cell("AdamW", 1e-3, 0.0, 1),
    ]
    for ours, its in zip(train(task, cells), alone(task, cells), strict=True):
        assert ours.status == "ok"
        assert_same(ours, its, TOLERANCE[dtype])


METHODS = [
    *at.OPTIMIZERS,
    "SGD(momentum=0.9, nesterov=True)",
    "RMSprop(centered=True, momentum=0.9)",
    "Adam(amsgrad=True)",
    'AdamW(decay="independent")',
    'AdamW(decay="corrected")',
    'AdamW(decay="cautious")',
    "AdamW(max_norm=0.5)",
    'AdamW(decay="corrected", peak_lr=0.5)',
    'AdamW(decay="independent", peak_lr=0.02)',
    "torch.optim:AdamW",
    "torch.optim:SGD(momentum=0.9)",
    "torch.optim:RMSprop",
]


@pytest.mark.parametrize("method", METHODS)
def test_every_optimizer(method: str) -> None:
    task = in_precision(load("digits", Settings(epochs=2, train_size=120)), torch.float64)
    cells = [Cell(method, 1e-3, 0.0, 0), Cell(method, 3e-3, 1e-2, 1), Cell(method, 1e-3, 1e-1, 0)]
    for ours, its in zip(train(task, cells), alone(task, cells), strict=True):
        assert ours.status == "ok"
        assert_same(ours, its, 1e-9)


@pytest.mark.parametrize("state", ["'8bit'", "{'exp_avg': '4bit'}"])
def test_state_in_blocks_is_each_members_own(state: str) -> None:
    """A block would reach over members that are stacked. A code jumps where gradients differ by an ulp."""
    task = in_precision(load("digits", Settings(epochs=1, train_size=120)), torch.float64)
    cells = [Cell(f"AdamW(state={state})", lr, 0.0, 0) for lr in (1e-3, 3e-3)]
    for ours, its in zip(train(task, cells), alone(task, cells), strict=True):
        assert ours.status == "ok"
        assert ours.test == pytest.approx(its.test, abs=0.05)


@pytest.mark.parametrize("schedule", ["constant", "warmup-cosine", "wsd"])
def test_every_schedule(schedule: str) -> None:
    task = in_precision(load("digits", Settings(epochs=4, train_size=120)), torch.float64)
    cells = [Cell("AdamW", 1e-2, 0.1, 0), Cell('AdamW(decay="corrected")', 1e-2, 0.1, 0)]
    for ours, its in zip(train(task, cells, schedule=schedule), alone(task, cells, schedule), strict=True):
        assert_same(ours, its, 1e-9)


def test_a_batch_is_the_sum_of_its_parts() -> None:
    task = in_precision(load("digits", Settings(epochs=3, train_size=120)), torch.float64)
    cells = [Cell("AdamW", lr, 0.1, seed) for lr in (1e-3, 1e-2) for seed in (0, 1, 2)]
    parts = [*train(task, cells[:2]), *train(task, cells[2:5]), *train(task, cells[5:])]
    for whole, part in zip(train(task, cells), parts, strict=True):
        assert_same(whole, part, 1e-12)


@pytest.mark.parametrize("name", ["digits", "digits-transformer"])
def test_what_is_left_of_a_chunk_has_the_bits_that_it_has_in_company(name: str) -> None:
    task = load(name, SHORT[name])
    trainer = Trainer(Plan(name, Settings(), (), (0, 1), "cosine", 0), task)
    cells = [Cell(method, 1e-2, 0.1, seed) for method in ("AdamW", "SGD") for seed in (0, 1)]
    whole = trainer.run_chunk(cells)
    left = [result for cell in cells for result in trainer.run_chunk([cell])]
    assert [repr(replace(r, seconds=0.0)) for r in whole] == [repr(replace(r, seconds=0.0)) for r in left]


def test_scores_do_not_depend_on_the_company() -> None:
    digits = load("digits", Settings(epochs=2, train_size=120))
    cells = [Cell("AdamW", 1e-2, 0.1, seed) for seed in range(40)]
    task = replace(digits, metric=digits.loss)  # a mean of many digits
    whole, parts = train(task, cells), [*train(task, cells[:7]), *train(task, cells[7:])]
    assert [(r.validation, r.test) for r in whole] == [(r.validation, r.test) for r in parts]
    for ours, its in zip(train(digits, cells), alone(digits, cells), strict=True):
        # a prediction may turn, but equally many errors are the same score
        assert ours.test == its.test or abs(ours.test - its.test) > 0.9 / 797


def test_a_score_is_a_mean_over_examples_whatever_the_outputs_look_like() -> None:
    """As of a language model whose outputs and targets are flattened for the loss."""
    task = in_precision(load("digits", Settings(epochs=1, train_size=80)), torch.float64)
    twice = replace(
        task,
        model=lambda seed: nn.Sequential(task.model(seed), Doubled()),
        loss=lambda outputs, targets: task.loss(outputs, targets.repeat_interleave(2)),
        metric=lambda outputs, targets: task.metric(outputs, targets.repeat_interleave(2)),
    )
    cells = [Cell("AdamW", 1e-2, 0.1, seed) for seed in (0, 1)]
    for ours, its, plain in zip(train(twice, cells), alone(twice, cells), alone(task, cells), strict=True):
        assert_same(ours, its, 1e-9)
        assert its.validation == pytest.approx(plain.validation, rel=1e-9)


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, 0)


def test_diverged_members_are_frozen_and_touch_nobody() -> None:
    task = in_precision(load("digits", Settings(epochs=3, train_size=120)), torch.float64)
    good = [Cell("AdamW", 1e-2, 0.1, seed) for seed in (0, 1)]
    bad = [Cell("SGD(momentum=0.9)", lr, 0.0, 0) for lr in (1e30, 1e300, 3.0, 1e2, 1e3)]
    results = train(task, [bad[0], good[0], *bad[1:4], good[1], bad[4]])
    for ours, its in zip(results, alone(task, [r.cell for r in results]), strict=True):
        assert_same(ours, its, 1e-9)
    assert [r.status for r in results].count("diverged") >= 4
    kept = [r for r in results if r.cell in good]
    assert [r.status for r in kept] == ["ok", "ok"]


def test_everyone_may_diverge() -> None:
    task = load("digits", Settings(epochs=2, train_size=120))
    results = train(task, [Cell("SGD", 1e30, 0.0, seed) for seed in (0, 1)])
    assert [r.status for r in results] == ["diverged"] * 2
    assert all(math.isnan(r.test) for r in results)


def test_stopped_members_leave_and_the_others_go_on() -> None:
    task = in_precision(load("digits", Settings(epochs=4, train_size=120)), torch.float64)
    cells = [Cell("AdamW", 1e-3, 0.1, seed) for seed in range(4)]
    seen: list[tuple[int, list[int]]] = []

    def on_epoch(epoch: int, validation: Mapping[int, float]) -> Collection[int]:
        seen.append((epoch, sorted(validation)))
        return {1, 2} if epoch == 2 else ()

    results = train(task, cells, on_epoch=on_epoch)
    assert seen == [(1, [0, 1, 2, 3]), (2, [0, 1, 2, 3]), (3, [0, 3]), (4, [0, 3])]
    assert [r.status for r in results] == ["ok", "pruned", "pruned", "ok"]
    assert results[1].curves["epoch"] == [0.0, 1.0, 2.0]
    for ours, its in zip(results, alone(task, cells), strict=True):
        if ours.status == "ok":
            assert_same(ours, its, 1e-9)


class Replacing(torch.optim.SGD):
    """Gives its parameters new memory instead of writing into what they have."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.data = p.data - group["lr"] * (p.grad + group["weight_decay"] * p.data)


def test_an_optimizer_may_replace_the_memory_of_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("replacing")
    module.Replacing = Replacing  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "replacing", module)
    task = in_precision(load("digits", Settings(epochs=3, train_size=120)), torch.float64)
    settings = [(1e-2, 0.1), (1e-1, 0.0), (1e30, 0.0), (1e30, 0.1)]  # half of them leave the stack
    cells = [Cell("replacing:Replacing", *setting, seed=1) for setting in settings]
    for ours, its in zip(train(task, cells), alone(task, cells), strict=True):
        assert_same(ours, its, 1e-9)


class Langevin(torch.optim.SGD):
    """Draws random numbers, from the second step on."""

    steps = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        self.steps += 1
        for group in self.param_groups if self.steps > 1 else ():
            for p in group["params"]:
                p.data.add_(torch.randn_like(p), alpha=group["lr"])


def test_an_optimizer_that_draws_random_numbers_trains_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("langevin")
    module.Langevin = Langevin  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "langevin", module)
    task = load("digits", Settings(epochs=1, train_size=120))
    cells = [Cell("langevin:Langevin", 1e-2, 0.0, seed) for seed in (0, 1)]
    with pytest.raises(NotBatchable, match="langevin:Langevin draws random numbers"):
        train(task, cells)
    trainer = Trainer(Plan("digits", Settings(), (), (0,), "cosine", 0), task)
    for ours, its in zip(trainer.run_chunk(cells), alone(task, cells), strict=True):
        assert repr(replace(ours, seconds=0.0)) == repr(replace(its, seconds=0.0))


class Unfreezing(nn.Module):
    """Uses a layer only from its fourth training step on."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.later, self.steps = nn.Linear(64, 10), nn.Linear(64, 10), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        y: torch.Tensor = self.always(x.flatten(1))
        return y + self.later(x.flatten(1)) if self.steps > 3 else y


def test_a_parameter_that_gets_gradients_later_counts_its_own_steps() -> None:
    task = replace(load("digits", Settings(epochs=4, train_size=80)), model=lambda seed: Unfreezing())
    trainer = Trainer(Plan("digits", Settings(), (), (0,), "cosine", 0), task)
    cells = [Cell("AdamW", 1e-2, 0.1, seed) for seed in (0, 1)]
    for ours, its in zip(trainer.run_chunk(cells), alone(task, cells), strict=True):
        assert_same(ours, its, TOLERANCE[torch.float32])


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return y


def test_a_model_that_draws_random_numbers_is_trained_alone() -> None:
    task = replace(load("digits", Settings(epochs=1, train_size=80)), model=lambda seed: Noisy())
    cells = [Cell("AdamW", 1e-2, 0.0, seed) for seed in (0, 1)]
    with pytest.raises(NotBatchable):
        train(task, cells)
    trainer = Trainer(Plan("digits", Settings(), (), (0,), "cosine", 0), task)
    results = trainer.run_chunk(cells)
    for ours, its in zip(results, alone(task, cells), strict=True):
        assert repr(replace(ours, seconds=0.0)) == repr(replace(its, seconds=0.0))


@pytest.mark.parametrize("split", Data._fields)
def test_seeds_with_different_sizes_are_refused_before_any_training(split: str) -> None:
    task = load("digits", Settings(epochs=1, train_size=80))

    def data(seed: int) -> Data:
        its = Data(*task.data(seed))
        x, y = getattr(its, split)
        return its._replace(**{split: (x[: 80 - seed], y[: 80 - seed])})

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise AssertionError("trains")

    uneven = replace(task, data=data, loss=loss)
    with pytest.raises(NotBatchable, match=f"its seeds have {split} splits of different sizes"):
        train(uneven, [Cell("AdamW", 1e-2, 0.0, seed) for seed in (0, 1)])
    assert why_not_batchable(uneven, [0, 1]) == f"its seeds have {split} splits of different sizes"


class Uncopied(nn.Linear):
    """A layer with a tensor that is no leaf, as ``torch.nn.utils.weight_norm`` leaves one behind."""

    def __init__(self) -> None:
        super().__init__(64, 10)
        self.scaled = self.weight * 2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.scaled = self.weight * 2.0
        return nn.functional.linear(x.flatten(1), self.scaled, self.bias)


def test_a_model_that_cannot_be_copied_is_trained_alone_and_that_is_said() -> None:
    task = replace(load("digits", Settings(epochs=1, train_size=80)), model=lambda seed: Uncopied())
    assert "deepcopy" in why_not_batchable(task, [0, 1])
    trainer = Trainer(Plan("digits", Settings(), (), (0,), "cosine", 0), task)
    results = trainer.run_chunk([Cell("AdamW", 1e-2, 0.0, seed) for seed in (0, 1)])
    assert [result.status for result in results] == ["ok", "ok"]
