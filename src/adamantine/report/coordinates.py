"""Two systems of coordinates for a setting: (lr, λ) and (lr, γ), and the timescale τ of its decay.

λ is what the optimizer takes, per unit of lr; γ = ηλ is the fraction of a weight that one step at peak lr
removes. With ``decay="independent"`` the optimizer takes γ itself, so there the two change places.
"""

from __future__ import annotations

import math

from adamantine.report.model import MethodGrid
from adamantine.report.separability_model import Coordinates

#: Modes whose weights forget at the rate γ, at the peak lr at least. A penalty's rate depends on the size of
#: the gradients, and cautious decay leaves weights out.
WITH_TIMESCALE = frozenset({"decoupled", "corrected", "independent"})


def is_sheared(method: MethodGrid, coordinates: Coordinates) -> bool:
    """Is the method's grid, a rectangle in its own coordinates, sheared in these?"""
    return coordinates != ("γ" if method.decay == "independent" else "λ")


def per_step(method: MethodGrid, lr: float, weight_decay: float) -> float:
    """γ of a setting."""
    return weight_decay * (1.0 if method.decay == "independent" else lr)


def timescale(method: MethodGrid, lr: float, weight_decay: float) -> float | None:
    """τ = 1/γ in steps (Wang & Aitchison 2024, arXiv 2405.13698): over how many of them the weights average
    their updates. ``None`` without decay, and for a decay that has no such rate."""
    rate = per_step(method, lr, weight_decay)
    return 1.0 / rate if method.decay in WITH_TIMESCALE and rate > 0 else None


def steps(value: float) -> str:
    """A number of steps or epochs to three digits.

    >>> [steps(v) for v in (9.876, 98.76, 9876.0, 1.23e7)]
    ['9.88', '98.8', '9880', '1.23e7']
    """
    if value >= 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    digits = max(2 - math.floor(math.log10(value)), 0) if value > 0 else 0
    return f"{float(f'{value:.3g}'):.{digits}f}"
