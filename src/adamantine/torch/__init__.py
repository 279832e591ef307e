"""Drop-in ``torch.optim`` optimizers with one vocabulary of weight decay."""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError('adamantine.torch needs PyTorch: pip install "adamantine[torch]"') from error

from adamantine.torch.flat import Flat, flatten
from adamantine.torch.norm import GradientStatistics, clip_grad_norm_, global_norm
from adamantine.torch.optimizer import Optimizer
from adamantine.torch.optimizers import (
    OPTIMIZERS,
    SGD,
    SGDW,
    Adagrad,
    Adam,
    AdamAtan2,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
)
from adamantine.torch.schedulers import Scheduler, WarmRestarts, record_peak_lr
from adamantine.torch.stacked import Stacked

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "SGDW",
    "Adagrad",
    "Adam",
    "AdamAtan2",
    "AdamW",
    "Adamax",
    "Flat",
    "GradientStatistics",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Scheduler",
    "Stacked",
    "WarmRestarts",
    "clip_grad_norm_",
    "flatten",
    "global_norm",
    "record_peak_lr",
]
