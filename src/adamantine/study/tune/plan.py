"""What a search is to do, checked before anything is trained."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamantine.report.machine import processor
from adamantine.study import methods
from adamantine.study.errors import StudyError
from adamantine.study.folder import FORMAT, identity
from adamantine.study.origin import origins
from adamantine.study.plan import Method, Plan, fingerprint
from adamantine.study.schedules import SCHEDULES
from adamantine.study.task import Settings, Task, check
from adamantine.study.tasks import TASKS, load
from adamantine.study.tune import engine
from adamantine.study.tune.space import COORDINATES, Coordinates, Range, Space, space
from adamantine.study.tune.training import Objective

MANY = 100_000  # trials, at most: more is a slip of the finger
Ranges = Mapping[str, Range]  # by method spec or class name; "" for all


@dataclass(frozen=True)
class Candidate:
    """A method with the space that it is searched over."""

    name: str
    spec: str
    space: Space


@dataclass(frozen=True)
class Config:
    """Everything that decides the results; with more ``trials`` a search goes on."""

    candidates: tuple[Candidate, ...]
    seeds: tuple[int, ...]
    confirm: int
    sampler: str
    pruner: str
    seed: int
    batch: int
    trials: int
    widen: int

    @property
    def fresh_seeds(self) -> tuple[int, ...]:
        """The seeds after those of the search."""
        first = max(self.seeds) + 1
        return tuple(range(first, first + self.confirm))


@dataclass(frozen=True)
class Job:
    """A search ready to go. ``task`` is ``None`` for an objective of the user's."""

    config: Config
    task: Task | None
    objective: Objective | None
    schedule: str
    epochs: int
    steps_per_epoch: float | None
    manifest: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where the command line keeps it: the code tells every different search apart."""
        name = self.task.name if self.task else "objective"
        safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
        return Path("runs") / f"tune-{safe}-{fingerprint(identity(self.manifest))}"


def prepare(
    task: str | Task = "digits",
    *,
    objective: Objective | None = None,
    methods_: tuple[str, ...] = ("AdamW",),
    trials: int = 40,
    batch: int = 8,
    seeds: tuple[int, ...] = (0, 1, 2),
    confirm: int = 7,
    sampler: str = "tpe",
    pruner: str = "median",
    coordinates: Coordinates = "gamma",
    lr: Ranges | None = None,
    weight_decay: Ranges | None = None,
    gamma: Ranges | None = None,
    zero: bool = False,
    widen: int = 0,
    seed: int = 0,
    schedule: str = "cosine",
    settings: Settings | None = None,
    command: str = "",
) -> Job:
    """Checks every argument and takes a step with each method; raises :class:`StudyError` if one is wrong."""
    for name, value, low, high in (
        ("--trials", trials, 1, MANY),
        ("--batch", batch, 1, MANY),
        ("--confirm", confirm, 0, 1000),
        ("--widen", widen, 0, 10),
        ("--seed", seed, 0, 2**32 - 1),
    ):
        if not low <= value <= high:
            raise StudyError(f"{name} must be {low} to {high}, not {value}")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) + confirm >= 2**32:
        raise StudyError(f"--seeds {','.join(map(str, seeds))}: give different whole numbers from 0 to 2^32")
    if schedule not in SCHEDULES:
        raise StudyError(f"--schedule {schedule!r}: there are {', '.join(SCHEDULES)}")
    if coordinates not in COORDINATES:
        raise StudyError(f"--coordinates {coordinates!r}: there are {', '.join(COORDINATES)}")
    engine.check(sampler, pruner)
    given = {"--lr": lr or {}, "--weight-decay": weight_decay or {}, "--gamma": gamma or {}}
    candidates = _candidates(methods_, given, coordinates, zero)
    config = Config(candidates, seeds, confirm, sampler, pruner, seed, batch, trials, widen)
    settings = settings or Settings()
    if objective is not None:
        epochs = settings.epochs or 1
        manifest = _manifest(config, None, "", settings, schedule, command)
        return Job(config, None, objective, schedule, epochs, None, manifest)
    loaded = load(task, settings) if isinstance(task, str) else task
    manifest = _manifest(config, loaded, task if isinstance(task, str) else "", settings, schedule, command)
    _rehearse(config, loaded, schedule)
    steps = manifest["data"]["train"] // min(loaded.batch_size, manifest["data"]["train"])
    return Job(config, loaded, None, schedule, loaded.epochs, steps, manifest)


def _candidates(
    names: tuple[str, ...], given: Mapping[str, Ranges], coordinates: Coordinates, zero: bool
) -> tuple[Candidate, ...]:
    parsed = [methods.parse(text) for text in names]
    if not parsed or len({str(spec) for spec in parsed}) < len(parsed):
        raise StudyError(f"--method {', '.join(names)}: give one or several, each once")
    known = {"", *map(str, parsed), *(spec.class_name for spec in parsed)}
    for option, ranges in given.items():
        for key in ranges:
            if key not in known:
                raise StudyError(f"{option} '{key}=...': no such method here; there are {', '.join(names)}")
    spaces = []
    for spec in parsed:
        methods.resolve(spec)
        lr, decay, gamma = (
            next((ranges[key] for key in (str(spec), spec.class_name, "") if key in ranges), None)
            for ranges in given.values()
        )
        mode = methods.probe(spec, lr[0] if lr else 1e-3, 0.0)
        spaces.append(
            space(spec, mode, coordinates=coordinates, lr=lr, weight_decay=decay, gamma=gamma, zero=zero)
        )
    titles = methods.titles(parsed, [found.mode for found in spaces])
    return tuple(map(Candidate, titles, map(str, parsed), spaces))


def _rehearse(config: Config, task: Task, schedule: str) -> None:
    """One step of each method at the strongest setting of its space."""
    from adamantine.study.trainer import rehearse  # here, for it needs torch

    found = []
    for candidate in config.candidates:
        axes = candidate.space.axes()
        corner = {**{name: high for name, (_, high) in axes.items()}, "lr": axes["lr"][0]}
        strongest = candidate.space.setting(corner)
        found.append(
            Method(
                candidate.name,
                candidate.spec,
                candidate.space.mode,
                (strongest.lr,),
                (strongest.weight_decay,),
            )
        )
    rehearse(Plan(task.name, Settings(), tuple(found), config.seeds, schedule, 0), task)


def _manifest(
    config: Config, task: Task | None, name: str, settings: Settings, schedule: str, command: str
) -> dict[str, Any]:
    """Everything a reader needs to run this again. How long to search is not part of its identity."""
    configuration: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    budget = {key: configuration.pop(key) for key in ("trials", "widen")}
    changed = {key: getattr(settings, key) for key in ("epochs", "batch_size", "train_size")}
    modules = [methods.parse(candidate.spec).module for candidate in config.candidates]
    if name and name not in TASKS:
        modules.append(name.partition(":")[0])
    packages = ("adamantine", "optuna", "torch", "numpy")
    return {
        "format": FORMAT,
        "command": command,
        "configuration": {
            "command": "tune",
            "task": task.name if task else "objective",
            "schedule": schedule,
            "settings": changed,
            **configuration,
        },
        "budget": budget,
        "task": {
            "title": task.title if task else "objective",
            "score_name": task.score_name if task else "score",
            "score_unit": task.score_unit if task else "",
        },
        "seeds": list(config.seeds),
        "fresh seeds": list(config.fresh_seeds),
        "data": check(task, config.seeds[0]) if task else {},
        "code": origins(modules),
        "versions": {package: importlib.metadata.version(package) for package in packages}
        | {"python": platform.python_version()},
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "processor": processor(),
            "cores": os.cpu_count(),
        },
    }
