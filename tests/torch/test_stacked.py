"""A member of a stack takes the very steps that its optimizer takes alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import adamantine.torch as at
from adamantine.rules.decay import MODES
from adamantine.torch.stacked import Stacked

CASES = [
    *((name, {}) for name in at.OPTIMIZERS),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("RMSprop", {"centered": True, "momentum": 0.9}),
    ("Adam", {"amsgrad": True}),
    ("Adagrad", {"initial_accumulator_value": 0.1, "lr_decay": 0.01}),
    ("AdamW", {"maximize": True, "betas": (0.8, 0.95)}),
    *(("AdamW", {"decay": mode}) for mode in MODES),
]
LRS = [1e-3, 3e-3, 1e-2, 2e-2]
WEIGHT_DECAYS = [0.0, 0.1, 0.5, 0.01]
SHAPES = [(5, 3), (3,), (70, 11)]


def multiplier(t: int) -> float:
    return 0.5 * (1 + np.cos(np.pi * t / 12))


def trained(name, arguments, dtype, *, steps=6, moving=lambda t: None, keep=None):
    """Members in a stack, and the same alone: lists of tensors [members, …]."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(4, *shape, generator=generator, dtype=dtype) for shape in SHAPES]
    grads = [[torch.randn(4, *s, generator=generator, dtype=dtype) for s in SHAPES] for _ in range(steps)]
    together = [x.clone().requires_grad_() for x in start]
    groups = [
        {"params": together[:2], "weight_decay": WEIGHT_DECAYS},
        {"params": together[2:], "weight_decay": 0.0},
    ]
    optimizer = Stacked(at.OPTIMIZERS[name], groups, LRS, **arguments)
    for t, now in enumerate(grads):
        for p, g in zip(together, now, strict=True):
            p.grad = g.clone()
        optimizer.step(multiplier(t), active=moving(t))
    alone = []
    for n in range(4):
        params = [x[n].clone().requires_grad_() for x in start]
        own = [
            {"params": params[:2], "weight_decay": WEIGHT_DECAYS[n], "lr": LRS[n]},
            {"params": params[2:], "weight_decay": 0.0, "lr": LRS[n]},
        ]
        solitary = at.OPTIMIZERS[name](own, lr=LRS[n], **{"peak_lr": LRS[n], **arguments})
        for t, now in enumerate(grads):
            for p, g in zip(params, now, strict=True):
                p.grad = g[n].clone()
            for group in solitary.param_groups:
                group["lr"] = LRS[n] * multiplier(t)
            if moving(t) is None or moving(t)[n]:
                solitary.step()
        alone.append(params)
    return [x.detach() for x in together], [torch.stack([p[k].detach() for p in alone]) for k in range(3)]


@pytest.mark.parametrize("engine", ["native", "generic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_members_step_as_alone(name, arguments, dtype, engine):
    for ours, alone in zip(*trained(name, {**arguments, "engine": engine}, dtype), strict=True):
        assert torch.equal(ours, alone)


@pytest.mark.parametrize("engine", ["native", "generic"])
def test_half_precision(engine):
    for ours, alone in zip(
        *trained("AdamW", {"engine": engine.replace("native", "auto")}, torch.bfloat16), strict=True
    ):
        assert torch.equal(ours, alone)


@pytest.mark.parametrize("engine", ["native", "generic"])
def test_a_frozen_member_stays_and_the_others_do_not_notice(engine):
    generator = torch.Generator().manual_seed(1)
    theta = torch.randn(3, 7, generator=generator).requires_grad_()
    start = theta.detach().clone()
    optimizer = Stacked(at.AdamW, [{"params": [theta], "weight_decay": 0.1}], [1e-2] * 3, engine=engine)
    for _ in range(3):
        theta.grad = torch.randn(3, 7, generator=generator)
        theta.grad[1] = float("nan")
        optimizer.step(active=np.array([True, False, True]))
    assert torch.equal(theta[1], start[1])
    assert torch.isfinite(theta).all()
    assert (theta[0] != start[0]).all()
    assert torch.equal(optimizer.state[theta]["exp_avg"][1], torch.zeros(7))


def test_keep_goes_on_with_the_rest():
    def run(kept_at):
        generator = torch.Generator().manual_seed(2)
        theta = torch.randn(4, 6, generator=generator).requires_grad_()
        optimizer = Stacked(at.Adam, [{"params": [theta], "weight_decay": [0, 1e-3, 1e-2, 0.1]}], LRS)
        rows = [0, 1, 2, 3]
        for t in range(5):
            g = torch.randn(4, 6, generator=generator)
            if t == kept_at:
                rows = [3, 1]
                theta = theta.detach()[rows].clone().requires_grad_()
                optimizer.keep([3, 1], [[theta]])
            theta.grad = g[rows]
            optimizer.step()
        return theta.detach()[rows.index(3)], theta.detach()[rows.index(1)]

    for whole, reduced in zip(run(None), run(2), strict=True):
        assert torch.equal(whole, reduced)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_matter(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        theta = torch.linspace(-1, 1, 400_000).view(4, -1).clone().requires_grad_()
        optimizer = Stacked(at.AdamW, [{"params": [theta], "weight_decay": WEIGHT_DECAYS}], LRS)
        theta.grad = theta.detach().cos()
        optimizer.step()
        solitary = torch.linspace(-1, 1, 400_000).view(4, -1)[2].clone().requires_grad_()
        solitary.grad = theta.grad[2].clone()
        at.AdamW([solitary], lr=LRS[2], weight_decay=WEIGHT_DECAYS[2]).step()
        assert torch.equal(theta[2], solitary)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": [0.1, -1.0]}, "learning rate"),
        ({"lr": 0.1}, "one per member"),
        ({"lr": [0.1] * 3}, "3 members"),
        ({"max_norm": 1.0}, "max_norm"),
        ({"on_nonfinite": "skip"}, "on_nonfinite"),
        ({"decay": "corrected", "peak_lr": 0.5}, "peak_lr"),
        ({"weight_decay": [0.1, float("nan")]}, "weight_decay"),
        ({"betas": (0.9, 1.5)}, "beta"),
        ({"decay": "independent", "weight_decay": 2.0}, "independent"),
    ],
)
def test_bad_input(change, words):
    arguments = {"lr": [0.1, 0.1], "weight_decay": 0.0, **change}
    groups = [
        {"params": [torch.zeros(2, 3, requires_grad=True)], "weight_decay": arguments.pop("weight_decay")}
    ]
    with pytest.raises(ValueError, match=words):
        Stacked(at.AdamW, groups, arguments.pop("lr"), **arguments)


def test_a_multiplier_above_one_is_refused_where_the_peak_matters():
    theta = torch.zeros(2, 3, requires_grad=True)
    optimizer = Stacked(at.AdamW, [{"params": [theta], "weight_decay": 0.1}], [0.1, 0.1], decay="corrected")
    theta.grad = torch.ones(2, 3)
    with pytest.raises(ValueError, match="multiplier"):
        optimizer.step(1.5)


def test_a_gradient_that_comes_later_is_refused_before_anything_moves():
    first, later = (torch.ones(2, 3, requires_grad=True) for _ in range(2))
    optimizer = Stacked(at.AdamW, [{"params": [first, later], "weight_decay": 0.1}], lr=[0.1, 0.2])
    first.grad = torch.ones(2, 3)
    optimizer.step()
    before = first.clone()
    later.grad = torch.ones(2, 3)
    with pytest.raises(ValueError, match="other tensors have one than at the first step"):
        optimizer.step()
    assert torch.equal(first, before)
