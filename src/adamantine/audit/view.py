"""What the terminal and the page say alike about an audit: its answer, its findings, whom they concern."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from adamantine.audit.model import AuditReport, Finding, LayerRow, Severity
from adamantine.audit.names import said
from adamantine.audit.written import human
from adamantine.report.numbers import printable
from adamantine.report.phrases import fill, joined
from adamantine.report.words import Words

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
SIGNS: dict[Severity, str] = {"error": "✗", "warning": "▲", "note": "·"}
SEVERITY_WORDS: dict[Severity, Words] = {
    "error": Words("error", "错误"),
    "warning": Words("warning", "警告"),
    "note": Words("note", "提示"),
}
_COUNTED: dict[Severity, tuple[Words, Words]] = {
    "error": (Words("1 error", "1 个错误"), Words("{n} errors", "{n} 个错误")),
    "warning": (Words("1 warning", "1 个警告"), Words("{n} warnings", "{n} 个警告")),
    "note": (Words("1 note", "1 条提示"), Words("{n} notes", "{n} 条提示")),
}


def sorted_findings(report: AuditReport) -> list[Finding]:
    """All of them, the ledger's too, the worst first; among equals as the checks gave them."""
    every = [*report.findings, *(report.ledger.findings if report.ledger else ())]
    return sorted(every, key=lambda finding: SEVERITIES.index(finding.severity))


def counts(findings: Iterable[Finding]) -> dict[Severity, int]:
    """How many of each severity, of those that occur."""
    found = list(findings)
    every = {severity: sum(f.severity == severity for f in found) for severity in SEVERITIES}
    return {severity: n for severity, n in every.items() if n}


def tally(findings: Iterable[Finding]) -> Words:
    """``"1 error, 2 warnings"``."""
    parts = [
        _COUNTED[severity][0] if n == 1 else fill(_COUNTED[severity][1], n=str(n))
        for severity, n in counts(findings).items()
    ]
    return joined(parts, Words(", ", "，")) if parts else Words("no findings", "没有发现问题")


def answer(report: AuditReport) -> Words:
    """The whole audit in one sentence."""
    findings = sorted_findings(report)
    worst = findings[0] if findings and findings[0].severity != "note" else None
    if worst is None:
        template = Words(
            "Nothing to mend: {tally}.",
            "没有需要修正的地方：{tally}。",
        )
        return fill(template, tally=tally(findings))
    return fill(
        Words("{tally}. First: {title}.", "{tally}。首先：{title}。"),
        tally=tally(findings),
        title=worst.title,
    )


def short_class(name: str) -> str:
    """The optimizer as its user calls it.

    >>> short_class("torch.optim.adam.Adam"), short_class("mine.Lion, torch.optim.sgd.SGD")
    ('Adam', 'Lion, SGD')
    """
    return ", ".join(part.strip().rpartition(".")[2] for part in name.split(","))


def subject(report: AuditReport) -> Words:
    """What was audited: optimizer, parameters, length of the run."""
    plan = report.plan
    parts = [
        fill(
            Words("{tensors} parameters ({elements} elements)", "{tensors} 个参数（共 {elements} 个元素）"),
            tensors=f"{len(report.parameters):,}",
            elements=human(sum(row.elements for row in report.parameters)),
        ),
        Words("1 group", "1 个组")
        if len(report.groups) == 1
        else fill(Words("{n} groups", "{n} 个组"), n=str(len(report.groups))),
    ]
    if plan.steps:
        parts.append(fill(Words("a run of {n} steps", "共训练 {n} 步"), n=f"{plan.steps:,}"))
        if plan.epochs:
            parts.append(fill(Words("{n} epochs", "{n} 轮"), n=f"{plan.epochs:.3g}"))
    else:
        parts.append(Words("length of the run unknown", "训练长度未知"))
    return joined(parts, Words(", ", "，"))


def concerned(report: AuditReport, finding: Finding, most: int = 6) -> str:
    """The finding's parameters on one line, with patterns and counts; "" where it concerns the whole."""
    if not finding.parameters:
        return ""
    shown, more = said(finding.parameters, [row.name for row in report.parameters], most)
    return ", ".join((*map(printable, shown), *([f"+ {more}"] if more else [])))


def layers(rows: Sequence[LayerRow], most: int) -> tuple[list[LayerRow], int]:
    """The layers of a short table, decay strongest against the gradient; and how many it leaves out."""
    ranked = sorted(rows, key=lambda row: _known(decay_share(row)), reverse=True)
    return ranked[:most], max(len(rows) - most, 0)


def decay_share(row: LayerRow) -> float:
    """Decay's step in units of the gradient's; infinite without a gradient step, NaN if unknown."""
    if math.isnan(row.decay_step):
        return math.nan
    if row.gradient_step > 0:
        return row.decay_step / row.gradient_step
    return math.inf if row.decay_step > 0 else 0.0


def _known(share: float) -> float:
    return -1.0 if math.isnan(share) else share
