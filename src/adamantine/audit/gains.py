"""Gains and normalizations found by what their module does, where neither class nor name tells.

A copy of a leaf module of the user's own is run alone on random input, some ten times. A parameter each of
whose elements scales one place of the output is a gain, not a matrix: a matrix's element reaches many places
or is one of many that reach a place.
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
    if (  # first what costs nothing: a ParameterList has thousands of its own
        type(module).__module__.startswith("torch.")
        or type(module).forward is nn.Module.forward
        or next(module.children(), None) is not None
    ):
        return None
    own = dict(module.named_parameters(recurse=False))
    tensor = own.get(attribute)
    if (
        tensor is None
        or not tensor.is_floating_point()
        or tensor.device.type == "meta"
        or not 1 < tensor.numel() <= _MOST_ELEMENTS
        or sum(tensor.numel() for tensor in (*own.values(), *module.buffers())) > 4 * _MOST_ELEMENTS
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
    parameter = dict(module.named_parameters(recurse=False))[attribute]
    # Away from their start: a gain that begins at 0 shows nothing there.
    one, two = (0.5 + torch.rand(parameter.shape, dtype=torch.float64) for _ in range(2))
    x, other = (torch.randn(2, *parameter.shape, dtype=torch.float64) for _ in range(2))

    def out(value: Tensor, data: Tensor) -> Tensor:
        parameter.copy_(value)
        found = module(data)
        if not isinstance(found, Tensor) or found.shape != data.shape:
            raise ValueError("not a map of features to features")
        return found

    def through(value: Tensor, data: Tensor) -> Tensor:
        """What passes through the parameter: without a bias, or a residual."""
        return out(value, data) - out(torch.zeros_like(value), data)

    seen = through(one, x)
    is_elementwise = torch.allclose(through(two, x), seen * two / one, rtol=1e-6, atol=1e-9)
    is_added = torch.allclose(through(one, other), seen)  # whatever the input: a bias, a table of positions
    if not is_elementwise or is_added or not torch.isfinite(seen).all():
        return None
    name = type(module).__name__
    if torch.allclose(out(one, 4 * x), out(one, x), rtol=1e-2, atol=1e-3):  # its own ε makes it inexact
        what = f"normalization ({name}: output unchanged by its input's scale, multiplied by {attribute})"
        return Gain("norm", what)
    return Gain("scale", f"scale ({name} multiplies its input element by element with {attribute})")
