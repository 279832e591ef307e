"""What one training is made of, alike for a cell trained alone and for members of a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adamantine.groups import param_groups
from adamantine.schedules import Schedule
from adamantine.study.schedules import SCHEDULES
from adamantine.study.task import Task

#: Examples per call of a task's metric, alone and in a batch of any size: a mean over other pieces is another
#: number in its last bits, and settings with equally many errors would not be tied.
SCORED = 256
POINTS = 40  # per learning curve, at most, beside the start
ABSURD = 1000.0  # a loss so many times the first one (or 1, if that is larger) has diverged


@dataclass(frozen=True)
class Recipe:
    """Epochs, batches, their order and the schedule of one task."""

    epochs: int
    examples: int
    batch_size: int
    batches: int  # per epoch; what is left over is left out, the next epoch shuffles anew
    schedule: Schedule

    @classmethod
    def of(cls, task: Task, examples: int, schedule: str) -> Recipe:
        batch_size = min(task.batch_size, examples)
        batches = examples // batch_size
        return cls(task.epochs, examples, batch_size, batches, SCHEDULES[schedule](task.epochs * batches))

    def order(self, seed: int) -> np.random.Generator:
        """What shuffles the seed's examples, epoch after epoch; see `shuffled`."""
        return np.random.default_rng((seed, 1))

    def shuffled(self, order: np.random.Generator) -> NDArray[np.int64]:
        """The examples of the next epoch, batch after batch."""
        return order.permutation(self.examples)[: self.batches * self.batch_size]

    def records(self, epoch: int) -> bool:
        """Whether the learning curves have a point after this epoch (from 1)."""
        return epoch % math.ceil(self.epochs / POINTS) == 0 or epoch == self.epochs


def grouped(model: nn.Module, lr: float, weight_decay: float) -> tuple[list[dict[str, Any]], list[Tensor]]:
    """Parameter groups for an optimizer, and the parameters that decay (also at weight decay 0).

    Weights decay, embedding tables among them (grokking as published needs that); biases and norms do not.
    """
    groups = param_groups(model, lr=lr, weight_decay=1.0, embeddings="decay")
    decaying = [p for group in groups if group["weight_decay"] > 0 for _, p in group["params"]]
    return [{**group, "weight_decay": group["weight_decay"] * weight_decay} for group in groups], decaying


def decay_weights(model: nn.Module) -> dict[str, float]:
    """The same by name: 1 for a parameter that decays, 0 for one that does not; in the groups' order."""
    groups = param_groups(model, lr=1.0, weight_decay=1.0, embeddings="decay")
    return {name: group["weight_decay"] for group in groups for name, _ in group["params"]}


@contextmanager
def single_threaded() -> Iterator[None]:
    """One thread, so that the bits do not depend on the number of cores; the caller's state is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
