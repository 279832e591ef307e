"""The report as Markdown, for a pull request or a notebook: the page's words and tables, figures by link."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from adamantine.report.article import OPTIMIZERS
from adamantine.report.claimmodel import STATUS_WORDS, ClaimResult
from adamantine.report.claimtable import ClaimView, answer_of, headings
from adamantine.report.figures import order_by_test
from adamantine.report.model import Comparison
from adamantine.report.numbers import printable
from adamantine.report.page import Reproduction
from adamantine.report.phrases import fill, scores_of, term
from adamantine.report.tables import (
    NONE,
    ArticleTable,
    DifferenceView,
    MethodView,
    ScoreView,
    SeparabilityTable,
    not_measured,
    score_names,
)
from adamantine.report.words import Language, Words

_FIGURES = {
    "test-scores": Words("Test scores at each method's best setting", "每种方法最佳设置下的测试得分"),
    "heatmaps": Words("Validation over learning rate and λ", "验证得分随学习率和 λ 的变化"),
    "heatmaps-gamma": Words("Validation over learning rate and γ = ηλ", "验证得分随学习率和 γ = ηλ 的变化"),
    "learning-curves": Words("Learning curves", "学习曲线"),
    "weight-norm": Words("Norm of the decaying weights", "参与衰减的权重的范数"),
}

#: What Markdown or HTML within it would take for an instruction.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&])")


def plain(text: str) -> str:
    """Text of others that stays text, also inside a table.

    >>> print(plain("a|b <img> **c**"))
    a\\|b \\<img\\> \\*\\*c\\*\\*
    """
    return _SPECIAL.sub(r"\\\1", printable(text))


def code(text: str) -> str:
    """Text in a fence that is longer than any within it.

    >>> print(code("a `b`"))
    `` a `b` ``
    """
    text = printable(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"


def document(
    comparison: Comparison, language: Language, claims: Sequence[ClaimResult], figures: Collection[str]
) -> str:
    """The report of a comparison. ``figures`` are the names of those beside it, in ``figures/``."""

    def say(en: str, zh: str) -> str:
        return Words(en, zh).of(language)

    scores = scores_of(comparison, language)
    methods = [MethodView.of(comparison, i, language) for i in range(len(comparison.methods))]
    lines = [f"# {plain(term(comparison.task_title or comparison.task).of(language))}", ""]
    lines += [f"**{plain(comparison.answer.of(language))}**", ""]
    lines += [f"- {plain(line.of(language))}" for line in comparison.advice]
    if methods:
        lines += ["", f"## {say('Best settings', '最佳设置')}", ""]
        lines += _settings(comparison, methods, language)
    if comparison.differences:
        lines += ["", f"## {say('Differences, paired by seed', '按种子配对的差异')}", ""]
        pairs = [DifferenceView.of(d, scores) for d in comparison.differences]
        rows = [[f"{p.a} − {p.b}", p.difference, p.interval or NONE, p.verdict] for p in pairs]
        lines += _table(
            [
                say("difference", "差异"),
                say("mean", "均值"),
                say("95 % CI", "95 % 置信区间"),
                say("verdict", "判定"),
            ],
            rows,
        )
    article = ArticleTable.of(comparison, methods, language)
    if article:
        lines += [
            "",
            f"## {say('The article’s table, with this run’s numbers', '文章的对比表，填上这次运行的数字')}",
            "",
        ]
        rows = [[row.name, row.adam_l2, row.adamw] for row in (*article.words, *article.numbers)]
        lines += _table(["", "Adam + L2", "AdamW"], rows)
    if SeparabilityTable.of(comparison, language).methods:
        lines += ["", f"## {say('Separability', '可分性')}", ""]
        lines += _separability(comparison, language)
    lines += _pictures(figures, language)
    if claims:
        lines += ["", f"## {say('The article’s claims', '文章的论断')}", "", *_claims(claims, language)]
    reproduction = Reproduction.of(comparison.manifest, language)
    lines += ["", f"## {say('How to reproduce', '如何复现')}", ""]
    if reproduction.command:
        lines += [code(reproduction.command), ""]
    lines += [f"- {key}{say(': ', '：')}{plain(value)}" for key, value in reproduction.facts]
    lines += ["", plain(comparison.basin_rule.of(language))]
    return "\n".join(lines).rstrip() + "\n"


def claims_document(claims: Sequence[ClaimResult], language: Language, command: str) -> str:
    """The report of a run of the claims alone."""
    lines = [f"# {plain(answer_of(claims).of(language))}", "", *_claims(claims, language)]
    return "\n".join([*lines, "", code(command)] if command else lines).rstrip() + "\n"


def _settings(comparison: Comparison, methods: Sequence[MethodView], language: Language) -> list[str]:
    score = fill(Words("test {score}", "测试{score}"), score=scores_of(comparison, language).label)
    heads = (
        Words("method", "方法"),
        score,
        Words("95 % CI", "95 % 置信区间"),
        Words("lr η", "学习率 η"),
        Words("λ", "λ"),
        Words("γ = ηλ", "γ = ηλ"),
        Words("τ = 1/γ", "τ = 1/γ"),
        Words("basin", "盆地"),
    )
    rows = []
    for m in (methods[i] for i in order_by_test(comparison.methods)):
        tau = f"{m.timescale} = {m.epochs}" if m.epochs else m.timescale
        numbers = [m.score, m.interval, m.lr, m.weight_decay, m.per_step, tau, m.basin]
        rows.append([m.name, *(number or NONE for number in numbers)])
    missing = not_measured(comparison)
    if len(missing) < len(OPTIMIZERS):
        absent = Words(" (not in this run)", "（不在这次运行中）").of(language)
        rows += [[f"{one.name}{absent}", *[NONE] * (len(heads) - 1)] for one in missing]
    return _table([head.of(language) for head in heads], rows)


def _separability(comparison: Comparison, language: Language) -> list[str]:
    names = score_names(language)
    heads = [Words("method", "方法").of(language), "", *(f"{n} {name}" for n, (name, _) in names.items())]
    table = SeparabilityTable.of(comparison, language)
    rows = [
        [one.name, f"(η, {coordinates})", *(_score(both[place]) for both in one.scores.values())]
        for one in table.methods
        for place, coordinates in enumerate("λγ")
    ]
    return [*_table(heads, rows), "", *(f"{n}. {plain(note)}" for n, note in enumerate(table.notes, 1))]


def _score(score: ScoreView) -> str:
    text = f"{score.value} {score.interval}" if score.interval else score.value
    return f"{text} ({score.note})" if score.note else text


def _pictures(figures: Collection[str], language: Language) -> list[str]:
    """Each that is there, in the colours of the reader's theme."""
    lines: list[str] = []
    for name, words in _FIGURES.items():
        kind = next((kind for kind in ("svg", "png") if f"{name}-light.{kind}" in figures), None)
        if kind:
            source, alt = f"figures/{name}-{{}}.{kind}", words.of(language)
            dark = f'<source media="(prefers-color-scheme: dark)" srcset="{source.format("dark")}">'
            image = f'<img alt="{alt}" src="{source.format("light")}">'
            lines += ["", f"<picture>{dark}{image}</picture>"]
    return lines


def _claims(claims: Sequence[ClaimResult], language: Language) -> list[str]:
    name, *rest = headings(language)
    rows = []
    for claim in claims:
        view = ClaimView.of(claim, language)
        first = [
            f"{view.number}. {view.title}",
            "",
            "",
            f"{view.sign} {STATUS_WORDS[claim.verdict].of(language)}",
        ]
        rows.append(first)
        rows += [[p.text, p.predicted, p.measured, f"{p.sign} {p.verdict}"] for p in view.predictions]
        if view.revised:
            changed = Words("Changed after a first look: ", "初次测量后的改动：").of(language)
            rows.append([f"{changed}{view.revised}", "", "", ""])
    return _table([name, *rest], rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *([plain(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]
