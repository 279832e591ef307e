"""Many models of one task as one: the same network with a leading member axis on all that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from adamantine.study.ensemble.functions import ByHand, NotBatchable
from adamantine.study.task import Task

__all__ = ["Ensemble", "NotBatchable"]

PIECE = 128  # examples per forward pass of an evaluation: large ones leave the caches


class Ensemble:
    """One model of the task per seed, trained and evaluated together; a seed may come more than once.

    Each member starts as ``task.model(seed)`` does when it is trained alone, computes what it would compute
    alone up to rounding, and never sees another member: a NaN in one changes no bit of the others.

    ``parameters``
        the trained parameters by name, leaves ``[members, ...]`` with ``requires_grad``;
    ``buffers``
        everything else of the models' state by name, ``[members, ...]``: buffers, frozen parameters.

    Raises :class:`NotBatchable` here or from the first :meth:`loss` when the models cannot be computed as
    one: they draw random numbers, branch on their values, or differ by more than their state.

    >>> from adamantine.study.task import Settings
    >>> from adamantine.study.tasks import load
    >>> task = load("digits", Settings())
    >>> ensemble = Ensemble(task, seeds=[0, 1, 1])
    >>> (x, y), *_ = task.data(0)
    >>> losses = ensemble.loss(x[:40].expand(3, -1, -1, -1, -1), y[:40].expand(3, -1))
    >>> losses.sum().backward()
    >>> losses.shape, bool(losses[1] == losses[2]), ensemble.parameters["1.weight"].grad.shape
    (torch.Size([3]), True, torch.Size([3, 128, 64]))
    """

    def __init__(self, task: Task, seeds: Sequence[int]) -> None:
        self.task = task
        models = {seed: _fresh(task, seed) for seed in dict.fromkeys(seeds)}
        self._module = models[seeds[0]]
        for seed, model in models.items():
            _check_alike(self._module, model, seeds[0], seed)
        trained = {name for name, p in self._module.named_parameters() if p.requires_grad}
        states = {seed: _state(model) for seed, model in models.items()}
        stacked = {name: torch.stack([states[seed][name] for seed in seeds]) for name in states[seeds[0]]}
        self.parameters = {name: t.requires_grad_() for name, t in stacked.items() if name in trained}
        self.buffers = {name: t for name, t in stacked.items() if name not in trained}
        # To compare the first batch with: the last member's model is the likeliest to differ from the first's.
        self._alone: dict[int, nn.Module] = {
            member: deepcopy(models[seeds[member]]) for member in {0, len(seeds) - 1}
        }

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Each member's loss on its own batch, in training mode; updates running statistics.

        ``x`` ``[members, batch, ...]``, ``y`` ``[members, batch, ...]`` to ``[members]``. The gradients of
        all members come from ``loss(x, y).sum().backward()``. Raises :class:`NotBatchable`, for whatever
        the models or the loss raise: trained alone, a member raises the same if it is its own fault.
        """
        alone = {member: self._loss_alone(member, x, y) for member in self._alone}
        _switch(self._module, training=True)
        try:
            losses: Tensor = vmap(self._member_loss)({**self.parameters, **self.buffers}, x, y)
            losses = losses.reshape(len(self))
        except NotBatchable:
            raise
        except Exception as error:
            raise NotBatchable(_first_line(error)) from error
        for member, (loss, model) in alone.items():
            self._compare(member, loss, model, losses[member])
        self._alone.clear()
        return losses

    def _member_loss(self, state: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        with ByHand():
            return self.task.loss(functional_call(self._module, state, (x,)), y)

    def outputs(self, x: Tensor) -> Tensor:
        """What the members compute in evaluation mode, without gradients; ``x`` ``[members, examples, ...]``.

        The examples go through in pieces: an output may only depend on its own example.
        """
        _switch(self._module, training=False)
        state = {**self.parameters, **self.buffers}
        with torch.no_grad():
            pieces = [vmap(self._member_outputs)(state, piece) for piece in x.split(PIECE, dim=1)]
        return torch.cat(pieces, 1)

    def _member_outputs(self, state: dict[str, Tensor], x: Tensor) -> Tensor:
        with ByHand():
            outputs: Tensor = functional_call(self._module, state, (x,))
        return outputs

    def scores(self, x: Tensor, y: Tensor) -> Tensor:
        """Each member's score by the task's metric, in evaluation mode, float64; NaN where not finite.

        ``x`` ``[members, examples, ...]``, ``y`` ``[members, examples, ...]`` to ``[members]``. Not finite are
        also outputs of which only the score is finite. The metric sees all examples of a member at once.
        """
        outputs = self.outputs(x)
        finite = torch.isfinite(outputs).flatten(1).all(1)
        with torch.no_grad():
            scores = [float(self.task.metric(ours, its)) for ours, its in zip(outputs, y, strict=True)]
        found = torch.tensor(scores, dtype=torch.float64)
        return found.where(finite & found.isfinite(), torch.nan)

    def keep(self, members: Sequence[int]) -> None:
        """Drops all other members; those kept are numbered anew in this order. Gradients are dropped.

        The tensors in ``parameters`` and ``buffers`` are new ones afterwards.
        """
        chosen = torch.tensor(members, dtype=torch.int64)
        self.parameters = {name: t.detach()[chosen].requires_grad_() for name, t in self.parameters.items()}
        self.buffers = {name: t[chosen] for name, t in self.buffers.items()}
        self._alone = {new: self._alone[old] for new, old in enumerate(members) if old in self._alone}

    def _loss_alone(self, member: int, x: Tensor, y: Tensor) -> tuple[Tensor, nn.Module]:
        model = self._alone[member].train()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for name, tensor in _state(model).items():
                tensor.copy_({**self.parameters, **self.buffers}[name][member])
            return self.task.loss(model(x[member]), y[member]), model

    def _compare(self, member: int, loss: Tensor, model: nn.Module, ours: Tensor) -> None:
        """vmap is trusted but checked: a state it does not see (a plain attribute) would be shared silently."""
        pairs = {"its loss": (ours, loss.reshape(()))}
        for name, buffer in model.named_buffers():
            pairs[f"its buffer {name}"] = (self.buffers[name][member], buffer)
        for what, (batched, alone) in pairs.items():
            tolerance = torch.finfo(alone.dtype).eps ** 0.5 if alone.is_floating_point() else 0.0
            if not torch.allclose(batched, alone, rtol=tolerance, atol=tolerance, equal_nan=True):
                raise NotBatchable(f"member {member} differs from the same model alone in {what}")


def _fresh(task: Task, seed: int) -> nn.Module:
    """The model as solitary training starts it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return task.model(seed)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: t.detach() for name, t in (*model.named_parameters(), *model.named_buffers())}


def _check_alike(first: nn.Module, other: nn.Module, first_seed: int, seed: int) -> None:
    def layout(model: nn.Module) -> Any:
        return {name: (t.shape, t.dtype) for name, t in _state(model).items()}

    if layout(first) != layout(other) or str(first) != str(other):
        raise NotBatchable(f"the models of seeds {first_seed} and {seed} are built differently")


def _switch(model: nn.Module, *, training: bool) -> None:
    if model.training is not training:  # walking through the modules costs as much as a small layer
        model.train(training)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
