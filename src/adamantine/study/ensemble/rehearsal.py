"""Before the first step: do batched members compute what they would compute alone?

``vmap`` refuses much of what it cannot batch, but not all: a tensor that a model keeps as a plain attribute
is shared silently, a buffer that is assigned anew is forgotten, and a batching rule may be wrong. So the
first batch goes through some members alone too, on copies, and losses, gradients and buffers are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from adamantine.study.ensemble.functions import NotBatchable
from adamantine.study.task import Task

State = dict[str, Tensor]


def rehearse(
    losses: Callable[[State, Tensor, Tensor], Tensor],
    task: Task,
    alone: Mapping[int, nn.Module],
    state: Mapping[str, Tensor],
    x: Tensor,
    y: Tensor,
) -> None:
    """Compares ``losses`` of all members with what the models in ``alone``, by member, compute.

    ``state``, ``x`` and ``y`` are ``[members, ...]`` and stay as they are; the models are used up. What
    rounding may do is the square root of the machine epsilon, of the loss, of a buffer, or of the member's
    largest gradient. Raises :class:`NotBatchable` for more, and for whatever is raised in here: alone, a
    member raises the same where the fault is its own.
    """
    try:
        batched = {name: t.detach().clone().requires_grad_(t.requires_grad) for name, t in state.items()}
        loss = losses(batched, x, y)
        gradients = _gradients(loss.sum(), batched)
        for member, model in alone.items():
            ours = {name: gradient[member] for name, gradient in gradients.items()}
            found = {"loss": loss[member].detach(), **{name: t[member] for name, t in batched.items()}}
            _compare(member, found, ours, *_alone(task, model, state, member, x, y))
    except NotBatchable:
        raise
    except Exception as error:
        raise NotBatchable(first_line(error)) from error


def _alone(
    task: Task, model: nn.Module, state: Mapping[str, Tensor], member: int, x: Tensor, y: Tensor
) -> tuple[State, State]:
    """The loss and the buffers after it, and the gradients, of one member's own model."""
    model.train()
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in (*own.items(), *model.named_buffers()):
            tensor.copy_(state[name][member])
    with torch.random.fork_rng(devices=[]):
        loss = task.loss(model(x[member]), y[member])
        gradients = _gradients(loss, own)
    return {"loss": loss.detach().reshape(()), **dict(model.named_buffers())}, gradients


def _gradients(loss: Tensor, state: Mapping[str, Tensor]) -> State:
    trained = {name: t for name, t in state.items() if t.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return {
        name: torch.zeros_like(t) if gradient is None else gradient
        for (name, t), gradient in zip(trained.items(), found, strict=True)
    }


def _compare(member: int, found: State, found_gradients: State, right: State, gradients: State) -> None:
    scale = max(float(gradient.abs().max()) for gradient in gradients.values() if gradient.numel())
    pairs = [(name, found[name], value, 0.0) for name, value in right.items()]
    pairs += [(f"gradient of {name}", found_gradients[name], g, scale) for name, g in gradients.items()]
    for name, ours, its, scale in pairs:
        epsilon = torch.finfo(its.dtype).eps ** 0.5 if its.is_floating_point() else 0.0
        if not torch.allclose(ours, its, rtol=epsilon, atol=epsilon * scale, equal_nan=True):
            raise NotBatchable(f"in a batch, member {member} differs from the same model alone: {name}")


def first_line(error: Exception) -> str:
    """For a message: the kind of error and the first sentence of its text; torch writes paragraphs."""
    line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {line.partition('. ')[0].rstrip('.')}"
