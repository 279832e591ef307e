"""Whether an optimizer moves parameters that have no gradient."""

from __future__ import annotations

import torch

from adamantine.audit.subject import Group
from adamantine.probe import like


def moves_without_gradient(group: Group) -> bool:
    """Whether a step changes a parameter whose gradient is None; False where it cannot be tried.

    torch's and adamantine's own classes skip such parameters and are not tried.
    """
    if type(group.optimizer).__module__.startswith(("torch.optim.", "adamantine.torch")):
        return False
    raw = group.optimizer.param_groups[group.place]
    try:
        still, moving = (torch.ones(8, 8, requires_grad=True) for _ in range(2))
        moving.grad = torch.ones_like(moving)
        with torch.random.fork_rng(devices=[]):
            like(group.optimizer, raw)([still, moving]).step()
    except Exception:  # an optimizer may do anything
        return False
    return not bool(torch.equal(still.detach(), torch.ones(8, 8)))
