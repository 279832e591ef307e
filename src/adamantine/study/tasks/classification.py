"""Loss and score that the classification tasks share."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log likelihood in nats; ``outputs`` ``[..., classes]``, ``targets`` ``[...]``."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def error_rate(outputs: Tensor, targets: Tensor) -> Tensor:
    """The fraction of wrong predictions; shapes as in :func:`cross_entropy`."""
    return (outputs.argmax(-1) != targets).double().mean()
