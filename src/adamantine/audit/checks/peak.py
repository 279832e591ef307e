"""Modes that measure lr against its peak, and a peak that is not the schedule's."""

from __future__ import annotations

from collections.abc import Iterator

from adamantine.audit.checks.kind import Kind, class_name, percent, places
from adamantine.audit.model import Finding
from adamantine.audit.subject import Group, Subject
from adamantine.report.numbers import setting
from adamantine.report.words import Words
from adamantine.schedules import peak_lr

PEAK_LR_WRONG = Kind(
    code="peak-lr-wrong",
    severity="error",
    title=Words(
        "the peak lr that decay is measured against is not the schedule's", "衰减所依据的峰值学习率与调度不符"
    ),
    why=Words(
        "Independent and corrected decay divide by the highest lr of the schedule. Taken wrongly, the "
        "decay is off by the same factor, or the step is refused.",
        "independent 和 corrected 衰减要除以调度中最高的学习率。取错了，衰减就差同样的倍数，"
        "或者更新会被拒绝。",
    ),
    remedy=Words(
        "Let it be found: adamantine.torch.schedulers.record_peak_lr(scheduler, steps=…).",
        "让它自动查找：adamantine.torch.schedulers.record_peak_lr(scheduler, steps=…)。",
    ),
    source="allenai/OLMo pull 119; NVIDIA/apex issue 1849",
)

KINDS = (PEAK_LR_WRONG,)


def peak_lr_wrong(subject: Subject) -> Iterator[Finding]:
    """Error where the step would be refused (a stated peak below the schedule's); warning where the peak that
    the group knows is off by more than 10 %, and the decay with it."""
    for group in subject.groups:
        if not group.acts or group.behaviour.decay not in {"independent", "corrected"}:
            continue
        if "constructed_lr" not in group.settings:  # not ours: where it takes its peak from is not known
            yield from _foreign_peak(subject, group)
            continue
        seen, taken = float(group.lrs.max()), peak_lr(group.settings)
        stated = group.settings.get("peak_lr") is not None
        if stated and seen > taken * (1 + 1e-6):
            severity, effect = "error", Words("the step at that lr is refused", "到那一步会被拒绝")
        elif not stated and not 1 / 1.1 < taken / seen < 1.1 and subject.schedulers:
            severity = "warning"
            effect = Words(
                f"decay is {setting(seen / taken)} times what λ says"
                if taken > seen
                else "until lr gets there, decay runs at full strength",
                f"衰减是 λ 所说的 {setting(seen / taken)} 倍"
                if taken > seen
                else "在到达之前，衰减一直是全强度",
            )
        else:
            continue
        yield PEAK_LR_WRONG.finding(
            severity="error" if severity == "error" else "warning",
            title=Words(
                f"Decay takes {setting(taken)} for the peak lr; the schedule's is {setting(seen)}",
                f"衰减把 {setting(taken)} 当作峰值学习率；调度的峰值是 {setting(seen)}",
            ),
            reason=Words(
                f"In {places([group]).en}, decay='{group.behaviour.decay}': {effect.en}.",
                f"{places([group]).zh}，decay='{group.behaviour.decay}'：{effect.zh}。",
            ),
            remedy=Words(
                f"Before the first step: record_peak_lr(scheduler, steps={subject.plan.steps or '…'}), or "
                f"peak_lr={setting(seen)} in the group.",
                f"在第一步之前调用 record_peak_lr(scheduler, steps={subject.plan.steps or '…'})，"
                f"或在组里写 peak_lr={setting(seen)}。",
            ),
            parameters=group.matrices,
            groups=[group],
        )


def _foreign_peak(subject: Subject, group: Group) -> Iterator[Finding]:
    """What the dry run saw, carried along the schedule: λ is the fraction at the peak, or the peak is "
    "wrong."""
    decay, shrink = float(group.decays.max()), group.peak_shrink
    if group.behaviour.decay != "independent" or not shrink or not subject.schedulers:
        return
    factor = shrink / decay
    if 1 / 1.1 < factor < 1.1:
        return
    name = class_name(group.optimizer)
    yield PEAK_LR_WRONG.finding(
        severity="warning",
        title=Words(
            f"{name} removes {setting(factor)} times λ at the schedule's peak",
            f"{name} 在调度的峰值处去掉的是 λ 的 {setting(factor)} 倍",
        ),
        reason=Words(
            f"In {places([group]).en}, decay follows lr, but not from the schedule's peak, "
            f"{setting(group.peak_lr)}: there it takes {percent(shrink)} of a weight per step, where λ "
            f"says {percent(decay)}. OneCycleLR writes max_lr/25 into initial_lr, which is then taken for "
            "the peak.",
            f"{places([group]).zh}的衰减跟随学习率，但依据的不是调度的峰值 {setting(group.peak_lr)}："
            f"在峰值处每步去掉权重的 {percent(shrink)}，而 λ 说的是 {percent(decay)}。OneCycleLR 会把 "
            "max_lr/25 写进 initial_lr，于是它被当成了峰值。",
        ),
        remedy=Words(
            "Use decoupled decay, or decay='independent' of adamantine.torch with "
            f"peak_lr={setting(group.peak_lr)} in the group.",
            "改用解耦衰减，或用 adamantine.torch 的 decay='independent'，并在组里写 "
            f"peak_lr={setting(group.peak_lr)}。",
        ),
        parameters=group.matrices,
        groups=[group],
    )
