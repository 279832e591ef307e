r"""Clipping by the global norm while gradients are freed one after the other: what can be known when.

The exact factor is c = min(1, C / (‖g‖ + 1e-6)), C = ``max_norm``. When the gradient of one parameter is
complete, the others of the same backward pass have been freed or are not there yet.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from adamantine.torch.norm import clip_factor

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer

Clip = Literal["none", "delayed", "per-parameter", "two-pass"]

#: Key in the groups, and so in checkpoints: the norm that the next step's delayed clipping starts from.
LAST_NORM = "released_norm"


class Clipping:
    """``"none"``; and what the others do: a factor for each gradient, in the order of their completion."""

    def begin(self) -> None:
        """No gradient of this step has been seen."""

    def factor(self, sum_of_squares: float) -> float:
        """For the gradient that has this Σg²."""
        return 1.0

    def end(self, norm: float) -> None:
        """The step is over; ‖g‖ was this."""


class Delayed(Clipping):
    """``"delayed"``: by the larger of the last step's norm and that of the gradients seen so far in this one.

    The second keeps a first step, and a gradient that explodes, within bounds: √(Σ seen g²) ≤ ‖g‖, and every
    gradient leaves with at most the norm C.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._seen = 0.0

    def begin(self) -> None:
        self._seen = 0.0

    def factor(self, sum_of_squares: float) -> float:
        self._seen += sum_of_squares
        last = float(self._optimizer.param_groups[0].get(LAST_NORM, 0.0))
        return clip_factor(max(last, math.sqrt(self._seen)), self._optimizer.max_norm)

    def end(self, norm: float) -> None:
        if math.isfinite(norm):  # one bad step must not stop those that follow
            for group in self._optimizer.param_groups:
                group[LAST_NORM] = norm


class PerParameter(Clipping):
    """``"per-parameter"``: each gradient by its own norm, to C/√n, n parameters: together at most C."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def factor(self, sum_of_squares: float) -> float:
        bound = self._optimizer.max_norm
        if bound is not None:
            bound /= math.sqrt(sum(p.requires_grad for p in self._optimizer._parameters()))
        return clip_factor(math.sqrt(sum_of_squares), bound)


class Exact(Clipping):
    """``"two-pass"``: by the global norm, which a first backward pass has found."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self.norm = 0.0

    def factor(self, sum_of_squares: float) -> float:
        return clip_factor(self.norm, self._optimizer.max_norm)


def clipping_of(optimizer: Optimizer, clip: Clip) -> Clipping:
    """The clipping of this name."""
    if clip == "none":
        return Clipping()
    if clip == "delayed":
        return Delayed(optimizer)
    return PerParameter(optimizer) if clip == "per-parameter" else Exact(optimizer)
