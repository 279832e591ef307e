"""The article's picture on the user's own net: how much decay an element gets, by its gradient's size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adamantine.audit.model import Distortion

Floats = NDArray[np.float64]

BINS = 24
FEWEST = 20  # elements of a bin: its 10 % quantile then has two elements below it


class Rates:
    """Sums over measured steps for one parameter's chosen elements; the means are taken at the end."""

    def __init__(self, size: int) -> None:
        self.squares = np.zeros(size)  # Σg²
        self.effective = np.zeros(size)  # Σ of the fraction removed
        self.nominal = 0.0  # Σηλ, the same for all elements
        self.count = 0

    def add(self, grad: Floats, effective: Floats, nominal: float) -> None:
        """One measured step; ``effective`` is the fraction that decay removed, ``nominal`` is η·λ."""
        if not (np.isfinite(grad).all() and np.isfinite(effective).all()):
            return
        self.squares += grad**2
        self.effective += effective
        self.nominal += nominal
        self.count += 1


@dataclass(frozen=True)
class Spread:
    """Of all elements that decay: RMS of the gradient, fraction removed per step, and their group's η·λ."""

    gradient: Floats
    effective: Floats
    nominal: Floats

    @classmethod
    def of(cls, rates: list[Rates]) -> Spread | None:
        """Of all parameters together; one parameter weighs by its chosen elements. None without any."""
        seen = [each for each in rates if each.count and each.nominal > 0]
        if not seen:
            return None
        gradient = np.concatenate([np.sqrt(each.squares / each.count) for each in seen])
        effective = np.concatenate([each.effective / each.count for each in seen])
        nominal = np.concatenate([np.full(len(each.squares), each.nominal / each.count) for each in seen])
        lit = gradient > 0  # an element without any gradient has no place on the axis
        return cls(gradient[lit], effective[lit], nominal[lit]) if lit.any() else None

    def quantiles(self) -> tuple[float, float]:
        """10 % and 90 % of effective over nominal decay: 1 and 1 for decoupled decay, whatever lr and λ each
        group has."""
        low, high = np.quantile(self.effective / self.nominal, (0.1, 0.9))
        return float(low), float(high)

    def decades(self) -> float:
        """log₁₀ of the second of `quantiles` over the first; NaN where the first is not > 0."""
        low, high = self.quantiles()
        return float(np.log10(high / low)) if low > 0 else float("nan")

    def slope(self) -> float:
        """Least-squares slope of log(effective/nominal) over log gradient: 0 for decoupled decay, -1 where
        the decay is divided by the gradient's size."""
        y = self.effective / self.nominal
        usable = y > 0
        if usable.sum() < 2 or np.ptp(self.gradient[usable]) == 0:
            return 0.0
        return float(np.polyfit(np.log(self.gradient[usable]), np.log(y[usable]), 1)[0])

    def binned(self) -> Distortion | None:
        """Bins of equal width in log gradient; those with fewer than `FEWEST` elements are left out."""
        x = np.log10(self.gradient)
        edges = np.linspace(x.min(), x.max(), BINS + 1)
        place = np.clip(np.digitize(x, edges) - 1, 0, BINS - 1)
        rows = []
        for k in range(BINS):
            inside = place == k
            if inside.sum() < FEWEST:
                continue
            low, middle, high = np.quantile(self.effective[inside], (0.1, 0.5, 0.9))
            rows.append((float(np.sqrt(np.mean(self.gradient[inside] ** 2))), middle, low, high))
        if not rows:
            return None
        gradient, effective, low_, high_ = (tuple(map(float, column)) for column in zip(*rows, strict=True))
        same = np.ptp(self.nominal) <= 1e-9 * self.nominal.max()
        return Distortion(gradient, effective, low_, high_, float(self.nominal[0]) if same else None)
