"""A list of tensors that computes like one: rules run on it unchanged, one torch call per line and list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adamantine.torch.engines import ieee


class TensorList:
    """Elementwise arithmetic over tensors of one dtype and device, by torch's multi-tensor functions.

    Many small tensors cost as much Python as one; on an accelerator, as many kernels as one. The bits equal
    those of the same operation on each tensor alone.
    """

    __slots__ = ("tensors",)

    def __init__(self, tensors: tuple[Tensor, ...] | list[Tensor]) -> None:
        self.tensors = tensors

    def __add__(self, other: Any) -> TensorList:
        return TensorList(torch._foreach_add(self.tensors, _raw(other)))

    def __sub__(self, other: Any) -> TensorList:
        return TensorList(torch._foreach_sub(self.tensors, _raw(other)))

    def __mul__(self, other: Any) -> TensorList:
        return TensorList(torch._foreach_mul(self.tensors, _raw(other)))

    def __truediv__(self, other: Any) -> TensorList:
        return TensorList(torch._foreach_div(self.tensors, _raw(other)))

    __radd__ = __add__
    __rmul__ = __mul__

    def __ge__(self, other: Any) -> TensorList:
        return TensorList([tensor >= other for tensor in self.tensors])


def _raw(value: Any) -> Any:
    return value.tensors if isinstance(value, TensorList) else value


def _foreach(function: Callable[..., Any]) -> Callable[..., TensorList]:
    return lambda *args: TensorList(function(*map(_raw, args)))


def _each(function: Callable[..., Tensor]) -> Callable[..., TensorList]:
    """For what torch has no multi-tensor form of."""
    return lambda *args: TensorList([function(*row) for row in zip(*map(_raw, args), strict=True)])


def _maximum(x: TensorList, y: TensorList | float) -> TensorList:
    if isinstance(y, TensorList):
        return TensorList(torch._foreach_maximum(x.tensors, y.tensors))
    return TensorList(torch._foreach_clamp_min(x.tensors, y))


def _sqrt(x: TensorList) -> TensorList:
    on_cpu = x.tensors[0].device.type == "cpu"
    return TensorList(
        [ieee.sqrt(tensor) for tensor in x.tensors] if on_cpu else torch._foreach_sqrt(x.tensors)
    )


#: What rule texts may call, for TensorLists.
NAMES: dict[str, Callable[..., TensorList]] = {
    "absolute": _foreach(torch._foreach_abs),
    "arctan2": _each(torch.arctan2),
    "maximum": _maximum,
    "sign": _foreach(torch._foreach_sign),
    "sqrt": _sqrt,
    "where": _each(torch.where),
}
