r"""RAdam (Liu et al. 2020, Algorithm 2).

    ρ_∞ = 2/(1-β₂) - 1                     ρ_t = ρ_∞ - 2t β₂ᵗ/(1-β₂ᵗ)
    r_t = √( (ρ_t-4)(ρ_t-2)ρ_∞ / ((ρ_∞-4)(ρ_∞-2)ρ_t) )
    u_t = r_t √(1-β₂ᵗ) m̂_t / (√v_t + ε)    where ρ_t > 5 (the variance is tractable), else  u_t = m̂_t

ρ_t > 5 rather than the paper's > 4, and ε beside the uncorrected √v, as torch and the authors' code have it.
Shapes: g, m, v, u equal θ. Units: u is dimensionless once ρ_t > 5, a gradient before.
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
    inv_bias1: Any,
    rectify: Any,
    eps: Any,
) -> tuple[Any, ...]:
    m = beta1 * m + one_minus_beta1 * g
    v = beta2 * v + one_minus_beta2 * (g * g)
    m_hat = m * inv_bias1
    if rectify is None:  # the same for all elements of a step: a choice of the host, not of the data
        return m_hat, m, v
    return rectify * (m_hat / (sqrt(v) + eps)), m, v


def scalars(t: int, betas: Any, eps: Any) -> Scalars:
    beta2 = betas[1]
    bias2 = 1.0 - beta2**t
    rho_inf = 2.0 / (1.0 - beta2) - 1.0
    rho = rho_inf - 2.0 * t * beta2**t / bias2
    rectify = None
    if rho > 5.0:
        ratio = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
        rectify = (ratio * bias2) ** 0.5
    return {**rates(betas), "inv_bias1": inv_bias(betas[0], t), "rectify": rectify, "eps": eps}


RADAM = Rule(
    name="radam",
    paper="Liu et al. 2020, Algorithm 2",
    direction=direction,
    scalars=scalars,
    slots={"m": "exp_avg", "v": "exp_avg_sq"},
    unsigned=frozenset("v"),
    relative={"m": "v"},
    hyper={"betas": (0.9, 0.999), "eps": 1e-8},
)
