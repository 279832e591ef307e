"""Grokking: learn (a + b) mod 53 from 40 % of the 2809 pairs (Power et al. 2022, arXiv 2201.02177).

The net fits the training pairs early and the others only much later, if at all; weight decay decides
when. Every step sees the whole training split, so an epoch is a step. The seed draws the split; the pairs
that are not trained on are halved into validation and test.
"""

from __future__ import annotations

import numpy as np
import torch

from adamantine.study.nets import ModularNet
from adamantine.study.task import Data, Settings, Task
from adamantine.study.tasks import check_train_size
from adamantine.study.tasks.classification import cross_entropy, error_rate

MODULUS = 53
TRAIN = round(0.4 * MODULUS**2)


def modular(settings: Settings) -> Task:
    """Embedding 32, hidden 96, full batch."""
    train_size = settings.train_size or TRAIN
    check_train_size(train_size, MODULUS**2 - 2)

    def data(seed: int) -> Data:
        order = torch.from_numpy(np.random.default_rng((seed, 0)).permutation(MODULUS**2))
        pairs = torch.stack((order // MODULUS, order % MODULUS), 1)
        sums = pairs.sum(1) % MODULUS
        middle = (train_size + MODULUS**2) // 2
        parts = (slice(train_size), slice(train_size, middle), slice(middle, None))
        return Data(*((pairs[part], sums[part]) for part in parts))

    return Task(
        name="modular",
        title=f"(a + b) mod {MODULUS} from {train_size} of {MODULUS**2} pairs, MLP on embeddings",
        model=lambda seed: ModularNet(MODULUS, 32, 96),
        data=data,
        loss=cross_entropy,
        metric=error_rate,
        batch_size=train_size,
        epochs=2000,
    )
