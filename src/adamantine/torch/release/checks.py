"""What gradient release refuses, before it can go wrong silently."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor

from adamantine.torch import buffers
from adamantine.torch.options import check_choice
from adamantine.torch.release.buffers import Buffer
from adamantine.torch.release.clipping import Clip

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

    from adamantine.torch.optimizer import Optimizer

#: Rules whose u is a function of their averages alone, averages of g and g² to which gradients can be added
#: one after the other. Not Nesterov, NAdam, Lion, RMSprop: their u also takes the whole step's g.
ACCUMULATE_IN_MOMENTS = frozenset({"adam", "adam_atan2", "amsgrad", "radam", "heavy_ball"})


def check_options(
    optimizer: Optimizer, clip: Clip, accumulate: int, buffer: Buffer, scaler: GradScaler | None
) -> None:
    """ValueError where arguments of `Optimizer.release_gradients` exclude each other, or the optimizer."""
    check_choice("clip", clip, Clip)
    check_choice("buffer", buffer, Buffer)
    check_accumulate(accumulate)
    if optimizer._release is not None:
        raise ValueError("this optimizer releases its gradients already; remove() its handle first")
    if optimizer.defaults["differentiable"]:
        raise ValueError("differentiable=True needs the gradients that release frees; choose one of them")
    if clip == "none" and optimizer.max_norm is not None:
        names = ", ".join(map(repr, get_args(Clip)[1:]))
        raise ValueError(
            f"max_norm={optimizer.max_norm} needs the norm of all gradients, and released ones are never "
            f"there together; choose clip from {names} (see docs/release.md), or max_norm=None"
        )
    if clip != "none" and optimizer.max_norm is None:
        raise ValueError(f"clip={clip!r} has no bound; give the optimizer max_norm=…")
    if scaler is not None and scaler.is_enabled() and clip == "two-pass":
        raise ValueError("clip='two-pass' needs step(closure), which GradScaler does not support")
    if buffer == "moments":
        if accumulate == 1:
            raise ValueError("buffer='moments' is for accumulate > 1")
        if clip != "none" or optimizer.on_nonfinite != "ignore" or scaler is not None:
            raise ValueError(
                "buffer='moments' takes every micro-batch in at once, before a norm or a bad gradient could "
                "be known; clip, on_nonfinite and scaler need buffer='float32' or 'bfloat16'"
            )
    refuse_data_parallel(optimizer._parameters())


def check_accumulate(accumulate: int) -> None:
    """ValueError where this is no number of backward passes."""
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise ValueError(f"Invalid accumulate: {accumulate!r}; it is the number of backward passes per step")


def check_group(optimizer: Optimizer, group: dict[str, Any], buffer: Buffer) -> None:
    """ValueError where a group's parameters cannot be released so."""
    if any(buffers.at_home(p) is not None for p in group["params"]):
        raise ValueError(
            "these parameters are flat (adamantine.torch.flatten): their gradients are one piece of memory, "
            "none of which could be released; undo() the Flat, or keep it without release_gradients"
        )
    if buffer != "moments":
        return
    rule = optimizer.rule(group)
    if rule.name not in ACCUMULATE_IN_MOMENTS:
        raise ValueError(
            f"buffer='moments': the step of {type(optimizer).__name__} ({rule.name}) takes more of the "
            "gradient than its averages hold; use buffer='float32' or 'bfloat16'"
        )
    if group.get("dampening"):
        raise ValueError("buffer='moments' needs dampening=0: the first step's gradients are not damped")
    if rule.unsigned and group["decay"] == "l2" and group["weight_decay"] != 0:
        raise ValueError(
            "buffer='moments': with L2 the average of g² would hold the penalty's square beside that of one "
            "micro-batch; use decay='decoupled', or buffer='float32' or 'bfloat16'"
        )


def refuse_data_parallel(params: Iterable[Tensor]) -> None:
    """RuntimeError if DistributedDataParallel holds one of these: each process would step by itself.

    DDP averages gradients after these hooks have run, and keeps all of them in its buckets, so that there is
    nothing to release. It leaves no mark on a parameter; where it can be at work, all objects are looked at.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    from torch.nn.parallel import DistributedDataParallel

    ours = {id(p) for p in params}
    for found in gc.get_objects():
        if issubclass(type(found), DistributedDataParallel) and any(
            id(p) in ours for p in found.parameters()
        ):
            raise RuntimeError(
                "a parameter belongs to DistributedDataParallel, which averages gradients after their "
                "release, so that every process would train a model of its own; and which keeps all "
                "gradients in its buckets, so that nothing would be saved. Do not release gradients there"
            )
