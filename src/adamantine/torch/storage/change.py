"""What a conversion between storage formats cost, slot by slot, as measured while it was done."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adamantine.torch.storage.elements import in_blocks

WEIGHTS = "weights"


@dataclass(frozen=True)
class SlotChange:
    """What became of one slot, or of the weights, over all parameters that keep it in another format now.

    Attributes:
        slot: key in the state, or ``"weights"``: the master weights, which a residual makes finer than θ.
        before, after: formats: a dtype's name, ``"8bit"``, ``"4bit"``; for weights as given to ``weights=``.
        parameters: how many.
        bytes_before, bytes_after: of all of them, headers and residuals included.
        error: ‖after - before‖ / ‖before‖ over all elements; 0.0 where nothing was lost.
        worst: the largest error of an element, as a share of the largest value among the 128 of its block.
        worst_at: the parameter that has it, "" where nothing was lost.
    """

    slot: str
    before: str
    after: str
    parameters: int
    bytes_before: int
    bytes_after: int
    error: float
    worst: float
    worst_at: str

    def __str__(self) -> str:
        loss = (
            f"off by {self.error:.2g} of its norm, at worst by {self.worst:.2g} of the largest value in a "
            f"block ({self.worst_at})"
            if self.worst
            else "exact"
        )
        sizes = f"{self.bytes_before:,} → {self.bytes_after:,} bytes"
        return f"{self.slot}: {self.before} → {self.after}, {sizes}, {loss}"


@dataclass(frozen=True)
class StorageChange:
    """The statement that comes with every conversion; ``str`` is one line per slot."""

    slots: tuple[SlotChange, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Whether every value is what it was."""
        return all(change.worst == 0.0 for change in self.slots)

    def __str__(self) -> str:
        return "\n".join(map(str, self.slots)) or "nothing is stored otherwise than before"


class Account:
    """Collects the changes of many parameters."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, str], _Tally] = {}

    def tally(self, slot: str, before: str, after: str) -> _Tally:
        """That of one slot's one change."""
        return self._tallies.setdefault((slot, before, after), _Tally())

    def statement(self) -> StorageChange:
        return StorageChange(tuple(tally.change(*key) for key, tally in self._tallies.items()))


class _Tally:
    def __init__(self) -> None:
        self._parameters = self._bytes_before = self._bytes_after = 0
        self._error = self._norm = 0.0  # sums of squares
        self._worst, self._worst_at = 0.0, ""

    def count(self, before: list[Tensor], after: list[Tensor]) -> None:
        """One more parameter's tensors."""
        self._parameters += 1
        self._bytes_before += sum(tensor.nbytes for tensor in before)
        self._bytes_after += sum(tensor.nbytes for tensor in after)

    def measure(self, name: str, before: Tensor, after: Tensor) -> None:
        """A flat piece, which begins with a block. What was not finite before is no loss."""
        x = before.double()
        finite = x.isfinite()
        x = torch.where(finite, x, 0.0)
        error = torch.where(finite, (after.double() - x).abs(), 0.0)
        error = torch.where(error.isnan(), math.inf, error)
        self._error += float(error.square().sum())
        self._norm += float(x.square().sum())
        size, off = (in_blocks(each).amax(1) for each in (x.abs(), error))
        share = float(torch.where(off > 0, off / size, 0.0).max()) if off.numel() else 0.0
        if share > self._worst:
            self._worst, self._worst_at = share, name

    def change(self, slot: str, before: str, after: str) -> SlotChange:
        error = math.sqrt(self._error / self._norm) if self._norm else math.sqrt(self._error)
        return SlotChange(
            slot=slot,
            before=before,
            after=after,
            parameters=self._parameters,
            bytes_before=self._bytes_before,
            bytes_after=self._bytes_after,
            error=error,
            worst=self._worst,
            worst_at=self._worst_at,
        )
