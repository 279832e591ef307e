"""What the user gave an optimizer: its settings before any scheduler, among the arguments of its class."""

from __future__ import annotations

import inspect
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


def signature_of(cls: type) -> dict[str, inspect.Parameter]:
    """What a class can be called with, by name. Behind ``**kwargs`` stand the arguments of its bases.

    >>> import torch
    >>> class Mine(torch.optim.AdamW):
    ...     def __init__(self, params, warmup=100, **kwargs):
    ...         super().__init__(params, **kwargs)
    >>> found = signature_of(Mine)
    >>> found["warmup"].default, found["weight_decay"].default
    (100, 0.01)
    """
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        try:
            takes = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]  # but for self
        except (TypeError, ValueError):  # made in C
            break
        for parameter in takes:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes):
            break
    return found
