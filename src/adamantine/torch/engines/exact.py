"""The functions of which torch's CPU results depend on the CPU, or on where a tensor is cut: by NumPy.

√ is to be rounded correctly (IEEE 754), as + − × ÷ are. torch.sqrt is not: with torch 2.13 on x86-64 one in
five float32 results is off by an ulp, and which ones depends on the CPU. torch.arctan2 changes with the place
of an element in the tensor. NumPy's do not, at the same speed: a step has the bits of `adamantine.reference`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def sqrt(x: Tensor) -> Tensor:
    """√x elementwise."""
    return _by_numpy(np.sqrt, x) if _may_use_numpy(x) else torch.sqrt(x)


def arctan2(y: Tensor, x: Tensor) -> Tensor:
    """The angle of (x, y) elementwise, in radians."""
    return _by_numpy(np.arctan2, y, x) if _may_use_numpy(x) else torch.arctan2(y, x)


def _may_use_numpy(x: Tensor) -> bool:
    """A plain tensor in host memory through which no gradient flows."""
    return type(x) is Tensor and x.device.type == "cpu" and not torch.is_grad_enabled()


def _by_numpy(function: Any, *tensors: Tensor) -> Tensor:
    result = torch.empty_like(tensors[0])
    function(*(tensor.numpy() for tensor in tensors), out=result.numpy())
    return result
