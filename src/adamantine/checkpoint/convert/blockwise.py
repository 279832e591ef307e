"""Quantized optimizer state: codes, a table of what they mean, and one scale per block of elements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from adamantine.checkpoint.errors import CheckpointError


@dataclass(frozen=True)
class Blockwise:
    """A tensor as 8-bit or 4-bit codes (Dettmers et al. 2021, arXiv 2110.02861), or as scaled fp8.

    Element i, counted over the flattened tensor, is ``table[codes[i]] · scale[i // block]``.

    Attributes:
        codes: one per element, uint8 for tables, float8 without one; 4-bit codes are unpacked.
        scale: float32, one per block; the last block may be short.
        table: float32, 256 or 16 values in [-1, 1]; None where the codes are numbers themselves.
        block: elements per scale.
        shape: of the tensor.

    >>> eight = quantize(torch.tensor([0.5, -1.0, 0.0]), signed=True, block=256)
    >>> eight.dequantize()
    tensor([ 0.5008, -0.9930,  0.0000])
    """

    codes: Tensor
    scale: Tensor
    table: Tensor | None
    block: int
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        elements = math.prod(self.shape)
        if self.codes.numel() != elements or self.scale.numel() != blocks(elements, self.block):
            raise CheckpointError(
                f"quantized state of shape {self.shape} has {self.codes.numel()} codes and "
                f"{self.scale.numel()} scales for blocks of {self.block}; the file is damaged"
            )
        if self.table is not None and elements and int(self.codes.max()) >= self.table.numel():
            raise CheckpointError(
                f"quantized state has code {int(self.codes.max())}, its table {self.table.numel()} values; "
                "the file is damaged"
            )

    def dequantize(self) -> Tensor:
        """The float32 values, as the library that wrote them computes them: one product per element."""
        codes = self.codes.flatten()
        values = codes.float() if self.table is None else self.table.float()[codes.int()]
        scale = self.scale.float().repeat_interleave(self.block)[: values.numel()]
        return (values * scale).reshape(self.shape)


def blocks(elements: int, block: int) -> int:
    """How many scales a tensor has."""
    return -(-elements // block)


def quantize(values: Tensor, *, signed: bool, block: int) -> Blockwise:
    """The nearest 8-bit code per element; per block, the largest magnitude is the scale."""
    table = dynamic_table(signed)
    flat = values.float().flatten()
    padded = torch.nn.functional.pad(flat, (0, blocks(flat.numel(), block) * block - flat.numel()))
    rows = padded.view(-1, block)
    scale = rows.abs().amax(1) if rows.numel() else rows.new_zeros(0)
    relative = (rows / torch.where(scale > 0, scale, 1.0)[:, None]).flatten()[: flat.numel()]
    above = torch.searchsorted(table, relative).clamp_(1, len(table) - 1)
    nearer_below = relative - table[above - 1] <= table[above] - relative
    codes = torch.where(nearer_below, above - 1, above).to(torch.uint8)
    return Blockwise(codes.view(values.shape), scale, table, block, tuple(values.shape))


@cache
def dynamic_table(signed: bool) -> Tensor:
    """The 256 values of the dynamic data type (arXiv 1511.04561), ascending, as bitsandbytes and torchao
    make it.

    A run of i zero bits stands for 10^(i-6), the bits that remain for a linear fraction: fine steps near 1
    and seven decades below it. Unsigned tables spend the bit of the sign on the fraction.

    >>> [len(dynamic_table(signed)) for signed in (True, False)], dynamic_table(True)[[0, -1]].tolist()
    ([256, 256], [-0.992968738079071, 1.0])
    """
    values = [0.0, 1.0]
    for exponent in range(7):
        ends = torch.linspace(0.1, 1, 2 ** (exponent if signed else exponent + 1) + 1, dtype=torch.float32)
        means = 10 ** (exponent - 6) * ((ends[:-1] + ends[1:]) / 2.0)
        values += means.tolist()
        if signed:
            values += (-means).tolist()
    return torch.tensor(sorted(values), dtype=torch.float32)
