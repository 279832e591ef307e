"""The way of one parameter's gradient to the host."""

from __future__ import annotations

import torch
from torch import Tensor

from adamantine.torch.offload.lane import Arrival, Lane
from adamantine.torch.offload.seal import Seal
from adamantine.torch.storage import layout as storage


class Gradient:
    """What the host has of one parameter's gradient.

    Attributes:
        releases: whether the device's memory is freed as soon as the copy is under way. Then the gradients of
            several backward passes are added up here, in float32 or float64.
        is_held: whether the host has a gradient of which the device has none any more.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.releases = self.is_held = False
        self._memory: Tensor | None = None  # used again in every step
        self._arrival: Arrival | None = None
        self._seal: Seal | None = None
        self._sum: Tensor | None = None  # of the passes before the one in memory

    @property
    def seal(self) -> Seal | None:
        """Of the device's gradient, if it came during the backward pass and is still there."""
        return self._seal

    @torch.no_grad()
    def fetch(self, p: Tensor) -> None:
        """Begin to copy ``p.grad``, after all that the device was given so far."""
        grad = p.grad
        if grad is None or grad.is_sparse:  # a sparse one is of another size each time
            return
        if self.is_held:
            self._add_up()
        if self._memory is None or not _alike(self._memory, grad):
            self._memory = torch.empty_like(
                grad, device="cpu", requires_grad=False, pin_memory=self._lane.pinned
            )
        self._seal = None if self.releases else Seal.of(grad)
        self._arrival = self._lane.fetch(self._memory, grad.detach())
        if self.releases:
            p.grad = None
            self.is_held = True
            self._lane.limit(self._arrival, self._memory.nbytes)

    def bring(self, p: Tensor, changed: set[Tensor]) -> Tensor | None:
        """The gradient that the step is to take, to be read after `arrive`.

        ``changed``: tensors of which it is known that they are not any longer what was copied.
        """
        grad = p.grad
        if grad is None:
            return self._memory if self.is_held else None
        if grad.is_sparse:
            return grad.to("cpu")
        if self._seal is None or self._seal.is_broken(grad) or grad in changed:
            self.fetch(p)
        return self._memory

    def arrive(self) -> None:
        """Wait until the host may read it, and add it to what came before."""
        self._wait()
        if self._sum is not None and self._memory is not None:
            self._memory.copy_(self._sum.add_(self._memory))
            self._sum = None

    def forget(self) -> None:
        """It has been used, or is not to be."""
        self._seal = self._sum = None  # the seal would keep the device's memory
        self.is_held = False

    def give_back(self, p: Tensor) -> None:
        """To the device, what is only here."""
        if self.is_held and self._memory is not None:
            self.arrive()
            p.grad = self._memory.to(p.device, copy=True)
        self.forget()

    @property
    def nbytes(self) -> int:
        """Host memory."""
        return sum(tensor.nbytes for tensor in (self._memory, self._sum) if tensor is not None)

    def _wait(self) -> None:
        if self._arrival is not None:
            self._arrival.synchronize()
            self._arrival = None

    def _add_up(self) -> None:
        assert self._memory is not None
        self._wait()
        if self._sum is None:
            self._sum = storage.widen(self._memory)
            self._memory = None if self._sum is self._memory else self._memory
        else:
            self._sum.add_(self._memory)


def _alike(x: Tensor, y: Tensor) -> bool:
    return (x.shape, x.stride(), x.dtype) == (y.shape, y.stride(), y.dtype)
