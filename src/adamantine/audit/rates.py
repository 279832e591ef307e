"""The fraction of a weight that one step's decay removes, as a function of lr and λ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamantine.audit.schedule import decay_of, number
from adamantine.probe import Behaviour
from adamantine.schedules import peak_lr

Numbers = NDArray[np.float64]


def removed(
    behaviour: Behaviour,
    settings: Mapping[str, Any],
    lr: float | Numbers,
    weight_decay: float | Numbers,
    highest: float,
) -> Numbers | None:
    """Fraction per step where the gradient is zero, in the steady state of momentum.

    With L2 and momentum μ the decay adds up in the buffer: η·λ·(1 - dampening)/(1 - μ). Cautious decay is
    taken where it acts. A group whose measured shrink differs from its mode's formula keeps that ratio.

    Args:
        behaviour: of the group, measured at its present lr and λ.
        settings: the group's keys.
        lr: η_t, one or many.
        weight_decay: λ_t of the same shape.
        highest: η_max of the course.

    Returns:
        The fraction of the shape of ``lr``; None where there is no single number.
    """
    eta, decay = np.asarray(lr, dtype=np.float64), np.asarray(weight_decay, dtype=np.float64)
    now = number(settings.get("lr", np.nan)), decay_of(settings) or 0.0
    if behaviour.decay in {"none", "ignored"}:
        # λ may be raised later from 0: what it then does is not known before it is probed.
        return np.zeros(np.broadcast(eta, decay).shape)
    if behaviour.decay == "l2":
        if behaviour.adaptive is not False:
            return None
        return eta * decay * _piled_up(settings)
    if behaviour.decay in {"decoupled", "cautious", "independent", "corrected"}:
        peak = _peak(settings, highest)
        found = _formula(behaviour.decay, eta, decay, peak)
        present = float(_formula(behaviour.decay, np.asarray(now[0]), np.asarray(now[1]), peak))
        if behaviour.source == "probe" and behaviour.shrink is not None and present > 0:
            found = found * (behaviour.shrink / present)
        return found
    if behaviour.shrink is None:
        return None
    # λ that no group states stays as it is
    share = behaviour.shrink * decay / now[1] if now[1] > 0 else behaviour.shrink * np.ones_like(decay)
    if behaviour.decay == "fixed":
        return share * np.ones_like(eta)
    if behaviour.lr_power is None and bool((eta == now[0]).all()):
        return share * np.ones_like(eta)
    if behaviour.lr_power is None or not now[0] > 0:
        return None
    return share * (eta / now[0]) ** behaviour.lr_power


def _formula(mode: str, lr: Numbers, weight_decay: Numbers, peak: float) -> Numbers:
    if mode in {"decoupled", "cautious"} or not peak > 0:
        return lr * weight_decay
    relative = lr / np.maximum(lr, peak)
    return relative * weight_decay if mode == "independent" else lr * relative * weight_decay


def _peak(settings: Mapping[str, Any], highest: float) -> float:
    """η_max as the optimizer takes it: what is stated counts, else the highest lr that is known to come."""
    if settings.get("peak_lr") is not None:
        return number(settings["peak_lr"])
    try:
        return max(highest, peak_lr(settings)) if "constructed_lr" in settings else highest
    except (KeyError, TypeError, ValueError):
        return highest


def _piled_up(settings: Mapping[str, Any]) -> float:
    """What momentum makes of a constant contribution in the end."""
    momentum = number(settings.get("momentum") or 0.0)
    if not 0.0 < momentum < 1.0:
        return 1.0
    return (1.0 - number(settings.get("dampening") or 0.0)) / (1.0 - momentum)
