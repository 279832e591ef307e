r"""NAdam (Dozat 2016, Algorithm 2), with the paper's warming momentum μ_t.

    μ_t = β₁ (1 - ½·0.96^{t·ψ})            m_t, v_t as in Adam
    u_t = [ (1-μ_t)/(1-Π_{i≤t} μ_i) · g_t + μ_{t+1}/(1-Π_{i≤t+1} μ_i) · m_t ] / (√v̂_t + ε)

ψ is ``momentum_decay``; Πμ is carried from step to step, since β₁ may be scheduled. Shapes: g, m, v, u
equal θ. Units: u is dimensionless for ε ≪ √v̂.
"""

from __future__ import annotations

from typing import Any

from numpy import sqrt

from adamantine.rules.adam import inv_bias, rates
from adamantine.rules.rule import Rule, Scalars


def direction(
    g: Any,
    m: Any,
    v: Any,
    beta1: Any,
    one_minus_beta1: Any,
    beta2: Any,
    one_minus_beta2: Any,
    inv_bias2: Any,
    g_weight: Any,
    m_weight: Any,
    eps: Any,
) -> tuple[Any, ...]:
    m = beta1 * m + one_minus_beta1 * g
    v = beta2 * v + one_minus_beta2 * (g * g)
    v_hat = v * inv_bias2
    return (g_weight * g + m_weight * m) / (sqrt(v_hat) + eps), m, v


def scalars(t: int, betas: Any, eps: Any, momentum_decay: Any, mu_product: float) -> Scalars:
    beta1 = betas[0]
    mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    mu_product = mu_product * mu
    return {
        **rates(betas),
        "inv_bias2": inv_bias(betas[1], t),
        "g_weight": (1.0 - mu) / (1.0 - mu_product),
        "m_weight": mu_next / (1.0 - mu_product * mu_next),
        "eps": eps,
        "mu_product": mu_product,
    }


NADAM = Rule(
    name="nadam",
    paper="Dozat 2016, Algorithm 2",
    direction=direction,
    scalars=scalars,
    slots={"m": "exp_avg", "v": "exp_avg_sq"},
    unsigned=frozenset("v"),
    relative={"m": "v"},
    hyper={"betas": (0.9, 0.999), "eps": 1e-8, "momentum_decay": 4e-3},
    carried={"mu_product": 1.0},
)
