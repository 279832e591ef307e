"""GradScaler with released gradients: the scale is taken out when a gradient is complete, not at the step."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import adamantine.torch as at


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 3))


def batch(t: int) -> torch.Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(t))


def scaler_of(**options) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2, **options)


def train(model, optimizer, scaler, steps=range(5), micro=1):
    for t in steps:
        optimizer.zero_grad()
        for i in range(micro):
            loss = model(batch(t * micro + i)).square().mean()
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


@pytest.mark.parametrize(
    ("clip", "accumulate", "micro"),
    [
        ("none", 1, 1),
        ("none", 3, 2),
        ("none", 2, 2),
        ("delayed", 1, 1),
        ("delayed", 2, 2),
        ("per-parameter", 1, 1),
    ],
)
def test_the_steps_are_those_without_a_scale(clip, accumulate, micro):
    """A power of two goes in and out without a rounding; it grows every second step."""
    ends = []
    for scaler in (None, scaler_of(), scaler_of(enabled=False)):
        model = mlp()
        optimizer = at.AdamW(model.parameters(), lr=0.01, max_norm=None if clip == "none" else 0.05)
        optimizer.release_gradients(clip, accumulate=accumulate, scaler=scaler)
        train(model, optimizer, scaler or scaler_of(enabled=False), micro=micro)
        ends.append(model)
        if scaler is not None and scaler.is_enabled():
            assert scaler.get_scale() == 2.0**12
            assert optimizer.last_norm < 1e2  # of the gradients, not of the scaled ones
    for model in ends[1:]:
        for p, q in zip(model.parameters(), ends[0].parameters(), strict=True):
            assert torch.equal(p, q)


def test_an_ordinary_scaler_step_is_the_same():
    ends = []
    for released in (False, True):
        model, scaler = mlp(), scaler_of()
        optimizer = at.AdamW(model.parameters(), lr=0.01)
        if released:
            optimizer.release_gradients(scaler=scaler)
        train(model, optimizer, scaler)
        ends.append(model)
    for p, q in zip(ends[0].parameters(), ends[1].parameters(), strict=True):
        assert torch.equal(p, q)


def test_an_overflow_lowers_the_scale_and_leaves_out_what_overflowed():
    model, scaler = mlp(), scaler_of()
    optimizer = at.AdamW(model.named_parameters(), lr=0.01)
    optimizer.release_gradients(scaler=scaler)
    train(model, optimizer, scaler, range(1))
    before = copy.deepcopy(model)
    handle = model[0].weight.register_hook(lambda grad: grad * float("inf"))
    train(model, optimizer, scaler, range(1, 2))
    handle.remove()
    assert scaler.get_scale() == 2.0**9
    assert optimizer.skipped_steps == 1
    stayed = [p.equal(q) for p, q in zip(model.parameters(), before.parameters(), strict=True)]
    assert stayed == [True, False, False, False]
    train(model, optimizer, scaler, range(2, 4))
    assert scaler.get_scale() == 2.0**10
    assert all(p.isfinite().all() for p in model.parameters())


def test_after_the_handle_the_scaler_works_as_before():
    model, scaler = mlp(), scaler_of()
    optimizer = at.AdamW(model.parameters(), lr=0.01)
    with optimizer.release_gradients(scaler=scaler):
        train(model, optimizer, scaler)
    assert not hasattr(optimizer, "_step_supports_amp_scaling")
    train(model, optimizer, scaler)


def test_unscale_finds_nothing_to_do():
    model, scaler = mlp(), scaler_of()
    optimizer = at.AdamW(model.parameters(), lr=0.01)
    optimizer.release_gradients(scaler=scaler)
    scaler.scale(model(batch(0)).square().mean()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    train(model, optimizer, scaler, range(1, 3))
    other = mlp()
    train(other, at.AdamW(other.parameters(), lr=0.01), scaler_of(), range(3))
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_scaler_that_release_does_not_know_is_not_silent():
    model, scaler = mlp(), scaler_of()
    optimizer = at.AdamW(model.parameters(), lr=0.01)
    optimizer.release_gradients()
    with pytest.raises(AssertionError, match="No inf checks"):
        train(model, optimizer, scaler)


def test_two_passes_and_a_scaler_are_refused():
    optimizer = at.AdamW(mlp().parameters(), max_norm=1.0)
    with pytest.raises(ValueError, match="GradScaler does not support"):
        optimizer.release_gradients("two-pass", scaler=scaler_of())
