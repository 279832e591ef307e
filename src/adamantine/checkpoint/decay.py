"""Which decay mode a state was trained under, as far as its class and its group tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: torch's classes with one mode. Adam, NAdam and RAdam have a flag for it; Rprop and LBFGS do not decay.
_TORCH = {
    "SGD": "l2",
    "Adagrad": "l2",
    "Adadelta": "l2",
    "RMSprop": "l2",
    "Adamax": "l2",
    "ASGD": "l2",
    "Adam": "l2",
    "NAdam": "l2",
    "RAdam": "l2",
    "AdamW": "decoupled",
    "Adafactor": "decoupled",
    "Muon": "decoupled",
}


def class_name(optimizer: object) -> str:
    """The class as a checkpoint names it: without the submodule, which is the library's own affair.

    >>> import torch
    >>> class_name(torch.optim.AdamW([torch.ones(1)]))
    'torch.optim.AdamW'
    """
    cls = type(optimizer)
    module = cls.__module__
    for public in ("torch.optim.lr_scheduler", "torch.optim", "adamantine.torch"):
        if module == public or module.startswith(public + "."):
            module = public
            break
    return f"{module}.{cls.__qualname__}"


def mode_of(cls: str | None, group: Mapping[str, Any]) -> str | None:
    """The mode of one group, None where neither the group nor a table of classes says it.

    >>> mode_of("torch.optim.Adam", {"decoupled_weight_decay": True})
    'decoupled'
    >>> mode_of("elsewhere.Adam", {"weight_decay": 0.1}) is None
    True
    """
    package, _, name = (cls or "").rpartition(".")
    if package == "adamantine.torch" and isinstance(group.get("decay"), str):
        return str(group["decay"])
    if package != "torch.optim":
        return None
    if "decoupled_weight_decay" in group:
        return "decoupled" if group["decoupled_weight_decay"] else "l2"
    return _TORCH.get(name)
