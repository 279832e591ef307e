"""Trains many cells as one model: the same data, order and start as each would have alone."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from adamantine.study.cell import Cell, Result
from adamantine.study.ensemble.model import Ensemble, NotBatchable
from adamantine.study.ensemble.rehearsal import first_line
from adamantine.study.ensemble.steps import Steps, steps_of
from adamantine.study.recipe import ABSURD, SCORED, Recipe, decay_weights, single_threaded
from adamantine.study.task import Data, Task

SPARSE = 0.75  # when fewer members than this part of the stack are left, the others are dropped from it


class OnEpoch(Protocol):
    """Is told the validation scores of an epoch; see `train`."""

    def __call__(self, epoch: int, validation: Mapping[int, float]) -> Collection[int]: ...


def train(
    task: Task,
    cells: Sequence[Cell],
    *,
    schedule: str = "cosine",
    on_epoch: OnEpoch | None = None,
    data: Callable[[int], Data] | None = None,
) -> list[Result]:
    """Trains the cells together, whatever their methods, settings and seeds; results in their order.

    A cell's result is that of `adamantine.study.trainer.Trainer.run`, up to rounding: matrix products of a
    batch add in another order. A member that diverges is frozen and does not touch the others.

    Args:
        task: what to train.
        cells: the members, any number; memory grows with it (`adamantine.study.ensemble.size`).
        schedule: a name of `adamantine.study.schedules.SCHEDULES`.
        on_epoch: called after every evaluated epoch with index → validation score of the members still
            training; the indices that it returns are stopped, with status ``"pruned"``.
        data: seed → data, where the caller keeps them; the task's own by default.

    Raises:
        NotBatchable: this model cannot run with a member axis (random numbers in the forward pass, say).
    """
    start = time.perf_counter()
    order = sorted(range(len(cells)), key=lambda index: cells[index].method)  # neighbours share an optimizer
    members = [Member(index, cells[index]) for index in order]
    with single_threaded():
        _Run(task, members, schedule, on_epoch, data or (lambda seed: Data(*task.data(seed)))).run()
    seconds = (time.perf_counter() - start) / max(len(cells), 1)
    results = {member.index: member.result(seconds) for member in members}
    return [results[index] for index in range(len(cells))]


def why_not_batchable(task: Task, seeds: Sequence[int]) -> str:
    """Why members of these seeds cannot train as one; ``""`` where they can. Tries one batch."""
    some = [seeds[0], seeds[-1]]
    with single_threaded():
        data = [Data(*task.data(seed)) for seed in some]
        batch = slice(task.batch_size)
        try:
            check_sizes(data)
            x, y = (torch.stack([splits.train[side][batch] for splits in data]) for side in (0, 1))
            Ensemble(task, some).loss(x, y)
        except NotBatchable as reason:
            return str(reason)
        except Exception as error:  # a model of the user's need not bear to be copied, say
            return first_line(error)
    return ""


def check_sizes(data: Collection[Data]) -> None:
    """Raises :class:`NotBatchable` where seeds differ in the number of examples: members go in step."""
    for split in Data._fields:
        if len({len(getattr(splits, split)[0]) for splits in data}) > 1:
            raise NotBatchable(f"its seeds have {split} splits of different sizes")


class Member:
    """What becomes of one cell."""

    def __init__(self, index: int, cell: Cell) -> None:
        self.index, self.cell = index, cell
        self.status, self.message = "ok", ""
        self.validation = self.test = math.nan
        self.ceiling = sys.float_info.max
        self.losses: list[float] = []
        self.curves: dict[str, list[float]] = {"epoch": [], "train_loss": [], "validation": [], "norm": []}

    def diverge(self, message: str) -> None:
        self.status, self.message = "diverged", message
        self.validation = math.nan

    def result(self, seconds: float) -> Result:
        ok = self.status == "ok"
        scores = (self.validation, self.test) if ok else (math.nan, math.nan)
        return Result(self.cell, self.status, *scores, self.message, self.curves, seconds)


class _Run:
    def __init__(
        self,
        task: Task,
        members: list[Member],
        schedule: str,
        on_epoch: OnEpoch | None,
        data: Callable[[int], Data],
    ) -> None:
        self.task, self.on_epoch = task, on_epoch
        self.members = members  # those that are in the stack, in its order
        self.data = {seed: data(seed) for seed in sorted({member.cell.seed for member in members})}
        check_sizes(self.data.values())
        examples = len(self.data[members[0].cell.seed].train[0])
        self.recipe = Recipe.of(task, examples, schedule)
        self.ensemble = Ensemble(task, [member.cell.seed for member in members])
        self.weights = decay_weights(task.model(members[0].cell.seed))
        self.steps: list[Steps] = steps_of([member.cell for member in members], self.weights)
        self._hand_out()

    def run(self) -> None:
        recipe = self.recipe
        orders = {seed: recipe.order(seed) for seed in self.data}
        self._record_norms(0)
        step = 0
        for epoch in range(1, recipe.epochs + 1):
            shuffled = {seed: torch.from_numpy(recipe.shuffled(order)) for seed, order in orders.items()}
            for first in range(0, recipe.batches * recipe.batch_size, recipe.batch_size):
                batch = {seed: s[first : first + recipe.batch_size] for seed, s in shuffled.items()}
                self._step(batch, recipe.schedule(step), epoch)
                step += 1
            if recipe.records(epoch):
                self._record(epoch)
            self._drop_finished()
            if not self.members:
                return
        scores = self._scores("test")
        for member, score in zip(self.members, scores, strict=True):
            if member.status != "ok":
                continue
            if math.isfinite(score):
                member.test = score
            else:
                member.diverge("outputs or score not finite")

    def _step(self, batch: dict[int, Tensor], multiplier: float, epoch: int) -> None:
        x, y = (
            self._stacked([self.data[seed].train[side][batch[seed]] for seed in self.data]) for side in (0, 1)
        )
        losses = self.ensemble.loss(x, y)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        for member, value in zip(self.members, losses.tolist(), strict=True):
            if member.status != "ok":
                continue
            if not value <= member.ceiling:  # NaN as well
                member.diverge(f"training loss {value:.3g} in epoch {epoch}")
                continue
            if not member.losses and epoch == 1:
                member.ceiling = ABSURD * max(value, 1.0)
            member.losses.append(value)
        if not any(member.status == "ok" for member in self.members):
            return
        active = np.array([member.status == "ok" for member in self.members])
        for (first, last), steps, rows in zip(self._ranges(), self.steps, self.rows, strict=True):
            if not active[first:last].any():
                continue
            for name, p in self.ensemble.parameters.items():
                rows[name].grad = None if p.grad is None else p.grad[first:last]
            steps.step(multiplier, active[first:last])
        for p in self.ensemble.parameters.values():
            p.grad = None

    def _record(self, epoch: int) -> None:
        for member in self.members:
            if member.status == "ok":
                member.curves["epoch"].append(float(epoch))
                member.curves["train_loss"].append(math.fsum(member.losses) / len(member.losses))
                member.losses.clear()
                member.curves["validation"].append(math.nan)  # kept if the evaluation finds a divergence
        self._record_norms(epoch)
        for member, score in zip(self.members, self._scores("validation"), strict=True):
            if member.status != "ok":
                continue
            if math.isfinite(score):
                member.validation = member.curves["validation"][-1] = score
            else:
                member.diverge("outputs or score not finite")
        if self.on_epoch is not None:
            scores = {member.index: member.validation for member in self.members if member.status == "ok"}
            stopped = set(self.on_epoch(epoch, scores))
            for member in self.members:
                if member.index in stopped and member.status == "ok":
                    member.status, member.message = "pruned", f"after epoch {epoch}"

    def _record_norms(self, epoch: int) -> None:
        total = torch.zeros(len(self.members), dtype=torch.float64)
        with torch.no_grad():
            for name, weight in self.weights.items():
                if weight:
                    total += self.ensemble.parameters[name].double().square().flatten(1).sum(1)
        for member, square in zip(self.members, total.tolist(), strict=True):
            if member.status == "ok":
                member.curves["norm"].append(math.sqrt(square))
                if epoch == 0:
                    member.curves["epoch"].append(0.0)
                    member.curves["train_loss"].append(math.nan)
                    member.curves["validation"].append(math.nan)

    def _scores(self, split: str) -> list[float]:
        splits = [getattr(data, split) for data in self.data.values()]
        size = len(splits[0][0])
        total = torch.zeros(len(self.members), dtype=torch.float64)
        for first in range(0, size, SCORED):
            part = slice(first, min(first + SCORED, size))
            x, y = (self._stacked([pair[side][part] for pair in splits]) for side in (0, 1))
            total += self.ensemble.scores(x, y).double() * (part.stop - first)
        return [score / size for score in total.tolist()]

    def _stacked(self, by_seed: list[Tensor]) -> Tensor:
        """``[members, …]`` from one tensor per seed."""
        if len(by_seed) == 1:
            return by_seed[0].expand(len(self.members), *by_seed[0].shape)
        place = {seed: index for index, seed in enumerate(self.data)}
        return torch.stack(by_seed)[[place[member.cell.seed] for member in self.members]]

    def _drop_finished(self) -> None:
        """Members that diverged or were stopped leave the stack once they are many."""
        kept = [row for row, member in enumerate(self.members) if member.status == "ok"]
        if len(kept) > SPARSE * len(self.members) and kept:
            return
        for (first, last), steps in zip(self._ranges(), self.steps, strict=True):
            steps.keep([row - first for row in kept if first <= row < last])
        self.members = [self.members[row] for row in kept]
        if not kept:
            return
        self.steps = [steps for steps in self.steps if steps.members]
        used = {member.cell.seed for member in self.members}
        self.data = {seed: data for seed, data in self.data.items() if seed in used}
        self.ensemble.keep(kept)
        self._hand_out()

    def _hand_out(self) -> None:
        """Gives every optimizer its rows of the stacked parameters."""
        self.rows = [
            {name: p.detach()[first:last] for name, p in self.ensemble.parameters.items()}
            for first, last in self._ranges()
        ]
        for steps, rows in zip(self.steps, self.rows, strict=True):
            steps.take(rows)

    def _ranges(self) -> list[tuple[int, int]]:
        """First and last row (exclusive) of every optimizer's members."""
        ends = list(itertools.accumulate(steps.members for steps in self.steps))
        return list(zip([0, *ends], ends, strict=False))
