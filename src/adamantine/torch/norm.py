"""The global gradient norm, in double precision, with the same bits for any number of threads and any engine.

    Σg² = Σ over blocks of 16384 elements, in order, of: 32 lanes; lane j adds elements j, j+32, … one after
    the other; then lane j gains lane j+16, then j+8, j+4, j+2, j+1.

The kernel (native/kernel.cpp, `squares`) and `_squares_of_array` are the two texts of that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adamantine.torch.kernel import native

BLOCK = 16_384
LANES = 32

_NATIVE = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}


class Squares(NamedTuple):
    """Σx² of a tensor, and its largest \\|x\\| that is a number (NaN where only the norm was computed)."""

    sum: float
    largest: float


class GradientStatistics(NamedTuple):
    """What one read of a gradient tells: its parameter's name, its 2-norm, its largest magnitude."""

    name: str
    norm: float
    largest: float


def global_norm(grads: Iterable[Tensor]) -> float:
    """The 2-norm of all gradients taken as one vector.

    torch.nn.utils.get_total_norm accumulates in the gradients' own precision, which is off by 5e-3 at 67M
    float32 elements, and depends on the number of threads. Here all sums are in double, in one fixed order.

    Args:
        grads: tensors of any shape, dtype and device, complex and sparse ones included.

    Returns:
        The norm; ``inf`` or ``nan`` if any element is. Float64 elements beyond 1e154 overflow to ``inf``.

    >>> global_norm([torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])])
    5.0
    """
    return math.sqrt(total(squares(list(grads))))


def total(parts: Iterable[Squares]) -> float:
    """Σx² of several tensors, added in their order."""
    found = 0.0
    for each in parts:  # a loop, since sum() compensates from Python 3.12 on
        found += each.sum
    return found


def clip_factor(norm: float, max_norm: float | None) -> float:
    """What to multiply gradients of this norm by: 1.0, exactly, where nothing is to be clipped.

    >>> clip_factor(3.0, max_norm=None), clip_factor(0.5, max_norm=1.0)
    (1.0, 1.0)
    """
    if max_norm is None:
        return 1.0
    factor = float(max_norm) / (norm + 1e-6)  # torch's clip_grad_norm_ has the same 1e-6
    return 1.0 if factor >= 1.0 else factor


def nonfinite_error(norm: float, names: Mapping[Tensor, str]) -> FloatingPointError:
    """What ``on_nonfinite="raise"`` raises for this norm; it names the parameters (all are in ``names``)."""
    culprits = ", ".join(name for p, name in names.items() if _is_broken(p.grad))
    return FloatingPointError(
        f"gradients are not finite (global norm {norm}): {culprits or 'none alone: their norm overflows'}. "
        "No parameter has moved; on_nonfinite='skip' leaves such steps out and counts them in skipped_steps"
    )


def _is_broken(grad: Tensor | None) -> bool:
    if grad is None:
        return False
    values = grad.coalesce().values() if grad.is_sparse else grad
    return not bool(torch.isfinite(values).all())


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """torch.nn.utils.clip_grad_norm_ with a norm that is exact and one read of the gradients.

    Gradients within the bound are not written at all. With an optimizer of this package, ``max_norm=`` of the
    optimizer does the same inside the step, without the write.

    Args:
        parameters: parameters, or one; those without a gradient are passed over.
        max_norm: > 0.
        norm_type: 2; other norms are torch's business.
        error_if_nonfinite: raise instead of scaling by a norm that is infinite or NaN.
        foreach: accepted for torch's sake; all gradients are read in one call.

    Returns:
        The global norm before clipping, a float64 tensor without dimensions.

    Raises:
        ValueError: another ``norm_type``, or ``max_norm`` not > 0.
        RuntimeError: the norm is not finite, with ``error_if_nonfinite``; nothing has been scaled.

    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> clip_grad_norm_([w], max_norm=10.0).item(), w.grad.tolist()
    (5.0, [3.0, 4.0])
    """
    if norm_type != 2:
        raise ValueError(
            f"Invalid norm_type: {norm_type}; only 2 is offered; torch.nn.utils.clip_grad_norm_ has others"
        )
    if not max_norm > 0:
        raise ValueError(f"Invalid max_norm: {max_norm}; it must be > 0")
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    grads = [p.grad for p in parameters if p.grad is not None]
    norm = global_norm(grads)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"The total norm of gradients is non-finite ({norm}), so nothing is clipped. "
            "error_if_nonfinite=False scales all the same"
        )
    factor = clip_factor(norm, max_norm)
    if factor != 1.0:
        with torch.no_grad():
            for grad in grads:
                grad.mul_(factor)
    return torch.tensor(norm, dtype=torch.float64)


def squares(grads: Sequence[Tensor]) -> list[Squares]:
    """Σg² and the largest \\|g\\| of each tensor; of a sharded one, of the whole."""
    found: list[Squares | None] = [None] * len(grads)
    here: list[tuple[int, Tensor]] = []
    for index, grad in enumerate(grads):
        values = grad.coalesce().values() if grad.is_sparse else grad
        values = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
        if (
            type(values) in {Tensor, torch.nn.Parameter}
            and values.device.type == "cpu"
            and values.dtype in _NATIVE
        ):
            here.append((index, _in_memory_order(values.detach())))
        else:
            found[index] = Squares(_sum_elsewhere(values), math.nan)
    if native is None:
        for index, flat in here:
            found[index] = _squares_of_array(flat)
    elif here:
        arrays = [(flat.data_ptr(), _NATIVE[flat.dtype], flat.numel()) for _, flat in here]
        for (index, _), each in zip(here, native.squares(arrays, torch.get_num_threads()), strict=True):
            found[index] = Squares(*each)
    return [each for each in found if each is not None]


def _in_memory_order(values: Tensor) -> Tensor:
    """All elements, flat, as they lie in memory: the sum of a transposed tensor has the same bits."""
    values = values.resolve_neg()
    if not values.is_contiguous():
        order = sorted(range(values.dim()), key=values.stride, reverse=True)
        values = values.permute(order)
    return values.reshape(-1).contiguous()  # a long stride, or none, survives reshape


def _squares_of_array(flat: Tensor) -> Squares:
    """The kernel's order in NumPy: for machines without the kernel, and the test of it."""
    total, largest = 0.0, 0.0
    for block in torch.split(flat, BLOCK):
        x: Any = block.double().numpy()
        padded = np.zeros(-(-x.size // LANES) * LANES)
        padded[: x.size] = x * x
        with np.errstate(over="ignore", invalid="ignore"):
            # Accumulated row by row: np.sum would pair.
            lanes = np.add.accumulate(padded.reshape(-1, LANES), axis=0)[-1] if x.size else padded
            while lanes.size > 1:
                lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
        total += float(lanes[0]) if x.size else 0.0
        largest = max(largest, float(np.fmax.reduce(np.abs(x), initial=0.0)))
    return Squares(total, largest)


def _sum_elsewhere(values: Tensor) -> float:
    norm = torch.linalg.vector_norm(values, dtype=torch.float64)
    if hasattr(norm, "full_tensor"):  # a DTensor: every rank holds a part, the norm is of the whole
        norm = norm.full_tensor()
    return float(norm.item()) ** 2
