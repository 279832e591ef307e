"""Exact clipping with released gradients: one backward pass to measure the norm, another to step by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adamantine.torch.engines.explain import name_parameters
from adamantine.torch.release.clipping import Exact
from adamantine.torch.release.judge import Judge

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer

#: By how much the norms of the passes may differ (relatively) before the closure is called not repeatable:
#: ten thousand float32 roundings, as of atomic additions on a GPU. A batch of other examples differs by more.
REPEATABLE = 1e-3


def step_in_two_passes(
    optimizer: Optimizer, judge: Judge, measure: Callable[[], float], step: Callable[[], float]
) -> float:
    """One step by the closure's loss, which is returned.

    Args:
        measure: calls the closure while gradients are measured and freed.
        step: calls it while parameters step.

    Raises:
        FloatingPointError: the norm is not finite and ``on_nonfinite="raise"``; nothing has moved.
        RuntimeError: the passes differ; the step has been taken, by the first one's norm.
    """
    assert isinstance(judge.clipping, Exact)
    judge.begin()
    with _random_numbers_again(optimizer._parameters()):
        loss = measure()
    norm = judge.clipping.norm = judge.norm()
    if not math.isfinite(norm) and optimizer.on_nonfinite != "ignore":
        if optimizer.on_nonfinite == "raise":
            names = name_parameters(optimizer.param_groups)
            culprits = [names[p] for p, found in judge.in_order() if not math.isfinite(found.sum)]
            raise FloatingPointError(
                f"gradients are not finite (global norm {norm}): {', '.join(culprits)}. No parameter has "
                "moved; on_nonfinite='skip' leaves such steps out"
            )
        judge.left_out = True
        return loss
    judge.begin()
    loss = step()
    if abs(judge.norm() - norm) > REPEATABLE * norm:
        raise RuntimeError(
            f"the closure is not repeatable: its first backward pass had the gradient norm {norm:g}, by "
            f"which the step was clipped, its second {judge.norm():g}. It must draw its batch outside, "
            "and random numbers from torch alone"
        )
    return loss


@contextmanager
def _random_numbers_again(params: Iterable[Tensor]) -> Iterator[None]:
    """torch's generators, of the CPU and of the parameters' devices, are then as they were before."""
    devices = {p.device for p in params if p.device.type not in {"cpu", "meta"}}
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        for kind in sorted({device.type for device in devices}):
            numbers = [device.index or 0 for device in devices if device.type == kind]
            stack.enter_context(torch.random.fork_rng(devices=numbers, device_type=kind))
        yield
