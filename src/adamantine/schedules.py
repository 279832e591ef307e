r"""Learning-rate schedules as pure functions: the multiplier s_t in [0, 1], with η_t = α·s_t.

A schedule is a frozen dataclass that is called with the step, counted from 0: ``s(0)`` belongs to the first
update. Schedules compare, print and pickle by value. A schedule of ``steps`` steps reaches its end *at*
``steps``, one past its last update (torch's convention for ``T_max``), so that no update is spent at lr 0;
beyond, it keeps the end value. No multiplier is above 1, so the lr given to the optimizer is the peak.

`peak_lr` reads η_max of an optimizer's parameter group, whichever scheduler drives it.

>>> plan = Warmup(10, Cosine(100))
>>> [round(plan(step), 3) for step in (0, 9, 10, 60, 110, 500)]
[0.091, 0.909, 1.0, 0.5, 0.0, 0.0]
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, get_args

Shape = Literal["linear", "cosine", "sqrt"]


class Schedule(ABC):
    """A pure function from the step (≥ 0, fractions allowed) to the multiplier s_t in [0, 1]."""

    def __call__(self, step: float) -> float:
        """s at ``step``.

        Raises:
            ValueError: a negative or NaN step.
        """
        if not step >= 0:
            raise ValueError(f"Invalid step: {step}; steps count from 0")
        return self._multiplier(step)

    @abstractmethod
    def _multiplier(self, step: float) -> float:
        """s at a step that is ≥ 0."""


@dataclass(frozen=True)
class Constant(Schedule):
    """s = ``value`` at every step.

    >>> Constant()(7)
    1.0
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        _set_fraction(self, "value")

    def _multiplier(self, step: float) -> float:
        return self.value


@dataclass(frozen=True)
class Linear(Schedule):
    """From 1 at step 0 to ``end`` at ``steps`` along a straight line.

    >>> [Linear(4, end=0.5)(step) for step in (0, 2, 4, 9)]
    [1.0, 0.75, 0.5, 0.5]
    """

    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        _set_count(self, "steps", least=1)
        _set_fraction(self, "end")

    def _multiplier(self, step: float) -> float:
        return _fall("linear", step / self.steps, self.end)


@dataclass(frozen=True)
class Cosine(Schedule):
    """From 1 at step 0 to ``end`` at ``steps`` along half a cosine (Loshchilov & Hutter 2017, no restart).

    >>> [round(Cosine(4)(step), 4) for step in range(5)]
    [1.0, 0.8536, 0.5, 0.1464, 0.0]
    """

    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        _set_count(self, "steps", least=1)
        _set_fraction(self, "end")

    def _multiplier(self, step: float) -> float:
        return _fall("cosine", step / self.steps, self.end)


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Cosine with warm restarts (SGDR, Loshchilov & Hutter 2017): falls to ``end``, jumps back to 1.

    Attributes:
        t_0: steps of the first run, T_0.
        t_mult: each run is this many times as long as the one before it, T_mult.
        end: value that a run falls to.

    >>> plan = CosineRestarts(t_0=2, t_mult=2)
    >>> [round(plan(step), 3) for step in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    >>> [plan.run_length(step) for step in range(7)]
    [2, 2, 4, 4, 4, 4, 8]
    """

    t_0: int
    t_mult: int = 1
    end: float = 0.0

    def __post_init__(self) -> None:
        _set_count(self, "t_0", least=1)
        _set_count(self, "t_mult", least=1)
        _set_fraction(self, "end")

    def _multiplier(self, step: float) -> float:
        start, length = self._run(step)
        return _fall("cosine", (step - start) / length, self.end)

    def run_length(self, step: float) -> int:
        """T_i: how many steps the run that contains ``step`` has."""
        return self._run(step)[1]

    def _run(self, step: float) -> tuple[int, int]:
        """Start and length of the run that contains ``step``. Whole numbers, so no restart is ever missed."""
        if not 0 <= step < math.inf:
            raise ValueError(f"Invalid step: {step}; steps count from 0, and no run of restarts is the last")
        if self.t_mult == 1:
            return int(step // self.t_0) * self.t_0, self.t_0
        start, length = 0, self.t_0
        while step >= start + length:
            start, length = start + length, length * self.t_mult
        return start, length


@dataclass(frozen=True)
class Warmup(Schedule):
    """A straight line up to ``then(0)`` at step ``steps``, and from there on ``then``.

    Attributes:
        steps: steps of warm-up; 0 means none.
        then: the schedule that follows, whose step 0 is this one's step ``steps``.
        start: share of ``then(0)`` at step 0. None: 1 / (steps + 1), so that the first update moves too.

    >>> [Warmup(3, Constant())(step) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    >>> Warmup(2, Linear(10), start=0.0)(0)
    0.0
    """

    steps: int
    then: Schedule
    start: float | None = None

    def __post_init__(self) -> None:
        _set_count(self, "steps", least=0)
        if not isinstance(self.then, Schedule):
            raise TypeError(f"Invalid then: {self.then!r}; it must be a schedule, such as Constant()")
        if self.start is not None:
            _set_fraction(self, "start")

    def _multiplier(self, step: float) -> float:
        if step >= self.steps:
            return self.then(step - self.steps)
        return self.then(0) * _rise(step, self.steps, self.start)


@dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    """Up, flat, down (WSD; Hu et al. 2024, arXiv 2404.06395): the run's length can be settled late.

    Attributes:
        warmup: steps of linear warm-up, as in `Warmup`; 0 means none.
        stable: steps at 1.
        decay: steps of the fall from 1 to ``end``; 0 means that it stays at 1.
        shape: ``"linear"``, ``"cosine"``, or ``"sqrt"``: 1 - √x, the shape that Hägele et al. 2024
            (arXiv 2405.18392) recommend.
        end: value after the fall.

    >>> plan = WarmupStableDecay(warmup=1, stable=2, decay=4)
    >>> [plan(step) for step in range(9)]
    [0.5, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    warmup: int
    stable: int
    decay: int
    shape: Shape = "linear"
    end: float = 0.0

    def __post_init__(self) -> None:
        for name in ("warmup", "stable", "decay"):
            _set_count(self, name, least=0)
        if self.shape not in get_args(Shape):
            raise ValueError(f"Invalid shape: {self.shape!r}; choose one of {', '.join(get_args(Shape))}")
        _set_fraction(self, "end")

    def _multiplier(self, step: float) -> float:
        if step < self.warmup:
            return _rise(step, self.warmup, None)
        fallen = step - self.warmup - self.stable
        if fallen <= 0 or self.decay == 0:
            return 1.0
        return _fall(self.shape, fallen / self.decay, self.end)


def peak_lr(group: Mapping[str, Any]) -> float:
    """η_max: the highest learning rate that the group's schedule reaches.

    The constructor's lr is not it: torch's OneCycleLR rewrites both ``lr`` and ``initial_lr`` to max_lr/25,
    and a warm-up starts low. In this order, from what is in the group:

    1. ``peak_lr``, if stated (not None). A statement is final.
    2. The plan: ``max_lr`` (OneCycleLR writes it), else ``initial_lr`` (the lr that nearly every other torch
       scheduler multiplies by at most 1), else ``constructed_lr`` (no scheduler yet, or lr set by hand).
    3. Never less than ``highest_lr`` (the highest lr of any step so far), the present ``lr``, or ``swa_lr``
       (SWALR writes it: the lr that it anneals to).

    Three kinds of scheduler keep their peak to themselves, so that no rule on the group alone can know it
    before it is reached: CyclicLR (``max_lrs`` on the scheduler); LambdaLR, MultiplicativeLR and user classes
    with multipliers above 1 (a tiny base lr), or far below (lr=1.0 and the whole schedule in the lambda); and
    cosine schedulers whose ``eta_min`` lies above the lr. State the peak for these:
    `adamantine.torch.schedulers.record_peak_lr` plays the scheduler forward and writes ``peak_lr``.

    The keys outlive their scheduler: fine-tuning at 1e-3 after a OneCycleLR up to 1.0 still has the peak
    1.0. The reset is to state the new ``peak_lr`` in the group; `record_peak_lr` does it
    too once ``highest_lr`` in the group, which it respects, has been set to 0.

    Args:
        group: a parameter group; values may be tensors of one element.

    Raises:
        KeyError: the group has none of these keys.

    >>> peak_lr({"lr": 4e-5, "initial_lr": 4e-5, "max_lr": 1e-3, "constructed_lr": 1e-3})
    0.001
    >>> peak_lr({"lr": 1e-6, "initial_lr": 1e-3, "highest_lr": 2e-3})
    0.002
    >>> peak_lr({"lr": 1e-6, "initial_lr": 1e-3, "peak_lr": 0.5})
    0.5
    """
    if group.get("peak_lr") is not None:
        return float(group["peak_lr"])
    seen = [float(group[key]) for key in ("lr", "highest_lr", "swa_lr") if key in group]
    for key in ("max_lr", "initial_lr", "constructed_lr"):
        if key in group:
            return max(float(group[key]), *seen)
    if not seen:
        raise KeyError(f"the group has no lr: its keys are {sorted(group)}; state peak_lr in it")
    return max(seen)


def _rise(step: float, steps: int, start: float | None) -> float:
    """From ``start`` (None: one part in steps + 1) at step 0 towards 1 at ``steps``."""
    if start is None:
        return (step + 1.0) / (steps + 1.0)
    return start + (1.0 - start) * step / steps


def _fall(shape: Shape, progress: float, end: float) -> float:
    """From 1 at progress 0 to ``end`` at progress 1 and beyond; both exactly."""
    if progress >= 1.0:
        return end
    if shape == "cosine":
        rest = 0.5 * (1.0 + math.cos(math.pi * progress))
    elif shape == "sqrt":
        rest = 1.0 - math.sqrt(progress)
    else:
        rest = 1.0 - progress
    return end + (1.0 - end) * rest


def _set_count(schedule: Schedule, name: str, *, least: int) -> None:
    """Check a number of steps and keep it as an int, so that NumPy's numbers print as others do."""
    value = getattr(schedule, name)
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"Invalid {name}: {value!r}; it must be a whole number of steps")
    if value < least:
        raise ValueError(f"Invalid {name}: {value}; it must be at least {least}")
    object.__setattr__(schedule, name, int(value))


def _set_fraction(schedule: Schedule, name: str) -> None:
    """Check a share of the peak and keep it as a float."""
    value = getattr(schedule, name)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"Invalid {name}: {value}; it is a share of the peak lr and must be in [0, 1]")
    object.__setattr__(schedule, name, float(value))
