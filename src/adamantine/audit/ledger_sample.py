"""Which elements of a parameter the ledger looks at, and reading them from any tensor of that shape.

A parameter of up to `SIZE` elements is read whole. Of a larger one the same random elements are read at every
measured step: a root mean square over n of them has a relative standard error of about 1/√(2n) for normally
distributed values, 1.1 % at n = 4096. The indices come from a generator of their own, so that the training's
random numbers stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]

SIZE = 4096  # elements of one parameter that are read at most
TOTAL = 2**18  # of all parameters together, so that memory and time have a bound
LEAST = 64  # of one parameter, however many there are


def share(parameters: int) -> int:
    """How many elements each of so many parameters may have read.

    >>> share(10), share(100), share(100_000)
    (4096, 2621, 64)
    """
    return max(LEAST, min(SIZE, TOTAL // max(parameters, 1)))


class Sample:
    """The chosen elements of one parameter; complex numbers count as two elements each.

    >>> sample = Sample(torch.zeros(100, 100), most=8, seed=0)
    >>> sample.indices.shape, sample.elements
    (torch.Size([8]), 10000)
    >>> float(sample.of(torch.ones(100, 100)).sum())
    8.0
    """

    def __init__(self, p: Tensor, *, most: int, seed: int) -> None:
        p = real(p)
        self.shape = p.shape
        self.elements = p.numel()
        self.indices: Tensor | None = None
        if p.numel() > most:
            generator = torch.Generator().manual_seed(seed)
            # With replacement where duplicates are rare: a permutation of a billion elements is not to be
            # made.
            chosen = (
                torch.randint(p.numel(), (most,), generator=generator)
                if p.numel() > 16 * most
                else torch.randperm(p.numel(), generator=generator)[:most]
            )
            self.indices = chosen.sort().values.to(p.device)

    def __len__(self) -> int:
        return self.elements if self.indices is None else len(self.indices)

    def of(self, tensor: Tensor) -> Tensor:
        """The chosen elements, ``[n]``, of a tensor of the parameter's shape; a view where all are chosen."""
        if tensor.is_sparse:
            return self._of_sparse(tensor)
        tensor = real(tensor)
        if self.indices is None:
            return tensor.reshape(-1)
        if tensor.is_contiguous():
            return tensor.view(-1).index_select(0, self.indices)
        return tensor.take(self.indices)

    def fits(self, tensor: Tensor) -> bool:
        """Whether a tensor has the parameter's shape, element for element, and is no class of its own (whose
        elements may be kept in 8 bits)."""
        if tensor.is_sparse:
            return True
        plain = hasattr(tensor, "to_local") or type(tensor) in {Tensor, torch.nn.Parameter}
        return plain and tensor.layout == torch.strided and real(tensor).shape == self.shape

    def _of_sparse(self, grad: Tensor) -> Tensor:
        """Of a gradient with sparse rows (an embedding's), without making it dense."""
        grad = grad.detach().coalesce()
        rows, values = grad.indices(), grad.values()
        if rows.shape[0] != 1:
            return self.of(grad.to_dense())
        width = max(self.elements // max(self.shape[0], 1), 1)
        values = real(values).reshape(len(values), width)
        places = torch.arange(self.elements, device=values.device) if self.indices is None else self.indices
        found = torch.zeros(len(places), dtype=values.dtype, device=values.device)
        if values.numel():
            row = places // width
            at = torch.searchsorted(rows[0].contiguous(), row).clamp(max=rows.shape[1] - 1)
            hit = rows[0][at] == row
            found[hit] = values[at[hit], places[hit] % width]
        return found


def real(tensor: Tensor) -> Tensor:
    """Detached, this rank's part of a sharded tensor, and complex numbers as pairs."""
    tensor = tensor.detach()
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.resolve_neg()


def together(parts: Sequence[Tensor]) -> list[Tensor]:
    """Copies of vectors, in one tensor per device: what a step changes later does not reach them."""
    by_device: dict[torch.device, list[int]] = {}
    for place, part in enumerate(parts):
        by_device.setdefault(part.device, []).append(place)
    copies: list[Tensor] = list(parts)
    for places in by_device.values():
        lot = [parts[place] for place in places]
        wide = torch.float64 if any(part.dtype == torch.float64 for part in lot) else torch.float32
        joined = torch.cat([part.to(wide) for part in lot])  # exact: no dtype of weights is wider than these
        for place, copy in zip(places, torch.split(joined, [len(part) for part in lot]), strict=True):
            copies[place] = copy
    return copies


def arrays(copies: Sequence[Tensor]) -> list[Floats]:
    """The vectors as float64 arrays, with one transfer per device."""
    found: list[Floats] = [np.empty(0)] * len(copies)
    by_device: dict[torch.device, list[int]] = {}
    for place, copy in enumerate(copies):
        by_device.setdefault(copy.device, []).append(place)
    for places in by_device.values():
        lot = [copies[place] for place in places]
        flat = torch.cat(lot).cpu().numpy().astype(np.float64)
        ends = np.cumsum([len(part) for part in lot])[:-1]
        for place, part in zip(places, np.split(flat, ends), strict=True):
            found[place] = part
    return found
