"""Which fraction of the weight each step takes, and by which power of lr."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from adamantine.probe.rig import Rig
from adamantine.probe.tolerance import CLEAR, ROUNDINGS, SHARE, TOLERANCE


@dataclass(frozen=True)
class Rates:
    """Rates of one optimizer on its rig; ``eps`` is that of its arithmetic."""

    rig: Rig
    eps: float
    _seen: dict[Any, Tensor | None] = field(default_factory=dict, repr=False, compare=False)

    def without_gradient(
        self, weight_decay: float | None, lrs: Sequence[float] | None = None
    ) -> Tensor | None:
        """r of each step with zero gradients; None where the weight does not shrink as a whole.

        ``weight_decay`` None leaves the factory's own; ``lrs`` are the lrs of the steps.
        """
        key = (weight_decay, None if lrs is None else tuple(lrs))
        if key not in self._seen:
            self._seen[key] = self._without_gradient(weight_decay, lrs)
        return self._seen[key]

    def _without_gradient(self, weight_decay: float | None, lrs: Sequence[float] | None) -> Tensor | None:
        zeros = self.rig.gradients(0.0, None if lrs is None else len(lrs))
        try:
            path = self.rig.run(weight_decay, zeros, lrs=lrs)
        except Exception:  # some rules divide by the norm of a zero
            return None
        ratio = 1.0 - path[1:] / path[:-1]
        middle = ratio.median(dim=1, keepdim=True).values
        near = (ratio - middle).abs() <= TOLERANCE * middle.abs() + ROUNDINGS * self.eps
        if not torch.isfinite(ratio).all() or float(near.double().mean()) < SHARE:
            return None
        return torch.where(near, ratio, middle).mean(dim=1)  # mean: rounding averages out

    def of_decay(self, weight_decay: float, lrs: Sequence[float] | None = None) -> Tensor | None:
        """The same, over and above what a step takes without λ (ASGD's lambd)."""
        rates = self.without_gradient(weight_decay, lrs)
        drift = self.without_gradient(0.0, lrs)
        if rates is None or drift is None or float(drift.abs().max()) == 0.0:
            return rates
        return 1.0 - (1.0 - rates) / (1.0 - drift)

    def power(self, weight_decay: float, lr: float) -> int | None:
        """The power of lr by which a step shrinks the weight, as the lr falls within one run.

        Where it falls by no power, new runs with other lrs are asked: ASGD follows its lr a step late.
        """
        steady = self.of_decay(weight_decay)
        if steady is None or not steady.any():
            beside = self._beside_steps(weight_decay, [lr, lr / 2, lr / 4])
            return self._power(beside.new_full((3,), float(beside[0])), beside)
        start = first_nonzero(steady)
        lrs = [*[lr] * (start + 1), lr / 2, lr / 4][: self.rig.steps]
        falling = self.of_decay(weight_decay, lrs)
        power = None if falling is None else self._power(steady[start : len(lrs)], falling[start:])
        if power is None:
            anew = self._anew(weight_decay, [lr, lr / 2, lr / 4])
            power = None if anew is None else self._power(anew.new_full((3,), float(anew[0])), anew)
        return power

    def _power(self, steady: Tensor, falling: Tensor) -> int | None:
        """The power by which rates at lr, lr/2 and lr/4 are less than those of the same steps at lr."""
        if len(falling) < 3 or not float(falling[0]):
            return None
        for power in range(4):
            expected = steady[1:3] * torch.tensor([0.5**power, 0.25**power], dtype=torch.float64)
            error = (falling[1:3] - expected).abs()
            if bool((error <= TOLERANCE * expected.abs() + ROUNDINGS * self.eps).all()):
                return power
        return None

    def _beside_steps(self, weight_decay: float, lrs: Sequence[float]) -> Tensor:
        """As with zero gradients, for rules that decay only where a step goes the same way."""
        grads = self.rig.gradients(steps=len(lrs))
        pulled, still = (self.rig.run(value, grads, lrs=lrs) for value in (weight_decay, 0.0))
        ratios = -(pulled - still).diff(dim=0) / pulled[:-1]
        acted = [row[row.abs() > CLEAR * self.eps] for row in ratios]
        return torch.stack([row.median() if len(row) else row.new_zeros(()) for row in acted])

    def _anew(self, weight_decay: float, lrs: Sequence[float]) -> Tensor | None:
        """The first step's rate at each lr, each in an optimizer that begins with it."""
        first = []
        for lr in lrs:
            rates = Rates(replace(self.rig, lr=lr), self.eps).of_decay(weight_decay, [lr])
            if rates is None:
                return None
            first.append(rates[0])
        return torch.stack(first)


def first_nonzero(rates: Tensor) -> int:
    """The first step that shrinks: RAdam and SOAP hold still at first. 0 if none does."""
    return int(rates.nonzero()[0]) if rates.any() else 0


def limit(rates: Tensor) -> float:
    """Where rates that grow geometrically, as in a momentum buffer, end (Aitken's extrapolation)."""
    first, second, third = (float(rate) for rate in rates[-7::3])  # apart, or rounding would decide
    bend = (third - second) - (second - first)
    if abs(bend) <= 1e-6 * abs(third):
        return third
    end = third - (third - second) ** 2 / bend
    return end if math.isfinite(end) and end > 0 else third
