r"""Adam direction (Kingma & Ba 2015, Algorithm 1); with decoupled decay, AdamW.

    m_t = β₁ m_{t-1} + (1-β₁) g_t          v_t = β₂ v_{t-1} + (1-β₂) g_t²
    u_t = m̂_t / (√v̂_t + ε)                 m̂_t = m_t/(1-β₁ᵗ),  v̂_t = v_t/(1-β₂ᵗ)

Shapes: g, m, v, u equal θ. Units: u is dimensionless for ε ≪ √v̂, so lr carries the unit of θ.
"""

from __future__ import annotations

from typing import Any

from numpy import sqrt

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
    eps: Any,
) -> tuple[Any, ...]:
    m = beta1 * m + one_minus_beta1 * g
    v = beta2 * v + one_minus_beta2 * (g * g)
    m_hat = m * inv_bias1
    v_hat = v * inv_bias2
    return m_hat / (sqrt(v_hat) + eps), m, v


def rates(betas: Any) -> Scalars:
    """β₁, β₂ and what they leave, for every rule with two averages."""
    beta1, beta2 = betas
    return {
        "beta1": beta1,
        "one_minus_beta1": 1.0 - beta1,
        "beta2": beta2,
        "one_minus_beta2": 1.0 - beta2,
    }


def inv_bias(beta: Any, t: int) -> Any:
    """1/(1-βᵗ), which corrects an average that started from 0."""
    return 1.0 / (1.0 - beta**t)


def moments(t: int, betas: Any) -> Scalars:
    """What every rule with two bias-corrected moments needs of β₁, β₂ and t."""
    return {**rates(betas), "inv_bias1": inv_bias(betas[0], t), "inv_bias2": inv_bias(betas[1], t)}


def scalars(t: int, betas: Any, eps: Any) -> Scalars:
    return {**moments(t, betas), "eps": eps}


ADAM = Rule(
    name="adam",
    paper="Kingma & Ba 2015, Algorithm 1",
    direction=direction,
    scalars=scalars,
    slots={"m": "exp_avg", "v": "exp_avg_sq"},
    unsigned=frozenset("v"),
    relative={"m": "v"},
    hyper={"betas": (0.9, 0.999), "eps": 1e-8},
)
