"""The course of a schedule is what really stepping it gives, and its decay is what a weight really loses."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as torch_schedulers

import adamantine.torch
from adamantine.audit import AuditError, audit
from adamantine.audit import schedule as schedule_module
from adamantine.audit.horizon import horizon
from adamantine.audit.model import Plan
from adamantine.audit.schedule import Own, course, settled
from adamantine.schedules import Cosine, Warmup
from adamantine.torch.schedulers import Scheduler, WarmRestarts

Make = Callable[[torch.optim.Optimizer], Any]

SCHEDULERS: dict[str, Make] = {
    "one cycle": lambda o: torch_schedulers.OneCycleLR(o, max_lr=1e-2, total_steps=60),
    "cosine": lambda o: torch_schedulers.CosineAnnealingLR(o, T_max=60),
    "restarts": lambda o: torch_schedulers.CosineAnnealingWarmRestarts(o, T_0=7, T_mult=2),
    "lambda": lambda o: torch_schedulers.LambdaLR(o, lambda step: 1 / (1 + step)),
    "multiplicative": lambda o: torch_schedulers.MultiplicativeLR(o, lambda step: 0.97),
    "milestones": lambda o: torch_schedulers.MultiStepLR(o, milestones=[10, 40]),
    "cyclic": lambda o: torch_schedulers.CyclicLR(
        o, base_lr=1e-4, max_lr=1e-2, step_size_up=5, cycle_momentum=False
    ),
    "sequence": lambda o: torch_schedulers.SequentialLR(
        o,
        [
            torch_schedulers.LinearLR(o, 0.1, total_iters=10),
            torch_schedulers.CosineAnnealingLR(o, T_max=50),
        ],
        [10],
    ),
    "chain": lambda o: torch_schedulers.ChainedScheduler(
        [torch_schedulers.ConstantLR(o, 0.1, total_iters=4), torch_schedulers.ExponentialLR(o, 0.95)]
    ),
    "ours": lambda o: Scheduler(o, Warmup(5, Cosine(55))),
    "ours with decay": lambda o: WarmRestarts(o, t_0=20, t_mult=2, normalized_decay=0.025),
}
STEPS = 60


def adamw(weight: torch.Tensor, lr: Any = 1e-3) -> torch.optim.AdamW:
    return torch.optim.AdamW([{"params": [weight]}, {"params": [], "lr": 5e-4}], lr=lr, weight_decay=0.1)


def played(optimizer: Any, schedulers: list[Any], plan: Plan) -> schedule_module.Course:
    return course(optimizer.param_groups, schedulers, plan, Own((optimizer,), ()))


@pytest.mark.filterwarnings("ignore:.*optimizer.step.*:UserWarning")
@pytest.mark.parametrize("tensor", [False, True], ids=["number", "tensor lr"])
@pytest.mark.parametrize("done", [0, 13])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_course_is_that_of_really_stepping(name: str, done: int, tensor: bool) -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = adamw(weight, torch.tensor(1e-3) if tensor else 1e-3)
    scheduler = SCHEDULERS[name](optimizer)
    for _ in range(done):
        scheduler.step()
    found = played(optimizer, [scheduler], Plan(STEPS, None, "step"))
    seen = []
    for step in range(done, STEPS):
        seen.append([float(group["lr"]) for group in optimizer.param_groups])
        if step < STEPS - 1:
            scheduler.step()
    assert found.at.tolist() == list(range(done, STEPS))
    assert int(found.lasts.sum()) == STEPS - done
    assert np.array_equal(found.lr, np.array(seen).T)
    assert not found.doubt


@pytest.mark.filterwarnings("ignore:.*optimizer.step.*:UserWarning")
@pytest.mark.parametrize("done", [0, 12])
@pytest.mark.parametrize(
    "name", ["one cycle", "cosine", "restarts", "lambda", "milestones", "cyclic", "ours", "ours with decay"]
)
def test_long_runs_are_read_from_the_closed_form(
    name: str, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = adamw(nn.Parameter(torch.ones(2)))
    scheduler = SCHEDULERS[name](optimizer)
    for _ in range(done):
        scheduler.step()
    plan = Plan(STEPS, None, "step")
    every = played(optimizer, [scheduler], plan)
    monkeypatch.setattr(schedule_module, "MAX_VALUES", (STEPS - done) // 3)
    monkeypatch.setattr(schedule_module, "MAX_CALLS", 1)  # which would be seen: a single call, and a doubt
    thinned = played(optimizer, [scheduler], plan)
    assert thinned.at.tolist() == list(range(done, STEPS, 3))
    assert not thinned.doubt
    # Recursion and closed form differ by rounding, which adds up over the steps.
    assert np.allclose(thinned.lr, every.lr[:, ::3], rtol=1e-12, atol=1e-15)
    assert np.allclose(thinned.weight_decay, every.weight_decay[:, ::3], rtol=1e-12)


def test_the_peak_is_the_schedules_and_not_the_constructors() -> None:
    model = nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.1)
    scheduler = torch_schedulers.LambdaLR(optimizer, lambda step: 1e-3 * min(1.0, (step + 1) / 10))
    row = audit(optimizer, model, steps=10_000, scheduler=scheduler).report
    assert row.groups[0].peak_lr == pytest.approx(1e-3)
    assert row.parameters[0].timescale == pytest.approx(10_000)


def test_a_schedule_that_draws_leaves_the_random_states() -> None:
    model = nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    scheduler = torch_schedulers.LambdaLR(
        optimizer,
        lambda step: 0.5 + 0.1 * (random.random() + np.random.rand() + float(torch.rand(()))),  # noqa: NPY002
    )
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    audit(optimizer, model, steps=100, scheduler=scheduler)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before  # noqa: NPY002


def test_what_cannot_be_played_to_its_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule_module, "MAX_CALLS", 10)
    monkeypatch.setattr(schedule_module, "MAX_VALUES", 30)
    optimizer = adamw(nn.Parameter(torch.ones(2)))
    found = played(optimizer, [SCHEDULERS["sequence"](optimizer)], Plan(STEPS, None, "step"))
    assert found.doubt is not None
    assert found.doubt.en == "only the first 10 of 60 steps were played; the rest keeps lr"
    assert int(found.lasts.sum()) == STEPS


def test_what_is_left_of_a_weight_is_what_training_leaves() -> None:
    """Zero gradients: AdamW's step is decay alone, so the weight is the product of the shrinks."""
    model = nn.Linear(3, 3, bias=False).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=1.0)
    scheduler = torch_schedulers.CosineAnnealingLR(optimizer, T_max=200)
    found = audit(optimizer, model, scheduler=scheduler)
    before = model.weight.detach().clone()
    kept = [1.0]
    for _ in range(200):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        scheduler.step()
        kept.append(float((model.weight.detach() / before).mean()))
    assert found.report.parameters[0].total_shrink == pytest.approx(kept[-1], rel=1e-12)
    (trajectory,) = found.report.trajectories
    assert list(trajectory.kept) == pytest.approx([kept[step] for step in trajectory.steps], rel=1e-12)


@pytest.mark.parametrize("mode", ["decoupled", "independent", "corrected", "cautious", "l2"])
def test_every_mode_of_ours_shrinks_as_the_row_says(mode: str) -> None:
    cls = adamantine.torch.SGD if mode == "l2" else adamantine.torch.AdamW
    weight = 1e-3 if mode == "independent" else 0.1
    model = nn.Linear(3, 3, bias=False).double()
    optimizer = cls(model.parameters(), lr=0.05, weight_decay=weight, decay=mode)
    scheduler = Scheduler(optimizer, Warmup(5, Cosine(45)))
    found = audit(optimizer, model, scheduler=scheduler)
    before = model.weight.detach().clone()
    for _ in range(50):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        scheduler.step()
    left = float((model.weight.detach() / before).mean())
    assert found.report.plan.steps == 50
    # During the warm-up, "independent" tracks the constructor's lr, which is the schedule's peak.
    assert found.report.parameters[0].total_shrink == pytest.approx(left, rel=1e-12)


def test_momentum_repeats_l2() -> None:
    """The steady state: after 1/(1-μ) = 10 steps' worth of memory, one step takes η·λ/(1-μ)."""
    model = nn.Linear(3, 3, bias=False).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-2)
    shrink = audit(optimizer, model).report.parameters[0].shrink
    assert shrink == pytest.approx(1e-4)
    for _ in range(500):
        before = model.weight.detach().clone()
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
    taken = 1 - float((model.weight.detach() / before).mean())
    # The weights of 10 steps ago, which the buffer still holds, were larger by about 10·1e-4.
    assert taken == pytest.approx(shrink, rel=2e-3)


def test_horizons() -> None:
    optimizer = adamw(nn.Parameter(torch.ones(2)))

    def num_training_steps(step: int, *, num_training_steps: int) -> float:
        return 1 - step / num_training_steps

    from functools import partial

    as_in_transformers = torch_schedulers.LambdaLR(
        optimizer, partial(num_training_steps, num_training_steps=77)
    )
    ends = {name: horizon(SCHEDULERS[name](adamw(nn.Parameter(torch.ones(2))))) for name in SCHEDULERS}
    known = {"one cycle": 60, "cosine": 60, "sequence": 60, "ours": 60}
    assert ends == {name: known.get(name) for name in SCHEDULERS}
    assert horizon(as_in_transformers) == 77


@pytest.mark.parametrize(
    ("end", "plan", "interval", "steps"),
    [
        (90, Plan(None, 1000), "epoch", 90_000),  # 90 steps would end within the first epoch
        (90_000, Plan(None, 1000), "step", 90_000),
        (90, Plan(90_000, 1000), "epoch", 90_000),
        (90_000, Plan(90_000, 1000), "step", 90_000),
        (500, Plan(5_000, 10), "epoch", 5_000),  # longer than an epoch, yet the run's length in epochs
        (100, Plan(), "step", 100),
        (100, Plan(None, 10, "epoch"), "epoch", 1_000),  # stated
    ],
)
def test_steps_or_epochs(end: int, plan: Plan, interval: str, steps: int) -> None:
    scheduler = torch_schedulers.CosineAnnealingLR(adamw(nn.Parameter(torch.ones(2))), T_max=end)
    found = settled(plan, [scheduler])
    assert (found.interval, found.steps) == (interval, steps)


def test_a_schedule_in_epochs_holds_its_lr_within_each() -> None:
    optimizer = adamw(nn.Parameter(torch.ones(2)))
    found = played(optimizer, [torch_schedulers.StepLR(optimizer, step_size=2)], Plan(60, 10, "epoch"))
    assert found.at.tolist() == [0, 10, 20, 30, 40, 50]
    assert found.lr[0].tolist() == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


class InTheMannerOfTimm:
    """timm's schedulers: called with the number of the update and of the epoch, and no torch class."""

    def __init__(self, optimizer: torch.optim.Optimizer, t_initial: int, t_in_epochs: bool) -> None:
        self.optimizer, self.t_initial, self.t_in_epochs = optimizer, t_initial, t_in_epochs

    def _write(self, t: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - t / self.t_initial)

    def step(self, epoch: int, metric: Any = None) -> None:
        if self.t_in_epochs:
            self._write(epoch)

    def step_update(self, num_updates: int, metric: Any = None) -> None:
        if not self.t_in_epochs:
            self._write(num_updates)


def test_schedulers_in_the_manner_of_timm() -> None:
    model = nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1.0)
    for scheduler, options in (
        (InTheMannerOfTimm(optimizer, 20, t_in_epochs=True), {"steps_per_epoch": 100}),
        (InTheMannerOfTimm(optimizer, 2000, t_in_epochs=False), {}),
    ):
        found = audit(optimizer, model, scheduler=scheduler, **options)
        assert found.report.plan.steps == 2000
        # A line from ηλ = 1e-3 to 0: half of 2000 steps at full strength, within a step per epoch of 20.
        left = found.report.parameters[0].total_shrink
        assert left is not None
        assert math.log(left) == pytest.approx(-1.0, rel=0.06)
    with pytest.raises(AuditError, match="counts epochs: give steps_per_epoch"):
        audit(optimizer, model, scheduler=InTheMannerOfTimm(optimizer, 20, t_in_epochs=True))


def test_metrics_to_come_are_not_foretold() -> None:
    model = nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    found = audit(optimizer, model, steps=1000, scheduler=torch_schedulers.ReduceLROnPlateau(optimizer))
    assert [f.code for f in found.findings] == ["schedule-unknown"]
    assert found.report.parameters[0].total_shrink == pytest.approx((1 - 1e-4) ** 1000)


def test_a_scheduler_that_was_not_passed_is_seen_by_its_trace() -> None:
    model = nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    torch_schedulers.OneCycleLR(optimizer, max_lr=1e-3, total_steps=100)
    found = audit(optimizer, model, steps=100)
    assert [f.code for f in found.findings] == ["schedule-unknown"]
    assert found.report.parameters[0].total_shrink is None
    assert found.report.parameters[0].timescale == pytest.approx(10_000)  # max_lr stands in the group


def test_a_model_inside_a_scheduler_is_not_copied() -> None:
    class Watching(torch_schedulers.LambdaLR):
        def __init__(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
            super().__init__(optimizer, lambda step: 1.0)
            self.model = model

    class Uncopied(nn.Linear):
        def __deepcopy__(self, memo: Any) -> Any:
            raise AssertionError("copied")

    model = Uncopied(2, 2, bias=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    found = audit(optimizer, model, steps=10_000, scheduler=Watching(optimizer, model))
    assert found.findings == ()


def test_a_scheduler_that_refuses_to_go_on_is_an_error_with_its_step() -> None:
    model = nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=5.0)
    scheduler = torch_schedulers.OneCycleLR(optimizer, max_lr=1e-3, total_steps=100)
    (finding,) = audit(optimizer, model, steps=150, scheduler=scheduler).findings
    assert (finding.code, finding.severity) == ("schedule-ends-early", "error")
    assert "Tried to step 101 times" in finding.reason.en
    found = audit(optimizer, model, scheduler=scheduler)
    assert found.findings == ()
    assert found.report.plan.steps == 100
    assert math.isclose(found.report.groups[0].peak_lr, 1e-3)
