"""One step's decay, told apart from its gradient's share.

What the weight lost to decay is d, the rest of the step is the gradient's:

    decoupled, independent, corrected, fixed    d = r·θ, with the fraction r that the probe reads or measures
    cautious                                    d = r·θ where the step shrinks the weight, else 0
    L2, not adaptive (SGD)                      d = r·θ, r = ηλ/(1-μ): what the momentum repeats is in it
    L2, adaptive                                d = ηλθ/(√v̂ + ε) for the optimizers below, seen to step by
    that

The L2 formulas hold for weights that change little while the momentum forgets, within some 1/(1-β₁) steps:
the moving average is then λθ plus that of the gradients. Whether an adaptive optimizer *is* one of these is
not taken from its name: the formula must give the step that was seen, from the state that it left behind.

    Adam, AMSGrad    m̂/(√v̂ + ε),  v̂ = v/(1-β₂ᵗ)        state exp_avg, exp_avg_sq, (max_exp_avg_sq,) step
    RAdam            Adam's times r_t (Liu et al. 2020)
    Adamax           m̂/u                                  state exp_avg, exp_inf, step
    RMSprop          g/(√v + ε),   centered √(v - a²)     state square_avg, (grad_avg,) (momentum_buffer)
    Adagrad          g/(√s + ε)                           state sum, step
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adamantine.probe import Behaviour

Floats = NDArray[np.float64]

#: State that `divided_step` can use, by torch's names.
SLOTS = (
    "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "grad_avg", "momentum_buffer", "sum",
)  # fmt: skip

#: How far, relative to the step, a formula may be from the step that was seen and still be its formula:
#: float32 state and weights leave 1e-3 at most; a wrong formula is off by tens of percent.
AGREES = 0.02

How = Literal["formula", "counterfactual", "unknown"]


@dataclass(frozen=True)
class Step:
    """One parameter's chosen elements around one step, each ``[n]``; scalars of its group."""

    before: Floats
    after: Floats
    grad: Floats  # of the loss alone, as the optimizer got it
    slots: dict[str, Floats]  # state after the step
    count: float  # t, 0 if the state does not say
    lr: float
    weight_decay: float
    group: dict[str, Any]
    resolution: float  # relative distance of neighbouring weights in their dtype

    @property
    def change(self) -> Floats:
        """θ after - θ before."""
        return self.after - self.before


@dataclass(frozen=True)
class Split:
    """The change of one step in two, ``[n]`` each: change = by_decay + by_gradient."""

    by_decay: Floats
    by_gradient: Floats
    effective: Floats | None  # fraction of the weight that decay removes per step; None where it is unknown
    how: How


@dataclass(frozen=True)
class Divided:
    """A step u·η of an adaptive optimizer, and what it divides the decay by: d = η·λ·θ/divisor."""

    step: Floats
    divisor: Floats


def split(step: Step, behaviour: Behaviour, shrink: float | None) -> Split | None:
    """By the formulas above; None where none is known to hold.

    Args:
        step: what was seen.
        behaviour: the group's, from the probe.
        shrink: its `Behaviour.shrink`, at the lr and λ of this step.
    """
    change, theta = step.change, step.before
    if behaviour.decay in {"none", "ignored"}:
        return _with_rate(step, np.zeros_like(theta))
    if behaviour.decay == "l2" and behaviour.adaptive:
        divided = divided_step(step, behaviour)
        return None if divided is None else _with_rate(step, step.lr * step.weight_decay / divided.divisor)
    if shrink is None or behaviour.decay in {"other", "unknown"}:
        return None
    if behaviour.decay == "cautious":
        # Where it acts the whole step points at 0; where it does not, the step points away.
        return _with_rate(step, np.where(change * theta <= 0, shrink, 0.0))
    return _with_rate(step, np.full_like(theta, shrink))


def _with_rate(step: Step, rate: Floats) -> Split:
    by_decay = -rate * step.before
    return Split(by_decay, step.change - by_decay, rate, "formula")


def without_decay(step: Step, by_decay: Floats) -> Step:
    """The step as if it had begun where the decay left the weight."""
    return replace(step, before=step.before + by_decay, weight_decay=0.0)


def divided_step(step: Step, behaviour: Behaviour) -> Divided | None:
    """The adaptive formula that gives the step that was seen, if one does.

    A step that drowns in the rounding of the weights proves nothing: then the class has to be a known one.
    """
    if behaviour.source != "class" and _rms(step.change) < 3 * _rounding(step):
        return None
    with np.errstate(all="ignore"):
        for formula in (_adam, _radam, _adamax, _rmsprop, _adagrad):
            divided = formula(step)
            if divided is not None and agrees(divided.step, step):
                return divided
    return None


def agrees(predicted: Floats, step: Step) -> bool:
    """Whether a predicted change is the one that was seen, up to rounding of the weights."""
    if not np.isfinite(predicted).all() or not np.isfinite(step.change).all():
        return False
    return _rms(predicted - step.change) <= AGREES * _rms(step.change) + _rounding(step)


def _rounding(step: Step) -> float:
    """What rounding may do to a step. Twice a weight's: an optimizer may round a product and a sum."""
    return 2 * step.resolution * _rms(np.maximum(np.abs(step.before), np.abs(step.after)))


def _rms(x: Floats) -> float:
    return float(np.sqrt(np.mean(x * x))) if x.size else 0.0


def _adam(step: Step) -> Divided | None:
    m, v = step.slots.get("exp_avg"), step.slots.get("exp_avg_sq")
    betas = step.group.get("betas")
    if m is None or v is None or betas is None or len(betas) != 2 or step.count < 1:
        return None
    beta1, beta2 = (float(beta) for beta in betas)
    v = step.slots.get("max_exp_avg_sq", v)
    divisor = np.sqrt(v / (1 - beta2**step.count)) + float(step.group.get("eps", 0.0))
    return Divided(-step.lr * m / (1 - beta1**step.count) / divisor, divisor)


def _radam(step: Step) -> Divided | None:
    adam = _adam(step)
    if adam is None:
        return None
    beta2, t = float(step.group["betas"][1]), step.count
    limit = 2 / (1 - beta2) - 1
    length = limit - 2 * t * beta2**t / (1 - beta2**t)
    if length <= 5:  # not yet divided by anything
        return None
    rectified = np.sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length))
    return Divided(adam.step * rectified, adam.divisor / rectified)


def _adamax(step: Step) -> Divided | None:
    m, largest, betas = step.slots.get("exp_avg"), step.slots.get("exp_inf"), step.group.get("betas")
    if m is None or largest is None or betas is None or step.count < 1:
        return None
    return Divided(-step.lr * m / (1 - float(betas[0]) ** step.count) / largest, largest)


def _rmsprop(step: Step) -> Divided | None:
    v = step.slots.get("square_avg")
    if v is None or "rho" in step.group:  # Adadelta multiplies by the size of its past steps
        return None
    mean = step.slots.get("grad_avg")
    divisor = np.sqrt(v if mean is None else np.maximum(v - mean**2, 0)) + float(step.group.get("eps", 0.0))
    buffer = step.slots.get("momentum_buffer")
    momentum = float(step.group.get("momentum", 0.0))
    u = (_coupled(step) / divisor) if buffer is None else buffer
    return Divided(-step.lr * u, divisor * (1 - momentum))


def _adagrad(step: Step) -> Divided | None:
    total = step.slots.get("sum")
    if total is None or step.count < 1:
        return None
    slowed = 1 + (step.count - 1) * float(step.group.get("lr_decay", 0.0))
    divisor = (np.sqrt(total) + float(step.group.get("eps", 0.0))) * slowed
    return Divided(-step.lr * _coupled(step) / divisor, divisor)


def _coupled(step: Step) -> Floats:
    """The gradient with the penalty's, as an L2 optimizer sees it."""
    sign = -1.0 if step.group.get("maximize") else 1.0
    return sign * step.grad + step.weight_decay * step.before
