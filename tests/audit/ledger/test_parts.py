"""When the ledger measures, which elements it reads, and what it reads of tensors that are not plain."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from adamantine.audit.ledger import Ledger
from adamantine.audit.ledger_pace import CHECKING, MEASURING, Pace
from adamantine.audit.ledger_sample import Sample, arrays, together

# --- pace


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def train(pace: Pace, clock: Clock, steps: int, iteration: float, costs: dict[str, float]) -> dict[str, int]:
    """How often each work is done, in so many steps of this length."""
    done = {"measure": 0, "check": 0}
    for step in range(1, steps + 1):
        clock.now += iteration
        pace.wake()  # before the step
        measures = pace.measures(step)
        clock.now += costs.get("measure", 0.0) / 2 if measures else 0.0
        pace.sleep()
        clock.now += iteration / 10  # the step
        pace.wake()  # after it
        work = "measure" if measures else "check" if pace.checks() else "nothing"
        clock.now += costs.get(work, 0.0) / (2 if measures else 1)
        pace.settle(work)
        pace.sleep()
        if work in done:
            done[work] += 1
    return done


@pytest.mark.parametrize("iteration", [0.001, 0.1])
@pytest.mark.parametrize("cost", [0.0005, 0.01])
def test_its_own_pace_keeps_to_its_share_and_uses_it(iteration: float, cost: float) -> None:
    """Of each kind of work: never more than its share and one piece; not less than half of it."""
    clock = Clock()
    steps = 20_000
    done = train(Pace(None, clock), clock, steps, iteration, {"measure": cost, "check": cost / 10})
    for work, share, price in (("measure", MEASURING, cost), ("check", CHECKING, cost / 10)):
        allowed = share * steps * 1.1 * iteration / price
        assert done[work] <= allowed + 1
        assert done[work] >= min(0.5 * allowed, 0.5 * steps - done["measure"])


def test_a_pause_buys_no_burst() -> None:
    clock = Clock()
    pace = Pace(None, clock)
    costs = {"measure": 0.01}
    train(pace, clock, 1000, 0.01, costs)
    clock.now += 3600.0
    after = train(pace, clock, 100, 0.01, costs)
    assert after["measure"] <= 100 * 0.01 * MEASURING / 0.01 + 1


# --- elements


def test_a_sample_is_the_same_every_time_and_close_to_the_whole() -> None:
    """4096 of a million normal numbers: √(1/8192) = 1.1 % of standard error; 4 of them."""
    p = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0))
    first, again = (Sample(p, most=4096, seed=3) for _ in range(2))
    assert torch.equal(first.of(p), again.of(p))
    assert first.of(p).square().mean().sqrt() == pytest.approx(1.0, abs=0.044)
    assert len(first) == 4096


def test_same_elements_of_any_layout() -> None:
    """The gradient of a channels-last weight may be contiguous, and the other way round."""
    p = torch.randn(64, 32, 3, 3)
    sample = Sample(p, most=100, seed=0)
    assert torch.equal(sample.of(p), sample.of(p.to(memory_format=torch.channels_last)))
    assert torch.equal(sample.of(p), sample.of(p.transpose(0, 3).contiguous().transpose(0, 3)))


@pytest.mark.parametrize("most", [7, 1000])
def test_sparse_gradients_are_read_as_their_dense_selves(most: int) -> None:
    rows = torch.tensor([[3, 9, 3]])
    grad = torch.sparse_coo_tensor(rows, torch.randn(3, 5), (12, 5), check_invariants=True)
    sample = Sample(torch.zeros(12, 5), most=most, seed=0)
    assert torch.equal(sample.of(grad), sample.of(grad.to_dense()))
    no_rows = torch.empty(1, 0, dtype=torch.long)
    nothing = torch.sparse_coo_tensor(no_rows, torch.empty(0, 5), (12, 5), check_invariants=True)
    assert not sample.of(nothing).any()


def test_complex_numbers_are_pairs() -> None:
    z = torch.tensor([1 + 2j, 3 - 4j])
    assert Sample(z, most=10, seed=0).of(z.conj()).tolist() == [1.0, -2.0, 3.0, 4.0]


def test_copies_do_not_follow_the_originals() -> None:
    p = torch.ones(3)
    (copy,) = together([Sample(p, most=10, seed=0).of(p)])
    p.zero_()
    assert arrays([copy])[0].tolist() == [1.0, 1.0, 1.0]


def test_memory_of_the_sample_is_bounded_for_any_number_of_parameters() -> None:
    model = nn.ParameterList([torch.zeros(2000) for _ in range(1000)])
    ledger = Ledger(torch.optim.SGD(model.parameters(), lr=0.1), model)
    with ledger:
        assert sum(len(each.sample) for each in ledger._watches[0].watched) <= 2**18


def test_norms_of_half_precision_do_not_overflow() -> None:
    model = nn.ParameterList([torch.full((10_000,), 1000.0).half()])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with Ledger(optimizer, model, every=1) as ledger:
        model[0].grad = torch.full((10_000,), 1000.0).half()
        optimizer.step()
    (layer,) = ledger.report().layers
    assert layer.norm == pytest.approx(500 * 100)
    assert math.isclose(layer.gradient, 1000.0)
    assert layer.nonfinite == 0


def test_between_its_work_a_step_costs_one_look_at_the_clock() -> None:
    class Counted(Clock):
        reads = 0

        def __call__(self) -> float:
            self.reads += 1
            return self.now

    clock = Counted()
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ledger = Ledger(optimizer, model)
    ledger._pace = Pace(None, clock)
    with ledger:
        for _ in range(2):
            model(torch.ones(1, 3)).sum().backward()
            optimizer.step()
        ledger._pace._measuring.price = ledger._pace._checking.price = 1.0
        ledger._pace.settle("nothing")
        clock.reads, before = 0, ledger.report().measured
        for _ in range(10):
            optimizer.step()
        assert clock.reads == 10
        clock.now = 1.01 / MEASURING
        optimizer.step()
        assert ledger.report().measured == before + 1
    assert ledger.steps == 13


def test_a_step_that_fails_is_no_step() -> None:
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Ledger(optimizer, model) as ledger:
        with pytest.raises(ZeroDivisionError):
            optimizer.step(lambda: 1 / 0)
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert (ledger.steps, ledger.report().measured) == (1, 1)
