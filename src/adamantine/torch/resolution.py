"""What a format can still tell apart: below which size a change of weights or state is rounded away."""

from __future__ import annotations

import torch
from torch import Tensor

from adamantine.formats.block import Code
from adamantine.torch.storage.layout import real

HALF_PRECISION = (torch.bfloat16, torch.float16)
SAMPLE = 4096  # elements of a parameter that are looked at


def lost_below(dtype: torch.dtype, weights: str = "nearest") -> float:
    """The relative change θ·(1 - r) below which no weight of this dtype ever moves.

    Half a unit in the last place below a power of two, the finest there is. Kahan's residual is itself of the
    dtype, at most half a unit of θ, and stands still likewise; float32 and the 32 bits of ``split16``: 2⁻²⁵.

    >>> lost_below(torch.bfloat16) == 2**-9, lost_below(torch.float16) == 2**-12
    (True, True)
    >>> lost_below(torch.bfloat16, "kahan") == 2**-18, lost_below(torch.bfloat16, "split16") == 2**-25
    (True, True)
    >>> lost_below(torch.bfloat16, "stochastic"), lost_below(torch.float32, "stochastic") == 2**-25
    (0.0, True)
    """
    quarter = torch.finfo(dtype).eps / 4
    if dtype not in HALF_PRECISION:
        return quarter
    if weights in {"stochastic", "split8"}:
        return 0.0
    if weights == "split16":
        return torch.finfo(torch.float32).eps / 4
    return quarter * quarter if weights == "kahan" else quarter


def average_lost_below(dtype: torch.dtype | None, nearest: Code | None) -> float:
    """Relative loss below which the largest element of a slot stays.

    Args:
        dtype: of a dense slot; None for a block format.
        nearest: the block code, where it is rounded to nearest; a dithered one loses nothing.
    """
    if dtype is not None:
        return torch.finfo(dtype).eps / 4 if dtype in HALF_PRECISION else 0.0
    return 0.0 if nearest is None else 0.5 / float(2**nearest.magnitude_bits - 1)


def share_below(p: Tensor, step: Tensor | float, weights: str) -> float:
    """Share of the elements whose half unit in the last place is more than the step."""
    info = torch.finfo(p.dtype.to_real() if p.is_complex() else p.dtype)
    theta = sample(p).abs().clamp_min(info.smallest_normal)
    _, exponent = torch.frexp(theta)
    half_unit = torch.ldexp(torch.full_like(theta, info.eps / 4), exponent)
    if weights == "kahan":  # the residual's own half unit, when it has grown to θ's
        half_unit = (half_unit * (info.eps / 4)).clamp_min(info.smallest_normal * info.eps / 2)
    return float((half_unit > step).float().mean().item())


def sample(tensor: Tensor) -> Tensor:
    """Up to `SAMPLE` elements at equal distances, in float32."""
    flat = real(tensor.detach()).reshape(-1)
    return flat[:: max(1, flat.numel() // SAMPLE)].float()
