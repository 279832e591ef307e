"""What a conversion kept, changed and lost, in sentences and numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class ConversionReport:
    """The statement that comes with every converted checkpoint.

    Attributes:
        source: layout that was read.
        target: layout that was written.
        parameters: how many.
        kept: what is the same, bit for bit.
        changed: what is there in another form; lossy ones with the measured error.
        lost: what the target has no place for, or the source did not tell.
    """

    source: str
    target: str
    parameters: int = 0
    kept: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.source} → {self.target}, {self.parameters} parameters"]
        for title, sentences in (("kept", self.kept), ("changed", self.changed), ("lost", self.lost)):
            lines += [f"  {title}: {sentence}" for sentence in sentences]
        return "\n".join(lines)


@dataclass
class Error:
    """Largest difference between tensors and what became of them.

    >>> error = Error()
    >>> error.add(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 4.5]))
    >>> str(error)
    'largest error 0.5, 12.5 % of the largest value of its tensor'
    """

    absolute: float = 0.0
    relative: float = 0.0

    def add(self, before: Tensor, after: Tensor) -> None:
        """One more tensor."""
        if before.numel():
            worst = (before.double() - after.double()).abs().max().item()
            largest = before.double().abs().max().item()
            self.absolute = max(self.absolute, worst)
            self.relative = max(self.relative, worst / largest if largest else 0.0)

    def __str__(self) -> str:
        share = 100 * self.relative
        return f"largest error {self.absolute:.3g}, {share:.3g} % of the largest value of its tensor"


def equal(first: Tensor, second: Tensor) -> bool:
    """Same dtype, shape and bits, NaN payloads included."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return torch.equal(_bytes(first), _bytes(second))


def _bytes(value: Tensor) -> Tensor:
    return value.detach().contiguous().reshape(-1).view(torch.uint8)
