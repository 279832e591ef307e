r"""RMSprop (Tieleman & Hinton 2012, lecture 6.5), centered (Graves 2013, eq. 38-39) and with momentum.

    v_t = α v_{t-1} + (1-α) g_t²                        d_t = √v_t + ε
    a_t = α a_{t-1} + (1-α) g_t                         d_t = √(v_t - a_t²) + ε      (centered)
    u_t = g_t / d_t          or, with momentum μ        b_t = μ b_{t-1} + g_t / d_t,   u_t = b_t

v - a² is a variance and cannot be negative; rounding can make it so (a constant gradient), and its root would
be NaN, so it is cut at 0. Shapes: g, v, a, b, u equal θ. Units: u is dimensionless for ε ≪ √v.
"""

from __future__ import annotations

from typing import Any

from numpy import maximum, sqrt

from adamantine.rules.rule import Rule, Scalars


def plain(g: Any, v: Any, alpha: Any, one_minus_alpha: Any, eps: Any) -> tuple[Any, ...]:
    v = alpha * v + one_minus_alpha * (g * g)
    return g / (sqrt(v) + eps), v


def momentum(g: Any, v: Any, b: Any, alpha: Any, one_minus_alpha: Any, eps: Any, mu: Any) -> tuple[Any, ...]:
    v = alpha * v + one_minus_alpha * (g * g)
    b = mu * b + g / (sqrt(v) + eps)
    return b, v, b


def centered(g: Any, v: Any, a: Any, alpha: Any, one_minus_alpha: Any, eps: Any) -> tuple[Any, ...]:
    v = alpha * v + one_minus_alpha * (g * g)
    a = alpha * a + one_minus_alpha * g
    return g / (sqrt(maximum(v - a * a, 0.0)) + eps), v, a


def centered_momentum(
    g: Any, v: Any, a: Any, b: Any, alpha: Any, one_minus_alpha: Any, eps: Any, mu: Any
) -> tuple[Any, ...]:
    v = alpha * v + one_minus_alpha * (g * g)
    a = alpha * a + one_minus_alpha * g
    b = mu * b + g / (sqrt(maximum(v - a * a, 0.0)) + eps)
    return b, v, a, b


def scalars(t: int, alpha: Any, eps: Any) -> Scalars:
    return {"alpha": alpha, "one_minus_alpha": 1.0 - alpha, "eps": eps}


def momentum_scalars(t: int, alpha: Any, eps: Any, momentum: Any) -> Scalars:
    return {**scalars(t, alpha, eps), "mu": momentum}


def _rule(name: str, direction: Any, letters: str) -> Rule:
    keys = {"v": "square_avg", "a": "grad_avg", "b": "momentum_buffer"}
    hyper = {"alpha": 0.99, "eps": 1e-8}
    moving = "b" in letters
    return Rule(
        name=name,
        paper="Tieleman & Hinton 2012" + ("; Graves 2013, eq. 38-39" if "a" in letters else ""),
        direction=direction,
        scalars=momentum_scalars if moving else scalars,
        slots={letter: keys[letter] for letter in letters},
        unsigned=frozenset("v"),
        cancelling=frozenset("va" if "a" in letters else ""),
        hyper={**hyper, "momentum": 0.9} if moving else hyper,
    )


RMSPROP = _rule("rmsprop", plain, "v")
RMSPROP_MOMENTUM = _rule("rmsprop_momentum", momentum, "vb")
RMSPROP_CENTERED = _rule("rmsprop_centered", centered, "va")
RMSPROP_CENTERED_MOMENTUM = _rule("rmsprop_centered_momentum", centered_momentum, "vab")
