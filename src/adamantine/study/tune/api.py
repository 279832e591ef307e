"""The Python interface of ``adamantine tune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adamantine.study.task import Settings, Task, from_object
from adamantine.study.tune import plan
from adamantine.study.tune.result import Tuning
from adamantine.study.tune.run import Watcher, run
from adamantine.study.tune.space import Coordinates, Range
from adamantine.study.tune.training import Objective, Runner

Given = Range | Mapping[str, Range]  # for all methods, or by method


def tune(
    task: Any = "digits",
    *,
    objective: Objective | None = None,
    methods: str | Sequence[str] = "AdamW",
    trials: int = 40,
    batch: int = 8,
    seeds: Sequence[int] = (0, 1, 2),
    confirm: int = 7,
    sampler: str = "tpe",
    pruner: str = "median",
    coordinates: Coordinates = "gamma",
    lr: Given | None = None,
    weight_decay: Given | None = None,
    gamma: Given | None = None,
    zero: bool = False,
    widen: int = 0,
    seed: int = 0,
    schedule: str = "cosine",
    epochs: int | None = None,
    out: str | Path | None = None,
    storage: str | None = None,
    fresh: bool = False,
    runner: Runner | None = None,
    watcher: Watcher | None = None,
) -> Tuning:
    """Searches lr and weight decay together, and confirms the best on fresh seeds.

    A trial is a setting; its score is the mean over ``seeds``, lower is better. Trials are asked ``batch`` at
    a time and trained together. The search space is (log lr, log γ), γ = lr·λ, for decoupled decay.

    Args:
        task: a built-in name, ``"module:object"``, a :class:`~adamantine.study.task.Task`, or an object with
            the four functions of :mod:`adamantine.study.task`.
        objective: instead of a task, a function ``objective(lr, weight_decay, seed, report) -> score``.
            To call ``report(epoch, score)`` is optional; it raises :class:`Pruned` to stop a trial, which you
            let pass. ``epochs`` says how many reports to expect.
        methods: specs such as ``'AdamW(decay="cautious")'``; each is searched by itself.
        trials: finished trials wanted per method, pruned and diverged ones among them.
        confirm: how many fresh seeds judge the best setting, on the task's test split.
        sampler: ``tpe``, ``gp``, ``random``, ``qmc``, ``grid``, or ``cmaes`` if that package is there.
        pruner: ``median``, ``hyperband``, ``halving`` or ``none``.
        coordinates: ``"gamma"`` or ``"lambda"``; L2 and independent decay are searched in λ as it is.
        lr, weight_decay, gamma: ranges ``(low, high)``, for all methods or by spec or class name.
            Defaults: :mod:`adamantine.study.ranges`.
        zero: whether no decay at all is a choice too.
        widen: how often the ranges may grow where the best is at their rim, for half as many trials more.
        seed: of the sampler. The same arguments give the same search, also when it was killed and resumed.
        out: a folder to write and to resume; ``None`` keeps everything in memory.
        storage: an Optuna storage URL instead of ``study.db`` in the folder. One process at a time.
        runner: trains the cells of a batch; see :class:`Runner`.

    Raises:
        StudyError: an argument is wrong; the message says which and what to do.
    """
    job = plan.prepare(
        task if isinstance(task, str | Task) else from_object(getattr(task, "__name__", "task"), task),
        objective=objective,
        methods_=(methods,) if isinstance(methods, str) else tuple(methods),
        trials=trials,
        batch=batch,
        seeds=tuple(seeds),
        confirm=confirm,
        sampler=sampler,
        pruner=pruner,
        coordinates=coordinates,
        lr=_by_method(lr),
        weight_decay=_by_method(weight_decay),
        gamma=_by_method(gamma),
        zero=zero,
        widen=widen,
        seed=seed,
        schedule=schedule,
        settings=Settings(epochs=epochs),
    )
    folder = Path(out) if out is not None else None
    return run(job, out=folder, storage=storage, fresh=fresh, runner=runner, watcher=watcher)


def _by_method(given: Given | None) -> Mapping[str, Range]:
    if given is None:
        return {}
    return given if isinstance(given, Mapping) else {"": given}
