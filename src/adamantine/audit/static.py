"""The rows of a static audit: groups, parameters, trajectories."""

from __future__ import annotations

import numpy as np

from adamantine.audit.members import Parameter
from adamantine.audit.model import GroupRow, ParameterRow, Trajectory
from adamantine.audit.subject import Group, Subject, log_kept

#: Points of a trajectory: more than a figure can show apart.
_POINTS = 200


def group_rows(subject: Subject) -> tuple[GroupRow, ...]:
    """One row per group, those of all optimizers in one row of indexes."""
    return tuple(
        GroupRow(
            index=group.index,
            parameters=len(group.members),
            elements=sum(p.elements for p in group.members),
            lr=group.lr,
            peak_lr=group.peak_lr,
            weight_decay=group.weight_decay,
            behaviour=group.behaviour,
        )
        for group in subject.groups
    )


def parameter_rows(subject: Subject) -> tuple[ParameterRow, ...]:
    """One row per parameter: the model's in its order, then what else the optimizers train."""
    kept = {group.index: subject.kept(group) for group in subject.groups}
    return tuple(_row(subject, parameter, kept) for parameter in subject.parameters)


def _row(subject: Subject, parameter: Parameter, kept: dict[int, float | None]) -> ParameterRow:
    group = subject.groups[parameter.groups[0]] if parameter.groups else None
    trains = parameter.tensor.requires_grad
    decays = group is not None and group.decays_member(parameter) and trains
    peak = group.peak_shrink if group is not None and decays else None
    timescale = 1.0 / peak if peak else None
    per_epoch = subject.plan.steps_per_epoch
    return ParameterRow(
        name=parameter.name,
        shape=parameter.shape,
        elements=parameter.elements,
        dtype=str(parameter.tensor.dtype).removeprefix("torch."),
        device=str(parameter.tensor.device),
        trains=trains,
        group=None if group is None else group.index,
        lr=0.0 if group is None else group.lr,
        weight_decay=0.0 if group is None else group.weight_decay or 0.0,
        decays=decays,
        should_decay=parameter.verdict.decays and trains,
        reason=parameter.verdict.reason if trains else f"frozen; {parameter.verdict.reason}",
        shrink=group.shrink if group is not None and decays else 0.0,
        timescale=timescale,
        epochs=timescale / per_epoch if timescale and per_epoch else None,
        total_shrink=kept[group.index] if group is not None and decays else 1.0,
        aliases=parameter.aliases,
    )


def trajectories(subject: Subject) -> tuple[Trajectory, ...]:
    """Each group's course, thinned; none where the run's length is not known."""
    return (
        tuple(t for group in subject.groups if (t := _trajectory(subject, group)))
        if subject.plan.steps
        else ()
    )


def _trajectory(subject: Subject, group: Group) -> Trajectory | None:
    course = subject.course
    shrink = group.removed(group.lrs, group.decays)
    if shrink is None or not np.isfinite(group.lrs).all():
        return None
    first, end = int(course.at[0]), int(course.at[-1] + course.lasts[-1])
    steps = np.unique(np.linspace(first, end, _POINTS).round().astype(np.int64))
    values = np.searchsorted(course.at, steps, side="right") - 1  # the value that holds at each point
    logs = log_kept(shrink)
    before = np.concatenate([[0.0], np.cumsum(course.lasts * logs)])  # up to the beginning of each value
    kept = np.exp(before[values] + (steps - course.at[values]) * logs[values])
    return Trajectory(
        group=group.index,
        steps=tuple(int(s) for s in steps),
        lr=tuple(float(v) for v in group.lrs[values]),
        weight_decay=tuple(float(v) for v in group.decays[values]),
        kept=tuple(float(v) for v in kept),
    )
