"""The norm at which decay and steps would balance (Kosson et al., ICML 2024, arXiv 2305.17212).

If the steps s have no direction in common, with each other or with θ, they lengthen θ by ‖s‖² per step in the
square, and decay by r takes away 2r‖θ‖². These balance, element by element, where

    θ_i² = s_i²/(2 r_i)          ‖θ‖ = √(Σ_i s_i²/(2 r_i))

    AdamW        s = η              r = ηλ              ‖θ‖ = √(ηC/(2λ))        for C elements
    Adam + L2    s = η              r = ηλ/(√v̂ + ε)     ‖θ‖ = √(Σ η(√v̂ + ε)/(2λ))
    SGDM + L2    s = η|g|/(1-μ)     r = ηλ/(1-μ)        ‖θ‖ = √(η‖g‖²/(2λ(1-μ)))

Momentum spreads a gradient over many steps that do have a direction in common; together they are as long as
one step without momentum, which is the s above.

AdamW's is the norm of the paper for scale-invariant weights and that of pure noise, both: the same number. Of
the other two it is that of pure noise with gradients as large as they are now. A scale-invariant weight has
gradients ∝ 1/‖θ‖ and so another way to the same rest. At the rest the two agree; before it this one is
farther from the present norm N: the paper's N* has N*/N = (‖θ‖/N)^⅔ for Adam + L2, (‖θ‖/N)^½ for SGDM.
Weights whose gradients have a lasting direction settle where loss and decay balance, which no formula can
know.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from adamantine.audit.ledger_split import Split, Step, divided_step, without_decay
from adamantine.probe import Behaviour

Floats = NDArray[np.float64]

RELAXES = 0.5  # times 1/r: in so many steps ‖θ‖² comes e times closer to its rest


def norm_at_balance(step: Step, split: Split, behaviour: Behaviour, elements: int) -> float | None:
    """‖θ‖ of the whole parameter, from its chosen elements; None where nothing decays or s is not known.

    Known are the steps of Adam, AdamW and RAdam (its first steps are shorter), of RMSprop without momentum,
    and of SGD. AMSGrad and Adagrad have none: their steps shrink without end.

    Args:
        step: a measured one.
        split: of that step.
        behaviour: the group's.
        elements: of the whole parameter.
    """
    size = _uncorrelated(step, split, behaviour)
    if size is None or split.effective is None or behaviour.decay == "cautious":
        return None
    rate = split.effective
    if not (np.isfinite(rate).all() and (rate > 0).all()):
        return None
    square = float(np.mean(size**2 / (2 * rate)))
    return math.sqrt(elements * square) if math.isfinite(square) else None


def _uncorrelated(step: Step, split: Split, behaviour: Behaviour) -> Floats | float | None:
    """What one gradient moves a weight by, in all the steps that it takes part in."""
    slots = step.slots
    if behaviour.adaptive is False and behaviour.source == "class" and "lambd" not in step.group:
        momentum = float(step.group.get("momentum") or 0.0)
        kept = 1.0 - float(step.group.get("dampening") or 0.0) if momentum else 1.0
        return step.lr * np.abs(step.grad) * kept / (1.0 - momentum)
    if behaviour.decay != "l2" and divided_step(without_decay(step, split.by_decay), behaviour) is None:
        return None  # state of the same names, and another step
    if split.how != "formula":
        return None
    if "exp_avg" in slots and "exp_avg_sq" in slots and "max_exp_avg_sq" not in slots:
        return step.lr
    if "square_avg" in slots and "momentum_buffer" not in slots and "rho" not in step.group:
        return step.lr
    return None
