"""What a comparison shows in the terminal: progress while it runs, tables when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from adamantine.report.model import Comparison, MethodGrid
from adamantine.report.numbers import Scores, setting
from adamantine.study.cell import Cell, Result
from adamantine.study.plan import Method, Plan, grown, validation_scores
from adamantine.study.statistics import Width, choose, width


class Display:
    """A bar for all runs with the time left, and a line per method with its best setting so far."""

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
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}"),
            console=console,
        )
        self.all_runs = self.overall.add_task("", total=None)
        self.tasks = {
            method.spec: self.methods.add_task(escape(method.name), total=None, best="")
            for method in plan.methods
        }
        self.totals: dict[str, tuple[int, int]] = {}
        self.live = Live(Group(self.methods, self.overall), console=console, refresh_per_second=8)

    def __enter__(self) -> Display:
        self.live.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.live.stop()

    def planned(self, method: Method, done: int, total: int) -> None:
        self.totals[method.spec] = (done, total)
        self.methods.update(self.tasks[method.spec], completed=done, total=total)
        self._count()

    def finished(self, result: Result, results: Mapping[Cell, Result]) -> None:
        spec = result.cell.method
        done, total = self.totals[spec]
        self.totals[spec] = (done + 1, total)
        method = next(method for method in self.plan.methods if method.spec == spec)
        self.methods.update(self.tasks[spec], advance=1, best=self._best(method, results))
        self._count()

    def _count(self) -> None:
        done, total = (sum(counts) for counts in zip(*self.totals.values(), strict=True))
        self.overall.update(self.all_runs, completed=done, total=total)

    def _best(self, method: Method, results: Mapping[Cell, Result]) -> str:
        method = grown(method, self.plan, results)
        scores = validation_scores(method, self.plan.seeds, results)
        best = choose(scores)
        if best is None:
            return ""
        shown = float(scores[best].mean()) * (100 if self.unit == "%" else 1)
        where = f"lr {setting(method.lrs[best[0]])}, λ {setting(method.weight_decays[best[1]])}"
        return f"best validation {self.score} {shown:.3g} {self.unit} at {where}"


def show(comparison: Comparison, console: Console) -> None:
    """Prints the table of methods, the paired differences, the answer and the advice."""
    console.print(f"\n[bold]{escape(comparison.task_title)}[/bold]")
    console.print(_methods_table(comparison))
    if comparison.differences:
        console.print(_differences_table(comparison))
    console.print(f"\n[bold]{escape(comparison.answer)}[/bold]\n")
    for line in comparison.advice:
        console.print(f"  • {escape(line)}", highlight=False)
    console.print(f"\n[dim]{escape(comparison.basin_rule)}[/dim]", highlight=False)


def _methods_table(comparison: Comparison) -> Table:
    shown = Scores.of(comparison)
    table = Table(
        caption="Each method at the setting with the best mean validation score.", caption_justify="left"
    )
    for heading in ("method", "lr", "weight decay"):
        table.add_column(heading)
    unit = f" ({comparison.score_unit})" if comparison.score_unit else ""
    table.add_column(f"test {comparison.score_name}{unit}\nmean ± std", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("validation", justify="right")
    table.add_column("basin\nsettings", justify="right")
    table.add_column("octaves\nlr × λ", justify="right")
    table.add_column("diverged\nruns", justify="right")
    for method in comparison.methods:
        table.add_row(*_method_row(method, shown))
    return table


def _method_row(method: MethodGrid, shown: Scores) -> list[str]:
    diverged = f"{int(method.diverged.sum())} of {method.diverged.size}"
    missing = int((np.isnan(method.validation) & ~method.diverged).sum())
    if missing:
        diverged += f"\n[red]{missing} failed or not run[/red]"
    if method.best is None or method.at_best is None:
        return [escape(method.name), "–", "–", "–", "–", "–", "–", "–", diverged]
    i, j = method.best
    estimate = method.at_best
    marks = {edge.split()[0]: f" [yellow]({edge.split()[1]} edge)[/yellow]" for edge in method.edges}
    spread = f" ± {shown.number(estimate.std)}" if estimate.n > 1 else ""
    widths = (
        width(method.basin[:, j], i, method.lrs),
        width(method.basin[i, :], j, method.weight_decays),
    )
    return [
        escape(method.name),
        setting(method.lrs[i]) + marks.get("lr", ""),
        setting(method.weight_decays[j]) + marks.get("weight_decay", ""),
        shown.number(estimate.mean) + spread,
        shown.interval(estimate) or "–",
        shown.number(float(method.validation[i, j].mean())),
        f"{int(method.basin.sum())} of {method.basin.size}",
        " × ".join(map(_octaves, widths)),
        diverged,
    ]


def _octaves(extent: Width) -> str:
    return f"{'≥ ' if extent.open else ''}{extent.octaves:.1f}"


def _differences_table(comparison: Comparison) -> Table:
    shown = Scores.of(comparison)
    table = Table(caption="Differences of test scores, paired by seed.", caption_justify="left")
    table.add_column("difference")
    table.add_column("mean", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("verdict")
    for d in comparison.differences:
        verdict = escape(d.verdict)
        style = "yellow" if d.verdict == "not decided" else "green"
        interval = shown.interval(d.estimate) or "–"
        table.add_row(
            escape(f"{d.a} − {d.b}"), shown.number(d.estimate.mean), interval, f"[{style}]{verdict}[/{style}]"
        )
    return table
