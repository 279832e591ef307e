"""What the ledger reads of whole tensors: norms, and whether a gradient is finite."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from adamantine.audit.ledger_sample import real
from adamantine.torch.kernel import native
from adamantine.torch.norm import squares


def quick_sum(grad: Tensor) -> Tensor:
    """Σg without waiting for the device: what torch reads fastest. It is not finite if any element is not
    (nor if it exceeds float32, which no training survives either)."""
    values = grad.detach()
    values = real(values._values() if values.is_sparse else values)
    return values.sum(dtype=torch.float32 if values.element_size() < 4 else None)


def are_finite(grads: Iterable[Tensor]) -> list[bool]:
    """Of gradients on the CPU: by one call of the kernel, which sums squares in double; without it by torch's
    sums. (Elements of float64 beyond 1e154 count as infinite.)"""
    values = [real(grad._values() if grad.is_sparse else grad) for grad in grads]
    if native is None:
        return [bool(torch.isfinite(quick_sum(each))) for each in values]
    return [math.isfinite(each.sum) for each in squares(values)]


def norms(tensors: Iterable[Tensor]) -> list[float]:
    """‖θ‖ of each whole tensor (of this rank's part): on the CPU in double, on other devices in at least
    float32, with one transfer per device."""
    parts = [real(tensor) for tensor in tensors]
    found = [0.0] * len(parts)
    by_device: dict[torch.device, list[int]] = {}
    for place, part in enumerate(parts):
        by_device.setdefault(part.device, []).append(place)
    for device, places in by_device.items():
        lot = [parts[k] for k in places]
        if device.type == "cpu":
            found_here = [math.sqrt(each.sum) for each in squares(lot)]
        else:
            wide = [torch.float32 if part.element_size() < 4 else None for part in lot]
            each_norm = [torch.linalg.vector_norm(part, dtype=d) for part, d in zip(lot, wide, strict=True)]
            found_here = torch.stack([norm.double() for norm in each_norm]).tolist()
        for k, norm in zip(places, found_here, strict=True):
            found[k] = norm
    return found
