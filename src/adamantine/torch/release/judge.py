"""What a step with released gradients knows of them: their norms, the factor of each, which are left out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adamantine.torch.norm import Squares, total
from adamantine.torch.options import OnNonfinite, check_choice
from adamantine.torch.release.clipping import Clip, clipping_of

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

    from adamantine.torch.optimizer import Optimizer


class Judge:
    """Decides on each gradient of a step when it is complete.

    Attributes:
        clipping: what gives the factor.
        squares: Σg² of this step's gradients so far, without the loss scale.
        left_out: whether one of them was not finite, so that its parameter stays.
    """

    def __init__(self, optimizer: Optimizer, clip: Clip, scaler: GradScaler | None) -> None:
        self._optimizer, self._clip = optimizer, clip
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self.clipping = clipping_of(optimizer, clip)
        self.squares: dict[Tensor, Squares] = {}
        self.left_out = False

    def measures(self) -> bool:
        """Whether the norm of each gradient has to be known before its step."""
        optimizer = self._optimizer
        check_choice("on_nonfinite", optimizer.on_nonfinite, OnNonfinite)  # it may have been assigned
        if self._clip == "none" and optimizer.max_norm is not None:
            raise RuntimeError(
                f"max_norm={optimizer.max_norm} was set after release_gradients(clip='none'), which cannot "
                "know the global norm; release gradients anew with another clip"
            )
        return self._clip != "none" or optimizer.on_nonfinite != "ignore" or self._scaler is not None

    def factor(self, p: Tensor, found: Squares) -> float | None:
        """For the gradient of p, of which this was found; None: leave it out.

        Raises:
            FloatingPointError: it is not finite and ``on_nonfinite="raise"``.
        """
        unscale = 1.0 if self._scaler is None else 1.0 / self._scaler.get_scale()
        true = self.squares[p] = Squares(found.sum * unscale**2, found.largest * unscale)
        if math.isfinite(true.sum) or (self._optimizer.on_nonfinite == "ignore" and self._scaler is None):
            return unscale * self.clipping.factor(true.sum)
        if self._scaler is None and self._optimizer.on_nonfinite == "raise":
            raise FloatingPointError("its gradient is not finite")
        self.left_out = True
        return None

    def in_order(self) -> list[tuple[Tensor, Squares]]:
        """In the order of the groups, in which `Optimizer` adds: the same bits."""
        return [(p, self.squares[p]) for p in self._optimizer._parameters() if p in self.squares]

    def norm(self) -> float:
        """Of all gradients of this step so far."""
        return math.sqrt(total(found for _, found in self.in_order()))

    def end(self) -> None:
        """The step is over: what the optimizer, the clipping and the scaler are to know of it."""
        optimizer = self._optimizer
        measured = self.in_order()
        optimizer._measured = lambda: measured
        if measured:
            optimizer.last_norm = self.norm()
            self.clipping.end(optimizer.last_norm)
        optimizer.skipped_steps += self.left_out
        if self._scaler is not None:
            _report(self._scaler, optimizer, found_inf=self.left_out)
        self.begin()

    def begin(self) -> None:
        """Another step, or another pass."""
        self.squares = {}
        self.left_out = False
        self.clipping.begin()


def _report(scaler: GradScaler, optimizer: Optimizer, *, found_inf: bool) -> None:
    """What `GradScaler.update` looks for, and would have found on gradients that are no longer there."""
    state = scaler._per_optimizer_states[id(optimizer)]
    device = next((p.device for p in optimizer._parameters()), torch.device("cpu"))
    state["found_inf_per_device"] = {device: torch.full((), float(found_inf), device=device)}
