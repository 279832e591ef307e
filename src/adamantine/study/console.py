"""What a comparison shows in the terminal when it is done; while it runs, see `adamantine.study.watch`."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from adamantine.report.basin import widths
from adamantine.report.coordinates import per_step, steps, timescale
from adamantine.report.model import Comparison, MethodGrid
from adamantine.report.numbers import Scores, setting
from adamantine.report.terminal import new_table, plain
from adamantine.report.words import Language

MANY_PAIRS = 6  # beyond these the table shows the best method's pairs only


def show(comparison: Comparison, console: Console, language: Language = "en") -> None:
    """Prints the tables of methods and differences, the answer and the advice; fits 80 columns,
    and wraps in fewer. Sentences are in ``language``, the tables' headings in English."""
    shown = Scores.of(comparison)
    console.print(f"\n[bold]{plain(comparison.task_title)}[/bold]")
    console.print(_scores_table(comparison, shown))
    console.print(_search_table(comparison))
    if comparison.differences:
        console.print(_differences_table(comparison, shown))
    console.print(f"[bold]{plain(comparison.answer.of(language))}[/bold]\n", highlight=False)
    advice = Table.grid(padding=(0, 1))
    advice.add_column()
    advice.add_column(overflow="fold")  # a grid to paste is one long word, and must not lose its end
    for line in comparison.advice:
        advice.add_row("•", plain(line.of(language)))
    console.print(advice, highlight=False)
    console.print(f"\n[dim]{plain(comparison.basin_rule.of(language))}[/dim]", highlight=False)


def _scores_table(comparison: Comparison, shown: Scores) -> Table:
    table = new_table(
        "At the setting with the best mean validation score",
        *("method", "lr", "weight\ndecay", f"test\n{plain(shown.label)}", "95 %\ninterval", "vali-\ndation"),
    )
    for method in comparison.methods:
        chosen = method.chosen
        if chosen is None or method.at_best is None:
            table.add_row(plain(method.name), *["–"] * 5)
            continue
        estimate = method.at_best
        spread = f" ± {shown.number(estimate.std)}" if estimate.n > 1 else ""
        table.add_row(
            plain(method.name),
            setting(chosen.lr) + _edge_mark(method, "lr"),
            setting(chosen.weight_decay) + _edge_mark(method, "weight_decay"),
            shown.number(estimate.mean) + spread,
            shown.mean_interval(estimate) or "–",
            shown.number(float(chosen.validation.mean())),
        )
    return table


def _edge_mark(method: MethodGrid, axis: str) -> str:
    return " [yellow]edge[/yellow]" if any(edge.startswith(axis) for edge in method.edges) else ""


def _search_table(comparison: Comparison) -> Table:
    table = new_table(
        "Decay per step γ = lr·λ, timescale τ = 1/γ, width of the basin, divergence",
        *("method", "γ", "τ in\nepochs", "in\nbasin", "octaves\nof lr", "octaves\nof λ", "runs\ndiverged"),
    )
    for method in comparison.methods:
        diverged = f"{int(method.diverged.sum())}/{method.diverged.size}"
        missing = int((np.isnan(method.validation) & ~method.diverged).sum())
        if missing:
            diverged += f"\n[red]{missing} failed or not run[/red]"
        basin = f"{int(method.basin.sum())}/{method.basin.size}"
        table.add_row(
            plain(method.name), *_rate(method, comparison.steps_per_epoch), basin, *widths(method), diverged
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
    unit = "percentage points" if shown.unit == "%" else shown.unit
    table = new_table(
        f"Differences of test scores{f' in {plain(unit)}' if unit else ''}, paired by seed",
        *("difference", "mean", "95 % interval", "verdict"),
    )
    pairs = comparison.differences
    if len(pairs) > MANY_PAIRS:
        pairs = tuple(d for d in pairs if d.a == pairs[0].a)  # the best against each other
    for d in pairs:
        style = "yellow" if d.verdict == "not decided" else "green"
        table.add_row(
            plain(f"{d.a} − {d.b}"),
            shown.number(d.estimate.mean),
            shown.interval(d.estimate) or "–",
            f"[{style}]{plain(d.verdict)}[/{style}]",
        )
    return table
