"""What explain() says of storage: weights, every slot, and what stands still in them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import adamantine.torch as at


def step(optimizer):
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.full_like(p, 0.5)
    optimizer.step()


@pytest.mark.parametrize(
    ("dtype", "options", "weights", "state"),
    [
        ("float32", {}, "float32", "exp_avg float32, exp_avg_sq float32"),
        ("float32", {"weights": "kahan"}, "float32", "exp_avg float32, exp_avg_sq float32"),
        ("bfloat16", {}, "bfloat16", "exp_avg bfloat16, exp_avg_sq bfloat16"),
        (
            "bfloat16",
            {"weights": "stochastic"},
            "bfloat16, stochastic",
            "exp_avg bfloat16, exp_avg_sq bfloat16",
        ),
        (
            "bfloat16",
            {"weights": "split8", "state": "8bit"},
            "bfloat16, split8",
            "exp_avg 8bit, exp_avg_sq 8bit",
        ),
        (
            "float16",
            {"weights": "kahan", "state": "float32"},
            "float16, kahan",
            "exp_avg float32, exp_avg_sq float32",
        ),
        ("complex64", {"state": {"exp_avg": "4bit"}}, "complex64", "exp_avg 4bit, exp_avg_sq complex64"),
        ("complex64", {"state": "float64"}, "complex64", "exp_avg complex128, exp_avg_sq complex128"),
    ],
)
@pytest.mark.parametrize("engine", ["auto", "generic"])
def test_before_and_after_the_first_step(dtype, options, weights, state, engine):
    p = nn.Parameter(torch.ones(200, dtype=getattr(torch, dtype)))
    optimizer = at.AdamW([("w", p)], engine=engine, **options)
    for _ in range(2):
        (placement,) = optimizer.explain().placements
        assert (placement.weights, placement.state, placement.dtype) == (weights, state, dtype)
        step(optimizer)
    header, row, *_ = str(optimizer.explain()).splitlines()
    assert header.split() == ["parameter", "shape", "weights", "state", "engine", "why"]
    assert weights in row
    assert state in row


def test_a_dense_slot_is_named_as_it_is():
    p = nn.Parameter(torch.ones(3))
    optimizer = at.SGD([p], momentum=0.9)
    step(optimizer)
    optimizer.state[p]["momentum_buffer"] = optimizer.state[p]["momentum_buffer"].double()
    assert optimizer.explain().placements[0].state == "momentum_buffer float64"
    assert at.SGD([p]).explain().placements[0].state == "none"


def test_what_stands_still_is_a_note():
    p = nn.Parameter(torch.ones(300, dtype=torch.bfloat16))
    optimizer = at.AdamW([("w", p)], lr=1e-6)
    explanation = optimizer.explain()
    assert any("w:" in note and "Remedy:" in note for note in explanation.notes)
    assert str(explanation).splitlines()[-1] == explanation.notes[-1]
    sound = at.AdamW([("w", p)], lr=1e-6, weights="split8", state="8bit")
    assert sound.explain().notes == ()
