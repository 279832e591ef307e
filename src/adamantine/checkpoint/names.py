"""Which parameter is which: by name wherever names can be had."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def names_of(optimizer: torch.optim.Optimizer, model: nn.Module | None = None) -> list[str | None]:
    """Each parameter's name, group by group: as the optimizer was told, or as the model calls it, or None."""
    of_model: dict[Tensor, str] = {}
    if model is not None:
        of_model = {p: name for name, p in model.named_parameters()}
    names: list[str | None] = []
    for group in optimizer.param_groups:
        told = group.get("param_names") or [None] * len(group["params"])
        names += [
            name if name is not None else of_model.get(p)
            for name, p in zip(told, group["params"], strict=True)
        ]
    return names


def tell_all(names: Sequence[str | None]) -> bool:
    """Whether every parameter has a name of its own. Two networks in one optimizer may share theirs."""
    return bool(names) and None not in names and len(set(names)) == len(names)
