"""Formats changed while training goes on, and what the statement says of the loss."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import adamantine.torch as at
from adamantine.torch.storage import codecs

STATES = ("float32", "bfloat16", "8bit", "4bit", {"exp_avg": "4bit", "exp_avg_sq": "8bit"})
WEIGHTS = ("nearest", "stochastic", "kahan", "split8", "split16")
#: By how much of itself a master weight may move: half a unit in the last of the bits that the format keeps.
KEPT = {"kahan": 2**-16, "split8": 2**-16, "split16": 0.0}


def trained(dtype=torch.bfloat16, **options):
    generator = torch.Generator().manual_seed(1)
    shapes = [(7, 41), (3,), (1000,), ()]
    model = [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
    image = torch.randn(2, 3, 5, 4, generator=generator).to(dtype).to(memory_format=torch.channels_last)
    model.append(nn.Parameter(image))
    optimizer = at.AdamW(model, lr=1e-2, **options)
    train(model, optimizer)
    return model, optimizer


def train(model, optimizer):
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        for p in model:
            p.grad = torch.randn(p.shape, generator=generator).to(p)
        optimizer.step()


def check_report(optimizer):
    for row in optimizer.memory_report().rows:
        missing = {"residual", "numbers"}  # those that are new come with the next step
        assert row.predicted | dict.fromkeys(missing) == row.actual | dict.fromkeys(missing)


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(STATES, 2)), ids=str)
def test_every_state_into_every_other(before, after):
    model, optimizer = trained(state=before)
    old_bytes = optimizer.memory_report().actual
    change = optimizer.store_as(state=after)
    new_bytes = optimizer.memory_report().actual
    assert {each.slot for each in change.slots} <= {"exp_avg", "exp_avg_sq"}
    parts = ("exp_avg", "exp_avg_sq", "scales")
    saved = sum(each.bytes_before - each.bytes_after for each in change.slots)
    assert saved == sum(old_bytes.get(part, 0) - new_bytes.get(part, 0) for part in parts)
    if after == "float32":
        assert change.is_exact
    assert all(each.worst < 0.35 for each in change.slots), change  # 4 bits, of the largest in a block
    check_report(optimizer)
    assert optimizer.param_groups[0]["state"] == optimizer.defaults["state"] == after
    train(model, optimizer)
    assert all(p.isfinite().all() for p in model)


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(WEIGHTS, 2)))
def test_every_master_weight_into_every_other(before, after):
    model, optimizer = trained(weights=before, state="8bit")
    masters = [master(optimizer, p) for p in model]
    thetas = [p.detach().clone() for p in model]
    change = optimizer.store_as(weights=after)
    for p, theta, old in zip(model, thetas, masters, strict=True):
        new = master(optimizer, p)
        if before in KEPT and after in KEPT:
            assert bool(((new - old).abs() <= KEPT[after] * old.abs()).all())
            assert bool(((p - theta).abs() <= 2**-7 * theta.abs()).all())
        else:
            assert torch.equal(p, theta)
    assert [each.slot for each in change.slots] == (["weights"] if before in KEPT else [])
    check_report(optimizer)
    train(model, optimizer)
    check_report(optimizer)


def master(optimizer, p):
    residual = optimizer.state[p].get("residual")
    if residual is None:
        return p.detach().float()
    return codecs.join(p.detach(), residual)


def test_a_residual_that_goes_is_the_loss():
    """The statement's number is the distance from the master to θ, at most half a unit of bfloat16."""
    model, optimizer = trained(weights="split16")
    masters = torch.cat([master(optimizer, p).reshape(-1) for p in model]).double()
    change = optimizer.store_as(weights="nearest")
    thetas = torch.cat([p.detach().reshape(-1) for p in model]).double()
    (loss,) = change.slots
    assert loss.error == pytest.approx(float((masters - thetas).norm() / masters.norm()), rel=1e-9)
    assert 0 < loss.worst <= 2**-8


def test_float32_parameters_stay_as_they_are():
    model, optimizer = trained(torch.float32)
    thetas = [p.detach().clone() for p in model]
    assert optimizer.store_as(weights="split8").slots == ()
    assert all(map(torch.equal, model, thetas))


def test_before_the_first_step_there_is_nothing_to_convert():
    p = nn.Parameter(torch.ones(300))
    optimizer = at.AdamW([p])
    assert str(optimizer.store_as(state="4bit")) == "nothing is stored otherwise than before"
    p.grad = torch.ones(300)
    optimizer.step()
    assert optimizer.state[p]["exp_avg_codes"].shape == (150,)


def test_what_cannot_be_changes_nothing():
    _, optimizer = trained(torch.float16, state="8bit")
    before = optimizer.explain()
    for asked, message in (
        ({"state": "3bit"}, "Invalid state: '3bit'"),
        ({"state": {"momentum": "8bit"}}, "has no 'momentum'"),
        ({"state": "float32", "weights": "split8"}, "split8.* float16"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.store_as(**asked)
        assert optimizer.explain() == before
    assert optimizer.store_as() == optimizer.store_as(state="8bit")


def test_nonfinite_state_is_counted_where_it_becomes_so():
    """A block with an infinity is NaN as a whole in 8 bits: the loss of its finite numbers is infinite."""
    model, optimizer = trained(torch.float32)
    optimizer.state[model[2]]["exp_avg"][5] = torch.inf
    change = optimizer.store_as(state="8bit")
    first, second = change.slots
    assert first.worst == first.error == float("inf")
    assert "parameter 2" in first.worst_at
    assert second.worst < 0.02


def test_flat_buffers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 5))
    at.flatten(model)
    optimizer = at.AdamW(model.parameters(), lr=1e-2)
    steps(model, optimizer)
    optimizer.store_as(state="8bit")
    steps(model, optimizer)
    optimizer.store_as(state="float32")
    steps(model, optimizer)
    starts = [optimizer.state[p]["exp_avg"].data_ptr() for p in model.parameters()]
    sizes = [p.nbytes for p in model.parameters()]
    assert starts == [starts[0] + sum(sizes[:place]) for place in range(4)], "as flat as the parameters again"


def steps(model, optimizer):
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(4, 30)).square().mean().backward()
        optimizer.step()


def waiting(state):
    """Trained in float32, and told by hand to be in another format from the next step on."""
    model, optimizer = trained(torch.float32)
    optimizer.param_groups[0]["state"] = state
    return model, optimizer


@pytest.mark.parametrize("state", ["8bit", "4bit", {"exp_avg": "4bit"}, {"exp_avg_sq": "4bit"}])
def test_a_slot_that_waits_to_be_encoded_is_converted_as_it_is(state):
    (model, optimizer), (_, other) = waiting(state), trained(torch.float32)
    assert optimizer.store_as(state="4bit") == other.store_as(state="4bit")
    for p, q in zip(model, other.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(optimizer.state[p], other.state[q], rtol=0, atol=0)


@pytest.mark.parametrize("state", ["8bit", "4bit", {"exp_avg_sq": "4bit"}])
@pytest.mark.parametrize("kept", ["saved", "live"])
def test_a_slot_that_waits_to_be_encoded_is_loaded(state, kept):
    """A frozen parameter, or a save right after the change."""
    model, optimizer = waiting(state)
    model[0].grad = None
    optimizer.step()
    other = at.AdamW([nn.Parameter(p.detach().clone()) for p in model], lr=1e-2, state=state)
    change = other.load_state_dict(optimizer.state_dict(), state=kept)
    assert (change is None) == (kept == "saved")
    for group in (model, other.param_groups[0]["params"]):
        for p in group:
            p.grad = torch.ones_like(p)
    optimizer.step()
    other.step()
    for p, q in zip(model, other.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(dict(other.state[q]), dict(optimizer.state[p]), rtol=0, atol=0)


def test_codes_are_never_read_as_others():
    """The group says what they are: by hand it cannot be made to say something else."""
    _, optimizer = trained(torch.float32, state="8bit")
    optimizer.param_groups[0]["state"] = "4bit"
    with pytest.raises(ValueError, match=r"exp_avg is stored as uint8 \(7, 41\), .*asks for \(4bit\)"):
        optimizer.store_as(state="float32")
