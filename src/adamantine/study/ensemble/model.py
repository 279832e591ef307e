"""Many models of one task as one: the same network with a leading member axis on all that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.parameter import is_lazy

from adamantine.study.ensemble.functions import ByHand, NotBatchable
from adamantine.study.ensemble.rehearsal import State, rehearse
from adamantine.study.task import Task

__all__ = ["Ensemble", "NotBatchable"]

PIECE = 128  # examples of each member per forward pass of an evaluation: more of them leave the caches


class Ensemble:
    """One model of the task per seed, trained and evaluated together; a seed may come more than once.

    Each member starts as ``task.model(seed)`` does when it is trained alone, computes what it would compute
    alone up to rounding, and never sees another member: a NaN in one changes no bit of the others. On one
    thread its bits depend neither on how many others there are nor on which, nor on their order.

    ``parameters``
        the trained parameters by name, leaves ``[members, ...]`` with ``requires_grad``;
    ``buffers``
        the rest of the models' state by name, ``[members, ...]``: their buffers, their frozen parameters.

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
            if _layout(model) != _layout(self._module):
                raise NotBatchable(f"the models of seeds {seeds[0]} and {seed} are built differently")
        states = {seed: _state(model) for seed, model in models.items()}
        stacked = {
            name: torch.stack([states[seed][name].detach() for seed in seeds]) for name in states[seeds[0]]
        }
        trained = {name for name, p in self._module.named_parameters() if p.requires_grad}
        self.parameters = {name: t.requires_grad_() for name, t in stacked.items() if name in trained}
        self.buffers = {name: t for name, t in stacked.items() if name not in trained}
        # The last member is as likely as any to differ from the first, whose module computes for all.
        self._unproven = {member: deepcopy(models[seeds[member]]) for member in {0, len(seeds) - 1}}

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Each member's loss on its own batch, in training mode; updates running statistics.

        ``x`` ``[members, batch, ...]``, ``y`` ``[members, batch, ...]`` to ``[members]``. The gradients of
        all members come from ``loss(x, y).sum().backward()``. The first call rehearses (see
        :mod:`adamantine.study.ensemble.rehearsal`) and takes a few times as long.

        Raises :class:`ValueError` for another number of members.
        """
        self._check_members(x, y)
        if self._unproven:
            module = deepcopy(self._module)  # whatever the modules count for themselves, they count once
            losses = lambda state, x, y: self._losses(module, state, x, y)  # noqa: E731
            rehearse(losses, self.task, self._unproven, self._everything(), x, y)
            self._unproven = {}
        return self._losses(self._module, self._everything(), x, y)

    def _losses(self, module: nn.Module, state: State, x: Tensor, y: Tensor) -> Tensor:
        def loss(state: State, x: Tensor, y: Tensor) -> Tensor:
            return self.task.loss(functional_call(module, state, (x,)), y)

        _switch(module, training=True)
        with ByHand():
            losses: Tensor = vmap(loss)(state, x, y)
        return losses.reshape(len(self))

    def outputs(self, x: Tensor) -> Tensor:
        """What the members compute in evaluation mode, without gradients; ``x`` ``[members, examples, ...]``.

        The examples go through in pieces: an output may only depend on its own example.
        """

        def outputs(state: State, x: Tensor) -> Tensor:
            found: Tensor = functional_call(self._module, state, (x,))
            return found

        _switch(self._module, training=False)
        with torch.no_grad(), ByHand():
            state = self._everything()
            pieces = [vmap(outputs)(state, piece) for piece in torch.split(x, PIECE, 1)]
            return torch.cat(pieces, 1) if len(pieces) > 1 else pieces[0]

    def scores(self, x: Tensor, y: Tensor) -> Tensor:
        """Each member's score by the task's metric, in evaluation mode, float64.

        ``x`` ``[members, examples, ...]``, ``y`` ``[members, examples, ...]`` to ``[members]``; NaN where
        the score or an output is not finite. The metric sees all examples of a member at once.
        """
        self._check_members(x, y)
        outputs = self.outputs(x)
        finite = torch.isfinite(outputs).flatten(1).all(1)
        with torch.no_grad():
            scores = [float(self.task.metric(ours, its)) for ours, its in zip(outputs, y, strict=True)]
        found = torch.tensor(scores, dtype=torch.float64)
        return found.where(finite & found.isfinite(), torch.nan)

    def keep(self, members: Sequence[int]) -> None:
        """Drops all other members; those kept are numbered anew, in this order. Gradients are dropped.

        The tensors in ``parameters`` and ``buffers`` are new ones afterwards.
        """
        chosen = torch.tensor(members, dtype=torch.int64)
        self.parameters = {name: t.detach()[chosen].requires_grad_() for name, t in self.parameters.items()}
        self.buffers = {name: t[chosen] for name, t in self.buffers.items()}
        self._unproven = {
            new: self._unproven[old] for new, old in enumerate(members) if old in self._unproven
        }

    def _check_members(self, x: Tensor, y: Tensor) -> None:
        if not len(x) == len(y) == len(self):
            raise ValueError(f"x is of {len(x)} members and y of {len(y)}; the ensemble has {len(self)}")

    def _everything(self) -> State:
        return {**self.parameters, **self.buffers}


def _fresh(task: Task, seed: int) -> nn.Module:
    """The model as solitary training starts it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return task.model(seed)


def _state(model: nn.Module) -> State:
    return {name: t for name, t in (*model.named_parameters(), *model.named_buffers())}  # noqa: C416


def _layout(model: nn.Module) -> dict[str, object]:
    """What models must share to be stacked, by name. Raises :class:`NotBatchable` where there is none yet."""
    lazy = [name for name, t in _state(model).items() if is_lazy(t)]
    if lazy:
        raise NotBatchable(f"its parameter {lazy[0]} gets its shape in the first forward pass")
    tensors = {name: (t.shape, t.dtype, t.requires_grad) for name, t in _state(model).items()}
    return {**tensors, "modules": str(model)}


def _switch(model: nn.Module, *, training: bool) -> None:
    if model.training is not training:  # a walk through all modules costs as much as a small layer
        model.train(training)
