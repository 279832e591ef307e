"""One parameter's copy in host memory, its gradient's, and whether they are still what the device holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from adamantine.torch.offload_lane import Arrival, Lane


@dataclass(frozen=True, eq=False)
class Seal:
    """What a tensor was when it was copied.

    Its object, memory and version tell of nearly every change, but not of writes through ``.data`` or another
    tensor in the same memory (DistributedDataParallel's buckets). So the bits are summed too, on the device,
    where reading is cheap beside the copy.
    """

    tensor: Tensor
    version: int
    address: int
    sums: Tensor

    @classmethod
    def of(cls, tensor: Tensor) -> Seal:
        return cls(tensor, tensor._version, tensor.data_ptr(), _sums(tensor))

    def is_broken(self, tensor: Tensor) -> bool:
        """As far as can be told without a look at the numbers."""
        return not (
            tensor is self.tensor and tensor._version == self.version and tensor.data_ptr() == self.address
        )


def changed(seals: Iterable[Seal]) -> set[Tensor]:
    """The tensors whose numbers have changed since they were sealed. Waits for each device once."""
    found: set[Tensor] = set()
    by_device: dict[torch.device, list[Seal]] = defaultdict(list)
    for seal in seals:
        if seal.is_broken(seal.tensor):
            found.add(seal.tensor)
        else:
            by_device[seal.tensor.device].append(seal)
    for lot in by_device.values():
        now, then = (torch.stack(sums) for sums in ([_sums(s.tensor) for s in lot], [s.sums for s in lot]))
        differ = (now != then).any(dim=1).tolist()
        found |= {seal.tensor for seal, differs in zip(lot, differ, strict=True) if differs}
    return found


#: Element size in bytes → integers of that size; complex ones are seen as real before.
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def _sums(x: Tensor) -> Tensor:
    """Two numbers, int64: Σ of the bits, which any one change alters; Σ of the values, which signs alter."""
    x = x.detach()
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    bits = x.view(_INTEGERS[x.element_size()]).sum(dtype=torch.int64)
    return torch.stack([bits, x.sum(dtype=torch.float32).view(torch.int32).to(torch.int64)])


class Mirror:
    """What the host has of one parameter.

    Attributes:
        weights: θ, in the parameter's dtype and strides; the engines step it. Its ``grad`` is the gradient.
        is_hooked: whether backward passes bring the gradient.
    """

    def __init__(self, p: Tensor, lane: Lane) -> None:
        self._lane, self._device = lane, p.device
        self._pinned = self._pins(p)
        self.weights = torch.empty_like(p, device="cpu", requires_grad=False, pin_memory=self._pinned)
        self.is_hooked = False
        self._seal: Seal | None = None  # of θ
        self._sent: Arrival | None = None
        self._gradient: Tensor | None = None  # memory that is used again in every step
        self._gradient_seal: Seal | None = None
        self._fetched: Arrival | None = None

    def _pins(self, p: Tensor) -> bool:
        return self._lane.pinned and p.requires_grad

    def fits(self, p: Tensor) -> bool:
        """Whether the parameter is of the kind it was: ``module.to()`` changes it in place."""
        same = (p.shape, p.dtype, p.device) == (self.weights.shape, self.weights.dtype, self._device)
        return same and self._pins(p) == self._pinned

    @property
    def seals(self) -> list[Seal]:
        """Of what is here already: θ, and the gradient that came during the backward pass."""
        return [seal for seal in (self._seal, self._gradient_seal) if seal is not None]

    def fetch_gradient(self, p: Tensor) -> None:
        """Begin to copy the gradient, after what the device was given so far."""
        grad = p.grad
        if grad is None:  # another hook was faster
            return
        if grad.is_sparse:  # of another size each time
            self.weights.grad = grad.to("cpu")
            return
        if self._gradient is None or not _alike(self._gradient, grad):
            self._gradient = torch.empty_like(
                grad, device="cpu", requires_grad=False, pin_memory=self._lane.pinned
            )
        self._gradient_seal = Seal.of(grad)
        self._fetched = self._lane.fetch(self._gradient, grad.detach())
        self.weights.grad = self._gradient

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
        seal = self._gradient_seal
        if p.grad is None:
            self.weights.grad = None
        elif seal is None or seal.is_broken(p.grad) or p.grad in changed:
            self.fetch_gradient(p)

    def arrive(self) -> None:
        """Wait until the host may read the gradient."""
        if self._fetched is not None:
            self._fetched.synchronize()
            self._fetched = None

    def send(self, p: Tensor) -> None:
        """θ back to the device; what the device does from here on sees it."""
        self._sent = self._lane.send(p.detach(), self.weights)
        self._seal = Seal.of(p)

    def forget_gradient(self) -> None:
        """The seal holds the device's gradient, which is to be freed."""
        self._gradient_seal = None

    def nbytes(self) -> tuple[int, int]:
        """Host memory of θ and of the gradient."""
        return self.weights.nbytes, 0 if self._gradient is None else self._gradient.nbytes


def _alike(x: Tensor, y: Tensor) -> bool:
    return (x.shape, x.stride(), x.dtype) == (y.shape, y.stride(), y.dtype)
