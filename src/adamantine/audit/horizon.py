"""How long a scheduler thinks the run is, and whether it counts steps or epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from adamantine.audit.model import Plan
from adamantine.schedules import Cosine, Linear, Schedule, Warmup, WarmupStableDecay

#: Attributes by which schedulers name their end, in calls. ``total_iters`` is not among them: it ends
#: LinearLR's warm-up too, and is read for PolynomialLR alone.
_ENDS = ("total_steps", "T_max", "num_training_steps", "max_steps", "t_total", "t_initial")


def horizon(scheduler: Any) -> int | None:
    """Calls of ``step()`` until the end that the scheduler plans for; None if it has none or does not say.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    >>> horizon(torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=500))
    500
    >>> horizon(torch.optim.lr_scheduler.StepLR(optimizer, step_size=30)) is None
    True
    """
    members = getattr(scheduler, "_schedulers", None)
    if members:
        milestones = getattr(scheduler, "_milestones", None)
        if milestones:  # SequentialLR: the last member begins at the last milestone
            last = horizon(members[-1])
            return None if last is None else int(milestones[-1]) + last
        return max((end for member in members if (end := horizon(member))), default=None)
    if type(scheduler).__name__ == "PolynomialLR":
        return _whole(scheduler.total_iters)
    for name in _ENDS:
        if (end := _whole(getattr(scheduler, name, None))) is not None:
            return end
    functions = [*getattr(scheduler, "lr_lambdas", ())]
    schedule = getattr(scheduler, "schedule", None)
    functions += schedule if isinstance(schedule, list | tuple) else [schedule]
    return max((end for function in functions if (end := _end_of(function))), default=None)


def counts_epochs(plan: Plan, schedulers: Sequence[Any], spans: Sequence[int]) -> bool:
    """Whether the schedulers are likelier to be stepped once per epoch than once per update.

    They cannot say, so their size decides: the unit in which the schedule's end is nearer to the run's end;
    where the run's length is not known, epochs if the schedule would end within the first of them.
    """
    if plan.steps_per_epoch is None:
        return False
    if any(getattr(scheduler, "t_in_epochs", False) for scheduler in schedulers):
        return True
    lengths = [*spans, *(last for s in schedulers if (last := _last_milestone(s)))]
    if not lengths:
        return False
    length = max(lengths)
    if plan.steps is not None and spans:
        per_step = abs(math.log(length / plan.steps))
        per_epoch = abs(math.log(length * plan.steps_per_epoch / plan.steps))
        return per_epoch < per_step
    return length <= plan.steps_per_epoch


def _last_milestone(scheduler: Any) -> int | None:
    """The last step that a scheduler without an end names: StepLR's and MultiStepLR's."""
    milestones = getattr(scheduler, "milestones", None)
    if milestones:
        return _whole(max(milestones))
    return _whole(getattr(scheduler, "step_size", None))


def _end_of(function: Any) -> int | None:
    """The end of one of our schedules, or of transformers' partial functions."""
    if isinstance(function, Schedule):
        match function:
            case Warmup():
                rest = _end_of(function.then)
                return None if rest is None else function.steps + rest
            case WarmupStableDecay():
                return (function.warmup + function.stable + function.decay) or None
            case Cosine() | Linear():
                return function.steps
        return None
    return _whole((getattr(function, "keywords", None) or {}).get("num_training_steps"))


def _whole(value: Any) -> int | None:
    """A count > 0, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < math.inf:
        return None
    return int(value)
