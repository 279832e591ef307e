"""MNIST, Fashion-MNIST and CIFAR-10 from files the user has (``--data-dir``); nothing is downloaded.

The official test images stay the test split; the seed splits the official training images into training and
validation. Pixels are scaled to [0, 1] and shifted and scaled by two fixed constants per data set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adamantine.study.errors import StudyError
from adamantine.study.nets import mlp, residual_net
from adamantine.study.task import Data, Settings, Task
from adamantine.study.tasks import check_train_size
from adamantine.study.tasks.cifar import read_cifar10
from adamantine.study.tasks.classification import cross_entropy, error_rate
from adamantine.study.tasks.idx import read_mnist

Bytes = NDArray[np.uint8]
VALIDATION = 5000


def mnist(settings: Settings) -> Task:
    """MNIST (LeCun, Cortes & Burges): an MLP on 10 000 of the 55 000 digits, unless told otherwise."""
    folder = _folder(settings, "mnist", "the MNIST database, yann.lecun.com/exdb/mnist")
    files = read_mnist(
        (folder, folder / "mnist", folder / "MNIST" / "raw"), "the MNIST database, yann.lecun.com/exdb/mnist"
    )
    return Task(
        name="mnist",
        title="MNIST digits (28 x 28), MLP 784-128-10",
        model=lambda seed: mlp(784, 128, 10),
        data=_Images(files, settings.train_size, 10_000, mean=0.1307, std=0.3081),
        loss=cross_entropy,
        metric=error_rate,
        batch_size=64,
        epochs=10,
    )


def fashion_mnist(settings: Settings) -> Task:
    """Fashion-MNIST (Xiao, Rasul & Vollgraf 2017), with the same net and sizes as MNIST."""
    source = "Fashion-MNIST, github.com/zalandoresearch/fashion-mnist"
    folder = _folder(settings, "fashion-mnist", source)
    files = read_mnist((folder, folder / "fashion-mnist", folder / "FashionMNIST" / "raw"), source)
    return Task(
        name="fashion-mnist",
        title="Fashion-MNIST (28 x 28), MLP 784-128-10",
        model=lambda seed: mlp(784, 128, 10),
        data=_Images(files, settings.train_size, 10_000, mean=0.2860, std=0.3530),
        loss=cross_entropy,
        metric=error_rate,
        batch_size=64,
        epochs=10,
    )


def cifar10(settings: Settings) -> Task:
    """CIFAR-10 (Krizhevsky 2009): a residual CNN on 5000 of the 45 000 photographs, unless told otherwise."""
    folder = _folder(settings, "cifar10", "CIFAR-10, www.cs.toronto.edu/~kriz/cifar.html")
    return Task(
        name="cifar10",
        title="CIFAR-10 (32 x 32), residual CNN 8-16-32 with batch normalization",
        model=lambda seed: residual_net(3, (8, 16, 32), 10),
        data=_Images(read_cifar10(folder), settings.train_size, 5000, mean=0.4734, std=0.2516),
        loss=cross_entropy,
        metric=error_rate,
        batch_size=64,
        epochs=10,
    )


def _folder(settings: Settings, name: str, source: str) -> Path:
    if settings.data_dir is None:
        raise StudyError(
            f"task {name!r} needs --data-dir DIR, the folder with its files; they come from {source}"
        )
    folder = Path(settings.data_dir)
    if not folder.is_dir():
        raise StudyError(f"--data-dir {settings.data_dir}: no such folder")
    return folder


class _Images:
    """Official train and test images with labels, split by the seed; ``[n, channels, height, width]``."""

    def __init__(
        self,
        files: tuple[Bytes, Bytes, Bytes, Bytes],
        train_size: int | None,
        default: int,
        mean: float,
        std: float,
    ) -> None:
        self.images, self.labels, test_images, test_labels = files
        self.mean, self.std = mean, std
        held_out = min(VALIDATION, len(self.labels) // 2)  # half, of a file cut down by its owner
        available = len(self.labels) - held_out
        if train_size is not None:
            check_train_size(train_size, available)
        self.train_size = train_size or min(default, available)
        self.held_out = held_out
        self.test = (self._pixels(test_images), _classes(test_labels))

    def __call__(self, seed: int) -> Data:
        order = np.random.default_rng((seed, 0)).permutation(len(self.labels))
        validation, train = order[: self.held_out], order[self.held_out : self.held_out + self.train_size]
        return Data(self._part(train), self._part(validation), self.test)

    def _part(self, chosen: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        return self._pixels(self.images[chosen]), _classes(self.labels[chosen])

    def _pixels(self, images: Bytes) -> Tensor:
        return (torch.from_numpy(images.astype(np.float32)) / 255.0 - self.mean) / self.std


def _classes(labels: Bytes) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))
