"""The 1797 handwritten digits that come with scikit-learn (Alpaydin & Kaynak 1998), 8 x 8 pixels of 0..16.

There is no official split, so the seed draws all three: 797 to test, 500 to choose a setting by, and of
the other 500 the first 400 to train on (``--train-size``). The small training split leaves something for
regularization to do.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from adamantine.study.nets import RowTransformer, mlp, residual_net
from adamantine.study.task import Data, Settings, Task
from adamantine.study.tasks import check_train_size
from adamantine.study.tasks.classification import cross_entropy, error_rate

VALIDATION = 500
TEST = 797
TRAIN = 400


def digits(settings: Settings) -> Task:
    """An MLP 64-128-10 on the digits as flat vectors."""
    return Task(
        name="digits",
        title="handwritten digits (8 x 8), MLP 64-128-10",
        model=lambda seed: mlp(64, 128, 10),
        data=_Digits(settings.train_size or TRAIN),
        loss=cross_entropy,
        metric=error_rate,
        batch_size=40,
        epochs=30,
    )


def digits_resnet(settings: Settings) -> Task:
    """A residual CNN with batch normalization: most of its weights are scale-invariant."""

    def model(seed: int) -> nn.Module:
        return residual_net(1, (16, 32), 10)

    return Task(
        name="digits-resnet",
        title="handwritten digits (8 x 8), residual CNN with batch normalization",
        model=model,
        data=_Digits(settings.train_size or TRAIN),
        loss=cross_entropy,
        metric=error_rate,
        batch_size=40,
        epochs=20,
    )


def digits_transformer(settings: Settings) -> Task:
    """Each of the 8 rows is a token of 8 pixels: attention, LayerNorm and GELU at their smallest."""
    return Task(
        name="digits-transformer",
        title="handwritten digits (8 x 8), Transformer of 2 layers over the rows",
        model=lambda seed: RowTransformer(8, 8, 32, 4, 2, 10),
        data=_Digits(settings.train_size or TRAIN),
        loss=cross_entropy,
        metric=error_rate,
        batch_size=40,
        epochs=20,
    )


class _Digits:
    def __init__(self, train_size: int) -> None:
        check_train_size(train_size, 1797 - VALIDATION - TEST)
        bunch = load_digits()
        self.images = torch.tensor(bunch.images / 16.0, dtype=torch.float32).unsqueeze(1)  # [1797, 1, 8, 8]
        self.labels = torch.tensor(bunch.target, dtype=torch.int64)
        self.train_size = train_size

    def __call__(self, seed: int) -> Data:
        order = torch.from_numpy(np.random.default_rng((seed, 0)).permutation(len(self.labels)))
        test, validation, rest = order[:TEST], order[TEST : TEST + VALIDATION], order[TEST + VALIDATION :]
        train = rest[: self.train_size]
        return Data(*((self.images[part], self.labels[part]) for part in (train, validation, test)))
