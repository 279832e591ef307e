"""Inert classes in the place of those that DeepSpeed and torchao put into their pickles.

They hold what was pickled and do nothing. The names on the right are those found in files of DeepSpeed 0.19
and torchao 0.18.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import torch
from torch import Tensor


class Fragment:
    """Where a parameter lies in a rank's flat partition: deepspeed.utils.tensor_fragment.fragment_address."""

    numel: int
    start: int


class LossScaler:
    """deepspeed.runtime.fp16.loss_scaler.LossScaler and DynamicLossScaler; not read."""


class ZeroStage(IntEnum):
    """deepspeed.runtime.zero.config.ZeroStageEnum."""

    disabled = 0
    optimizer_states = 1
    gradients = 2
    weights = 3


class QuantizedState(Tensor):
    """torchao.optim's OptimState8bit, OptimState4bit, OptimStateFp8: around ``codes`` and ``scale``."""

    bits: int

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.detach.default:  # what torch does to rebuild it
            return args[0]
        raise NotImplementedError(f"{func} on a quantized state that has not been dequantized")


class State8bit(QuantizedState):
    bits = 8


class State4bit(QuantizedState):
    bits = 4


class StateFp8(QuantizedState):
    bits = 8


STAND_INS: dict[str, type] = {
    "deepspeed.utils.tensor_fragment.fragment_address": Fragment,
    "deepspeed.runtime.fp16.loss_scaler.LossScaler": LossScaler,
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler": LossScaler,
    "deepspeed.runtime.zero.config.ZeroStageEnum": ZeroStage,
    "torchao.optim.subclass_8bit.OptimState8bit": State8bit,
    "torchao.optim.subclass_4bit.OptimState4bit": State4bit,
    "torchao.optim.subclass_fp8.OptimStateFp8": StateFp8,
}
