"""The course of lr and λ over the planned run, found by playing copies of the schedulers forward.

Nothing of the user's moves: a scheduler is copied together with a shell of its optimizer that has the groups'
numbers and no parameters. Functions inside (LambdaLR) are called, not copied: they must be functions of the
step alone, as torch asks of them anyway.
"""

from __future__ import annotations

import copy
import math
import types
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamantine.audit.errors import AuditError
from adamantine.audit.horizon import counts_epochs, horizon
from adamantine.audit.model import Plan
from adamantine.probe.sandbox import decay_key
from adamantine.report.words import Words

Numbers = NDArray[np.float64]
#: lr and λ of every group.
Values = list[tuple[float, float]]

#: Calls of a scheduler that are really made where it has no closed form: some seconds for torch's own.
MAX_CALLS = 1_000_000
#: Values kept of a course: a run of 450,000 steps is then seen every 23 steps.
MAX_VALUES = 20_000
#: Looked at where nobody says how long the run is: long enough to pass the usual warm-up.
LOOK_AHEAD = 10_000


@dataclass(frozen=True)
class Course:
    """lr and λ per group, constant in between: value i holds from step ``at[i]`` for ``lasts[i]`` steps.

    `known` is False where the run has no length, or a schedule that was not passed: what is left of a weight
    at its end cannot be said then.
    """

    at: NDArray[np.int64]  # (n,)
    lasts: NDArray[np.int64]  # (n,)
    lr: Numbers  # (groups, n)
    weight_decay: Numbers  # (groups, n); 0 where a group has no such key
    known: bool
    #: Why this is not the whole truth; None if it is.
    doubt: Words | None = None
    #: The step at which a scheduler refused to go on, with its words.
    refused: tuple[int, str] | None = None


def number(value: Any) -> float:
    """A group's number, which may be a tensor of one element."""
    try:
        return float(value.detach()) if hasattr(value, "detach") else float(value)
    except (TypeError, ValueError, RuntimeError):
        return math.nan


def _numbers(group: Mapping[str, Any]) -> tuple[float, float]:
    """lr and λ; NaN and 0 for a group without the key."""
    return number(group.get("lr", math.nan)), decay_of(group) or 0.0


def decay_of(group: Mapping[str, Any]) -> float | None:
    """λ of a group under whatever name it has there; None without one."""
    value = group.get(decay_key(group))
    return None if value is None else number(value)


def unwrapped(schedulers: Any) -> list[Any]:
    """The schedulers one by one; wrappers such as accelerate's opened.

    Raises:
        AuditError: something that has neither an optimizer nor a scheduler inside.
    """
    listed = list(schedulers) if isinstance(schedulers, list | tuple) else [schedulers]
    found = []
    for given in listed:
        scheduler = given
        while scheduler is not None and not hasattr(scheduler, "optimizer"):
            scheduler = getattr(scheduler, "scheduler", None)
        if given is not None and scheduler is None:
            raise AuditError(
                f"Invalid scheduler: {type(given).__name__} has no optimizer; pass the scheduler "
                "itself, such as torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=…)"
            )
        if scheduler is not None:
            found.append(scheduler)
    return found


def settled(plan: Plan, schedulers: Sequence[Any]) -> Plan:
    """The plan with what the schedulers tell: how long the run is, and whether they count steps or epochs."""
    spans = [span for scheduler in schedulers if (span := horizon(scheduler))]
    interval = plan.interval
    if interval is None:
        interval = "epoch" if counts_epochs(plan, schedulers, spans) else "step"
    in_epochs = interval == "epoch" or any(getattr(s, "t_in_epochs", False) for s in schedulers)
    if in_epochs and plan.steps_per_epoch is None:
        raise AuditError(
            "the scheduler counts epochs: give steps_per_epoch, the number of optimizer steps in an epoch"
        )
    steps = plan.steps
    if steps is None and spans:
        steps = max(spans) * (plan.steps_per_epoch or 1 if interval == "epoch" else 1)
    return replace(plan, steps=steps, interval=interval if schedulers else None)


def course(groups: Sequence[Mapping[str, Any]], schedulers: Sequence[Any], plan: Plan, own: Own) -> Course:
    """The course of these groups, those of all optimizers in one row, from now to the end of the plan."""
    stride = plan.steps_per_epoch or 1 if plan.interval == "epoch" else 1
    done = max(map(_steps_done, schedulers), default=0) * stride
    left = max((plan.steps or LOOK_AHEAD) - done, 1)
    calls = -(-left // stride) - 1 if schedulers else 0  # the present value needs none
    values, seen, doubt, refused = [[_numbers(group) for group in groups]], [0], None, None
    try:
        rehearsal = Rehearsal(schedulers, own)
        further, called = rehearsal.play(calls, stride)
        values, seen = values + further, seen + called
        if rehearsal.refused:
            refused = (done + rehearsal.refused[0] * stride, rehearsal.refused[1])
        elif rehearsal.played < calls:
            most = f"{MAX_CALLS * stride:,}"
            doubt = Words(
                f"only the first {most} of {left:,} steps were played; the rest keeps lr",
                f"共 {left:,} 步，只推演了前 {most} 步，之后学习率不变",
            )
    except _NotPlayable as error:
        doubt = error.words
    at = done + stride * np.array(seen, dtype=np.int64)
    lasts = np.diff(np.append(at, max(done + left, int(at[-1]) + 1)))
    table = np.array(values, dtype=np.float64).reshape(len(values), len(groups), 2)
    return Course(at, lasts, table[:, :, 0].T, table[:, :, 1].T, plan.steps is not None, doubt, refused)


def _steps_done(scheduler: Any) -> int:
    """How often it has been called; a ChainedScheduler knows by its members alone."""
    done = getattr(scheduler, "last_epoch", None)
    if done is None:
        return max(map(_steps_done, getattr(scheduler, "_schedulers", ())), default=0)
    return int(done)


class _NotPlayable(Exception):
    """Why a scheduler cannot be played forward."""

    def __init__(self, words: Words) -> None:
        super().__init__(words.en)
        self.words = words


@dataclass(frozen=True)
class Own:
    """What is the user's and must be neither copied nor touched."""

    optimizers: tuple[Any, ...]
    keep: tuple[Any, ...]  # modules and parameters that a scheduler may hold


class Rehearsal:
    """Copies of schedulers over shells of their optimizers."""

    def __init__(self, schedulers: Sequence[Any], own: Own) -> None:
        for scheduler in schedulers:
            if type(scheduler).__name__ == "ReduceLROnPlateau":
                raise _NotPlayable(
                    Words(
                        "ReduceLROnPlateau follows metrics that are not known yet",
                        "ReduceLROnPlateau 取决于尚不可知的指标",
                    )
                )
        self.shells = [shell(optimizer) for optimizer in own.optimizers]
        memo = {id(kept): kept for kept in own.keep}
        memo.update({id(o): s for o, s in zip(own.optimizers, self.shells, strict=True)})
        try:
            self.players = [copy.deepcopy(scheduler, memo) for scheduler in schedulers]
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise _NotPlayable(
                Words(f"a scheduler cannot be copied ({why})", f"调度器无法复制（{why}）")
            ) from error
        self.starts = [_steps_done(scheduler) for scheduler in schedulers]
        self.played = 0  # calls made, or jumped over
        self.refused: tuple[int, str] | None = None

    def play(self, calls: int, stride: int) -> tuple[list[Values], list[int]]:
        """Each group's lr and λ after up to `MAX_VALUES` of the calls, and which calls these are.

        Ends early, with `refused` set, where a scheduler raises.
        """
        if not self.players:
            return [], []
        groups = [group for each in self.shells for group in each.param_groups]
        spacing = max(-(-calls // MAX_VALUES), 1)
        jumps = spacing > 1 and self._jumps()
        values: list[Values] = []
        called: list[int] = []
        with warnings.catch_warnings():  # no update happens between these steps, as torch would warn
            warnings.simplefilter("ignore")
            made = range(spacing, calls + 1, spacing) if jumps else range(1, min(calls, MAX_CALLS) + 1)
            for call in made:
                try:
                    for player, start in zip(self.players, self.starts, strict=True):
                        if jumps:
                            player.step(start + call)
                        else:
                            _advance(player, call, stride)
                except Exception as error:
                    self.refused = (call, f"{type(error).__name__}: {error}")
                    break
                self.played = call
                if call % spacing == 0:
                    values.append([_numbers(group) for group in groups])
                    called.append(call)
        if jumps and not self.refused:
            self.played = calls
        return values, called

    def _jumps(self) -> bool:
        """Whether every scheduler can be asked for a step by its number: a closed form of torch's or ours,
        and no other scheduler that writes into the same groups."""
        owners = {id(player.optimizer) for player in self.players}
        return len(owners) == len(self.players) and all(map(_has_closed_form, self.players))


def _has_closed_form(player: Any) -> bool:
    cls = type(player)
    if not cls.__module__.startswith(("torch.optim.lr_scheduler", "adamantine.torch.")):
        return False
    return hasattr(player, "_get_closed_form_lr") or cls.__name__ in _FUNCTIONS_OF_THE_STEP


#: torch's schedulers without that method whose lr is a function of the step alone.
_FUNCTIONS_OF_THE_STEP = frozenset({"LambdaLR", "OneCycleLR", "CyclicLR", "CosineAnnealingWarmRestarts"})


def _advance(player: Any, call: int, stride: int) -> None:
    """One call, in timm's manner where the scheduler has it."""
    if hasattr(player, "step_update"):
        player.step_update(call * stride)
        if getattr(player, "t_in_epochs", False):
            player.step(call)
    else:
        player.step()


def shell(optimizer: Any) -> Any:
    """The groups' numbers without parameters, state or hooks, of the optimizer's class where that works."""
    groups = []
    for group in optimizer.param_groups:
        kept = {key: copy.deepcopy(value) for key, value in group.items() if key not in _OF_PARAMETERS}
        groups.append({**kept, "params": []})
    plain: dict[str, Any] = {
        key: value
        for key, value in getattr(optimizer, "__dict__", {}).items()
        if isinstance(value, bool | int | float | str | tuple | None)
    }
    plain |= {"defaults": dict(getattr(optimizer, "defaults", {})), "state": {}, "param_groups": groups}
    try:
        made = object.__new__(type(optimizer))
        made.__dict__.update(plain)
        if made.param_groups is groups:
            return made
    except Exception:  # a wrapper with a property of that name, or with slots
        pass
    return types.SimpleNamespace(**plain, step=lambda: None)


_OF_PARAMETERS = frozenset({"params", "param_names"})
