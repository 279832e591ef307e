"""Softmax regression on the digits, full batch, float64: a real loss for claims that are exact."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

EXAMPLES = 300


class Softmax:
    """Loss and gradient of the weights ``[10, 64]``. Pixels that no example inks have gradient 0 for ever."""

    def __init__(self) -> None:
        bunch = load_digits()
        self.x = torch.from_numpy(bunch.data[:EXAMPLES] / 16.0)  # [examples, 64], float64
        self.y = torch.from_numpy(bunch.target[:EXAMPLES])

    def start(self) -> Tensor:
        """The same small weights every time."""
        return 0.1 * torch.randn(10, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(self, theta: Tensor) -> Tensor:
        """Mean cross-entropy in nats."""
        return F.cross_entropy(self.x @ theta.T, self.y)

    def gradient(self, theta: Tensor) -> Tensor:
        """Of the loss alone."""
        leaf = theta.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(leaf), [leaf])
        return gradient
