"""Which elements a codec is given: in which blocks they are, and where their codes and headers lie.

A parameter's elements are counted in row-major order, and its blocks from its first element. `Run` is a piece
of one parameter. `Runs` is several whole ones end to end, since a call on a small tensor costs more than its
arithmetic: with the same blocks, numbered as in each parameter alone, so that no bit depends on the company.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn.functional import pad

from adamantine.formats.block import BLOCK


def packed_size(n: int, bits: int) -> int:
    """Bytes of n codes."""
    return n if bits == 8 else (n + 1) // 2


def block_count(n: int) -> int:
    """Headers of n codes."""
    return -(-n // BLOCK)


def in_blocks(x: Tensor) -> Tensor:
    """``[n]`` → ``[⌈n/128⌉, 128]``, filled up with zeros."""
    return pad(x, (0, -x.numel() % BLOCK)).view(-1, BLOCK)


def put_back(flat: Tensor, tensors: list[Tensor] | tuple[Tensor, ...]) -> None:
    """Copy what was laid end to end to where it belongs."""
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view(x.shape) for part, x in zip(parts, tensors, strict=True)])
    increment_version(tensors)  # which foreach calls do not under a dispatch mode (a memory tracker's)


@dataclass(frozen=True)
class Run:
    """Elements start to stop of one parameter; start is a multiple of 128."""

    start: int
    stop: int
    device: torch.device

    @property
    def here(self) -> slice:
        """Where they lie among the parameter's."""
        return slice(self.start, self.stop)

    @property
    def headers(self) -> slice:
        """Likewise their blocks' headers."""
        return slice(self.start // BLOCK, block_count(self.stop))

    def codes(self, bits: int) -> slice:
        """Likewise their codes, in bytes."""
        first = self.start * bits // 8
        return slice(first, first + packed_size(self.stop - self.start, bits))

    def blocks(self, x: Tensor) -> Tensor:
        """``[n]`` → ``[blocks, 128]``; elements that are missing in a last block are 0."""
        return in_blocks(x)

    def flat(self, blocks: Tensor) -> Tensor:
        """The inverse."""
        return blocks.view(-1)[: self.stop - self.start]

    def pack(self, codes: Tensor, bits: int) -> Tensor:
        """int32 codes ``[blocks, 128]`` → uint8: one each, or two a byte, a block's first half low."""
        flat = self.flat(codes).to(torch.uint8)
        if bits == 8:
            return flat
        whole = flat.numel() // BLOCK * BLOCK
        return torch.cat([_pair(flat[:whole].view(-1, BLOCK)), _pair(flat[whole:].view(1, -1))])

    def unpack(self, stored: Tensor, bits: int) -> Tensor:
        """The inverse; codes that are no element's are 0."""
        if bits == 8:
            return in_blocks(stored.to(torch.int32))
        n = self.stop - self.start
        whole = n // BLOCK * BLOCK
        full = _part(stored[: whole // 2].view(-1, BLOCK // 2))
        rest = _part(stored[whole // 2 :].view(1, -1))[: n - whole]
        return in_blocks(torch.cat([full, rest]).to(torch.int32))

    def index(self) -> Tensor:
        """Each element's number within its parameter, int32 ``[n]``."""
        return torch.arange(self.start, self.stop, device=self.device).to(torch.int32)

    def numbers(self) -> Tensor:
        """Each block's, int32 ``[blocks, 1]``."""
        first, last = self.start // BLOCK, block_count(self.stop)
        return torch.arange(first, last, device=self.device).to(torch.int32).view(-1, 1)

    def by_element(self, values: Sequence[int]) -> int:
        """What each element has of numbers that each parameter has one of."""
        return values[0]

    def by_block(self, values: Sequence[int]) -> int:
        """Likewise of each block."""
        return values[0]


class Runs:
    """All elements of several parameters, one parameter behind the other; methods as those of `Run`."""

    here = headers = slice(None)

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        self._sizes = torch.tensor(sizes, device=device)
        counts = (self._sizes + BLOCK - 1) // BLOCK
        self._owner, self._block_owner = torch.repeat_interleave(self._sizes), torch.repeat_interleave(counts)
        self._within = _counted(self._sizes, self._owner)
        self._block_number = _counted(counts, self._block_owner)
        #: Of each element, where blocks are whole.
        self._place = self._within + (BLOCK * _before(counts)).index_select(0, self._owner)

    def codes(self, bits: int) -> slice:
        return slice(None)

    def blocks(self, x: Tensor) -> Tensor:
        filled: Tensor = x.new_zeros(self._block_owner.numel() * BLOCK)
        filled.scatter_(0, self._place, x)
        return filled.view(-1, BLOCK)

    def flat(self, blocks: Tensor) -> Tensor:
        return blocks.reshape(-1).index_select(0, self._place)

    def pack(self, codes: Tensor, bits: int) -> Tensor:
        flat = self.flat(codes).to(torch.uint8)
        if bits == 8:
            return flat
        places, total = self._halves
        halves: Tensor = flat.new_zeros(2 * total)
        halves.scatter_(0, places, flat)
        return halves[:total] | (halves[total:] << 4)

    def unpack(self, stored: Tensor, bits: int) -> Tensor:
        if bits == 4:
            places, _ = self._halves
            stored = torch.cat([stored & 15, stored >> 4]).index_select(0, places)
        return self.blocks(stored.to(torch.int32))

    def index(self) -> Tensor:
        return self._within.to(torch.int32)

    def numbers(self) -> Tensor:
        return self._block_number.to(torch.int32).view(-1, 1)

    def by_element(self, values: Sequence[int]) -> Tensor:
        return self._each(values).index_select(0, self._owner)

    def by_block(self, values: Sequence[int]) -> Tensor:
        return self._each(values).index_select(0, self._block_owner).view(-1, 1)

    def _each(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=self._sizes.device)

    @cached_property
    def _halves(self) -> tuple[Tensor, int]:
        """Each code's place among the low halves of all bytes, with the high ones behind; how many bytes."""
        sizes = (self._sizes + 1) // 2
        total = int(sizes.sum())
        inside = self._within % BLOCK
        before = self._within - inside
        in_block = torch.clamp_max(self._sizes.index_select(0, self._owner) - before, BLOCK)
        low = (in_block + 1) // 2
        byte = _before(sizes).index_select(0, self._owner) + before // 2 + inside
        return torch.where(inside < low, byte, byte - low + total), total


Elements = Run | Runs


def _before(sizes: Tensor) -> Tensor:
    return sizes.cumsum(0) - sizes


def _counted(sizes: Tensor, owner: Tensor) -> Tensor:
    """0, 1, 2, … anew for each owner."""
    return torch.arange(owner.numel(), device=owner.device) - _before(sizes).index_select(0, owner)


def _pair(codes: Tensor) -> Tensor:
    """``[blocks, n]`` → the bytes of their blocks one after the other, ``[blocks·⌈n/2⌉]``."""
    half = (codes.shape[1] + 1) // 2
    high = pad(codes[:, half:], (0, codes.shape[1] % 2))
    return (codes[:, :half] | (high << 4)).view(-1)


def _part(stored: Tensor) -> Tensor:
    """The inverse; an odd block's last code is one too many, 0."""
    return torch.cat([stored & 15, stored >> 4], dim=1).view(-1)
