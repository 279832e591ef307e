"""Clipping with released gradients: two passes are exact, the other modes are what they say."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import adamantine.torch as at
from adamantine.checkpoint import load, save

BOUND = 0.05


def model_with_noise() -> nn.Sequential:
    """Dropout, so that two passes agree only if they draw the same numbers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Dropout(0.5), nn.Linear(40, 3), nn.Linear(3, 2))


def batch(t: int) -> torch.Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(t))


def closure_of(model, optimizer, x):
    def closure():
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss.detach()

    return closure


def train(model, optimizer, steps=6, start=0):
    torch.manual_seed(1)
    return [
        float(optimizer.step(closure_of(model, optimizer, batch(t)))) for t in range(start, start + steps)
    ]


def assert_same(model, other):
    for (name, p), q in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(p, q[1]), name


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion"])
@pytest.mark.parametrize("engine", ["auto", "generic"])
def test_two_passes_are_ordinary_clipping(name, engine):
    ends = []
    for released in (False, True):
        model = model_with_noise()
        optimizer = at.OPTIMIZERS[name](model.parameters(), lr=0.01, max_norm=BOUND, engine=engine)
        if released:
            optimizer.release_gradients("two-pass")
        losses = train(model, optimizer)
        known = (losses, optimizer.last_norm, optimizer.gradient_statistics())
        ends.append((*known, torch.rand(1).item(), model))
        assert optimizer.last_norm > BOUND  # it did clip
    assert ends[0][:-1] == ends[1][:-1]  # the state of the random numbers too
    assert_same(ends[0][-1], ends[1][-1])


def test_two_passes_need_a_closure():
    model = model_with_noise()
    optimizer = at.AdamW(model.parameters(), max_norm=BOUND)
    optimizer.release_gradients("two-pass")
    before = copy.deepcopy(model)
    with pytest.raises(RuntimeError, match=r"inside optimizer\.step"):
        model(batch(0)).sum().backward()
    optimizer.zero_grad()
    with pytest.raises(RuntimeError, match=r"needs optimizer\.step"):
        optimizer.step()
    assert_same(model, before)
    train(model, optimizer)


def test_a_closure_that_is_not_repeatable_is_found_out():
    model = model_with_noise()
    optimizer = at.AdamW(model.parameters(), max_norm=BOUND)
    optimizer.release_gradients("two-pass")
    batches = iter([batch(0), batch(1) * 2])

    def closure():
        loss = model(next(batches)).square().mean()
        loss.backward()
        return loss

    with pytest.raises(RuntimeError, match="not repeatable"):
        optimizer.step(closure)
    train(model, optimizer)


@pytest.mark.parametrize("guard", ["skip", "raise"])
def test_two_passes_find_a_bad_gradient_before_anything_moves(guard):
    model = model_with_noise()
    optimizer = at.AdamW(model.named_parameters(), max_norm=BOUND, on_nonfinite=guard)
    optimizer.release_gradients("two-pass")
    train(model, optimizer, 2)
    before = copy.deepcopy(model)
    handle = model[3].weight.register_hook(lambda grad: grad * float("inf"))
    if guard == "raise":
        with pytest.raises(
            FloatingPointError, match=r"\(global norm .*\): 3\.weight\. No parameter has moved"
        ):
            train(model, optimizer, 1)
    else:
        train(model, optimizer, 1)
        assert optimizer.skipped_steps == 1
    assert_same(model, before)
    handle.remove()
    train(model, optimizer, 1)
    assert not torch.equal(model[0].weight, before[0].weight)


def gradients(model, x):
    loss = model(x).square().mean()
    return dict(zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True))


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 3))


def steps_of_sgd(clip, factor_of, steps=4):
    """SGD with lr 1 moves by the clipped gradient: compared with g·factor, to the last bit."""
    model = mlp()
    optimizer = at.SGD(model.parameters(), lr=1.0, max_norm=BOUND)
    optimizer.release_gradients(clip)
    order = []
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(order.append)
    for t in range(steps):
        order.clear()
        expected = gradients(model, batch(t))
        old = {p: p.detach().clone() for p in expected}
        model(batch(t)).square().mean().backward()
        for p, factor in zip(order, factor_of([expected[p] for p in order]), strict=True):
            scaled = expected[p] * torch.tensor(factor, dtype=torch.float32)
            torch.testing.assert_close(p.detach(), old[p] - scaled, rtol=0, atol=2**-24)
        optimizer.step()
        assert math.isclose(optimizer.last_norm, at.global_norm(expected.values()), rel_tol=1e-12)


def test_delayed_clipping_is_by_the_last_norm_or_what_was_seen():
    last = [0.0]

    def factors(grads):
        seen = [at.global_norm(grads[: k + 1]) for k in range(len(grads))]
        previous, last[0] = last[0], seen[-1]
        return [min(1.0, BOUND / (max(previous, each) + 1e-6)) for each in seen]

    steps_of_sgd("delayed", factors)


def test_per_parameter_clipping_keeps_the_global_norm_below_the_bound():
    def factors(grads):
        each = BOUND / math.sqrt(len(grads))
        found = [min(1.0, each / (at.global_norm([g]) + 1e-6)) for g in grads]
        assert at.global_norm([g * c for g, c in zip(grads, found, strict=True)]) <= BOUND * (1 + 1e-6)
        return found

    steps_of_sgd("per-parameter", factors)


@pytest.mark.parametrize("form", ["state_dict", "safetensors"])
def test_delayed_clipping_goes_on_from_a_checkpoint(form, tmp_path):
    def optimizer_of(model):
        return at.AdamW(model.named_parameters(), lr=0.01, max_norm=BOUND)

    through, model = mlp(), mlp()
    one, first = optimizer_of(through), optimizer_of(model)
    one.release_gradients("delayed")
    first.release_gradients("delayed")
    train(through, one, 4)
    train(model, first, 2)
    resumed = copy.deepcopy(model)
    second = optimizer_of(resumed)
    if form == "state_dict":
        second.load_state_dict(copy.deepcopy(first.state_dict()))
    else:
        save(tmp_path / "state.safetensors", first)
        load(tmp_path / "state.safetensors", second)
    second.release_gradients("delayed")
    train(resumed, second, 2, start=2)
    assert_same(resumed, through)


def test_a_gradient_that_explodes_leaves_delayed_clipping_bounded_and_is_not_remembered():
    model = mlp()
    optimizer = at.SGD(model.parameters(), lr=1.0, max_norm=BOUND, on_nonfinite="skip")
    optimizer.release_gradients("delayed")
    train(model, optimizer, 2)
    old = [p.detach().clone() for p in model.parameters()]
    optimizer.zero_grad()
    (model(batch(2)).square().mean() * 1e6).backward()
    for p, before in zip(model.parameters(), old, strict=True):
        assert (p.detach() - before).norm() <= BOUND * (1 + 1e-5)  # float32
    optimizer.step()
    assert optimizer.last_norm > 1e3
    handle = model[0].weight.register_hook(lambda grad: grad * float("nan"))
    train(model, optimizer, 1)
    handle.remove()
    assert math.isfinite(optimizer.param_groups[0]["released_norm"])
    train(model, optimizer, 2)
    assert all(p.isfinite().all() for p in model.parameters())
