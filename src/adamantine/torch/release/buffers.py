"""Sums of micro-batches' gradients, kept in place of the gradients themselves."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from adamantine.formats import words
from adamantine.torch.storage import codecs
from adamantine.torch.storage import layout as storage
from adamantine.torch.storage.elements import Run

Buffer = Literal["float32", "bfloat16", "moments"]

#: Key in the groups, and so in checkpoints: how many steps were taken, by which bfloat16 sums are rounded.
STEPS = "released_steps"


#: Elements that are rounded at a time: ten temporaries of this size are small beside a large gradient.
#: The fastest of 2¹⁴ … 2¹⁸ on one CPU.
PIECE = 2**17


class Sum(Protocol):
    """The sum of one parameter's gradients since the last step."""

    @property
    def nbytes(self) -> int:
        """Memory."""

    def add(self, grad: Tensor) -> None: ...

    def total_with(self, grad: Tensor | None) -> Tensor:
        """The sum, and this gradient added, in the parameter's dtype. The last call."""


class PreciseSum:
    """In the gradient's own dtype, half precision in float32: with float32 torch's own accumulation."""

    def __init__(self, p: Tensor) -> None:
        self._dtype = p.dtype
        self._sum: Tensor | None = None

    @property
    def nbytes(self) -> int:
        return 0 if self._sum is None else self._sum.nbytes

    def add(self, grad: Tensor) -> None:
        grad = _dense(grad)
        if self._sum is None:
            self._sum = storage.widen(grad)
        else:
            self._sum.add_(grad)

    def total_with(self, grad: Tensor | None) -> Tensor:
        if grad is not None:
            self.add(grad)
        assert self._sum is not None
        return self._sum.to(self._dtype)


class ShortSum:
    """In bfloat16, rounded stochastically, since what is less than half a unit would be lost each time.

    Args:
        p: the parameter.
        key: 64 bits, different for every parameter and step; the same give the same sum.
    """

    def __init__(self, p: Tensor, key: int) -> None:
        self._p, self._key = p, key
        self._sum: Tensor | None = None

    @property
    def nbytes(self) -> int:
        return 0 if self._sum is None else self._sum.nbytes

    def add(self, grad: Tensor) -> None:
        new = storage.real(_dense(grad)).reshape(-1)
        old, self._sum = self._sum, torch.empty_like(new, dtype=torch.bfloat16)
        for start in range(0, new.numel(), PIECE):
            here = slice(start, start + PIECE)
            piece = new[here].float()
            if old is not None:
                piece = piece + old[here].float()
            run = Run(start, start + piece.numel(), piece.device)
            self._sum[here] = codecs.stochastic(piece, run, [self._key], torch.bfloat16)
        self._key = words.next_key(self._key)

    def total_with(self, grad: Tensor | None) -> Tensor:
        assert self._sum is not None
        total = storage.widen(self._sum)
        if grad is not None:
            total = total + storage.real(_dense(grad)).reshape(-1)
        found = torch.empty_like(self._p)  # in θ's layout, as autograd's
        like = storage.real(found)
        like.copy_(total.view(like.shape))
        return found


def sum_of(p: Tensor, buffer: Buffer, *, seed: int, position: int, step: int) -> Sum:
    """An empty sum.

    Args:
        p: the parameter.
        buffer: its precision.
        seed, position, step: of the optimizer, of p among its parameters, and how many were taken: they
            decide how a bfloat16 sum is rounded.
    """
    if buffer == "float32":
        return PreciseSum(p)
    # The keys from first_key(seed, position) on round weights, so these start on the other side of 0; between
    # two steps there is room for 2³² micro-batches.
    start = words.first_key(seed, -2 - position)
    return ShortSum(p, words.signed(start + step * (words.GOLDEN_64 << 32), 64))


def _dense(grad: Tensor) -> Tensor:
    grad = grad.detach()
    return (grad.to_dense() if grad.is_sparse else grad).resolve_conj()
