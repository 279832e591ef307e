"""λ that nobody stated."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from adamantine.audit.checks.kind import Kind, class_name, settings_of
from adamantine.audit.model import Finding
from adamantine.audit.subject import Group, Subject
from adamantine.report.numbers import setting
from adamantine.report.words import Words

DEFAULT_DECAY = Kind(
    code="default-decay",
    severity="note",
    title=Words("λ is the class's default", "λ 是该类的默认值"),
    why=Words(
        "The value is the one that the class takes when none is given. λ belongs to the lr and the length "
        "of the run; a default knows neither.",
        "这个数值正是不传参数时的默认值。λ 取决于学习率和训练长度，默认值对两者一无所知。",
    ),
    remedy=Words(
        "State weight_decay, so that a reader knows that it is meant.",
        "显式写出 weight_decay，让读者知道它是有意的。",
    ),
    source="PrimeIntellect-ai/prime-rl pull 2422; HeavyBall issue 71: another default under the same name",
)

KINDS = (DEFAULT_DECAY,)


def default_decay(subject: Subject) -> Iterator[Finding]:
    """Note: whether the default was meant cannot be seen, and it may well be right."""
    for optimizer in subject.optimizers:
        groups = [g for g in subject.groups if g.optimizer is optimizer and g.acts]
        default = _default_of(type(optimizer))
        if not groups or not default or any(g.weight_decay != default for g in groups):
            continue
        name = class_name(optimizer)
        yield DEFAULT_DECAY.finding(
            title=Words(
                f"λ = {setting(default)} is what {name} takes when none is given",
                f"λ = {setting(default)} 正是 {name} 的默认值",
            ),
            reason=Words(
                f"Every decaying group has the class's default. At lr {settings_of(groups, 'peak_lr')} it "
                f"means a timescale of {_timescale(groups)} steps; whether that suits this run only you "
                "know.",
                f"所有衰减的组用的都是该类的默认值。学习率为 {settings_of(groups, 'peak_lr')} 时，"
                f"时间尺度是 {_timescale(groups)} 步；是否适合这次训练只有你知道。",
            ),
            remedy=Words(
                f"Write weight_decay={setting(default)}, or another number.",
                f"写明 weight_decay={setting(default)}，或另选一个数。",
            ),
            groups=groups,
        )


def _default_of(cls: type) -> float | None:
    try:
        default = inspect.signature(cls).parameters["weight_decay"].default
    except (KeyError, TypeError, ValueError):
        return None
    return float(default) if isinstance(default, int | float) else None


def _timescale(groups: list[Group]) -> str:
    shrinks = [g.peak_shrink for g in groups if g.peak_shrink]
    return f"{round(1 / max(shrinks)):,}" if shrinks else "?"
