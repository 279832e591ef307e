"""A square root that is rounded correctly, as IEEE 754 asks and every other operation here is.

On a CPU torch.sqrt is not: with torch 2.13 on x86-64 one float32 result in five is off by an ulp, and
which ones depends on the CPU. NumPy's is, at the same speed, so a step has the same bits everywhere.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def sqrt(x: Tensor) -> Tensor:
    """√x elementwise, correctly rounded on a CPU; torch.sqrt elsewhere and where gradients flow."""
    if x.device.type != "cpu" or x.requires_grad:
        return torch.sqrt(x)
    root = torch.empty_like(x)
    np.sqrt(x.numpy(), out=root.numpy())
    return root
