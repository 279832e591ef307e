"""Whether a tensor on the device is still what was copied from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from adamantine.torch.storage import layout as storage


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
    sums: Sums

    @classmethod
    def of(cls, tensor: Tensor) -> Seal:
        """Under ``no_grad``."""
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
        now = [_sums(seal.tensor) for seal in lot]
        differ = (_table(now) != _table([seal.sums for seal in lot])).any(dim=0).tolist()
        found |= {seal.tensor for seal, differs in zip(lot, differ, strict=True) if differs}
    return found


#: Σ of the bits as integers, int64, which any one change alters; Σ of the values, float32, which signs alter.
Sums = tuple[Tensor, Tensor]

#: Element size in bytes → integers of that size; complex ones are seen as real before.
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _sums(x: Tensor) -> Sums:
    """Two reads of the tensor, and nothing that the host would have to wait for."""
    x = storage.real(x.resolve_conj())
    bits = x.view(_INTEGERS[x.element_size()])
    return bits.sum(dtype=torch.int64), x.sum(dtype=torch.float32)


def _table(sums: list[Sums]) -> Tensor:
    """``[2, tensors]`` as integers, by which a NaN equals itself."""
    bits, values = zip(*sums, strict=True)
    return torch.stack([torch.stack(bits), torch.stack(values).view(torch.int32).to(torch.int64)])
