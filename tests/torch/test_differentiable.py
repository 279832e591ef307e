"""differentiable=True: derivatives of trained weights by θ, gradients, state and hyperparameters, checked."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import adamantine.torch as at
from adamantine.rules.decay import MODES
from adamantine.torch.engines.generic import NAMES

#: One entry per rule text. ``step``: where in training the check stands; RAdam changes its rule after five.
CASES = {
    "sgd": ("SGD", {}, 0),
    "heavy_ball": ("SGD", {"momentum": 0.9, "dampening": 0.25}, 0),
    "nesterov": ("SGDW", {"momentum": 0.9, "nesterov": True}, 0),
    "adagrad": ("Adagrad", {"lr_decay": 0.1}, 3),
    "rmsprop": ("RMSprop", {}, 3),
    "rmsprop_momentum": ("RMSprop", {"momentum": 0.9}, 3),
    "rmsprop_centered": ("RMSprop", {"centered": True}, 3),
    "rmsprop_centered_momentum": ("RMSprop", {"centered": True, "momentum": 0.9, "maximize": True}, 3),
    "adam": ("Adam", {}, 0),
    "adamw": ("AdamW", {"maximize": True}, 3),
    "amsgrad": ("Adam", {"amsgrad": True}, 3),
    "adamax": ("Adamax", {}, 3),
    "nadam": ("NAdam", {}, 3),
    "radam early": ("RAdam", {}, 0),
    "radam late": ("RAdam", {}, 7),
    "lion": ("Lion", {}, 0),
    "adam_atan2": ("AdamAtan2", {}, 3),
}
#: Numbers away from the kinks of max, sign and the cautious mask, and second moments above squared means.
THETA = [0.9, -0.4, 0.3]
GRAD = [0.6, 0.5, -0.8]
SLOT = {"v": [1.5, 1.3, 1.9], "s": [0.5, 0.3, 0.9], "w": [1.0, 2.3, 2.9], "n": [0.1, 1.3, 1.9]}
MOMENT = [0.2, -0.1, -0.3]


def leaf(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def setting(case, mode, betas=False):
    """A function of tensors that trains two steps, and tensors to check it at."""
    name, options, step = CASES[case]
    cls = at.OPTIMIZERS[name]
    probe = cls([torch.zeros(1)], **options)
    rule = probe.rule(probe.param_groups[0])
    inputs = [leaf(THETA), leaf(GRAD), leaf(0.05), leaf(0.3)]
    inputs += [leaf(SLOT.get(letter, MOMENT)) for letter in rule.slots]
    if betas:
        inputs += [leaf(0.8), leaf(0.9)]

    def trained(theta, grad, lr, weight_decay, *rest):
        slots, rates = (rest[:-2], {"betas": rest[-2:]}) if betas else (rest, {})
        p = theta.clone()
        p.grad = grad
        optimizer = cls(
            [p],
            lr=lr,
            weight_decay=weight_decay,
            decay=mode,
            peak_lr=0.5,  # tracked from lr, it would be a second path that no gradient follows
            differentiable=True,
            **options,
            **rates,
        )
        state = dict(zip(rule.slots.values(), slots, strict=True))
        if rule.counts_steps:
            state["step"] = torch.tensor(float(step))
        if state:
            optimizer.state[p] = {**state, **{key: torch.tensor(0.7) for key in rule.carried}}
        for _ in range(2):
            optimizer.step()
        return p, *(optimizer.state[p][key] for key in rule.slots.values())

    return trained, inputs


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_first_derivatives(case, mode):
    assert gradcheck(*setting(case, mode))


@pytest.mark.parametrize("case", ["adam", "adamw", "amsgrad"])
@pytest.mark.parametrize("mode", ["l2", "decoupled"])
def test_derivatives_by_betas(case, mode):
    assert gradcheck(*setting(case, mode, betas=True))


@pytest.mark.parametrize("case", ["sgd", "heavy_ball", "adagrad", "rmsprop_centered", "adamw", "nadam"])
@pytest.mark.parametrize("mode", ["l2", "decoupled"])
def test_second_derivatives(case, mode):
    assert gradgradcheck(*setting(case, mode))


def test_the_angle_has_its_derivatives_everywhere():
    """In all its pieces and beside the choices between them; at y = 0, where |y| would have lost them."""
    y = leaf([0.0, 0.0, 0.3, -0.3, 1.0, -1.0, 1.8, 1.0, -7.0, 5.0])
    x = leaf([1.0, 1e-9, 2.0, 2.0, 1.0, 1.1, 1.0, 1.8, 0.5, 0.0])

    def derivatives(arctan2):
        first = torch.autograd.grad(arctan2(y, x).sum(), (y, x), create_graph=True)
        return *first, *torch.autograd.grad(first[0].sum() + first[1].sum(), (y, x))

    for ours, torchs in zip(derivatives(NAMES["arctan2"]), derivatives(torch.arctan2), strict=True):
        # a derivative of a polynomial of degree 27 is less exact than the polynomial, a second one still less
        torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_hyperparameters_of_one_element_do_not_broaden(shape):
    p = leaf(THETA).clone()
    p.grad = torch.ones(3, dtype=torch.float64)
    hyper = {key: torch.full(shape, 0.5, requires_grad=True) for key in ("lr", "weight_decay", "b1", "b2")}
    betas = hyper.pop("b1"), hyper.pop("b2")
    optimizer = at.AdamW([p], betas=betas, differentiable=True, **hyper)
    optimizer.step()
    p.sum().backward()
    assert optimizer.state[p]["exp_avg"].shape == (3,)
    for tensor in (*hyper.values(), *betas):
        assert tensor.grad.shape == shape


def test_no_graph_without_the_flag():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2, requires_grad=True)
    optimizer = at.AdamW([p], lr=torch.tensor(0.1, requires_grad=True))
    optimizer.step()
    assert p.is_leaf
    assert not optimizer.state[p]["exp_avg"].requires_grad


@pytest.mark.parametrize("flags", [{"foreach": True}, {"fused": True}, {"max_norm": 1.0}])
def test_what_would_cut_the_graph_is_refused(flags):
    with pytest.raises((RuntimeError, ValueError), match="differentiable"):
        at.AdamW([torch.nn.Parameter(torch.ones(2))], differentiable=True, **flags)
