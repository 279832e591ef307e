"""One cell: deterministic, paired by seed, and never fatal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from adamantine.study.cell import Cell, Result
from adamantine.study.compare import Run
from adamantine.study.nets import residual_net
from adamantine.study.schedules import SCHEDULES
from adamantine.study.task import Data
from adamantine.study.trainer import Trainer, grouped

Prepare = Callable[..., Run]


def train(run: Run, method: str, lr: float = 0.01, weight_decay: float = 0.0, seed: int = 0) -> Result:
    return Trainer(run.plan, run.task).run(Cell(method, lr, weight_decay, seed))


def same(a: Result, b: Result) -> bool:
    return (a.status, a.validation, a.test, repr(a.curves)) == (
        b.status,
        b.validation,
        b.test,
        repr(b.curves),
    )


def test_the_same_cell_gives_the_same_bits_whatever_came_before(tiny: Prepare) -> None:
    run = tiny()
    first = train(run, "AdamW", weight_decay=0.1)
    torch.manual_seed(12345)
    torch.rand(7)
    again = train(run, "AdamW", weight_decay=0.1)
    assert first.status == "ok"
    assert same(first, again)
    assert not same(first, train(run, "AdamW", weight_decay=0.1, seed=1))


def test_the_callers_random_state_and_threads_are_left_alone(tiny: Prepare) -> None:
    run = tiny()
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(run, "AdamW")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_without_decay_coupled_and_decoupled_are_one(tiny: Prepare) -> None:
    run = tiny(specs=("Adam", "AdamW"))
    assert same(train(run, "Adam"), train(run, "AdamW"))
    assert not same(train(run, "Adam", weight_decay=0.5), train(run, "AdamW", weight_decay=0.5))


def test_ours_trains_as_torchs_does(tiny: Prepare) -> None:
    run = tiny(specs=("AdamW", "torch.optim:AdamW"))
    ours, torchs = train(run, "AdamW", 0.1, 0.1), train(run, "torch.optim:AdamW", 0.1, 0.1)
    assert ours.curves["train_loss"][1:] == pytest.approx(torchs.curves["train_loss"][1:], rel=1e-5)
    assert ours.curves["norm"] == pytest.approx(torchs.curves["norm"], rel=1e-5)


def test_decay_shrinks_the_weights(tiny: Prepare) -> None:
    run = tiny()
    free, decayed = train(run, "AdamW", 0.1), train(run, "AdamW", 0.1, 3.0)
    assert decayed.curves["norm"][-1] < 0.8 * free.curves["norm"][-1]
    assert decayed.curves["epoch"] == [0.0, 1.0, 2.0, 3.0]
    assert decayed.curves["norm"][0] == free.curves["norm"][0]
    assert math.isnan(decayed.curves["train_loss"][0])


def test_a_large_lr_diverges_and_stops_early(tiny: Prepare) -> None:
    run = tiny(specs=("SGD",), lrs={"": "1"})
    result = train(run, "SGD", lr=1e30)
    assert result.status == "diverged"
    assert "epoch" in result.message
    assert math.isnan(result.validation)
    assert math.isnan(result.test)


def test_weights_that_overflow_in_the_last_step_have_diverged(tiny: Prepare) -> None:
    run = tiny(specs=("SGD",), lrs={"": "1"}, settings=None)
    one_step = run.task.__class__(**{**vars(run.task), "epochs": 1, "batch_size": 40})
    result = Trainer(run.plan, one_step).run(Cell("SGD", 1e39, 0.0, 0))
    assert result.status == "diverged"
    assert result.message == "outputs or score not finite"
    assert len({len(values) for values in result.curves.values()}) == 1


def test_an_optimizer_that_raises_is_a_failed_cell(tiny: Prepare) -> None:
    spec = "tiny_optimizers:Raises"
    run = tiny(specs=(spec,))
    result = train(run, spec)
    assert (result.status, result.message) == ("failed", "RuntimeError: no step today")


def test_data_are_made_once_per_seed_as_far_as_they_fit(
    tiny: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny()
    made: list[int] = []

    def data(seed: int) -> Data:
        made.append(seed)
        return Data(*run.task.data(seed))

    def made_in_two_rounds() -> list[int]:
        made.clear()
        trainer = Trainer(run.plan, replace(run.task, data=data))
        for seed in [*range(10)] * 2:
            trainer.data(seed)
        return made

    assert made_in_two_rounds() == [*range(10)]
    one = sum(t.numel() * t.element_size() for split in run.task.data(0) for t in split)
    monkeypatch.setattr("adamantine.study.trainer.KEPT", 4 * one)
    assert made_in_two_rounds() == [*range(10), *range(4, 10)]


def test_weights_decay_and_norms_and_biases_do_not() -> None:
    model = residual_net(1, (4, 8), 10)
    groups, decaying = grouped(model, 0.1, 0.01)
    assert {p.ndim for p in decaying} == {2, 4}
    assert {g["weight_decay"] for g in groups} == {0.01, 0.0}
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    without, still_decaying = grouped(model, 0.1, 0.0)
    assert {g["weight_decay"] for g in without} == {0.0}
    assert len(still_decaying) == len(decaying)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 5, 480])
def test_schedules_start_high_and_stay_within_one(name: str, steps: int) -> None:
    schedule = SCHEDULES[name](steps)
    values = [schedule(step) for step in range(steps)]
    assert max(values) == pytest.approx(1.0)
    assert min(values) > 0
