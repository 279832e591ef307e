"""One parameter in host memory: its weights, which the engines step, and its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from adamantine.torch.offload.gradient import Gradient
from adamantine.torch.offload.lane import Arrival, Lane
from adamantine.torch.offload.seal import Seal


class Mirror:
    """What the host has of one parameter.

    Attributes:
        weights: θ, in the parameter's dtype and strides; the engines step it. Its ``grad`` is the gradient.
        gradient: how that comes here.
        is_hooked: whether backward passes bring it.
    """

    def __init__(self, p: Tensor, lane: Lane) -> None:
        self._lane, self._device = lane, p.device
        self._pinned = self._pins(p)
        self.weights = torch.empty_like(p, device="cpu", requires_grad=False, pin_memory=self._pinned)
        if hasattr(self.weights, "grad_dtype"):  # newer torch: gradients may have a dtype of their own
            self.weights.grad_dtype = None  # any
        self.gradient = Gradient(lane)
        self.is_hooked = False
        self._seal: Seal | None = None  # of θ
        self._sent: Arrival | None = None

    def _pins(self, p: Tensor) -> bool:
        return self._lane.pinned and p.requires_grad  # of what is frozen, nothing moves

    def fits(self, p: Tensor) -> bool:
        """Whether the parameter is of the kind it was: ``module.to()`` changes it in place."""
        same = (p.shape, p.dtype, p.device) == (self.weights.shape, self.weights.dtype, self._device)
        return same and self._pins(p) == self._pinned

    @property
    def seals(self) -> list[Seal]:
        """Of what is here already."""
        return [seal for seal in (self._seal, self.gradient.seal) if seal is not None]

    def bring(self, p: Tensor, changed: set[Tensor]) -> None:
        """Have θ, and the gradient if there is one, as they are on the device; `arrive` waits for them.

        ``changed``: tensors of which it is known that they are not any longer what was copied.
        """
        if self._sent is not None:  # what is under way reads what is about to be written
            self._sent.synchronize()
            self._sent = None
        if self._seal is None or self._seal.is_broken(p) or p in changed:
            self._lane.fetch(self.weights, p.detach()).synchronize()
            self._seal = Seal.of(p)
        self.weights.grad = self.gradient.bring(p, changed)

    def arrive(self) -> None:
        """Wait until the host may read the gradient."""
        self.gradient.arrive()

    def send(self, p: Tensor) -> None:
        """θ back to the device; what the device does from here on sees it."""
        self._sent = self._lane.send(p.detach(), self.weights)
        self._seal = Seal.of(p)
