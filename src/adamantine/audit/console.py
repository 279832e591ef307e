"""An audit in the terminal: what is wrong, then the groups, the parameters, and what the ledger saw."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from adamantine.audit.checks.kind import Kind
from adamantine.audit.fitted import Column, fitted
from adamantine.audit.model import AuditReport, Finding, LedgerReport, Severity
from adamantine.audit.rows import Grouped, GroupView, parameters
from adamantine.audit.view import (
    SEVERITY_WORDS,
    SIGNS,
    concerned,
    counts,
    decay_share,
    layers,
    short_class,
    sorted_findings,
    subject,
    tally,
)
from adamantine.audit.written import NOTHING, many, one, percent
from adamantine.report.numbers import printable
from adamantine.report.phrases import fill
from adamantine.report.words import Language, Words

STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_WIDE, _NARROW = 120, 60  # prose is not set wider, nothing narrower
_LAYERS = 20  # rows of the ledger's table, unless all are wanted


def show(
    report: AuditReport, console: Console, language: Language = "en", *, grouped: Grouped = "by layer"
) -> None:
    """Prints the audit as wide as the console is; ``"one by one"`` lists every parameter on its own row."""
    console.print(rendered(report, max(console.width, _NARROW), language, grouped=grouped), highlight=False)


def text(report: AuditReport, width: int = 100, language: Language = "en") -> str:
    """The same without colours, for ``print(audit)``, logs and assertions."""
    out = io.StringIO()
    show(report, Console(file=out, width=width, color_system=None, legacy_windows=False), language)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def explained(kind: Kind, language: Language) -> RenderableType:
    """An entry of the catalogue: what it means in general, what mends it, whence it is known."""
    lines = [
        (Words("why", "原因"), kind.why.of(language)),
        (Words("mend", "修正"), kind.remedy.of(language)),
        (Words("source", "出处"), kind.source),
    ]
    title = Text.assemble(
        (f"{SIGNS[kind.severity]} {SEVERITY_WORDS[kind.severity].of(language)}", STYLES[kind.severity]),
        "  ",
        (kind.title.of(language), "bold"),
        "  ",
        (kind.code, "dim"),
    )
    return Group(title, *(_entry(label.of(language), said) for label, said in lines))


def catalogue(kinds: Sequence[Kind], width: int, language: Language) -> RenderableType:
    """One line for each finding that there is."""
    columns = [
        Column(Words("code", "代码").of(language), [k.code for k in kinds], 3, holds="terms"),
        Column(
            Words("at worst", "最重").of(language),
            [Text(SEVERITY_WORDS[k.severity].of(language), style=STYLES[k.severity]) for k in kinds],
            2,
            holds="terms",
        ),
        Column(Words("what", "内容").of(language), [k.title.of(language) for k in kinds], 1, holds="words"),
    ]
    return fitted(columns, width)[0]


def rendered(
    report: AuditReport, width: int, language: Language, *, grouped: Grouped = "by layer"
) -> RenderableType:
    """Everything, for a console of so many columns."""
    findings = sorted_findings(report)
    head = Text.assemble(
        (printable(short_class(report.optimizer)), "bold"), ": ", subject(report).of(language)
    )
    parts: list[RenderableType] = [head, _tally(findings, language)]
    parts += [_finding(report, finding, width, language) for finding in findings]
    if report.groups:
        parts += ["", _groups(report, width, language)]
    if report.parameters:
        parts += ["", _parameters(report, width, language, grouped)]
    if report.ledger is not None:
        parts += ["", _ledger(report.ledger, width, language, grouped)]
    return Group(*parts)


def _tally(findings: list[Finding], language: Language) -> Text:
    if not counts(findings):
        return Text(f"✓ {tally(findings).of(language)}", style="green")
    worst = findings[0].severity
    return Text(f"{SIGNS[worst]} {tally(findings).of(language)}", style=STYLES[worst])


def _finding(report: AuditReport, finding: Finding, width: int, language: Language) -> RenderableType:
    head = Text.assemble(
        (
            f"{SIGNS[finding.severity]} {SEVERITY_WORDS[finding.severity].of(language)}",
            STYLES[finding.severity],
        ),
        "  ",
        (printable(finding.title.of(language)), "bold"),
        "  ",
        (finding.code, "dim"),
    )
    lines = [
        (Words("why", "原因"), finding.reason.of(language)),
        (Words("mend", "修正"), finding.remedy.of(language)),
        (Words("where", "位置"), _where(report, finding, language)),
    ]
    body = [_entry(label.of(language), said) for label, said in lines if said]
    room = max(width - min(width, _WIDE), 0)
    return Padding(Group("", head, *body), (0, room, 0, 0))


def _where(report: AuditReport, finding: Finding, language: Language) -> str:
    names = concerned(report, finding)
    if names or not finding.groups:
        return names
    return fill(Words("group {n}", "第 {n} 组"), n=", ".join(map(str, finding.groups))).of(language)


def _entry(label: str, said: str) -> RenderableType:
    """A label and its text beside it, in lines that begin below each other; line breaks of code stay."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=8)
    table.add_column(overflow="fold")
    table.add_row(Text(f"  {label}", style="dim"), Text("\n".join(map(printable, said.splitlines()))))
    return table


def _titled(
    title: Words, columns: list[Column], width: int, language: Language, note: str = ""
) -> RenderableType:
    told = [column for column in columns if any(str(cell) != NOTHING for cell in column.cells)]
    table, dropped = fitted(told, width)
    parts: list[RenderableType] = [Text(title.of(language), style="bold"), table]
    if note:
        parts.append(Text(note, style="dim"))
    if dropped:
        more = Words("Not shown, for want of room: {columns}.", "宽度不够，未显示：{columns}。")
        columns_left_out = ", ".join(heading for heading in reversed(dropped) if heading)
        parts.append(Text(fill(more, columns=columns_left_out).of(language), style="dim"))
    return Group(*parts)


def _groups(report: AuditReport, width: int, language: Language) -> RenderableType:
    views = [GroupView.of(report, group, language) for group in report.groups]

    def say(en: str, zh: str) -> str:
        return Words(en, zh).of(language)

    columns = [
        Column(say("group", "组"), [v.index for v in views], 9),
        Column(say("tensors", "张量"), [v.parameters for v in views], 2),
        Column(say("elements", "元素"), [v.elements for v in views], 3),
        Column(
            say("decay", "衰减方式"),
            [Text(v.mode, style="bold red" if v.alarming else "") for v in views],
            8,
            holds="terms",
        ),
        Column(say("lr η", "学习率 η"), [v.lr for v in views], 7),
    ]
    if any(v.peak_lr for v in views):
        columns.append(Column(say("peak η", "峰值 η"), [v.peak_lr or v.lr for v in views], 4))
    columns += [
        Column("λ", [v.weight_decay for v in views], 7),
        Column(say("per step", "每步衰减"), [v.shrink for v in views], 6),
        Column(say("τ (steps)", "τ（步）"), [v.timescale for v in views], 5),
    ]
    if any(v.epochs for v in views):
        columns.append(Column(say("τ (epochs)", "τ（轮）"), [v.epochs or NOTHING for v in views], 1))
    if any(v.kept != NOTHING for v in views):
        columns.append(Column(say("left at end", "最终剩余"), [v.kept for v in views], 4))
    reasons = dict.fromkeys(
        f"{v.mode}, {v.found}{Words(': ', '：').of(language)}{v.evidence}"
        for v in views
        if v.evidence and v.weight_decay not in ("0", NOTHING)
    )
    return _titled(Words("Param groups", "参数组"), columns, width, language, "\n".join(reasons))


def _parameters(report: AuditReport, width: int, language: Language, grouped: Grouped) -> RenderableType:
    views = parameters(report, language, grouped=grouped)

    def say(en: str, zh: str) -> str:
        return Words(en, zh).of(language)

    columns = [
        Column(
            say("parameter", "参数"),
            [_breakable(v.name, _room_of_names(width)) for v in views],
            9,
            holds="words",
        ),
        Column(say("shape", "形状"), [v.shape.replace(" × ", "×") for v in views], 6),
        Column(say("group", "组"), [v.group for v in views], 5),
        Column(
            say("decays", "衰减"),
            [Text(v.decays, style="" if v.right else "bold yellow") for v in views],
            8,
            holds="terms",
        ),
        Column(say("per step", "每步衰减"), [v.shrink for v in views], 4),
        Column(say("τ (steps)", "τ（步）"), [v.timescale for v in views], 3),
        Column(say("left at end", "最终剩余"), [v.kept for v in views], 2),
        Column(say("dtype", "类型"), [v.dtype for v in views], 1),
        Column(say("should it decay?", "应否衰减"), [v.advice for v in views], 7, holds="words"),
    ]
    if all(row.total_shrink is None for row in report.parameters):
        del columns[6]
    return _titled(Words("Parameters", "参数"), columns, width, language)


def _room_of_names(width: int) -> int:
    return max(28, width * 2 // 5)


def _breakable(name: str, room: int) -> str:
    """A name longer than its room, in lines that end before dots.

    >>> _breakable("encoder.layers.*.self_attention.output.weight ×12", 30)
    'encoder.layers.*\\n.self_attention.output\\n.weight ×12'
    """
    if len(name) <= room:
        return name
    lines, line = [], ""
    for i, part in enumerate(name.split(".")):
        piece = part if i == 0 else f".{part}"
        if line and len(line + piece) > room:
            lines.append(line)
            line = ""
        line += piece
    return "\n".join([*lines, line])


def _ledger(ledger: LedgerReport, width: int, language: Language, grouped: Grouped) -> RenderableType:
    rows, more = layers(ledger.layers, len(ledger.layers) if grouped == "one by one" else _LAYERS)

    def say(en: str, zh: str) -> str:
        return Words(en, zh).of(language)

    columns = [
        Column(
            say("parameter", "参数"),
            [_breakable(r.name, _room_of_names(width)) for r in rows],
            9,
            holds="words",
        ),
        Column(say("decay step", "衰减步长"), [one(r.decay_step) for r in rows], 6),
        Column(say("gradient step", "梯度步长"), [one(r.gradient_step) for r in rows], 5),
        Column(say("decay ÷ gradient", "衰减 ÷ 梯度"), [one(decay_share(r)) for r in rows], 8),
        Column(say("step ÷ weight", "步长 ÷ 权重"), [one(r.update_to_weight) for r in rows], 4),
        Column(say("rounded away", "被舍入"), [percent(r.rounded) for r in rows], 7),
        Column("‖θ‖", [one(r.norm) for r in rows], 3),
        Column(say("equilibrium", "平衡值"), [one(r.equilibrium) for r in rows], 2),
    ]
    if any(row.nonfinite for row in rows):
        columns.append(Column(say("not finite", "非有限值"), [many(float(r.nonfinite)) for r in rows], 8))
    title = fill(
        Words(
            "While training: {steps} steps, {measured} measured",
            "训练中：共 {steps} 步，测量 {measured} 步",
        ),
        steps=f"{ledger.steps:,}",
        measured=f"{ledger.measured:,}",
    )
    rest = Words("{n} more in report.ledger.layers", "其余 {n} 个见 report.ledger.layers")
    note = fill(rest, n=str(more)).of(language) if more else ""
    return _titled(title, columns, width, language, note)
