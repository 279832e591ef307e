"""Schedules against torch's own and against the paper's numbers; the peak lr under every torch scheduler."""

from __future__ import annotations

import copy
import io
import math
import pickle
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_schedulers
from torch.optim.swa_utils import SWALR

import adamantine.torch as ours
from adamantine.rules.decay import normalized
from adamantine.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Linear,
    Schedule,
    Warmup,
    WarmupStableDecay,
    peak_lr,
)
from adamantine.torch.schedulers import Scheduler, WarmRestarts, record_peak_lr

counts = st.integers(1, 60)
fractions = st.floats(0.0, 1.0)
falls = st.one_of(
    st.builds(Constant, fractions),
    st.builds(Linear, counts, fractions),
    st.builds(Cosine, counts, fractions),
    st.builds(CosineRestarts, counts, st.integers(1, 3), fractions),
)
schedules = st.one_of(
    falls,
    st.builds(Warmup, st.integers(0, 60), falls, st.none() | fractions),
    st.builds(
        WarmupStableDecay,
        *[st.integers(0, 60)] * 3,
        st.sampled_from(["linear", "cosine", "sqrt"]),
        fractions,
    ),
)
EXAMPLES = [
    Constant(0.5),
    Linear(7, 0.1),
    Cosine(9),
    CosineRestarts(3, 2, 0.01),
    Warmup(4, Cosine(9)),
    Warmup(0, Linear(3)),
    WarmupStableDecay(2, 3, 4, "sqrt", 0.1),
]


def weights(count: int = 1) -> list[torch.nn.Parameter]:
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(count)]
    for parameter in parameters:
        parameter.grad = torch.ones(2)
    return parameters


def lrs(optimizer: torch.optim.Optimizer, scheduler: Any, steps: int, group: int = 0) -> list[float]:
    """The lr of each of ``steps`` updates."""
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[group]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


# Pure functions


@given(schedules, st.floats(0, 1e6))
def test_multipliers_lie_between_0_and_1(schedule: Schedule, step: float) -> None:
    assert 0.0 <= schedule(step) <= 1.0


@given(st.one_of(st.builds(Linear, counts, fractions), st.builds(Cosine, counts, fractions)))
def test_falls_begin_at_1_and_stay_at_the_end(schedule: Linear | Cosine) -> None:
    assert schedule(0) == 1.0
    assert schedule(schedule.steps) == schedule.end == schedule(schedule.steps + 1000)
    values = [schedule(step) for step in range(schedule.steps + 2)]
    assert all(later <= earlier for earlier, later in pairwise(values))


@given(st.integers(1, 60), falls, st.none() | fractions)
def test_warmup_is_continuous_where_it_joins(steps: int, then: Schedule, start: float | None) -> None:
    plan = Warmup(steps, then, start)
    assert plan(steps) == then(0)
    assert plan(steps - 1e-9) == pytest.approx(then(0), abs=1e-8)
    assert all(plan(steps + k) == then(k) for k in range(70))
    rise = [plan(step) for step in range(steps + 1)]
    assert rise[0] == pytest.approx(then(0) * (1 / (steps + 1) if start is None else start))
    assert all(earlier <= later + 1e-15 for earlier, later in pairwise(rise))


@pytest.mark.parametrize("then", EXAMPLES[:4], ids=repr)
def test_zero_length_warmup_is_no_warmup(then: Schedule) -> None:
    assert [Warmup(0, then)(step) for step in range(20)] == [then(step) for step in range(20)]
    wsd = WarmupStableDecay(0, 0, 5)
    assert [wsd(step) for step in range(7)] == [Linear(5)(step) for step in range(7)]


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 40), fractions)
@pytest.mark.parametrize("shape", ["linear", "cosine", "sqrt"])
def test_warmup_stable_decay_joins(shape: Any, warmup: int, stable: int, decay: int, end: float) -> None:
    plan = WarmupStableDecay(warmup, stable, decay, shape, end)
    down = warmup + stable
    assert plan(0) == pytest.approx(1 / (warmup + 1))
    assert {plan(step) for step in range(warmup, down + 1)} == {1.0}
    assert plan(down + 1e-12) == pytest.approx(1.0, abs=1e-5)  # √x has an infinite slope there
    assert plan(down + decay) == plan(down + decay + 99) == end
    values = [plan(step) for step in range(down, down + decay + 1)]
    assert all(later <= earlier for earlier, later in pairwise(values))


def test_shapes_of_the_decay_at_a_quarter() -> None:
    found = {shape: WarmupStableDecay(0, 2, 4, shape)(3) for shape in ("linear", "cosine", "sqrt")}
    assert found == {"linear": 0.75, "cosine": (1 + math.cos(math.pi / 4)) / 2, "sqrt": 0.5}


def test_without_a_decay_phase_nothing_falls() -> None:
    assert {WarmupStableDecay(0, 2, 0)(step) for step in (0, 2, 3, 1000)} == {1.0}


@given(counts, st.integers(1, 3), st.integers(0, 3))
def test_restarts_come_exactly_at_the_sums_of_lengths(t_0: int, t_mult: int, run: int) -> None:
    plan = CosineRestarts(t_0, t_mult)
    start = sum(t_0 * t_mult**k for k in range(run))
    length = t_0 * t_mult**run
    assert plan(start) == 1.0
    assert plan.run_length(start) == plan.run_length(start + length - 1) == length
    assert plan(start + length - 1e-9) == pytest.approx(0.0, abs=1e-8)
    assert plan(start + length) == 1.0
    assert plan(start + length / 2) == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
def test_schedules_pickle_print_and_compare_by_value(schedule: Schedule) -> None:
    assert pickle.loads(pickle.dumps(schedule)) == schedule == copy.deepcopy(schedule)
    assert eval(repr(schedule)) == schedule
    with pytest.raises(AttributeError):
        schedule.steps = 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("step", [-1, -0.5, float("nan")])
@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
def test_steps_count_from_0(schedule: Schedule, step: float) -> None:
    with pytest.raises(ValueError, match=f"Invalid step: {step}"):
        schedule(step)


@pytest.mark.parametrize("t_mult", [1, 2])
def test_restarts_have_no_value_at_infinity(t_mult: int) -> None:
    plan = CosineRestarts(3, t_mult)
    for ask in (plan, plan.run_length):
        with pytest.raises(ValueError, match="Invalid step: inf"):
            ask(math.inf)
    assert Warmup(2, Cosine(3, end=0.5))(math.inf) == 0.5


def test_numbers_of_numpy_print_and_compare_as_pythons() -> None:
    """The plan in a checkpoint is text: NumPy's counts, or ``end=0``, must not look like another plan."""
    given, plain = Warmup(np.int64(2), Cosine(np.int32(9), np.float64(0.0))), Warmup(2, Cosine(9))
    assert given == plain
    assert repr(given) == repr(plain) == repr(Warmup(2, Cosine(9, end=0)))
    assert CosineRestarts(np.int64(3), np.int64(2)).run_length(4) == 6


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: Linear(0), ValueError, "Invalid steps: 0"),
        (lambda: Cosine(2.5), TypeError, "Invalid steps: 2.5"),
        (lambda: Cosine(True), TypeError, "Invalid steps: True"),
        (lambda: Cosine(5, end=1.1), ValueError, "Invalid end: 1.1"),
        (lambda: Linear(5, end=float("nan")), ValueError, "Invalid end: nan"),
        (lambda: Constant(-0.1), ValueError, "Invalid value: -0.1"),
        (lambda: CosineRestarts(5, 0), ValueError, "Invalid t_mult: 0"),
        (lambda: Warmup(-1, Constant()), ValueError, "Invalid steps: -1"),
        (lambda: Warmup(1, Constant(), start=2.0), ValueError, "Invalid start: 2.0"),
        (lambda: Warmup(1, 1.0), TypeError, "Invalid then: 1.0"),
        (lambda: WarmupStableDecay(1, -2, 3), ValueError, "Invalid stable: -2"),
        (lambda: WarmupStableDecay(1, 2, 3, "square"), ValueError, "Invalid shape: 'square'"),
    ],
)
def test_bad_arguments_are_named(build: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        build()


# Against torch's schedulers

PAIRS: list[tuple[Schedule, Callable[[Any], Any], int]] = [
    (Constant(), lambda o: torch_schedulers.ConstantLR(o, factor=1.0), 30),
    (Linear(20, end=0.1), lambda o: torch_schedulers.LinearLR(o, 1.0, 0.1, total_iters=20), 30),
    (Linear(20), lambda o: torch_schedulers.PolynomialLR(o, total_iters=20, power=1.0), 30),
    (Cosine(20, end=0.01), lambda o: torch_schedulers.CosineAnnealingLR(o, 20, eta_min=0.01 * 0.3), 21),
    (
        CosineRestarts(5, 2, end=0.1),
        lambda o: torch_schedulers.CosineAnnealingWarmRestarts(o, 5, 2, eta_min=0.1 * 0.3),
        80,
    ),
    (CosineRestarts(4), lambda o: torch_schedulers.CosineAnnealingWarmRestarts(o, 4), 30),
    (
        Warmup(10, Constant(), start=0.1),
        lambda o: torch_schedulers.LinearLR(o, start_factor=0.1, total_iters=10),
        30,
    ),
    (
        Warmup(10, Cosine(20), start=0.25),
        lambda o: torch_schedulers.SequentialLR(
            o,
            [
                torch_schedulers.LinearLR(o, start_factor=0.25, total_iters=10),
                torch_schedulers.CosineAnnealingLR(o, 20),
            ],
            milestones=[10],
        ),
        31,
    ),
]


@pytest.mark.parametrize(("schedule", "build", "steps"), PAIRS, ids=[repr(pair[0]) for pair in PAIRS])
def test_same_learning_rates_as_torch(schedule: Schedule, build: Callable[[Any], Any], steps: int) -> None:
    """torch updates most of these recursively, so the comparison allows for its accumulated rounding."""
    theirs, mine = (torch.optim.SGD(weights(), lr=0.3) for _ in range(2))
    expected = lrs(theirs, build(theirs), steps)
    found = lrs(mine, Scheduler(mine, schedule), steps)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-14)
    assert found == [0.3 * schedule(step) for step in range(steps)], "closed form: no rounding accumulates"


# The scheduler


@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.AdamW, ours.AdamW, ours.Lion])
def test_drives_any_optimizer_per_group(cls: Any) -> None:
    a, b = weights(2)
    optimizer = cls([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.01}])
    scheduler = Scheduler(optimizer, [Linear(4), Constant(0.5)])
    for step in range(6):
        assert [g["lr"] for g in optimizer.param_groups] == [0.1 * Linear(4)(step), 0.01 * 0.5]
        assert scheduler.get_last_lr() == [g["lr"] for g in optimizer.param_groups]
        optimizer.step()
        scheduler.step()
    with pytest.raises(ValueError, match="1 schedules for 2 parameter groups"):
        Scheduler(optimizer, [Linear(4)])


def test_a_group_that_joins_later_follows() -> None:
    a, b = weights(2)
    optimizer = ours.AdamW([a], lr=0.1)
    scheduler = Scheduler(optimizer, Linear(10))
    lrs(optimizer, scheduler, 4)
    optimizer.add_param_group({"params": [b], "lr": 1.0})
    assert lrs(optimizer, scheduler, 3, group=1) == [1.0, 0.5, 0.4]
    assert [peak_lr(g) for g in optimizer.param_groups] == [0.1, 1.0]


def test_a_tensor_lr_is_written_in_place() -> None:
    lr = torch.tensor(0.5)
    optimizer = torch.optim.SGD(weights(), lr=lr)
    assert lrs(optimizer, Scheduler(optimizer, Linear(4)), 3) == [0.5, 0.375, 0.25]
    assert optimizer.param_groups[0]["lr"] is lr
    assert peak_lr(optimizer.param_groups[0]) == 0.5


def test_torch_warns_of_the_wrong_order() -> None:
    scheduler = Scheduler(torch.optim.SGD(weights(), lr=0.1), Linear(4))
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()


def test_inside_torchs_sequential_and_chained_schedulers() -> None:
    optimizer = torch.optim.SGD(weights(), lr=1.0)
    parts = [Scheduler(optimizer, Constant(0.5)), Scheduler(optimizer, Linear(4))]
    chain = torch_schedulers.SequentialLR(optimizer, parts, milestones=[2])
    assert lrs(optimizer, chain, 6) == [0.5, 0.5, 1.0, 0.75, 0.5, 0.25]


def in_turn(first: Any, second: Any) -> Any:
    return torch_schedulers.SequentialLR(first.optimizer, [first, second], milestones=[4])


RESUMED: dict[str, Callable[[Any], Any]] = {
    "plain": lambda o: Scheduler(o, Warmup(3, Cosine(20))),
    "restarts": lambda o: WarmRestarts(o, 2, 2, normalized_decay=0.025, warmup=1),
    "ours, then ours": lambda o: in_turn(Scheduler(o, Constant(0.5)), Scheduler(o, Linear(40))),
    "ours, then torch's": lambda o: in_turn(
        Scheduler(o, Linear(40)), torch_schedulers.ExponentialLR(o, gamma=0.9)
    ),
    "LinearLR, then restarts": lambda o: in_turn(
        torch_schedulers.LinearLR(o, 0.1, total_iters=4), WarmRestarts(o, 2, 2, normalized_decay=0.025)
    ),
    "ours times torch's": lambda o: torch_schedulers.ChainedScheduler(
        [Scheduler(o, Linear(40)), torch_schedulers.ExponentialLR(o, gamma=0.9)]
    ),
}


def resumed(make: Callable[[], tuple[Any, Any]], order: str, steps: int) -> list[Any]:
    """Some steps, then everything through a file into fresh objects, then seven more."""
    optimizer, scheduler = make()
    lrs(optimizer, scheduler, steps)
    buffer = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    optimizer, scheduler = make()
    for name in order.split():
        {"optimizer": optimizer, "scheduler": scheduler}[name].load_state_dict(saved[name])
    return follow(optimizer, scheduler, 7)


def follow(optimizer: Any, scheduler: Any, steps: int) -> list[Any]:
    found = []
    for _ in range(steps):
        found.append([(g["lr"], g["weight_decay"], peak_lr(g)) for g in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("order", ["optimizer scheduler", "scheduler optimizer"])
@pytest.mark.parametrize("cls", [torch.optim.AdamW, ours.AdamW])
@pytest.mark.parametrize("steps", [2, 7])
@pytest.mark.parametrize("kind", RESUMED)
def test_resumes_exactly_whatever_is_loaded_first(kind: str, steps: int, cls: Any, order: str) -> None:
    """After 2 steps the second member of a SequentialLR is still to come, after 7 the first is over."""

    def make() -> tuple[Any, Any]:
        a, b = weights(2)
        optimizer = cls([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.01}], weight_decay=0.1)
        return optimizer, RESUMED[kind](optimizer)

    optimizer, scheduler = make()
    lrs(optimizer, scheduler, steps)
    assert resumed(make, order, steps) == follow(optimizer, scheduler, 7)


def test_the_scheduler_alone_restores_lr_and_decay() -> None:
    """As in torch, the base lr is the saved one, whatever the new optimizer was built with."""

    def make(lr: float) -> tuple[Any, Any]:
        optimizer = torch.optim.AdamW(weights(), lr=lr, weight_decay=0.1)
        return optimizer, WarmRestarts(optimizer, 4, 2, normalized_decay=0.025)

    optimizer, scheduler = make(0.01)
    lrs(optimizer, scheduler, 6)
    other, fresh = make(0.5)
    fresh.load_state_dict(scheduler.state_dict())
    assert follow(other, fresh, 9) == follow(optimizer, scheduler, 9)
    assert fresh.base_lrs == [0.01]


def test_tensors_in_groups_are_written_in_place() -> None:
    lr, decay = torch.tensor(0.5), torch.tensor(0.1)
    optimizer = torch.optim.AdamW(weights(), lr=lr, weight_decay=decay)
    scheduler = WarmRestarts(optimizer, 4, normalized_decay=0.025)
    lrs(optimizer, scheduler, 2)
    saved = copy.deepcopy(scheduler.state_dict())
    lr.fill_(7.0)
    decay.fill_(7.0)
    scheduler.load_state_dict(saved)
    group = optimizer.param_groups[0]
    assert group["lr"] is lr
    assert group["weight_decay"] is decay
    assert lr.item() == 0.25
    assert decay.item() == pytest.approx(0.025 / 2 / 0.5)


def test_resuming_under_another_plan_is_an_error_with_the_way_out() -> None:
    optimizer = torch.optim.SGD(weights(), lr=0.1)
    saved = Scheduler(optimizer, Cosine(10)).state_dict()
    other = Scheduler(torch.optim.SGD(weights(), lr=0.1), Cosine(20))
    with pytest.raises(ValueError, match=r"Cosine\(steps=10.*Cosine\(steps=20.*delete 'plan'"):
        other.load_state_dict(saved)
    del saved["plan"]
    other.load_state_dict(saved)
    two = torch.optim.SGD([{"params": [p]} for p in weights(2)], lr=0.1)
    with pytest.raises(ValueError, match="drove 1 parameter groups, this optimizer has 2"):
        Scheduler(two, Cosine(10)).load_state_dict(saved)


def test_the_last_epoch_of_torch() -> None:
    """torch's other way to go on: ``last_epoch`` and groups that know their ``initial_lr``."""
    optimizer = torch.optim.SGD([{"params": weights(), "initial_lr": 1.0}], lr=0.3)
    assert lrs(optimizer, Scheduler(optimizer, Linear(10), last_epoch=3), 2) == [0.6, 0.5]


# Warm restarts with normalized decay


def test_normalized_decay_of_the_paper() -> None:
    """App. B test vectors: λ_norm 0.025, B 128, N 50 000; T 100 and, at T 1500, 3.27e-5."""
    for epochs, digits, expected in [(100, 4, "0.0001265"), (1500, 3, "3.27e-05")]:
        optimizer = ours.AdamW(weights(), lr=1e-3, weight_decay=0.5, decay="independent")
        WarmRestarts(optimizer, epochs, normalized_decay=0.025, updates_per_step=50_000 / 128)
        found = optimizer.param_groups[0]["weight_decay"]
        assert f"{found:.{digits}g}" == expected
        assert found == pytest.approx(
            normalized(0.025, batch_size=128, examples=50_000, epochs=epochs), rel=1e-14
        )


def test_restarts_write_lambda_per_run_in_the_unit_of_the_mode() -> None:
    a, b, c, d = weights(4)
    optimizer = ours.AdamW(
        [
            {"params": [a], "decay": "independent", "lr": 0.1},
            {"params": [b], "decay": "decoupled", "lr": 0.01},
            {"params": [c], "weight_decay": 0.0},
            {"params": [d], "decay": "none"},
        ],
        weight_decay=0.5,
    )
    scheduler = WarmRestarts(optimizer, t_0=4, t_mult=4, normalized_decay=0.05, warmup=3)
    found = []
    for _ in range(3 + 4 + 16 + 1):
        found.append([g["weight_decay"] for g in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    first, second, third = (0.05 / math.sqrt(length) for length in (4, 16, 64))
    assert found[0] == found[6] == pytest.approx([first, first / 0.01, 0.0, 0.5])
    assert found[7] == found[22] == pytest.approx([second, second / 0.01, 0.0, 0.5])
    assert found[23] == pytest.approx([third, third / 0.01, 0.0, 0.5])


def test_independent_and_decoupled_restarts_train_alike() -> None:
    """λ per run, converted by the peak, is the same shrinkage in either unit."""
    ends = []
    for mode in ("independent", "decoupled"):
        (weight,) = weights()
        optimizer = ours.AdamW([weight], lr=0.1, weight_decay=0.5, decay=mode)
        scheduler = WarmRestarts(optimizer, 3, 2, normalized_decay=0.3, warmup=2)
        lrs(optimizer, scheduler, 20)
        ends.append(weight.detach().clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=0)
    assert not torch.equal(ends[0], torch.ones(2))


def test_torchs_adamw_counts_as_decoupled() -> None:
    optimizer = torch.optim.AdamW(weights(), lr=0.01, weight_decay=0.5)
    WarmRestarts(optimizer, 25, normalized_decay=0.05)
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.05 / 5 / 0.01)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: torch.optim.Adam(weights(), weight_decay=0.1), "group 0 of Adam adds L2"),
        (lambda: torch.optim.SGD(weights(), weight_decay=0.1), "group 0 of SGD adds L2"),
        (lambda: ours.Adam(weights(), weight_decay=0.1), "decay='independent' or 'decoupled'"),
        (lambda: ours.AdamW(weights(), weight_decay=0.0), "no parameter group has weight_decay > 0"),
    ],
)
def test_restarts_refuse_l2_and_nothing_to_decay(build: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        WarmRestarts(build(), 10, normalized_decay=0.025)


def test_restarts_name_the_group_whose_lr_is_0() -> None:
    a, b = weights(2)
    groups = [{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.0}]
    with pytest.raises(ValueError, match=r"group 1 decays but its highest lr is 0.*weight_decay=0"):
        WarmRestarts(ours.AdamW(groups, weight_decay=0.1), 10, normalized_decay=0.025)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"t_0": 1, "normalized_decay": 3.0}, "normalized_decay: 3.0.*t_0=1 .*fraction 3 .*lengthen t_0"),
        ({"t_0": 9, "normalized_decay": 3.0}, "fraction 1 of a weight"),
        ({"t_0": 9, "normalized_decay": -1.0}, "Invalid normalized_decay: -1.0"),
        ({"t_0": 9, "normalized_decay": 1.0, "updates_per_step": 0}, "Invalid updates_per_step: 0"),
    ],
)
@pytest.mark.parametrize("mode", ["independent", "decoupled"])
def test_restarts_refuse_a_decay_that_removes_whole_weights(
    mode: str, options: dict[str, Any], text: str
) -> None:
    optimizer = ours.AdamW(weights(), lr=1e-3, weight_decay=0.1, decay=mode)
    with pytest.raises(ValueError, match=text):
        WarmRestarts(optimizer, **options)


# Peak lr


def tracked(**groups: Any) -> Any:
    """Ours keeps constructed_lr and highest_lr; the peak then matters for independent decay."""
    return ours.AdamW(weights(), decay="independent", weight_decay=0.01, **{"lr": 1e-3, **groups})


def sequential(optimizer: Any) -> Any:
    warm = torch_schedulers.LinearLR(optimizer, start_factor=0.01, total_iters=5)
    return torch_schedulers.SequentialLR(
        optimizer, [warm, torch_schedulers.CosineAnnealingLR(optimizer, 15)], milestones=[5]
    )


PLANNED: dict[str, tuple[Callable[[Any], Any], float]] = {
    "OneCycleLR": (lambda o: torch_schedulers.OneCycleLR(o, max_lr=0.02, total_steps=20), 0.02),
    "OneCycleLR three phases": (
        lambda o: torch_schedulers.OneCycleLR(o, max_lr=0.02, total_steps=20, three_phase=True),
        0.02,
    ),
    "LinearLR": (lambda o: torch_schedulers.LinearLR(o, start_factor=0.01, total_iters=8), 1e-3),
    "SequentialLR": (sequential, 1e-3),
    "ChainedScheduler": (
        lambda o: torch_schedulers.ChainedScheduler(
            [torch_schedulers.LinearLR(o, 0.1, total_iters=4), torch_schedulers.ExponentialLR(o, 1.0)]
        ),
        1e-3,
    ),
    "LambdaLR": (lambda o: torch_schedulers.LambdaLR(o, lambda t: min(1.0, (t + 1) / 7)), 1e-3),
    "CosineAnnealingWarmRestarts": (lambda o: torch_schedulers.CosineAnnealingWarmRestarts(o, 4), 1e-3),
    "StepLR": (lambda o: torch_schedulers.StepLR(o, 3), 1e-3),
    "PolynomialLR": (lambda o: torch_schedulers.PolynomialLR(o, 12), 1e-3),
    "SWALR upwards": (lambda o: SWALR(o, swa_lr=1e-2, anneal_epochs=4), 1e-2),
    "SWALR downwards": (lambda o: SWALR(o, swa_lr=1e-4, anneal_epochs=4), 1e-3),
    "ours": (lambda o: Scheduler(o, Warmup(6, Cosine(14))), 1e-3),
}
HIDDEN: dict[str, tuple[Callable[[Any], Any], float]] = {
    "CyclicLR": (lambda o: torch_schedulers.CyclicLR(o, base_lr=1e-5, max_lr=0.02, step_size_up=5), 0.02),
    "LambdaLR upwards": (lambda o: torch_schedulers.LambdaLR(o, lambda t: float(min(t + 1, 8))), 8e-3),
    "LambdaLR downwards": (lambda o: torch_schedulers.LambdaLR(o, lambda t: 0.01 / (t + 1)), 1e-5),
    "MultiplicativeLR": (lambda o: torch_schedulers.MultiplicativeLR(o, lambda t: 2.0), 1e-3 * 2**19),
    "Sequential with CyclicLR": (
        lambda o: torch_schedulers.SequentialLR(
            o,
            [
                torch_schedulers.ConstantLR(o, 0.5, total_iters=3),
                torch_schedulers.CyclicLR(o, base_lr=1e-5, max_lr=0.02, step_size_up=5),
            ],
            milestones=[3],
        ),
        0.02,
    ),
}


@pytest.mark.parametrize("name", PLANNED)
def test_the_peak_is_known_before_the_first_step_and_stays(name: str) -> None:
    build, expected = PLANNED[name]
    optimizer = tracked()
    scheduler = build(optimizer)
    group = optimizer.param_groups[0]
    highest = 0.0
    for _ in range(20):
        assert peak_lr(group) == pytest.approx(expected, rel=1e-12)
        highest = max(highest, group["lr"])
        optimizer.step()
        scheduler.step()
    assert highest == pytest.approx(expected, rel=1e-12), "the schedule does reach what was foretold"


@pytest.mark.parametrize("name", [*PLANNED, *HIDDEN])
def test_playing_forward_finds_every_peak_and_moves_nothing(name: str) -> None:
    build, expected = {**PLANNED, **HIDDEN}[name]
    optimizer, twin = tracked(), tracked()
    scheduler = build(optimizer)
    before = copy.deepcopy(scheduler.state_dict())
    betas, lr = optimizer.param_groups[0]["betas"], optimizer.param_groups[0]["lr"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert record_peak_lr(scheduler, steps=20) == pytest.approx([expected], rel=1e-12)
    assert optimizer.param_groups[0]["peak_lr"] == peak_lr(optimizer.param_groups[0])
    assert (optimizer.param_groups[0]["betas"], optimizer.param_groups[0]["lr"]) == (betas, lr)
    assert repr(scheduler.state_dict()) == repr(before)
    assert lrs(optimizer, scheduler, 20) == lrs(twin, build(twin), 20)


def test_cyclic_lr_does_not_tell_its_peak() -> None:
    """Why record_peak_lr exists: no group key holds CyclicLR's max_lr."""
    optimizer = tracked()
    HIDDEN["CyclicLR"][0](optimizer)
    assert 0.02 not in optimizer.param_groups[0].values()
    assert peak_lr(optimizer.param_groups[0]) == 1e-5


def test_playing_forward_from_the_middle_remembers_what_was_reached() -> None:
    optimizer = tracked()
    scheduler = torch_schedulers.CyclicLR(optimizer, base_lr=1e-5, max_lr=0.02, step_size_up=4, gamma=0.5)
    lrs(optimizer, scheduler, 6)
    assert record_peak_lr(scheduler, steps=1) == pytest.approx([0.02])


class Trainer:
    """What a LambdaLR may hang on to: neither to be copied nor, for the generator, able to be."""

    def __init__(self) -> None:
        self.batches: Iterator[int] = (batch for batch in range(3))

    def __deepcopy__(self, memo: object) -> Trainer:
        raise AssertionError("a trainer holds the model and the data; it must not be copied")

    def rise(self, step: int) -> float:
        return float(step + 1)


class Counting:
    """A callable object: torch counts its attributes as the scheduler's state."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, step: int) -> float:
        self.calls += 1
        return 1.0 + step


def test_playing_forward_copies_no_trainer_and_restores_callable_objects() -> None:
    optimizer, counting = tracked(), Counting()
    assert record_peak_lr(torch_schedulers.LambdaLR(optimizer, Trainer().rise), steps=5) == [5e-3]
    scheduler = torch_schedulers.LambdaLR(tracked(), counting)
    assert record_peak_lr(scheduler, steps=5) == [5e-3]
    assert counting.calls == 1


def test_playing_forward_puts_all_back_after_an_error() -> None:
    """OneCycleLR raises past its last step. Tensors keep their identity."""
    lr = torch.tensor(0.5)
    optimizer = tracked(lr=lr)
    scheduler = torch_schedulers.OneCycleLR(optimizer, max_lr=0.02, total_steps=20)
    before, saved = dict(optimizer.param_groups[0]), copy.deepcopy(scheduler.state_dict())
    value = lr.item()
    with pytest.raises(ValueError, match="total"):
        record_peak_lr(scheduler, steps=99)
    assert optimizer.param_groups[0] == before
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == value
    assert repr(scheduler.state_dict()) == repr(saved)


def test_stating_the_peak_begins_a_new_phase() -> None:
    optimizer = tracked()
    lrs(optimizer, torch_schedulers.OneCycleLR(optimizer, max_lr=1.0, total_steps=5), 4)
    group = optimizer.param_groups[0]
    group["lr"] = group["initial_lr"] = 1e-3
    assert peak_lr(group) == 1.0
    group["highest_lr"] = 0.0
    assert record_peak_lr(torch_schedulers.CosineAnnealingLR(optimizer, 10), steps=10) == [1e-3]
    assert peak_lr(group) == 1e-3


def test_playing_forward_has_limits() -> None:
    optimizer = tracked()
    with pytest.raises(TypeError, match="metrics"):
        record_peak_lr(torch_schedulers.ReduceLROnPlateau(optimizer), steps=5)
    with pytest.raises(ValueError, match="Invalid steps: 0"):
        record_peak_lr(Scheduler(optimizer, Constant()), steps=0)


def test_peaks_of_layer_wise_learning_rates() -> None:
    a, b = weights(2)
    optimizer = ours.AdamW([{"params": [a], "lr": 1e-4}, {"params": [b], "lr": 1e-3}], decay="independent")
    scheduler = torch_schedulers.OneCycleLR(optimizer, max_lr=[0.01, 0.1], total_steps=10)
    assert [peak_lr(g) for g in optimizer.param_groups] == [0.01, 0.1]
    lrs(optimizer, scheduler, 9)
    assert [peak_lr(g) for g in optimizer.param_groups] == [0.01, 0.1]
    other = ours.AdamW([{"params": [a], "lr": 1e-4}, {"params": [b], "lr": 1e-3}], decay="independent")
    sequential(other)
    assert [peak_lr(g) for g in other.param_groups] == [1e-4, 1e-3]


def test_the_peak_survives_a_checkpoint() -> None:
    first = tracked()
    scheduler = torch_schedulers.OneCycleLR(first, max_lr=0.02, total_steps=20)
    lrs(first, scheduler, 15)
    second = tracked(lr=0.5)
    second.load_state_dict(first.state_dict())
    assert peak_lr(second.param_groups[0]) == 0.02


def test_a_learning_rate_set_by_hand() -> None:
    optimizer = tracked()
    group = optimizer.param_groups[0]
    for lr in (1e-5, 5e-4, 1e-3, 1e-4):  # a hand-made warm-up below the constructor's lr
        group["lr"] = lr
        assert peak_lr(group) == 1e-3
        optimizer.step()
    group["lr"] = 0.2
    assert peak_lr(group) == 0.2, "the present lr counts before a step has used it"
    optimizer.step()
    group["lr"] = 1e-6
    assert peak_lr(group) == 0.2


def test_order_of_sources() -> None:
    group: dict[str, Any] = {"lr": 1.0, "highest_lr": 0.0}
    assert peak_lr(group) == 1.0
    for key, value in [("constructed_lr", 2.0), ("initial_lr", 3.0), ("max_lr", 4.0), ("highest_lr", 5.0)]:
        group[key] = value
        assert peak_lr(group) == value
    group["peak_lr"] = None
    assert peak_lr(group) == 5.0
    group["peak_lr"] = torch.tensor(0.25)
    assert peak_lr(group) == 0.25
    with pytest.raises(KeyError, match="state peak_lr"):
        peak_lr({"weight_decay": 0.1})


def test_tensor_learning_rates_give_a_float() -> None:
    optimizer = tracked(lr=torch.tensor(0.5))
    torch_schedulers.LinearLR(optimizer, start_factor=0.5, total_iters=4)
    found = peak_lr(optimizer.param_groups[0])
    assert type(found) is float
    assert found == 0.5
