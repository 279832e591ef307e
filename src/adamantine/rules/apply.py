"""From a direction to a step: the only place where decay meets θ, for every rule and engine.

    g ← grad_scale · g + couple · θ
    u, slots ← direction(g, slots)
    θ ← shrink · θ - η u

``couple`` and ``shrink`` are all that a decay mode is (`decay.py`); cautious decay alone looks at elements.
"""

from __future__ import annotations

from typing import Any

from numpy import where


def scale(g: Any, grad_scale: Any) -> Any:
    """The gradient in the loss's own units: clipping, loss scale, sign of ``maximize``."""
    return grad_scale * g


def penalize(g: Any, theta: Any, couple: Any) -> Any:
    """The gradient of loss + (couple/2)·‖θ‖²: L2, seen by every moment that the rule keeps."""
    return g + couple * theta


def step(theta: Any, u: Any, shrink: Any, eta: Any) -> Any:
    """θ ← shrink·θ - η·u."""
    return shrink * theta - eta * u


def cautious_step(theta: Any, u: Any, shrink: Any, eta: Any) -> Any:
    """The same, shrinking only where the step itself goes towards zero (arXiv 2510.12402, Algorithm 1)."""
    return where(u * theta >= 0, shrink * theta, theta) - eta * u
