"""Trains one cell: deterministic, single-threaded, and never letting a bad setting stop the grid."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from adamantine.study import methods
from adamantine.study.cell import Cell, Result
from adamantine.study.ensemble import train
from adamantine.study.ensemble.size import members_at_once
from adamantine.study.ensemble.trainer import why_not_batchable
from adamantine.study.errors import StudyError
from adamantine.study.plan import Plan
from adamantine.study.recipe import ABSURD, SCORED, Recipe, grouped, single_threaded
from adamantine.study.task import Data, Task, task_errors
from adamantine.study.tasks import load

KEPT = 2**29  # bytes of data that one worker keeps between cells; a test split that seeds share counts once


class Diverged(Exception):
    """The loss, the outputs or a score is not finite, or the loss is absurdly large."""


class Trainer:
    """Runs the cells of one plan; keeps the task's data between cells."""

    def __init__(self, plan: Plan, task: Task | None = None) -> None:
        self.plan = plan
        self.task = task or load(plan.task, plan.settings)
        self.kept: dict[int, Data] = {}
        self.room = KEPT

    def data(self, seed: int) -> Data:
        """The seed's data. Every setting asks for every seed in turn, so the first ones that fit are kept:
        a cache of the latest would drop each just before it is needed again."""
        if seed in self.kept:
            return self.kept[seed]
        data = Data(*self.task.data(seed))
        known = {id(tensor) for kept in self.kept.values() for split in kept for tensor in split}
        size = sum(t.numel() * t.element_size() for split in data for t in split if id(t) not in known)
        if size <= self.room:
            self.room -= size
            self.kept[seed] = data
        return data

    def run_chunk(self, cells: Sequence[Cell]) -> list[Result]:
        """Trains the cells as one batch where that can be, else one after the other.

        A cell that raises is then known by itself, and costs nobody else's result. Each chunk is tried anew:
        what one worker does must not depend on which chunks it had before. A single cell is a batch too where
        the plan's cells are trained in batches: what is left of a chunk after a worker's death, or one trial
        of a search, then has the bits that it has in company.
        """
        if len(cells) > 1 or self.in_batches:
            # NotBatchable, or whatever an optimizer or task of the user's raises: then, which cell was it?
            with contextlib.suppress(Exception):
                return train(self.task, cells, schedule=self.plan.schedule, data=self.data)
        return [self.run(cell) for cell in cells]

    @cached_property
    def in_batches(self) -> bool:
        """Whether a batch of this task can have more than one cell, and is worth it."""
        seeds = self.plan.seeds
        return not why_not_batchable(self.task, seeds) and members_at_once(self.task, seeds[0]) > 1

    def run(self, cell: Cell) -> Result:
        """Trains the cell alone. Whatever happens in it becomes part of the result."""
        start = time.perf_counter()
        curves: dict[str, list[float]] = {"epoch": [], "train_loss": [], "validation": [], "norm": []}
        validation = test = math.nan
        status, message = "ok", ""
        with single_threaded():
            try:
                validation, test = self._train(cell, curves)
            except Diverged as reason:
                status, message = "diverged", str(reason)
            except Exception as error:  # an optimizer or task of the user's may raise anything
                first_line = (str(error).splitlines() or [""])[0]
                status, message = "failed", f"{type(error).__name__}: {first_line}"
        return Result(cell, status, validation, test, message, curves, time.perf_counter() - start)

    def _train(self, cell: Cell, curves: dict[str, list[float]]) -> tuple[float, float]:
        task, data = self.task, self.data(cell.seed)
        torch.manual_seed(cell.seed)
        model = task.model(cell.seed)
        groups, decaying = grouped(model, cell.lr, cell.weight_decay)
        optimizer = methods.build(methods.parse(cell.method), groups, cell.lr)
        inputs, targets = data.train
        recipe = Recipe.of(task, len(inputs), self.plan.schedule)
        scheduler = LambdaLR(optimizer, recipe.schedule)
        order = recipe.order(cell.seed)
        curves["epoch"].append(0.0)
        curves["train_loss"].append(math.nan)
        curves["validation"].append(math.nan)
        curves["norm"].append(_norm(decaying))
        ceiling = sys.float_info.max
        losses: list[float] = []
        for epoch in range(1, task.epochs + 1):
            shuffled = torch.from_numpy(recipe.shuffled(order))
            x, y = inputs[shuffled], targets[shuffled]
            model.train()
            for first in range(0, len(x), recipe.batch_size):
                batch = slice(first, first + recipe.batch_size)
                optimizer.zero_grad()
                loss = task.loss(model(x[batch]), y[batch])
                loss.backward()  # type: ignore[no-untyped-call]
                value = loss.item()
                if not value <= ceiling:  # NaN as well
                    raise Diverged(f"training loss {value:.3g} in epoch {epoch}")
                if not losses and epoch == 1:
                    ceiling = ABSURD * max(value, 1.0)
                losses.append(value)
                optimizer.step()
                scheduler.step()
            if recipe.records(epoch):
                curves["epoch"].append(float(epoch))
                curves["train_loss"].append(math.fsum(losses) / len(losses))
                losses.clear()
                curves["validation"].append(math.nan)  # kept if the evaluation finds a divergence
                curves["norm"].append(_norm(decaying))
                curves["validation"][-1] = evaluate(task, model, data.validation)
        return curves["validation"][-1], evaluate(task, model, data.test)


def rehearse(plan: Plan, task: Task) -> None:
    """One step of each method at its largest weight decay on the task's own model and first batch.

    Raises :class:`StudyError` naming the task or the method when either cannot work at all.
    """
    seed = plan.seeds[0]
    with single_threaded(), task_errors(task):
        inputs, targets = Data(*task.data(seed)).train
        for method in plan.methods:
            torch.manual_seed(seed)
            model = task.model(seed).train()
            loss = task.loss(model(inputs[: task.batch_size]), targets[: task.batch_size])
            loss.backward()  # type: ignore[no-untyped-call]
            groups, _ = grouped(model, method.lrs[0], method.weight_decays[-1])
            try:
                methods.build(methods.parse(method.spec), groups, method.lrs[0]).step()
            except StudyError:
                raise
            except Exception as error:  # an optimizer of the user's may raise anything
                raise StudyError(
                    f"--method {method.spec} cannot train {task.name!r}: {type(error).__name__}: {error}"
                ) from error


def evaluate(task: Task, model: nn.Module, split: tuple[Tensor, Tensor]) -> float:
    """The task's score over a whole split; raises :class:`Diverged` on outputs that are not finite."""
    inputs, targets = split
    model.eval()
    total = 0.0
    with torch.no_grad():
        for x, y in zip(torch.split(inputs, SCORED), torch.split(targets, SCORED), strict=True):
            outputs = model(x)
            score = float(task.metric(outputs, y))
            if not (math.isfinite(score) and bool(torch.isfinite(outputs).all())):
                raise Diverged("outputs or score not finite")
            total += score * len(x)
    return total / len(inputs)


def _norm(parameters: list[Tensor]) -> float:
    with torch.no_grad():
        return math.sqrt(sum(p.double().square().sum().item() for p in parameters))
