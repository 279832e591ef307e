r"""Gradient descent, with Polyak's and with Nesterov's momentum.

    SGD         u_t = g_t
    heavy ball  m_t = μ m_{t-1} + (1-τ) g_t         u_t = m_t            (Polyak 1964)
    Nesterov    m_t = μ m_{t-1} + g_t               u_t = g_t + μ m_t    (Sutskever et al. 2013)

with τ the dampening; the first step takes g_1 undamped, as torch does. Shapes: g, m, u equal θ.
Units: u is a gradient, so lr carries θ/g.
"""

from __future__ import annotations

from typing import Any

from adamantine.rules.rule import Rule, Scalars


def sgd(g: Any) -> tuple[Any, ...]:
    return (g,)


def heavy_ball(g: Any, m: Any, mu: Any, one_minus_tau: Any) -> tuple[Any, ...]:
    m = mu * m + one_minus_tau * g
    return m, m


def nesterov(g: Any, m: Any, mu: Any) -> tuple[Any, ...]:
    m = mu * m + g
    return g + mu * m, m


def heavy_ball_scalars(t: int, momentum: Any, dampening: Any) -> Scalars:
    return {"mu": momentum, "one_minus_tau": 1.0 if t == 1 else 1.0 - dampening}


SGD = Rule(
    name="sgd",
    paper="Robbins & Monro 1951",
    direction=sgd,
    scalars=lambda t: {},
    counts_steps=False,
    zero_at_zero=True,
)
HEAVY_BALL = Rule(
    name="heavy_ball",
    paper="Polyak 1964",
    direction=heavy_ball,
    scalars=heavy_ball_scalars,
    slots={"m": "momentum_buffer"},
    hyper={"momentum": 0.9, "dampening": 0.0},
    counts_steps=False,
)
NESTEROV = Rule(
    name="nesterov",
    paper="Sutskever, Martens, Dahl & Hinton 2013, eq. 3-4 (in torch's form)",
    direction=nesterov,
    scalars=lambda t, momentum: {"mu": momentum},
    slots={"m": "momentum_buffer"},
    hyper={"momentum": 0.9},
    counts_steps=False,
)
