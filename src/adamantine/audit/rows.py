"""Param groups and parameters as the audit's tables show them, in the terminal and on the page alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from adamantine.audit.model import AuditReport, GroupRow, ParameterRow
from adamantine.audit.names import form, shared
from adamantine.audit.reasons import in_words
from adamantine.audit.written import NOTHING, human, many, one, percent
from adamantine.probe import Behaviour
from adamantine.report.numbers import printable
from adamantine.report.phrases import fill
from adamantine.report.words import Language, Words

_MODES = {
    "none": Words("none", "无"),
    "l2": Words("L2", "L2"),
    "decoupled": Words("decoupled", "解耦"),
    "independent": Words("independent", "独立"),
    "corrected": Words("corrected", "校正"),
    "cautious": Words("cautious", "谨慎"),
    "ignored": Words("ignored", "被忽略"),
    "fixed": Words("fixed", "固定"),
    "other": Words("other", "其他"),
    "unknown": Words("unknown", "未知"),
}
#: ``"by layer"`` puts parameters that differ in their place in a list of layers only into one row.
Grouped = Literal["by layer", "one by one"]

_FOUND = {
    "class": Words("read from its class", "由其类得知"),
    "probe": Words("measured in a dry run", "试运行测得"),
    "none": Words("not found out", "未能查明"),
}


def mode_of(behaviour: Behaviour) -> Words:
    """What the decay is, in one or two words; L2 that a running gradient size divides is told apart."""
    if behaviour.decay == "l2" and behaviour.adaptive:
        return Words("L2 ÷ √v̂", "L2 ÷ √v̂")
    return _MODES[behaviour.decay]


def how_found(behaviour: Behaviour) -> Words:
    """Where the knowledge of the mode comes from."""
    return _FOUND[behaviour.source]


@dataclass(frozen=True)
class GroupView:
    """One param group, written."""

    index: str
    parameters: str
    elements: str
    mode: str
    lr: str
    peak_lr: str  # "" where it is the present lr
    weight_decay: str
    shrink: str
    timescale: str  # in steps
    epochs: str  # "" if not known
    kept: str
    found: str
    evidence: str
    alarming: bool  # a mode that is not what its name promises

    @classmethod
    def of(cls, report: AuditReport, group: GroupRow, language: Language) -> GroupView:
        rows = [row for row in report.parameters if row.group == group.index]
        decayed = next((row for row in rows if row.decays), None)
        ends = [line.kept[-1] for line in report.trajectories if line.group == group.index and line.kept]
        kept = ends[0] if ends else decayed.total_shrink if decayed else None
        behaviour = group.behaviour
        return cls(
            index=str(group.index),
            parameters=f"{group.parameters:,}",
            elements=human(group.elements),
            mode=mode_of(behaviour).of(language),
            lr=one(group.lr),
            peak_lr=one(group.peak_lr) if group.peak_lr != group.lr else "",
            weight_decay=one(group.weight_decay),
            shrink=one(behaviour.shrink),
            timescale=many(decayed.timescale if decayed else None),
            epochs=many(decayed.epochs) if decayed and decayed.epochs is not None else "",
            kept=percent(kept) if decayed else NOTHING,
            found=how_found(behaviour).of(language),
            # It is in English. What is read from a class is known from the mode; a measurement is not.
            evidence=""
            if language == "zh" and behaviour.source == "class"
            else printable(behaviour.evidence),
            alarming=(behaviour.decay == "l2" and bool(behaviour.adaptive))
            or behaviour.decay in ("ignored", "unknown", "fixed", "other"),
        )


@dataclass(frozen=True)
class ParameterView:
    """One parameter, or several that differ in their place in a list of layers only."""

    name: str
    shape: str
    group: str
    decays: str
    right: bool  # decays as it should
    reason: str
    advice: str  # what it should do, and why
    lr: str
    weight_decay: str
    shrink: str
    timescale: str
    kept: str
    dtype: str
    count: int
    names: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[ParameterRow], language: Language) -> ParameterView:
        row = rows[0]
        name = row.name if len(rows) == 1 else f"{shared([r.name for r in rows])} ×{len(rows)}"
        frozen = not row.trains
        decays = (
            Words("frozen", "冻结")
            if frozen and not row.decays
            else Words("in no group", "不在任何组")
            if row.group is None
            else Words("yes", "是")
            if row.decays
            else Words("no", "否")
        )
        return cls(
            name=printable(name),
            shape=" × ".join(map(str, row.shape)) or Words("scalar", "标量").of(language),
            group=NOTHING if row.group is None else str(row.group),
            decays=decays.of(language),
            right=row.decays == row.should_decay or frozen,
            reason=printable(row.reason),
            advice=_advice(row).of(language),
            lr=one(row.lr) if row.group is not None else NOTHING,
            weight_decay=one(row.weight_decay) if row.group is not None else NOTHING,
            shrink=one(row.shrink) if row.decays else NOTHING,
            timescale=many(row.timescale) if row.decays else NOTHING,
            kept=percent(row.total_shrink) if row.decays else NOTHING,
            dtype=row.dtype,
            count=len(rows),
            names=tuple(printable(r.name) for r in rows),
        )


def _advice(row: ParameterRow) -> Words:
    said = Words("yes: {why}", "应衰减：{why}") if row.should_decay else Words("no: {why}", "不应衰减：{why}")
    return fill(said, why=in_words(printable(row.reason)))


def parameters(
    report: AuditReport, language: Language, *, grouped: Grouped = "by layer"
) -> list[ParameterView]:
    """The rows of the model's parameters, in its order."""
    if grouped == "one by one":
        return [ParameterView.of([row], language) for row in report.parameters]
    runs: dict[tuple[object, ...], list[ParameterRow]] = {}
    for row in report.parameters:
        alike = (
            form(row.name), row.shape, row.dtype, row.group, row.lr, row.weight_decay, row.trains, row.decays,
            row.should_decay, row.reason, row.shrink, row.timescale,
        )  # fmt: skip
        runs.setdefault(alike, []).append(row)
    return [ParameterView.of(rows, language) for rows in runs.values()]
