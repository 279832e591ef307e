"""What a comparison is to do, as plain data that travels to workers and into the manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from adamantine.report.model import Floats
from adamantine.study.cell import Cell, Result
from adamantine.study.ranges import extended
from adamantine.study.statistics import choose, edges
from adamantine.study.task import Settings

Results = Mapping[Cell, Result]


@dataclass(frozen=True)
class Method:
    """One optimizer and the grid its search starts from; axes ascend."""

    name: str
    spec: str
    decay: str
    lrs: tuple[float, ...]
    weight_decays: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that decides the results.

    ``grow`` is how many values an axis may gain on the way, ``refine`` how often the steps around the best
    setting are halved then, ``confirm`` how many fresh seeds, which had no part in choosing it, judge each
    method's best setting.
    """

    task: str
    settings: Settings
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    schedule: str
    grow: int
    confirm: int = 0
    refine: int = 0

    @property
    def fresh_seeds(self) -> tuple[int, ...]:
        """The seeds after the grid's, the same for all methods so that differences can be paired."""
        first = max(self.seeds) + 1
        return tuple(range(first, first + self.confirm))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        data: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return data


def plan_from_dict(data: Mapping[str, Any]) -> Plan:
    """The inverse of :meth:`Plan.to_dict`."""
    axes = ("lrs", "weight_decays")
    methods = tuple(Method(**{**m, **{axis: tuple(m[axis]) for axis in axes}}) for m in data["methods"])
    return Plan(
        **{
            **data,
            "settings": Settings(**data["settings"]),
            "methods": methods,
            "seeds": tuple(data["seeds"]),
        }
    )


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name a run folder."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def cells(method: Method, seeds: tuple[int, ...]) -> list[Cell]:
    """All cells of a method's grid, in canonical order."""
    return [
        Cell(method.spec, lr, weight_decay, seed)
        for lr in method.lrs
        for weight_decay in method.weight_decays
        for seed in seeds
    ]


def validation_scores(method: Method, seeds: tuple[int, ...], results: Results) -> Floats:
    """``[lr, weight_decay, seed]``, NaN where there is no score."""
    scores = [results[cell].validation if cell in results else math.nan for cell in cells(method, seeds)]
    return np.array(scores).reshape(len(method.lrs), len(method.weight_decays), len(seeds))


def grown(method: Method, plan: Plan, results: Results) -> Method:
    """The method on the grid that the results so far call for, the last of `growth`."""
    return growth(method, plan, results)[-1]


def growth(method: Method, plan: Plan, results: Results) -> list[Method]:
    """The method's grid as it was planned, and as it has grown, step by step.

    While the optimum of a finished grid touches its rim, the grid gains one value on each side it
    touches, at most ``plan.grow`` times. A pure function of the results, so a resumed run grows as the
    unbroken one did.
    """
    found = [method]
    for _ in range(plan.grow):
        if any(cell not in results for cell in cells(method, plan.seeds)):
            break
        best = choose(validation_scores(method, plan.seeds, results))
        touched = edges(best, method.lrs, method.weight_decays) if best else ()
        if not touched:
            break
        axes = {"lr": method.lrs, "weight_decay": method.weight_decays}
        for edge in touched:
            axis, side = edge.split()
            axes[axis] = extended(axes[axis], side)
        method = dataclasses.replace(method, lrs=axes["lr"], weight_decays=axes["weight_decay"])
        found.append(method)
    return found
