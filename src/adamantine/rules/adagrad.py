r"""AdaGrad (Duchi, Hazan & Singer 2011, JMLR 12, the diagonal form of Figure 1).

    s_t = s_{t-1} + g_t²                u_t = κ_t g_t / (√s_t + ε)

κ_t = 1/(1 + (t-1)·lr_decay) is torch's additional annealing. Shapes: g, s, u equal θ. Units: u is
dimensionless for ε ≪ √s, so lr carries the unit of θ.
"""

from __future__ import annotations

from typing import Any

from numpy import sqrt

from adamantine.rules.rule import Rule, Scalars


def direction(g: Any, s: Any, kappa: Any, eps: Any) -> tuple[Any, ...]:
    s = s + g * g
    return kappa * (g / (sqrt(s) + eps)), s


def scalars(t: int, lr_decay: Any, eps: Any, initial_accumulator_value: Any) -> Scalars:
    return {"kappa": 1.0 / (1.0 + (t - 1) * lr_decay), "eps": eps}


ADAGRAD = Rule(
    name="adagrad",
    paper="Duchi, Hazan & Singer 2011",
    direction=direction,
    scalars=scalars,
    slots={"s": "sum"},
    unsigned=frozenset("s"),
    hyper={"lr_decay": 0.0, "eps": 1e-10, "initial_accumulator_value": 0.0},
    initial={"s": "initial_accumulator_value"},
    zero_at_zero=True,
)
