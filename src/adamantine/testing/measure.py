"""Comparing what two runs did."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor


def gap(actual: Tensor, expected: Tensor) -> float:
    """max|a - e| / max|e|; 0 where both are the same, also as NaN; inf where only one is 0 or NaN."""
    if same(actual, expected):
        return 0.0
    if not actual.numel():
        return 0.0
    difference = (actual.detach().double() - expected.detach().double()).abs().max().item()
    size = expected.detach().double().abs().max().item()
    return difference / size if size and difference == difference else math.inf


def mean_gap(actual: Tensor, expected: Tensor) -> float:
    """rms(a - e) / rms(e), for states so coarse that single elements may go another way."""
    difference = (actual.detach().double() - expected.detach().double()).square().mean().sqrt().item()
    size = expected.detach().double().square().mean().sqrt().item()
    return difference / size if size and difference == difference else math.inf


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, NaN to NaN, through dicts and lists."""
    if isinstance(a, Tensor):
        if not isinstance(b, Tensor) or a.dtype != b.dtype or a.shape != b.shape:
            return False
        return bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or (a != a and b != b)


def copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Their values now."""
    return [p.detach().clone() for p in tensors]


def moved(params: Iterable[Tensor], before: Iterable[Tensor]) -> float:
    """The largest change of any element."""
    changes = [
        (p.detach().double() - q.double()).abs().max().item() if p.numel() else 0.0
        for p, q in zip(params, before, strict=True)
    ]
    return max(changes, default=0.0)
