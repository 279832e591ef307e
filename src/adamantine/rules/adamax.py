r"""Adamax (Kingma & Ba 2015, Algorithm 2), with ε inside the maximum as torch has it.

    m_t = β₁ m_{t-1} + (1-β₁) g_t          n_t = max(β₂ n_{t-1}, |g_t| + ε)
    u_t = m̂_t / n_t                        m̂_t = m_t/(1-β₁ᵗ)

n is the exponentially weighted infinity norm. Shapes: g, m, n, u equal θ. Units: u is dimensionless.
"""

from __future__ import annotations

from typing import Any

from numpy import absolute, maximum

from adamantine.rules.adam import inv_bias
from adamantine.rules.rule import Rule, Scalars


def direction(
    g: Any, m: Any, n: Any, beta1: Any, one_minus_beta1: Any, beta2: Any, inv_bias1: Any, eps: Any
) -> tuple[Any, ...]:
    m = beta1 * m + one_minus_beta1 * g
    n = maximum(beta2 * n, absolute(g) + eps)
    m_hat = m * inv_bias1
    return m_hat / n, m, n


def scalars(t: int, betas: Any, eps: Any) -> Scalars:
    beta1, beta2 = betas
    return {
        "beta1": beta1,
        "one_minus_beta1": 1.0 - beta1,
        "beta2": beta2,
        "inv_bias1": inv_bias(beta1, t),
        "eps": eps,
    }


ADAMAX = Rule(
    name="adamax",
    paper="Kingma & Ba 2015, Algorithm 2",
    direction=direction,
    scalars=scalars,
    slots={"m": "exp_avg", "n": "exp_inf"},
    unsigned=frozenset("n"),
    hyper={"betas": (0.9, 0.999), "eps": 1e-8},
)
