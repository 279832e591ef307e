"""The audit as one HTML page in the report's style: it needs no network and no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from adamantine.audit.charts import Curve, curves, kept_chart, lr_chart
from adamantine.audit.ledger_panels import Panel, panels
from adamantine.audit.model import AuditReport, Finding
from adamantine.audit.names import said
from adamantine.audit.page_words import (
    GROUP_HEADINGS,
    LAYER_HEADINGS,
    PARAMETER_HEADINGS,
    READING,
    READING_LEDGER,
)
from adamantine.audit.rows import GroupView, parameters
from adamantine.audit.view import (
    SEVERITY_WORDS,
    SIGNS,
    answer,
    counts,
    decay_share,
    layers,
    short_class,
    sorted_findings,
    subject,
)
from adamantine.audit.written import many, one, percent
from adamantine.report.html import HERE, rendered
from adamantine.report.numbers import printable
from adamantine.report.phrases import fill
from adamantine.report.theme import Stroke
from adamantine.report.words import Language, Words

_KINDS = {"error": "failed", "warning": "refuted", "note": "open"}  # classes of the style sheet
_SCRIPTS = ((HERE, "copy.js"), ("adamantine.audit", "filter.js"))


@dataclass(frozen=True)
class FindingView:
    """One card."""

    code: str
    kind: str
    sign: str
    severity: str
    title: str
    reason: str
    remedy: str
    where: list[str]

    @classmethod
    def of(cls, report: AuditReport, finding: Finding, language: Language) -> FindingView:
        shown, more = said(finding.parameters, [row.name for row in report.parameters], most=8)
        return cls(
            code=finding.code,
            kind=_KINDS[finding.severity],
            sign=SIGNS[finding.severity],
            severity=SEVERITY_WORDS[finding.severity].of(language),
            title=printable(finding.title.of(language)),
            reason=printable(finding.reason.of(language)),
            remedy="\n".join(map(printable, finding.remedy.of(language).splitlines())),
            where=[*map(printable, shown), *([f"+ {more}"] if more else [])],
        )


def page(report: AuditReport, language: Language = "en", *, command: str = "", fix: str = "") -> str:
    """The page; ``command`` is what made it, ``fix`` the program that mends the findings, if there is one."""
    findings = sorted_findings(report)
    lines = curves(report, language)
    shown = panels(report.ledger, language) if report.ledger else []
    reading = (*READING, *READING_LEDGER) if report.ledger else READING
    return rendered(
        "audit.html",
        language,
        scripts=_SCRIPTS,
        package="adamantine.audit",
        dotted=lambda name: Markup("<wbr>.").join(name.split(".")),
        optimizer=printable(short_class(report.optimizer)),
        subject=subject(report).of(language),
        answer=printable(answer(report).of(language)),
        contents=_contents(language, bool(fix), bool(shown)),
        tally=[
            (_KINDS[severity], SIGNS[severity], SEVERITY_WORDS[severity].of(language), n)
            for severity, n in counts(findings).items()
        ],
        findings=[FindingView.of(report, finding, language) for finding in findings],
        fix=fix.rstrip(),
        groups=[GroupView.of(report, group, language) for group in report.groups],
        group_headings=[words.of(language) for words in GROUP_HEADINGS],
        schedule=_schedule(lines, language) if lines else [],
        ledger=shown,
        ledger_lead=_ledger_lead(report, language),
        layers=_layers(report),
        layer_headings=[words.of(language) for words in LAYER_HEADINGS],
        parameters=parameters(report, language),
        parameter_headings=[words.of(language) for words in PARAMETER_HEADINGS],
        reading=[(term.of(language), meaning.of(language)) for term, meaning in reading],
        reproduction=_reproduction(report, command, language),
    )


def _contents(language: Language, fix: bool, ledger: bool) -> list[tuple[str, str]]:
    every = (
        (True, "findings", Words("Findings", "发现的问题")),
        (fix, "mend", Words("All of it mended", "一并修正")),
        (True, "groups", Words("Param groups", "参数组")),
        (ledger, "ledger", Words("While training", "训练中")),
        (True, "parameters", Words("Parameters", "参数")),
        (True, "reading", Words("How to read this", "怎样读")),
    )
    return [(anchor, words.of(language)) for there, anchor, words in every if there]


def _schedule(lines: Sequence[Curve], language: Language) -> list[Panel]:
    """What decay leaves, and the learning rate that makes it so."""
    decaying = [line for line in lines if line.line.kept[-1] < 1]
    flat = all(len(set(line.line.lr)) == 1 for line in lines)
    shown = [] if flat else [_planned_lr(lines, language)]
    if not decaying:
        return shown
    ends = [line.line.kept[-1] for line in decaying]
    least = min(range(len(ends)), key=lambda i: ends[i])
    lead = fill(
        Words(
            "{name}: {left} of a weight that gets no gradient is left after the run.",
            "{name}：没有梯度的权重，训练结束时还剩 {left}。",
        ),
        name=decaying[least].name[:1].upper() + decaying[least].name[1:],
        left=percent(ends[least]),
    )
    return [
        Panel(
            Words("What decay leaves of a weight (%)", "衰减之后权重还剩多少（%）").of(language),
            lead.of(language),
            kept_chart(decaying, language),
            _legend(decaying),
        ),
        *shown,
    ]


def _planned_lr(lines: Sequence[Curve], language: Language) -> Panel:
    return Panel(
        Words("The learning rate over the run", "训练中的学习率").of(language),
        Words("As the schedule plans it.", "按调度的计划。").of(language),
        lr_chart(lines, language),
        _legend(lines),
    )


def _legend(lines: Sequence[Curve]) -> list[tuple[Stroke, str]]:
    return [(line.look, line.name) for line in lines] if len(lines) > 1 else []


def _ledger_lead(report: AuditReport, language: Language) -> str:
    if report.ledger is None:
        return ""
    said_so = Words(
        "{steps} steps seen, {measured} of them measured (every {every}).",
        "共观察 {steps} 步，测量了其中 {measured} 步（每 {every} 步一次）。",
    )
    numbers = {key: f"{getattr(report.ledger, key):,}" for key in ("steps", "measured", "every")}
    return fill(said_so, **numbers).of(language)


def _layers(report: AuditReport) -> list[list[str]]:
    if report.ledger is None:
        return []
    rows, _ = layers(report.ledger.layers, len(report.ledger.layers))
    return [
        [
            printable(row.name),
            one(row.decay_step),
            one(row.gradient_step),
            one(decay_share(row)),
            one(row.update_to_weight),
            percent(row.rounded),
            one(row.norm),
            one(row.equilibrium),
            many(float(row.nonfinite)),
        ]
        for row in rows
    ]


def _reproduction(report: AuditReport, command: str, language: Language) -> dict[str, Any]:
    """What the report's own template of that name wants."""
    facts = []
    if report.versions:
        versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
        facts.append((Words("versions", "版本").of(language), printable(versions)))
    return {"command": printable(command), "facts": facts, "manifest": ""}
