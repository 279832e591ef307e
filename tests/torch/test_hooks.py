"""torch's hooks, around steps and around state dicts: when they fire, their order, what they may change."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

import adamantine.torch as at

EVERY_CLASS = pytest.mark.parametrize("cls", at.OPTIMIZERS.values(), ids=list(at.OPTIMIZERS))


def params():
    return [torch.nn.Parameter(torch.ones(3))]


@EVERY_CLASS
def test_step_hooks_fire_in_order(cls):
    calls = []
    optimizer = cls(params())

    def hook(name):
        return lambda opt, args, kwargs: calls.append((name, opt is optimizer))

    handles = [
        register_optimizer_step_pre_hook(hook("global pre")),
        register_optimizer_step_post_hook(hook("global post")),
        optimizer.register_step_pre_hook(hook("pre")),
        optimizer.register_step_post_hook(hook("post")),
    ]
    try:
        optimizer.step(lambda: calls.append(("step", True)))
    finally:
        for handle in handles:
            handle.remove()
    order = ["global pre", "pre", "step", "post", "global post"]
    assert calls == [(name, True) for name in order]
    optimizer.step()
    assert len(calls) == len(order)


@EVERY_CLASS
def test_a_step_pre_hook_may_replace_the_arguments(cls):
    optimizer = cls(params())
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: ((opt, lambda: 42.0), {}))
    assert optimizer.step() == 42.0


@EVERY_CLASS
def test_state_dict_hooks(cls):
    calls = []
    optimizer = cls(params())
    optimizer.register_state_dict_pre_hook(lambda opt: calls.append("pre"))
    optimizer.register_state_dict_pre_hook(lambda opt: calls.append("first pre"), prepend=True)
    optimizer.register_state_dict_post_hook(lambda opt, sd: calls.append("post"))
    replace = optimizer.register_state_dict_post_hook(lambda opt, sd: {"note": 1, **sd}, prepend=True)
    assert optimizer.state_dict()["note"] == 1
    assert calls == ["first pre", "pre", "post"]
    replace.remove()
    assert "note" not in optimizer.state_dict()


@EVERY_CLASS
def test_load_state_dict_hooks(cls):
    calls = []
    optimizer = cls(params(), lr=0.5)
    state_dict = optimizer.state_dict()

    def halve(opt, given):
        calls.append("pre")
        given = copy.deepcopy(given)
        given["param_groups"][0]["lr"] /= 2
        return given

    optimizer.register_load_state_dict_pre_hook(halve)
    optimizer.register_load_state_dict_pre_hook(lambda opt, sd: calls.append("first pre"), prepend=True)
    optimizer.register_load_state_dict_post_hook(lambda opt: calls.append(opt.param_groups[0]["lr"]))
    optimizer.register_load_state_dict_post_hook(lambda opt: calls.append("first post"), prepend=True)
    optimizer.load_state_dict(state_dict)
    assert calls == ["first pre", "pre", "first post", 0.25]
    assert state_dict["param_groups"][0]["lr"] == 0.5
