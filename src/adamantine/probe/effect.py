"""What λ did to the weights, told from what rounding did."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adamantine.probe.tolerance import CLEAR, ROUNDINGS, SHARE, TOLERANCE


@dataclass(frozen=True)
class Effect:
    """Two paths, shape (steps + 1, elements), from the same start and on the same gradients."""

    weight_decay: float  # as applied, raised where the real one drowns in rounding
    still: Tensor  # with λ = 0
    pulled: Tensor  # with λ
    eps: float  # of the arithmetic

    @property
    def difference(self) -> Tensor:
        """What λ did, after each step."""
        return self.pulled - self.still

    @property
    def floor(self) -> Tensor:
        """What rounding may have done to either path."""
        size = torch.maximum(self.pulled.abs(), self.still.abs()).cummax(0).values
        steps = torch.arange(size.shape[0], dtype=torch.float64).unsqueeze(1)
        return ROUNDINGS * self.eps * steps * size

    @property
    def clear(self) -> bool:
        """Whether at least a quarter of the elements shows it; L2 turns few signs in a sign rule."""
        return bool((self.difference[-1].abs() > CLEAR * self.floor[-1]).double().mean() >= 0.25)

    def misfit(self, path: Tensor) -> float | None:
        """How far another path is from ``pulled`` (90 % of it are closer), or None if it is another path."""
        error = (path - self.pulled).abs()[1:]
        effects = torch.maximum(self.difference.abs(), (path - self.still).abs())[1:]
        within = error <= TOLERANCE * effects + self.floor[1:]
        return float(error.quantile(0.9)) if float(within.double().mean()) >= SHARE else None

    def first_rate(self) -> float:
        """Fraction of the weight that λ took in the first step, where it acted."""
        acted = self.difference[1].abs() > self.floor[1]
        ratio = (-self.difference[1] / self.pulled[0])[acted]
        return float(ratio.median()) if len(ratio) else 0.0

    def takes_first(self, rate: float) -> bool:
        """Whether the first step in which λ acts takes this fraction of every weight."""
        shares = self._first_shares()
        return float(((shares - rate).abs() <= TOLERANCE * abs(rate)).double().mean()) >= SHARE

    def takes_constant(self) -> bool:
        """Whether the first step takes one and the same number from every weight."""
        taken = self.difference[1]
        middle = taken.median()
        near = (taken - middle).abs() <= TOLERANCE * middle.abs()
        return bool(middle != 0) and float(near.double().mean()) >= SHARE

    def times(self, other: Tensor) -> float:
        """How many times this effect another one is, where this one shows."""
        shown = self.difference[-1].abs() > CLEAR * self.floor[-1]
        return float((other[shown] / self.difference[-1][shown]).median())

    def drives_away(self, other: Tensor) -> bool:
        """Whether another effect drives these weights away from 0."""
        return float((other * self.pulled[0] > 0).double().mean()) >= SHARE

    def _first_shares(self) -> Tensor:
        start = int(self.difference.any(dim=1).nonzero()[0])
        return -self.difference[start] / self.pulled[start - 1]


def arithmetic_eps(path: Tensor, dtype: torch.dtype) -> float:
    """Machine epsilon of what made the path: some optimizers compute in float32 whatever the tensor is."""
    own = torch.finfo(dtype).eps
    single = torch.equal(path[-1].float().double(), path[-1])
    return max(own, torch.finfo(torch.float32).eps) if single else own
