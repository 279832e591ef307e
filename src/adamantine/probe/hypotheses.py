"""What decay might be, done by hand around the steps of an optimizer without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adamantine.probe.rig import Hand, Rest
from adamantine.probe.tolerance import MUCH_CLOSER

Order = Literal["before", "after", "unclear"]


@dataclass(frozen=True)
class Hypothesis:
    """One way to decay. ``hand(λ, rates)`` does it, with the fraction of the weight for each step."""

    said: str
    order: Order
    hand: Callable[[float, Tensor], Hand]
    cautious: bool = False


class _Penalty(Rest):
    """λθ in the gradient."""

    def __init__(self, weight_decay: float, rates: Tensor) -> None:
        self.weight_decay = weight_decay

    def gradient(self, grad: Tensor, theta: Tensor) -> Tensor:
        return grad.add(theta, alpha=self.weight_decay)


class _Shrink(Rest):
    def __init__(self, weight_decay: float, rates: Tensor) -> None:
        self.rates = rates.tolist()


class _ShrinkBefore(_Shrink):
    """The step sees the shrunk weight: torch.optim.AdamW."""

    def before(self, theta: Tensor, t: int) -> None:
        theta.mul_(1.0 - self.rates[t])


class _ShrinkBeside(_Shrink):
    """The step sees the weight as it was, and both are taken from it: (1-r)θ - ηu."""

    def after(self, theta: Tensor, old: Tensor, t: int) -> None:
        theta.sub_(old, alpha=self.rates[t])


class _ShrinkAfter(_Shrink):
    """(1-r)(θ - ηu)."""

    def after(self, theta: Tensor, old: Tensor, t: int) -> None:
        theta.mul_(1.0 - self.rates[t])


class _CautiousBefore(_Shrink):
    """Only where the step alone makes the weight smaller, or leaves it (arXiv 2510.12402)."""

    def after(self, theta: Tensor, old: Tensor, t: int) -> None:
        shrinks = (theta - old) * old <= 0
        theta.sub_(torch.where(shrinks, old, 0.0), alpha=self.rates[t])


class _CautiousAfter(_Shrink):
    def after(self, theta: Tensor, old: Tensor, t: int) -> None:
        shrinks = (theta - old) * old <= 0
        theta.sub_(torch.where(shrinks, theta, 0.0), alpha=self.rates[t])


HYPOTHESES: dict[str, Hypothesis] = {
    "l2": Hypothesis("adding λθ to the gradients by hand", "unclear", _Penalty),
    "before": Hypothesis("shrinking the weight by hand before the step", "before", _ShrinkBefore),
    "beside": Hypothesis("shrinking the weight by hand beside the step", "before", _ShrinkBeside),
    "after": Hypothesis("shrinking the weight by hand after the step", "after", _ShrinkAfter),
    "cautious": Hypothesis(
        "shrinking the weight by hand where the step does so too", "before", _CautiousBefore, cautious=True
    ),
    "cautious after": Hypothesis(
        "shrinking the weight by hand, after the step, where it did so too",
        "after",
        _CautiousAfter,
        cautious=True,
    ),
}


def best_of(fits: Mapping[str, float]) -> tuple[str, Order]:
    """The closest hypothesis by its misfit, and its order unless the other order is nearly as close."""
    best = min(fits, key=lambda name: fits[name])
    order = HYPOTHESES[best].order
    rivals = [misfit for name, misfit in fits.items() if HYPOTHESES[name].order not in {order, "unclear"}]
    return best, "unclear" if rivals and min(rivals) <= MUCH_CLOSER * fits[best] else order
