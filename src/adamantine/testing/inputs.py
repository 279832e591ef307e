"""What every class is given alike: gradients, and a learning rate that changes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor

from adamantine.testing.outcome import NotApplicable


def gradients(params: Iterable[Tensor], t: int, *, size: float = 1.0) -> None:
    """Sets the gradients of time ``t``: of either sign, ½ to 1½ of ``size``, the same at every call."""
    for index, p in enumerate(params):
        p.grad = (size * _noise(p.shape, 1000 * (t + 1) + index)).to(p.dtype)


@lru_cache(maxsize=256)
def _noise(shape: torch.Size, seed: int) -> Tensor:
    """Drawn once: a check of every class asks for the same few hundred tensors again and again."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(shape, generator=generator, dtype=torch.float32) * 2 - 1
    return noise + 0.5 * torch.where(noise >= 0, 1.0, -1.0)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """As torch's schedulers do it: into the tensor, where lr is one.

    Raises:
        NotApplicable: a group has no lr.
    """
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise NotApplicable("its groups have no lr")
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
