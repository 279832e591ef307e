r"""Adam-atan2 (Everett et al. 2024, arXiv 2407.05872): Adam without ε, exactly invariant to the loss's scale.

    m_t, v_t, m̂_t, v̂_t as in Adam          u_t = atan2(m̂_t, √v̂_t)

atan2(0, 0) = 0, so a weight that never had a gradient stays. |u| ≤ π/2, and u ≈ m̂/√v̂ where that is small.
Shapes: g, m, v, u equal θ. Units: u is dimensionless, so lr carries the unit of θ.
"""

from __future__ import annotations

from typing import Any

from numpy import sqrt

from adamantine.rules.adam import moments
from adamantine.rules.arctan2 import arctan2
from adamantine.rules.rule import Rule, Scalars


def direction(
    g: Any,
    m: Any,
    v: Any,
    beta1: Any,
    one_minus_beta1: Any,
    beta2: Any,
    one_minus_beta2: Any,
    inv_bias1: Any,
    inv_bias2: Any,
) -> tuple[Any, ...]:
    m = beta1 * m + one_minus_beta1 * g
    v = beta2 * v + one_minus_beta2 * (g * g)
    m_hat = m * inv_bias1
    v_hat = v * inv_bias2
    return arctan2(m_hat, sqrt(v_hat)), m, v


def scalars(t: int, betas: Any) -> Scalars:
    return moments(t, betas)


ADAM_ATAN2 = Rule(
    name="adam_atan2",
    paper="Everett et al. 2024, arXiv 2407.05872",
    direction=direction,
    scalars=scalars,
    slots={"m": "exp_avg", "v": "exp_avg_sq"},
    unsigned=frozenset("v"),
    relative={"m": "v"},
    hyper={"betas": (0.9, 0.999)},
)
