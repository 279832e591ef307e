"""The digits as one batch after another, for claims that train a small net on real data."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from adamantine.study.task import Data, Settings
from adamantine.study.tasks.digits import digits

BATCH = 40


def data(seed: int) -> Data:
    """The splits of the task ``digits``, pixels flattened to ``[examples, 64]``."""
    return Data(*((x.flatten(1), y) for x, y in digits(Settings()).data(seed)))


def batches(seed: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """So many batches of the training split, in a new order every epoch; the same for the same seed."""
    inputs, targets = data(seed).train
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(targets), generator=generator)
        taken, order = order[:BATCH], order[BATCH:]
        yield inputs[taken], targets[taken]
