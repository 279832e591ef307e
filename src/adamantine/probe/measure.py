"""`measure`: dry-run an optimizer that a factory makes."""

from __future__ import annotations

import torch

from adamantine.probe.behaviour import Behaviour
from adamantine.probe.dryrun import DryRun, Inconclusive
from adamantine.probe.quiet import undisturbed
from adamantine.probe.rig import Rig
from adamantine.probe.sandbox import Factory, short


def measure(
    factory: Factory,
    *,
    shape: tuple[int, ...] = (8, 8),
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    weight_decay: float | None = None,
) -> Behaviour:
    """Dry-run an optimizer and say what its weight decay does.

    Args:
        factory: makes the optimizer over given tensors; takes ``lr`` and ``weight_decay`` as overrides.
        shape: of the tensor that is stepped.
        dtype: of the tensor; None takes float64, and float32 where the optimizer refuses that.
        device: where the tensor lives.
        weight_decay: λ, in place of the one in the group that the factory makes.

    Never raises for an odd optimizer: its decay is ``unknown`` and `Behaviour.evidence` says why.

    >>> import torch
    >>> def factory(tensors, **overrides):
    ...     return torch.optim.AdamW(tensors, **{"lr": 0.01, "weight_decay": 0.5, **overrides})
    >>> found = measure(factory)
    >>> found.decay, found.order, round(found.shrink, 6)
    ('decoupled', 'before', 0.005)
    """
    reason = ""
    for kind in (torch.float64, torch.float32) if dtype is None else (dtype,):
        try:
            with undisturbed():  # under inference_mode, for one, tensors would be of no use to a closure
                return DryRun(Rig(factory, shape, kind, device), weight_decay).behaviour()
        except Inconclusive as error:
            reason = str(error)
        except Exception as error:  # whatever a foreign step raises
            reason = short(error)
    return unknown(f"the dry run says nothing: {reason}")


def unknown(evidence: str) -> Behaviour:
    """Could not be found out, and why."""
    return Behaviour("unknown", None, None, "unclear", None, "none", evidence)
