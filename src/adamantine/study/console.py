"""What a comparison shows in the terminal: progress while it runs, tables when it is done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from adamantine.report.basin import widths
from adamantine.report.model import Comparison, MethodGrid
from adamantine.report.numbers import Scores, setting
from adamantine.report.terminal import new_table, plain
from adamantine.report.words import Language
from adamantine.study.cell import Cell, Result
from adamantine.study.plan import Method, Plan, grown, validation_scores
from adamantine.study.statistics import choose

MANY_PAIRS = 6  # beyond these the table shows the best method's pairs only
SECONDS_A_LINE = 30.0  # where there is no terminal to draw bars in


class Display:
    """A bar for all runs with the time left, and a line per method with its best setting so far.

    Where the output is no terminal (a log file, a pipe), a line of text now and then.
    """

    def __init__(self, plan: Plan, score: str, unit: str, console: Console) -> None:
        self.plan = plan
        self.score, self.unit = score, unit
        self.overall = Progress(
            TextColumn("[bold]all runs"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.methods = Progress(
            TextColumn("{task.description}", table_column=Column(overflow="fold")),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}", table_column=Column(overflow="fold")),
            console=console,
        )
        self.all_runs = self.overall.add_task("", total=None)
        self.tasks = {
            method.spec: self.methods.add_task(plain(method.name), total=None, best="")
            for method in plan.methods
        }
        self.totals: dict[str, tuple[int, int]] = {}
        self.console = console
        self.last_line = -SECONDS_A_LINE  # the first result gets one
        self.live = Live(Group(self.methods, self.overall), console=console, refresh_per_second=8)

    def __enter__(self) -> Display:
        return self  # drawn from the first plan on: an error before it is not framed by empty bars

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.live.stop()

    def planned(self, method: Method, done: int, total: int, results: Mapping[Cell, Result]) -> None:
        self.totals[method.spec] = (done, total)
        best = self._best(method, results)
        self.methods.update(self.tasks[method.spec], completed=done, total=total, best=best)
        self._count()
        if self.console.is_interactive:
            self.live.start(refresh=True)

    def finished(self, result: Result, results: Mapping[Cell, Result]) -> None:
        spec = result.cell.method
        done, total = self.totals[spec]
        self.totals[spec] = (done + 1, total)
        self.methods.advance(self.tasks[spec])
        for method in self.plan.methods:  # all of them: a resumed run starts with results of each
            if method.spec == spec or not self.methods.tasks[self.tasks[method.spec]].fields["best"]:
                self.methods.update(self.tasks[method.spec], best=self._best(method, results))
        self._count()
        if not self.console.is_interactive:
            self._print_line(spec)

    def _count(self) -> None:
        done, total = (sum(counts) for counts in zip(*self.totals.values(), strict=True))
        self.overall.update(self.all_runs, completed=done, total=total)

    def _print_line(self, spec: str) -> None:
        now = time.monotonic()
        runs, method = self.overall.tasks[self.all_runs], self.methods.tasks[self.tasks[spec]]
        if now - self.last_line < SECONDS_A_LINE and not runs.finished:
            return
        self.last_line = now
        best = f"; {method.description}: {method.fields['best']}" if method.fields["best"] else ""
        self.console.print(
            f"{runs.completed:.0f} of {runs.total:.0f} runs{best}", highlight=False, soft_wrap=True
        )

    def _best(self, method: Method, results: Mapping[Cell, Result]) -> str:
        method = grown(method, self.plan, results)
        scores = validation_scores(method, self.plan.seeds, results)
        best = choose(scores)
        if best is None:
            return ""
        shown = float(scores[best].mean()) * (100 if self.unit == "%" else 1)
        where = f"lr {setting(method.lrs[best[0]])}, λ {setting(method.weight_decays[best[1]])}"
        return plain(f"best validation {self.score} {shown:.3g} {self.unit} at {where}")


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
        if method.best is None or method.at_best is None:
            table.add_row(plain(method.name), *["–"] * 5)
            continue
        i, j = method.best
        estimate = method.at_best
        spread = f" ± {shown.number(estimate.std)}" if estimate.n > 1 else ""
        table.add_row(
            plain(method.name),
            setting(method.lrs[i]) + _edge_mark(method, "lr"),
            setting(method.weight_decays[j]) + _edge_mark(method, "weight_decay"),
            shown.number(estimate.mean) + spread,
            shown.mean_interval(estimate) or "–",
            shown.number(float(method.validation[i, j].mean())),
        )
    return table


def _edge_mark(method: MethodGrid, axis: str) -> str:
    return " [yellow]edge[/yellow]" if any(edge.startswith(axis) for edge in method.edges) else ""


def _search_table(comparison: Comparison) -> Table:
    table = new_table(
        "How wide the basin of good settings is, and what went wrong",
        *("method", "settings\nin basin", "octaves\nof lr", "octaves of\nweight decay", "diverged\nruns"),
    )
    for method in comparison.methods:
        diverged = f"{int(method.diverged.sum())} of {method.diverged.size}"
        missing = int((np.isnan(method.validation) & ~method.diverged).sum())
        if missing:
            diverged += f"\n[red]{missing} failed or not run[/red]"
        basin = f"{int(method.basin.sum())} of {method.basin.size}"
        table.add_row(plain(method.name), basin, *widths(method), diverged)
    return table


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
