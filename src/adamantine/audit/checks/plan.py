"""The schedule: decay that it changes, an end that is not the run's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from adamantine.audit.checks.kind import Kind, places
from adamantine.audit.model import Finding
from adamantine.audit.subject import Group, Subject
from adamantine.report.numbers import setting
from adamantine.report.words import Words

SCHEDULE_CHANGES_DECAY = Kind(
    code="schedule-changes-decay",
    severity="error",
    title=Words("the schedule changes weight_decay", "调度改变了 weight_decay"),
    why=Words(
        "The schedule writes weight_decay into the groups. Where it writes it into those with λ = 0 as "
        "well, biases and normalizations decay from the first step on.",
        "调度会往各组写入 weight_decay。如果连 λ = 0 的组也写，偏置和归一化参数从第一步起就会衰减。",
    ),
    remedy=Words(
        "Change only groups that decay: if group['weight_decay'] > 0.",
        "只改会衰减的组：if group['weight_decay'] > 0。",
    ),
    source="facebookresearch/vissl pull 14; DINO's main_dino.py writes λ into the first group only",
)
SCHEDULE_UNKNOWN = Kind(
    code="schedule-unknown",
    severity="note",
    title=Words("the schedule cannot be played forward", "无法预先推演调度"),
    why=Words(
        "Shrink and timescale over the run are given as if the present lr stayed.",
        "全程的收缩率和时间尺度按当前学习率不变来给出。",
    ),
    remedy=Words("Nothing to mend.", "不需要修正。"),
    source="torch.optim.lr_scheduler.ReduceLROnPlateau follows the metrics",
)
SCHEDULE_OF_ANOTHER = Kind(
    code="schedule-of-another-optimizer",
    severity="error",
    title=Words("the scheduler drives another optimizer", "调度器驱动的是另一个优化器"),
    why=Words(
        "The optimizer was made anew after the scheduler: lr never changes.",
        "优化器在调度器之后被重建：学习率永远不变。",
    ),
    remedy=Words("Make the scheduler after the optimizer.", "在优化器之后创建调度器。"),
    source="EleutherAI/gpt-neox issue 1029",
)
SCHEDULE_ENDS_EARLY = Kind(
    code="schedule-ends-early",
    severity="error",
    title=Words("the schedule ends before the run does", "调度在训练结束之前就结束了"),
    why=Words(
        "Beyond its end OneCycleLR raises, and a cosine climbs again: the last steps, which should settle "
        "the weights, run at a rising lr.",
        "越过终点后 OneCycleLR 会报错，余弦曲线会重新上升：本该收敛的最后几步却在升高的学习率下进行。",
    ),
    remedy=Words("Give the schedule the number of steps of the run.", "让调度的步数等于训练的步数。"),
    source="CodefyUI/CodefyUI issue 205; CosineAnnealingLR's formula beyond T_max",
)
KINDS = (SCHEDULE_CHANGES_DECAY, SCHEDULE_UNKNOWN, SCHEDULE_OF_ANOTHER, SCHEDULE_ENDS_EARLY)

#: A schedule that has decay in its name is asked to change it.
_ASKED = re.compile(r"weight_?decay|decay_?sched|(?:^|_)wd(?:_|$)|^WD|WD$", re.IGNORECASE)


def schedule_changes_decay(subject: Subject) -> Iterator[Finding]:
    """Error where groups that were built without decay get some; warning where λ changes and nothing in the
    schedule's name says so; none where it does (WarmRestarts states λ_norm; WeightDecaySchedule)."""
    changed = [g for g in subject.groups if float(g.decays.max()) > float(g.decays.min())]
    if not changed:
        return
    names = ", ".join(sorted({type(s).__name__ for s in subject.schedulers}))
    woken = [g for g in changed if not g.weight_decay]
    others = [g for g in changed if g.weight_decay]
    if woken and any(g.weight_decay for g in subject.groups):
        highest = setting(max(float(g.decays.max()) for g in woken))
        yield SCHEDULE_CHANGES_DECAY.finding(
            title=Words(
                f"{names} gives decay to groups built without it", f"{names} 给原本不衰减的组加上了衰减"
            ),
            reason=Words(
                f"weight_decay of {places(woken).en} is 0 now and rises to {highest}.",
                f"{places(woken).zh}的 weight_decay 现在是 0，之后升到 {highest}。",
            ),
            parameters=[p for g in woken for p in g.members],
            groups=woken,
        )
    elif woken:
        others = changed
    if others and not any(_asked(s) for s in subject.schedulers):
        low, high = min(float(g.decays.min()) for g in others), max(float(g.decays.max()) for g in others)
        yield SCHEDULE_CHANGES_DECAY.finding(
            severity="warning",
            title=Words(
                f"{names} changes λ from {setting(low)} to {setting(high)}",
                f"{names} 把 λ 从 {setting(low)} 改到 {setting(high)}",
            ),
            reason=Words(
                f"weight_decay of {places(others).en} moves during the run, and nothing in the schedule's "
                "name says so.",
                f"{places(others).zh}的 weight_decay 在训练中会变，而调度的名字里看不出来。",
            ),
            parameters=[p for g in others for p in g.members],
            groups=others,
        )


def schedule_unknown(subject: Subject) -> Iterator[Finding]:
    """Note: an honest limit of the audit."""
    if (doubt := subject.course.doubt) is not None:
        yield SCHEDULE_UNKNOWN.finding(
            title=Words("The schedule is known in part", "调度只能部分推演"),
            reason=Words(
                f"{doubt.en}. {SCHEDULE_UNKNOWN.why.en}",
                f"{doubt.zh}。{SCHEDULE_UNKNOWN.why.zh}",
            ),
        )


def schedule_of_another(subject: Subject) -> Iterator[Finding]:
    """Error: the schedule has no effect on what is trained."""
    for scheduler in subject.schedulers:
        if not any(scheduler.optimizer is optimizer for optimizer in subject.optimizers):
            name, other = type(scheduler).__name__, type(scheduler.optimizer).__name__
            yield SCHEDULE_OF_ANOTHER.finding(
                title=Words(f"{name} drives another {other}", f"{name} 驱动的是另一个 {other}"),
                reason=Words(
                    "Its optimizer is not the one that is audited, whose lr therefore never changes.",
                    "它的优化器不是正在检查的这个，因此这个优化器的学习率永远不变。",
                ),
            )


def schedule_ends_early(subject: Subject) -> Iterator[Finding]:
    """Error where the scheduler raises in the run; warning where an annealed lr climbs again."""
    if subject.course.refused:
        step, words = subject.course.refused
        yield SCHEDULE_ENDS_EARLY.finding(
            title=Words(f"The scheduler raises at step {step:,}", f"调度器在第 {step:,} 步报错"),
            reason=Words(
                f"The run has {subject.plan.steps or 0:,} steps; at {step:,} it says: {words}",
                f"训练有 {subject.plan.steps or 0:,} 步；在第 {step:,} 步它报告：{words}",
            ),
        )
    stride = subject.plan.steps_per_epoch or 1 if subject.plan.interval == "epoch" else 1
    for scheduler, begin in _cosines(subject.schedulers) if subject.course.known else ():
        end = (begin + scheduler.T_max) * stride
        groups = [
            g for g in subject.groups if g.optimizer is scheduler.optimizer and _climbs(subject, g, end)
        ]
        if groups:
            highest = max(float(g.lrs[subject.course.at > end].max()) for g in groups)
            yield SCHEDULE_ENDS_EARLY.finding(
                severity="warning",
                title=Words(
                    f"The cosine ends at step {end:,} of {subject.plan.steps:,} and climbs again",
                    f"余弦调度在第 {end:,} 步结束（共 {subject.plan.steps:,} 步），之后重新上升",
                ),
                reason=Words(
                    f"T_max={scheduler.T_max}: after it lr rises back to {setting(highest)}.",
                    f"T_max={scheduler.T_max}：之后学习率回升到 {setting(highest)}。",
                ),
                remedy=None if stride > 1 else _OR_EPOCHS,
                groups=groups,
            )


#: Where nobody has said how long an epoch is, a T_max in epochs looks like one in steps.
_OR_EPOCHS = Words(
    f"{SCHEDULE_ENDS_EARLY.remedy.en} If the scheduler is stepped once per epoch, say so: steps_per_epoch=….",
    f"{SCHEDULE_ENDS_EARLY.remedy.zh}如果调度器每个 epoch 才走一步，请写明：steps_per_epoch=…。",
)


def _cosines(schedulers: Iterable[Any], begin: int = 0) -> Iterator[tuple[Any, int]]:
    """Every CosineAnnealingLR that runs to the end, those in a SequentialLR or ChainedScheduler too, with the
    call at which it begins."""
    for scheduler in schedulers:
        if type(scheduler).__name__ == "CosineAnnealingLR":
            yield scheduler, begin
        members = getattr(scheduler, "_schedulers", ())
        if milestones := getattr(scheduler, "_milestones", ()):  # SequentialLR: the last one stays
            yield from _cosines(members[-1:], begin + int(milestones[-1]))
        else:
            yield from _cosines(members, begin)


def _climbs(subject: Subject, group: Group, end: int) -> bool:
    """Whether lr comes back to more than a tenth of its peak after the schedule's end: an epoch too many by
    one, where a rounded-up T_max ends, is no climb."""
    after = group.lrs[subject.course.at > end]
    return after.size > 0 and float(after.max()) > 0.1 * group.peak_lr


def _asked(scheduler: Any) -> bool:
    """Whether the schedule says by its name, or by what it `writes`, that it changes decay."""
    if "weight_decay" in getattr(scheduler, "writes", ()):
        return True
    return any(_ASKED.search(cls.__name__) for cls in type(scheduler).__mro__)
