"""Gradient release under offload: the device's gradients are freed as soon as the host has them.

The step stays one step, taken by ``step()`` when all gradients are on the host. So nothing that needs them
all is lost, as it is where each parameter steps inside backward (`adamantine.torch.release`): clipping by the
global norm and ``on_nonfinite`` are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from adamantine.torch.offload.offloaded import Offloaded, is_reduced_later
from adamantine.torch.options import check_choice
from adamantine.torch.release.buffers import Buffer
from adamantine.torch.release.checks import check_accumulate
from adamantine.torch.release.clipping import Clip

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

    from adamantine.torch.optimizer import Optimizer


class HostRelease:
    """What `Optimizer.release_gradients` returns under offload: the mode, on until `remove`.

    Attributes:
        optimizer: whose gradients are freed.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        offloaded: Offloaded,
        clip: Clip,
        accumulate: int,
        buffer: Buffer,
        scaler: GradScaler | None,
    ) -> None:
        check_accumulate(accumulate)  # any number of passes is summed
        _check(clip, buffer, scaler)
        if optimizer._release is not None:
            raise ValueError("this optimizer releases its gradients already; remove() its handle first")
        self.optimizer = optimizer
        self._offloaded = offloaded
        self._offloaded.release(True)

    def remove(self) -> None:
        """Back to gradients that stay on the device. What only the host has is in ``.grad`` again."""
        self._offloaded.release(False)
        if self.optimizer._release is self:
            self.optimizer._release = None

    def __enter__(self) -> HostRelease:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def end_step(self, closure: Callable[[], float] | None) -> float | None:
        """``optimizer.step()``."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._offloaded.step(self.optimizer)
        return loss

    def forget(self) -> None:
        """``optimizer.zero_grad()``: the gradients that only the host has are dropped there (`Offloaded`)."""

    def sums_nbytes(self) -> int:
        """None beside what `Offloaded.nbytes` counts."""
        return 0

    def before_saving(self) -> None:
        """``optimizer.state_dict()``: gradients on the host are not part of the state."""

    def follow_load(self) -> None:
        """``optimizer.load_state_dict()``: gradients stay, as ``.grad`` does."""


def _check(clip: Clip, buffer: Buffer, scaler: GradScaler | None) -> None:
    check_choice("clip", clip, Clip)
    check_choice("buffer", buffer, Buffer)
    if clip != "none":
        raise ValueError(
            f"clip={clip!r} is for steps inside backward; with offload=True the step is taken when all "
            "gradients are on the host, and max_norm is exact: leave clip out"
        )
    if buffer != "float32":
        raise ValueError(
            f"buffer={buffer!r} spares memory of the device, which offload=True leaves free anyway: sums of "
            "gradients are on the host, in float32; leave buffer out"
        )
    if scaler is not None and scaler.is_enabled():
        raise ValueError(
            "GradScaler looks for infinities on the device, where no gradient stays; with offload=True train "
            "in bfloat16, which needs no scaler, or do not release gradients"
        )
    if is_reduced_later():
        raise RuntimeError(
            "with several processes, gradients are averaged after backward has completed them, so they "
            "cannot be freed before; leave release_gradients out"
        )
