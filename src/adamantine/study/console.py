"""What a comparison shows in the terminal when it is done; while it runs, see `adamantine.study.watch`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from adamantine.report.basin import widths
from adamantine.report.coordinates import per_step, steps, timescale
from adamantine.report.model import Comparison, MethodGrid
from adamantine.report.numbers import Scores, setting
from adamantine.report.phrases import fill, same, scores_of, term, verdict
from adamantine.report.tables import WIDTHS
from adamantine.report.terminal import new_table, plain
from adamantine.report.words import Language, Words

MANY_PAIRS = 6  # beyond these the table shows the best method's pairs only


def show(comparison: Comparison, console: Console, language: Language = "en") -> None:
    """Prints the tables of methods and differences, the answer and the advice; fits 80 columns,
    and wraps in fewer."""
    shown = scores_of(comparison, language)
    console.print(f"\n[bold]{plain(term(comparison.task_title).of(language))}[/bold]")
    console.print(_scores_table(comparison, shown))
    console.print(_search_table(comparison, language))
    if comparison.differences:
        console.print(_differences_table(comparison, shown))
    console.print(f"[bold]{plain(comparison.answer.of(language))}[/bold]\n", highlight=False)
    advice = Table.grid(padding=(0, 1))
    advice.add_column()
    advice.add_column(overflow="fold")  # a grid to paste is one long word, and must not lose its end
    for line in comparison.advice:
        advice.add_row("•", plain(line.of(language)))
    console.print(advice, highlight=False)
    if any(method.chosen for method in comparison.methods):  # before, there is no basin to speak of
        console.print(f"\n[dim]{plain(comparison.basin_rule.of(language))}[/dim]", highlight=False)


def _table(title: Words, headings: Sequence[Words], language: Language) -> Table:
    return new_table(title.of(language), *(words.of(language) for words in headings))


def _scores_table(comparison: Comparison, shown: Scores) -> Table:
    headings = (
        Words("method", "方法"),
        Words("lr", "学习率"),
        Words("weight\ndecay", "权重\n衰减"),
        fill(Words("test\n{score}", "测试\n{score}"), score=plain(shown.label)),
        Words("95 %\ninterval", "95 %\n置信区间"),
        Words("vali-\ndation", "验证"),
    )
    title = Words("At the setting with the best mean validation score", "在平均验证得分最好的设置下")
    table = _table(title, headings, shown.language)
    for method in comparison.methods:
        chosen = method.chosen
        if chosen is None or method.at_best is None:
            table.add_row(plain(method.name), *["–"] * 5)
            continue
        estimate = method.at_best
        spread = f" ± {shown.number(estimate.std)}" if estimate.n > 1 else ""
        table.add_row(
            plain(method.name),
            setting(chosen.lr) + _edge_mark(method, "lr", shown.language),
            setting(chosen.weight_decay) + _edge_mark(method, "weight_decay", shown.language),
            shown.number(estimate.mean) + spread,
            shown.mean_interval(estimate) or "–",
            shown.number(float(chosen.validation.mean())),
        )
    return table


def _edge_mark(method: MethodGrid, axis: str, language: Language) -> str:
    if not any(edge.startswith(axis) for edge in method.edges):
        return ""
    return f" [yellow]{Words('edge', '边缘').of(language)}[/yellow]"


def _search_table(comparison: Comparison, language: Language) -> Table:
    headings = (
        Words("method", "方法"),
        Words("γ", "γ"),
        Words("τ in\nepochs", "τ\n（轮）"),
        Words("in\nbasin", "盆地\n之内"),
        Words("octaves\nof lr", "学习率的\n二倍程"),
        Words("octaves\nof λ", "λ 的\n二倍程"),
        Words("runs\ndiverged", "发散的\n训练"),
    )
    title = Words(
        "Decay per step γ = lr·λ, timescale τ = 1/γ, width of the basin, divergence",
        "每步衰减 γ = 学习率·λ，时间尺度 τ = 1/γ，盆地的宽度，发散",
    )
    table = _table(title, headings, language)
    for method in comparison.methods:
        diverged = f"{int(method.diverged.sum())}/{method.diverged.size}"
        missing = int((np.isnan(method.validation) & ~method.diverged).sum())
        if missing:
            undone = fill(Words("{n} failed\nor not run", "{n} 次失败\n或未运行"), n=str(missing))
            diverged += f"\n[red]{undone.of(language)}[/red]"
        basin = f"{int(method.basin.sum())}/{method.basin.size}"
        octaves = [WIDTHS[wide].of(language) if wide in WIDTHS else wide for wide in widths(method)]
        table.add_row(
            plain(method.name), *_rate(method, comparison.steps_per_epoch), basin, *octaves, diverged
        )
    return table


def _rate(method: MethodGrid, steps_per_epoch: int | None) -> tuple[str, str]:
    """γ and τ at the best setting, dashes where there is none."""
    chosen = method.chosen
    if chosen is None:
        return "–", "–"
    tau = timescale(method, chosen.lr, chosen.weight_decay)
    epochs = steps(tau / steps_per_epoch) if tau and steps_per_epoch else "–"
    return setting(float(f"{per_step(method, chosen.lr, chosen.weight_decay):.2g}")), epochs


def _differences_table(comparison: Comparison, shown: Scores) -> Table:
    unit = Words("percentage points", "百分点") if shown.unit == "%" else same(plain(shown.unit))
    title = fill(
        Words("Differences of test scores in {unit}, paired by seed", "按种子配对的测试得分之差（{unit}）")
        if shown.unit
        else Words("Differences of test scores, paired by seed", "按种子配对的测试得分之差"),
        unit=unit,
    )
    headings = (
        Words("difference", "差异"),
        Words("mean", "均值"),
        Words("95 % interval", "95 % 置信区间"),
        Words("verdict", "判定"),
    )
    table = _table(title, headings, shown.language)
    pairs = comparison.differences
    if len(pairs) > MANY_PAIRS:
        pairs = tuple(d for d in pairs if d.a == pairs[0].a)  # the best against each other
    for d in pairs:
        style = "yellow" if d.verdict == "not decided" else "green"
        table.add_row(
            plain(f"{d.a} − {d.b}"),
            shown.number(d.estimate.mean),
            shown.interval(d.estimate) or "–",
            f"[{style}]{plain(verdict(d.a, d.b, d.verdict).of(shown.language))}[/{style}]",
        )
    return table
