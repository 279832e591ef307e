"""Whether a tensor on the device is still what was copied from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


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
