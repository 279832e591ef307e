"""Gains and normalizations found by what their module does, where neither class nor name tells.

A leaf module of the user's own is copied and run alone on random input. A parameter each of whose elements
scales one place of the output is a gain, not a matrix: a matrix's element reaches many places or is one of
many that reach a place.
"""

from __future__ import annotations

import copy
import warnings
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn


class Gain(NamedTuple):
    """What a parameter was seen to be."""

    kind: Literal["norm", "scale"]
    reason: str


#: Larger parameters are no gains in any model we know, and the copy is to cost nothing.
_MOST_ELEMENTS = 1 << 16


def gain(module: nn.Module, attribute: str) -> Gain | None:
    """Whether the module multiplies features with this parameter element by element; None if not, or unknown.

    Args:
        module: it is left as it is; torch's own classes, and modules with children, are not run.
        attribute: the parameter's name there.

    >>> class Strange(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.w = nn.Parameter(torch.ones(4, 8))
    ...     def forward(self, x):
    ...         return self.w * x / x.pow(2).mean(-1, keepdim=True).sqrt()
    >>> gain(Strange(), "w").reason
    "normalization (Strange: output unchanged by its input's scale, multiplied by w)"
    """
    tensor = module._parameters.get(attribute)
    if (
        tensor is None
        or type(module).__module__.startswith("torch.")
        or type(module).forward is nn.Module.forward
        or next(module.children(), None) is not None
        or isinstance(tensor, nn.parameter.UninitializedParameter)
        or not tensor.is_floating_point()
        or tensor.device.type == "meta"
        or not 1 < tensor.numel() <= _MOST_ELEMENTS
        or sum(p.numel() for p in module.parameters(recurse=False)) > 2 * _MOST_ELEMENTS
        or module._forward_hooks
        or module._forward_pre_hooks
    ):
        return None
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            return _seen(copy.deepcopy(module).to("cpu", torch.float64).eval(), attribute)
    except Exception:  # the user's forward may want anything
        return None


def _seen(module: nn.Module, attribute: str) -> Gain | None:
    parameter = module._parameters[attribute]
    assert parameter is not None
    # Away from its start: a gain that begins at 0, or a bias of 0 beside it, shows nothing there.
    parameter.copy_(1.0 + 0.5 * torch.rand(parameter.shape, dtype=torch.float64))
    x = torch.randn(2, *parameter.shape, dtype=torch.float64)
    y = module(x)
    if not isinstance(y, Tensor) or y.shape != x.shape or not torch.isfinite(y).all():
        return None
    zeroed = parameter.clone()
    parameter.zero_()
    rest = module(x)  # what does not pass through the parameter: a bias, a residual
    through = y - rest
    parameter.copy_(zeroed * torch.linspace(0.5, 2.0, parameter.numel(), dtype=torch.float64).view_as(zeroed))
    scaled = module(x) - rest
    if (
        not torch.allclose(scaled, through * (parameter / zeroed), rtol=1e-6, atol=1e-9)
        or not through.abs().max() > 1e-9
    ):
        return None
    name = type(module).__name__
    parameter.copy_(zeroed)
    if torch.allclose(module(4.0 * x), y, rtol=1e-2, atol=1e-3):  # the norm's own ε makes it inexact
        return Gain(
            "norm",
            f"normalization ({name}: output unchanged by its input's scale, multiplied by {attribute})",
        )
    return Gain("scale", f"scale ({name} multiplies its input element by element with {attribute})")
