"""The optimizer's part of a batched step: what each member's own optimizer would do to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adamantine.study import methods
from adamantine.study.cell import Cell
from adamantine.study.ensemble.functions import NotBatchable
from adamantine.torch import OPTIMIZERS, Stacked

Bools = NDArray[np.bool_]

#: Arguments that `Stacked` does not take: each member then has an optimizer of its own.
_NOT_STACKED = {"max_norm", "on_nonfinite", "differentiable", "peak_lr", "weights", "seed", "offload"}


class Steps(Protocol):
    """Steps neighbouring members, rows ``first`` to ``first + members`` of the stacked parameters."""

    members: int

    def step(self, multiplier: float, active: Bools) -> None:
        """One step at the schedule's multiplier; ``active``: ``[members]``."""

    def keep(self, members: Sequence[int]) -> None:
        """Goes on with these of its members; the parameters to step come with `take`."""

    def take(self, parameters: Mapping[str, Tensor]) -> None:
        """These are the members' parameters now: name → ``[members, …]``, with ``grad`` set before a step."""


def steps_of(cells: Sequence[Cell], weights: Mapping[str, float]) -> list[Steps]:
    """One `Steps` per run of neighbouring cells with the same method.

    Args:
        cells: the members.
        weights: parameter name → 1 where it decays, 0 where it does not.
    """
    found: list[Steps] = []
    first = 0
    for last in range(1, len(cells) + 1):
        if last == len(cells) or cells[last].method != cells[first].method:
            spec = methods.parse(cells[first].method)
            kind = _Together if _stacks(spec) else _Apart
            found.append(kind(spec, cells[first:last], weights))
            first = last
    return found


def _stacks(spec: methods.Spec) -> bool:
    """Whether `Stacked` takes this method; blocks of codes are one tensor's own."""
    arguments = dict(spec.arguments)
    in_blocks = arguments.get("state") in ("8bit", "4bit") or isinstance(arguments.get("state"), dict)
    return not spec.module and not in_blocks and not _NOT_STACKED & set(arguments)


class _Together:
    """One of our optimizers: a row of hyperparameters per member, one pass over memory."""

    def __init__(self, spec: methods.Spec, cells: Sequence[Cell], weights: Mapping[str, float]) -> None:
        self.members = len(cells)
        self.spec, self.weights = spec, weights
        self.lrs = [cell.lr for cell in cells]
        self.weight_decays = np.array([cell.weight_decay for cell in cells])
        self.optimizer: Stacked | None = None
        self.kept: list[int] | None = None

    def take(self, parameters: Mapping[str, Tensor]) -> None:
        by_weight: dict[float, list[Tensor]] = {}
        for name, weight in self.weights.items():
            by_weight.setdefault(weight, []).append(parameters[name])
        if self.optimizer is None:
            groups = [
                {"params": params, "weight_decay": weight * self.weight_decays}
                for weight, params in by_weight.items()
            ]
            arguments = dict(self.spec.arguments)
            self.optimizer = Stacked(OPTIMIZERS[self.spec.class_name], groups, self.lrs, **arguments)
        elif self.kept is not None:
            self.optimizer.keep(self.kept, list(by_weight.values()))
            self.kept = None

    def keep(self, members: Sequence[int]) -> None:
        self.members, self.kept = len(members), list(members)

    def step(self, multiplier: float, active: Bools) -> None:
        assert self.optimizer is not None
        self.optimizer.step(multiplier, active=active)


class _Apart:
    """Any other optimizer: one per member, over views of its rows."""

    def __init__(self, spec: methods.Spec, cells: Sequence[Cell], weights: Mapping[str, float]) -> None:
        self.members = len(cells)
        self.spec, self.cells, self.weights = spec, list(cells), weights
        self.optimizers: list[torch.optim.Optimizer] = []
        self.views: list[dict[str, Tensor]] = []  # what the optimizers were given
        self.rows: list[dict[str, Tensor]] = []  # the same memory, as long as they leave it there
        self.stacked: Mapping[str, Tensor] = {}

    def take(self, parameters: Mapping[str, Tensor]) -> None:
        self.stacked = parameters
        self.rows = [
            {name: parameters[name][n].detach() for name in self.weights} for n in range(self.members)
        ]
        if self.optimizers:
            for views, rows in zip(self.views, self.rows, strict=True):
                for name, row in rows.items():  # the optimizer's state is keyed by the tensor it was given
                    views[name].data = row
            return
        self.views = [{name: row.detach() for name, row in rows.items()} for rows in self.rows]
        for cell, views in zip(self.cells, self.views, strict=True):
            by_weight: dict[float, list[Tensor]] = {}
            for name, weight in self.weights.items():
                by_weight.setdefault(weight, []).append(views[name].requires_grad_())
            groups: list[dict[str, Any]] = [
                {"params": params, "lr": cell.lr, "weight_decay": weight * cell.weight_decay}
                for weight, params in by_weight.items()
            ]
            self.optimizers.append(methods.build(self.spec, groups, cell.lr))

    def keep(self, members: Sequence[int]) -> None:
        self.members = len(members)
        self.cells = [self.cells[n] for n in members]
        self.optimizers = [self.optimizers[n] for n in members]
        self.views = [self.views[n] for n in members]

    def step(self, multiplier: float, active: Bools) -> None:
        """Raises :class:`NotBatchable` for an optimizer that draws random numbers: which ones a member gets
        would depend on its company."""
        drawn = torch.get_rng_state()
        self._step(multiplier, active)
        if not torch.equal(drawn, torch.get_rng_state()):
            raise NotBatchable(f"{self.spec} draws random numbers")

    def _step(self, multiplier: float, active: Bools) -> None:
        for n in np.flatnonzero(active):
            for name, view in self.views[n].items():
                grad = self.stacked[name].grad
                view.grad = None if grad is None else grad[n]
            for group in self.optimizers[n].param_groups:
                group["lr"] = self.cells[n].lr * multiplier
            self.optimizers[n].step()
            for name, view in self.views[n].items():
                row = self.rows[n][name]
                if view.data_ptr() != row.data_ptr():  # `p.data = …` instead of `p.data.copy_(…)`
                    row.copy_(view.detach())
                    view.data = row
