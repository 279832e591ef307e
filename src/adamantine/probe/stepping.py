"""One step of any optimizer on given gradients, with or without a closure."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def take_step(optimizer: torch.optim.Optimizer, tensors: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
    """Give the tensors these gradients and step.

    A step that complains of a missing closure gets one, whose loss Σ g·θ has these gradients wherever it is
    evaluated; one that complains of dense gradients gets sparse ones.
    """

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = torch.stack([(grad * t).sum() for t, grad in zip(tensors, grads, strict=True)]).sum()
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    for tensor, grad in zip(tensors, grads, strict=True):
        tensor.grad = grad.clone()
    try:
        optimizer.step()
    except Exception as error:
        complaint = f"{type(error).__name__} {error}".lower()
        if "dense gradients" in complaint:
            for tensor, grad in zip(tensors, grads, strict=True):
                tensor.grad = grad.to_sparse(1)
            optimizer.step()
        elif "closure" in complaint:
            optimizer.step(closure)  # type: ignore[arg-type]
        else:
            raise


def make_ready(optimizer: torch.optim.Optimizer) -> None:
    """Optimizers that keep one set of weights for training and one for use are put into training."""
    train = getattr(optimizer, "train", None)
    if callable(train):
        train()
