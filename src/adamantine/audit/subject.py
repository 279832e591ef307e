"""What the checks look at: every parameter and group, with verdicts, behaviour and course worked out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from adamantine.audit.behaviours import Behaviours
from adamantine.audit.errors import AuditError
from adamantine.audit.members import Parameter, members, named_modules
from adamantine.audit.model import Plan
from adamantine.audit.rates import removed
from adamantine.audit.schedule import Course, Numbers, Own, course, decay_of, number, settled, unwrapped
from adamantine.probe import Behaviour
from adamantine.report.words import Words
from adamantine.schedules import peak_lr


@dataclass(frozen=True)
class Group:
    """One param group with what it does to weights over the run."""

    index: int  # over all optimizers
    optimizer: Any
    place: int  # within its optimizer
    settings: Mapping[str, Any]  # its keys but the parameters, as they are now
    members: tuple[Parameter, ...]
    behaviour: Behaviour
    peak_lr: float
    lrs: Numbers  # over the course
    decays: Numbers  # λ over the course
    spares_vectors: bool = False  # by the class itself, whatever λ is

    @property
    def lr(self) -> float:
        """The present one; NaN without the key."""
        return number(self.settings.get("lr", float("nan")))

    @property
    def weight_decay(self) -> float | None:
        """The present λ; None without the key."""
        return decay_of(self.settings)

    @cached_property
    def acts(self) -> bool:
        """Whether decay touches weights at any step of the course, as far as is known."""
        if self.is_unstated:
            return True
        return float(np.max(self.decays)) > 0 and self.behaviour.decay not in {"none", "ignored"}

    def decays_member(self, parameter: Parameter) -> bool:
        """Whether decay touches this member."""
        return self.acts and not (self.spares_vectors and parameter.tensor.ndim < 2)

    @property
    def is_unstated(self) -> bool:
        """Whether weights shrink though the group states no λ: it is kept elsewhere, or has another name."""
        return not self.weight_decay and self.behaviour.decay == "other" and bool(self.behaviour.shrink)

    @property
    def is_l2_in_adaptive(self) -> bool:
        """Whether λθ is divided by the running size of the gradients."""
        return self.behaviour.decay == "l2" and self.behaviour.adaptive is True

    def removed(self, lr: float | Numbers, weight_decay: float | Numbers) -> Numbers | None:
        """Fraction of a weight without gradient that one step removes; None without a single number."""
        return removed(self.behaviour, self.settings, lr, weight_decay, self.peak_lr)

    @cached_property
    def shrink(self) -> float | None:
        """`removed` now."""
        found = self.removed(self.lr, self.weight_decay or 0.0)
        return None if found is None or not np.isfinite(found) else float(found)

    @cached_property
    def peak_shrink(self) -> float | None:
        """The most that any step of the course removes, or would at the peak lr."""
        highest = self.removed(self.peak_lr, self.weight_decay or 0.0)
        over = self.removed(self.lrs, self.decays)
        if highest is None or over is None or not np.isfinite([highest, *over]).all():
            return None
        return max(float(highest), float(np.max(over)))

    @property
    def matrices(self) -> tuple[Parameter, ...]:
        """Members that are meant to decay."""
        return tuple(p for p in self.members if p.of_model and p.verdict.decays)


@dataclass(frozen=True)
class Subject:
    """A model with its optimizers, its plan and its course."""

    optimizers: tuple[Any, ...]
    groups: tuple[Group, ...]
    parameters: tuple[Parameter, ...]
    schedulers: tuple[Any, ...]
    plan: Plan
    course: Course

    def kept(self, group: Group) -> float | None:
        """Factor left of a weight without gradient at the end of the plan; None without a plan or number."""
        found = group.removed(group.lrs, group.decays)
        if found is None or not self.course.known or not np.isfinite(found).all():
            return None
        return float(np.exp(np.sum(self.course.lasts * log_kept(found))))


def log_kept(shrink: Numbers) -> Numbers:
    """log(1 - shrink), finite where a step removes all or more."""
    return np.log1p(-np.minimum(shrink, 1 - 1e-15))


def subject(optimizers: Any, model: Any, plan: Plan, schedulers: Any) -> Subject:
    """All that the checks need; nothing of the user's is changed.

    Raises:
        AuditError: something that is no optimizer, model or scheduler.
    """
    used = _optimizers(optimizers)
    modules = named_modules(model)
    course_makers = tuple(unwrapped(schedulers))
    plan = settled(plan, course_makers)
    raw = [(o, i, group) for o in used for i, group in enumerate(o.param_groups)]
    parameters = members(modules, [group for _, _, group in raw])
    keep = (*modules.values(), *(p.tensor for p in parameters))
    mine = [s for s in course_makers if any(s.optimizer is o for o in used)]
    run = course([group for _, _, group in raw], mine, plan, Own(used, keep))
    if not course_makers and any("initial_lr" in group for _, _, group in raw):
        unseen = Words(
            "initial_lr is in the groups; if a scheduler wrote it, pass that scheduler to the audit",
            "组里有 initial_lr；如果是调度器写入的，请把那个调度器也传给检查",
        )
        run = replace(run, known=False, doubt=unseen)
    whole = not run.doubt and run.at[0] == 0
    behaviours = Behaviours()
    groups = []
    for index, (optimizer, place, group) in enumerate(raw):
        lrs, decays = run.lr[index], run.weight_decay[index]
        settings = {k: v for k, v in group.items() if k not in {"params", "param_names"}}
        groups.append(
            Group(
                index=index,
                optimizer=optimizer,
                place=place,
                settings=settings,
                members=tuple(p for p in parameters if index in p.groups),
                behaviour=behaviours.of(optimizer, place),
                spares_vectors=behaviours.spares_vectors(optimizer, place),
                peak_lr=_peak(settings, lrs, whole and any(s.optimizer is optimizer for s in mine)),
                lrs=lrs,
                decays=decays,
            )
        )
    return Subject(used, tuple(groups), tuple(parameters), course_makers, plan, run)


def unwrapped_optimizer(optimizer: Any) -> Any:
    """The optimizer inside accelerate's and other wrappers, which is the one that schedulers know."""
    while not isinstance(optimizer, torch.optim.Optimizer) and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def _optimizers(optimizers: Any) -> tuple[Any, ...]:
    given = tuple(optimizers) if isinstance(optimizers, list | tuple) else (optimizers,)
    used = tuple(unwrapped_optimizer(optimizer) for optimizer in given)
    for optimizer in used:
        groups = getattr(optimizer, "param_groups", None)
        if not isinstance(groups, list) or not all(isinstance(g, dict) and "params" in g for g in groups):
            raise AuditError(
                f"Invalid optimizer: {type(optimizer).__name__} has no param_groups; pass a "
                "torch.optim.Optimizer, or a sequence of them"
            )
    if not used:
        raise AuditError("Invalid optimizer: an empty sequence; pass one optimizer or more")
    return used


def _peak(settings: Mapping[str, Any], lrs: Numbers, whole: bool) -> float:
    """The highest lr of the course; where it is not the ``whole`` one, or of what the group itself knows."""
    highest = float(np.max(lrs))
    if whole or settings.get("peak_lr") is not None:
        return highest
    try:
        return max(highest, peak_lr(settings))
    except (KeyError, TypeError, ValueError):
        return highest
