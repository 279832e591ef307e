"""`behaviour_of`: by reading where the class is known, by a dry run where it is not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adamantine.probe import known as known_classes
from adamantine.probe.behaviour import Behaviour
from adamantine.probe.errors import ProbeError
from adamantine.probe.measure import measure, unknown
from adamantine.probe.sandbox import like, short


def behaviour_of(
    optimizer: Any, group: int = 0, *, known: bool = True, shape: tuple[int, ...] | None = None
) -> Behaviour:
    """What the optimizer really does to the weights of one group.

    Args:
        optimizer: any ``torch.optim.Optimizer``, or an object that holds one as ``optimizer``.
        group: index into its ``param_groups``.
        known: read torch's and adamantine's own classes instead of running them; False runs them too.
        shape: of the tensor that a dry run steps; None takes one of the group's kind.

    The optimizer, its parameters, its state and all random states stay as they are. Never raises for an odd
    optimizer: decay ``unknown``, source ``none``, and the reason as evidence.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.ones(3))
    >>> found = behaviour_of(torch.optim.Adam([w], lr=1e-3, weight_decay=0.1))
    >>> found.decay, found.adaptive, found.source
    ('l2', True, 'class')
    >>> behaviour_of(torch.optim.Adam([w], lr=1e-3, weight_decay=0.1), known=False).decay
    'l2'
    """
    inner = _unwrapped(optimizer)
    try:
        hyper = inner.param_groups[group]
    except (AttributeError, IndexError) as error:
        return unknown(f"{type(optimizer).__name__} has no param_groups[{group}] ({error})")
    try:
        if known and (found := known_classes.read(inner, hyper)) is not None:
            return found
        shape = shape or _shape(hyper)
        return measure(like(inner, hyper, shape=shape), shape=shape, device=_device(hyper))
    except ProbeError as error:
        return unknown(str(error))
    except Exception as error:  # an optimizer may do anything
        return unknown(short(error))


def _unwrapped(optimizer: Any) -> Any:
    """The optimizer inside of Lightning's, DeepSpeed's or Accelerate's, which pass the step on."""
    while hasattr(optimizer, "optimizer") and (
        not isinstance(optimizer, torch.optim.Optimizer)
        or type(optimizer).__module__.startswith("accelerate.")
    ):
        optimizer = optimizer.optimizer
    return optimizer


def _shape(group: dict[str, Any]) -> tuple[int, ...]:
    """As the group's own: matrices where it has some; 4096 elements where it has that many, since 8-bit
    optimizers keep smaller tensors in full precision."""
    params = [p for p in group["params"] if isinstance(p, Tensor)]
    flat = bool(params) and all(p.ndim < 2 for p in params)
    large = any(p.numel() >= 4096 for p in params)
    if flat:
        return (4096,) if large else (64,)
    return (64, 64) if large else (8, 8)


def _device(group: dict[str, Any]) -> str:
    devices = {p.device.type for p in group["params"] if isinstance(p, Tensor)} - {"meta"}
    return str(next((p.device for p in group["params"] if p.device.type in devices), "cpu"))
