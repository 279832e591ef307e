r"""Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2).

    u_t = sign( β₁ m_{t-1} + (1-β₁) g_t )          m_t = β₂ m_{t-1} + (1-β₂) g_t

Shapes: g, m, u equal θ. Units: u is ±1, so lr carries the unit of θ and wants 3-10 times less than AdamW's,
λ as much more.
"""

from __future__ import annotations

from typing import Any

from numpy import sign

from adamantine.rules.adam import rates
from adamantine.rules.rule import Rule, Scalars


def direction(
    g: Any, m: Any, beta1: Any, one_minus_beta1: Any, beta2: Any, one_minus_beta2: Any
) -> tuple[Any, ...]:
    u = sign(beta1 * m + one_minus_beta1 * g)
    m = beta2 * m + one_minus_beta2 * g
    return u, m


def scalars(t: int, betas: Any) -> Scalars:
    return rates(betas)


LION = Rule(
    name="lion",
    paper="Chen et al. 2023, Algorithm 2",
    direction=direction,
    scalars=scalars,
    slots={"m": "exp_avg"},
    hyper={"betas": (0.9, 0.99)},
    counts_steps=False,
)
