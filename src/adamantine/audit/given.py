"""A group's settings as its user gave them, where a scheduler has written over them since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def given(group: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The group with the momentum that its optimizer was made with; ``defaults`` are the optimizer's.

    OneCycleLR and CyclicLR write max_momentum into the groups and cycle β₁, or momentum where there are no
    betas. The value of this very step is nobody's choice.

    >>> import torch
    >>> optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=1e-3, betas=(0.8, 0.99))
    >>> _ = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=10)
    >>> group = optimizer.param_groups[0]
    >>> group["betas"], given(group, optimizer.defaults)["betas"]
    ((0.95, 0.99), (0.8, 0.99))
    """
    found = dict(group)
    if "max_momentum" not in group:
        return found
    if "betas" in defaults and "betas" in group:
        found["betas"] = (defaults["betas"][0], *group["betas"][1:])
    elif "momentum" in defaults and "momentum" in group:
        found["momentum"] = defaults["momentum"]
    return found
