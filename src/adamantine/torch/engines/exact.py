"""The function of which torch's CPU results depend on the CPU: by NumPy.

√ is to be rounded correctly (IEEE 754), as + − × ÷ are. torch.sqrt is not: with torch 2.13 on x86-64 one in
five float32 results is off by an ulp, and which ones depends on the CPU. NumPy's is, at the same speed: a
step has the bits of `adamantine.reference`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def sqrt(x: Tensor) -> Tensor:
    """√x elementwise; torch's own for tensors that NumPy cannot read, or through which a gradient flows."""
    if type(x) is not Tensor or x.device.type != "cpu" or torch.is_grad_enabled():
        return torch.sqrt(x)
    root = torch.empty_like(x)
    np.sqrt(x.numpy(), out=root.numpy())
    return root
