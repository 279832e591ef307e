"""Which decay a class has: told by the formula that fits its steps, else by a dry run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from adamantine.reference import Optimizer as Reference
from adamantine.rules.decay import MODES, NEED_PEAK, coefficients
from adamantine.testing.inputs import gradients, set_lr
from adamantine.testing.oracles import Oracle, rule_of
from adamantine.testing.subject import LR, WEIGHT_DECAY, Subject

#: The learning rates of six steps: up and down, so that decays of η, of η/η_max, of η²/η_max and of no η
#: differ.
RATES = (LR, LR / 2, LR / 4, LR, LR / 2, LR)


@dataclass(frozen=True)
class Decay:
    """Mode (`adamantine.probe.Behaviour.decay`), order, whether it follows lr, and what that was seen by."""

    mode: str
    order: str
    follows_lr: bool | None
    evidence: str


@cache
def decay_of(subject: Subject) -> Decay:
    """The decay of a class that takes ``weight_decay``."""
    if subject.oracle and subject.lr and (found := _fitting(subject, subject.oracle)):
        return found
    return _probed(subject)


def options_for_decay(subject: Subject) -> dict[str, Any]:
    """lr, and the momentum that SGD needs for L2 and decoupled decay not to be the same."""
    momentum = {}
    if subject.oracle and subject.oracle.rule == "sgd" and subject.accepts("momentum"):
        momentum = {"momentum": 0.9}
    return {**subject.lr, **momentum}


def _fitting(subject: Subject, oracle: Oracle) -> Decay | None:
    """The mode and order under which the oracle's steps are those of the class; None unless there is one."""
    from adamantine.testing.checks.paper import distance, stated, tolerance

    options = options_for_decay(subject)
    params = subject.parameters()
    start = [p.detach().double().numpy().copy() for p in params]
    optimizer = subject.build(params, **options, **subject.strong_decay)
    rule, hyper = rule_of(oracle, stated(subject, options))
    grads = []
    for t, lr in enumerate(RATES):
        set_lr(optimizer, lr)
        gradients(params, t)
        grads.append([p.grad.double().numpy().copy() for p in params if p.grad is not None])
        subject.step(optimizer)
    gaps = {}
    for mode, order in _candidates(oracle):
        thetas = _reference(rule, hyper, mode, order, start, grads)
        gaps[mode, order] = max(
            distance(subject, p.detach().double() - torch.from_numpy(s), torch.from_numpy(theta - s))
            for p, s, theta in zip(params, start, thetas, strict=True)
        )
    fits = sorted((value, key) for key, value in gaps.items() if value <= tolerance(subject))
    if not fits:
        return None
    best, (mode, order) = fits[0]
    rivals = {other for value, (other, _) in fits if value < 3 * best and other != mode}
    if rivals:
        return None
    if any(
        value < 3 * best and (other, way) == (mode, "after") != (mode, order) for value, (other, way) in fits
    ):
        order = "unclear"
    evidence = f"six steps at changing lr agree {_closely(best)} with {rule} and {mode} decay"
    if order != "unclear":
        evidence += f", {order} the step"
    name = "fixed" if mode.startswith("fixed") else mode
    return Decay(name, order, None if name == "ignored" else name != "fixed", evidence)


def _closely(difference: float) -> str:
    return f"to {difference:.1g}" if difference else "to the bit"


def _candidates(oracle: Oracle) -> list[tuple[str, str]]:
    orders = ["before"] if oracle.stored == "quantized" else ["before", "after"]
    shrinking = [m for m in MODES if m not in {"none", "l2"}]
    found = [
        (mode, order) for mode in (*shrinking, "fixed by λ", "fixed by the first lr") for order in orders
    ]
    return [("ignored", "unclear"), ("l2", "unclear"), *found]


def _reference(
    rule: str,
    hyper: dict[str, Any],
    mode: str,
    order: str,
    start: list[np.ndarray[Any, Any]],
    grads: list[list[np.ndarray[Any, Any]]],
) -> list[np.ndarray[Any, Any]]:
    """The oracle's weights after `RATES`; a shrink that the oracle has not is done here."""
    inside = order != "after" and mode in MODES
    optimizer = Reference(
        rule,
        lr=LR,
        peak_lr=LR if mode in NEED_PEAK else None,
        decay=mode if inside else "none",
        weight_decay=WEIGHT_DECAY,
        **hyper,
    )
    theta = {str(i): s.copy() for i, s in enumerate(start)}
    for lr, given in zip(RATES, grads, strict=True):
        optimizer.lr = lr
        before = {key: value.copy() for key, value in theta.items()}
        optimizer.step(theta, {str(i): g for i, g in enumerate(given)})
        if inside or mode == "ignored":
            continue
        for key, value in theta.items():
            away = value - before[key]
            shrink = _shrink(mode, lr, away, before[key])
            theta[key] = shrink * before[key] + away if order == "before" else shrink * value
    return [theta[str(i)] for i in range(len(start))]


def _shrink(mode: str, lr: float, away: np.ndarray[Any, Any], theta: np.ndarray[Any, Any]) -> Any:
    if mode == "fixed by λ":
        return 1 - WEIGHT_DECAY
    if mode == "fixed by the first lr":
        return 1 - LR * WEIGHT_DECAY
    decay = coefficients(mode, lr=lr, weight_decay=WEIGHT_DECAY, peak_lr=LR)
    return np.where(-away * theta >= 0, decay.shrink, 1.0) if decay.cautious else decay.shrink


def _probed(subject: Subject) -> Decay:
    from adamantine.probe import ProbeError, measure

    def factory(tensors: Any, **overrides: Any) -> torch.optim.Optimizer:
        return subject.build(tensors, **{**subject.lr, **subject.strong_decay, **overrides})

    try:
        found = measure(factory, shape=subject.needs.shape, dtype=subject.needs.dtype)
    except ProbeError as error:
        return Decay("unknown", "unclear", None, str(error))
    follows = None if found.lr_power is None else found.lr_power != 0
    return Decay(found.decay, found.order, follows, found.evidence)
