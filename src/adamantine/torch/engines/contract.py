"""The seam between an optimizer and the generic engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from adamantine.rules import Rule
from adamantine.rules.decay import Coefficients
from adamantine.torch.storage.layout import Formats


@dataclass(frozen=True)
class Update:
    """Parameters that take one step with the same numbers: the tensors, and one row of host scalars.

    ``states[i]`` is the state dictionary of ``thetas[i]``, complete: every slot of the rule is there, stored
    as ``formats`` says. The engine writes θ and the slots; all else is the optimizer's.
    """

    rule: Rule
    thetas: Sequence[Tensor]
    grads: Sequence[Tensor]
    states: Sequence[dict[str, Any]]
    formats: Formats
    scalars: dict[str, Any]
    decay: Coefficients
    eta: Any
    grad_scale: float
    differentiable: bool
    foreach: bool | None
