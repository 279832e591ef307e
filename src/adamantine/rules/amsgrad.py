r"""AMSGrad (Reddi, Kale & Kumar 2018, Algorithm 2), bias-corrected as torch does.

    m_t, v_t as in Adam          w_t = max(w_{t-1}, v_t)
    u_t = m̂_t / (√ŵ_t + ε)       ŵ_t = w_t/(1-β₂ᵗ)

Shapes: g, m, v, w, u equal θ. Units: u is dimensionless for ε ≪ √ŵ.
"""

from __future__ import annotations

from typing import Any

from numpy import maximum, sqrt

from adamantine.rules.adam import scalars
from adamantine.rules.rule import Rule


def direction(
    g: Any,
    m: Any,
    v: Any,
    w: Any,
    beta1: Any,
    one_minus_beta1: Any,
    beta2: Any,
    one_minus_beta2: Any,
    inv_bias1: Any,
    inv_bias2: Any,
    eps: Any,
) -> tuple[Any, ...]:
    m = beta1 * m + one_minus_beta1 * g
    v = beta2 * v + one_minus_beta2 * (g * g)
    w = maximum(w, v)
    m_hat = m * inv_bias1
    w_hat = w * inv_bias2
    return m_hat / (sqrt(w_hat) + eps), m, v, w


AMSGRAD = Rule(
    name="amsgrad",
    paper="Reddi, Kale & Kumar 2018, Algorithm 2",
    direction=direction,
    scalars=scalars,
    slots={"m": "exp_avg", "v": "exp_avg_sq", "w": "max_exp_avg_sq"},
    unsigned=frozenset("vw"),
    relative={"m": "v"},
    hyper={"betas": (0.9, 0.999), "eps": 1e-8},
)
