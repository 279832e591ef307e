"""What a search shows in the terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from adamantine.report.numbers import setting
from adamantine.report.terminal import new_table, plain
from adamantine.study.tune.result import AXES, Finding, Tried, Tuning, advice, decay_words
from adamantine.study.tune.space import Space

SECONDS_A_LINE = 30.0  # where there is no terminal to draw bars in


class Display:
    """A bar per method that moves within a batch too, with the best so far; lines of text in a log file."""

    def __init__(self, score: str, unit: str, console: Console) -> None:
        self.score, self.unit, self.console = score, unit, console
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[best]}", table_column=Column(overflow="fold")),
            console=console,
            disable=not console.is_interactive,
        )
        self.tasks: dict[str, TaskID] = {}
        self.finished: dict[str, int] = {}
        self.last_line = -SECONDS_A_LINE

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.progress.stop()

    def searching(self, name: str, space: Space, finished: int, wanted: int, best: Tried | None) -> None:
        if name not in self.tasks:
            self.console.print(f"{plain(name)}: {space.words()}", highlight=False)
            self.tasks[name] = self.progress.add_task(plain(name), count="", best="")
        self.finished[name] = finished
        text = self._best(best)
        self.progress.update(
            self.tasks[name], completed=finished, total=wanted, count=f"{finished}/{wanted} trials", best=text
        )
        now = time.monotonic()
        if not self.console.is_interactive and (now - self.last_line > SECONDS_A_LINE or finished == wanted):
            self.last_line = now
            line = f"{plain(name)}: {finished} of {wanted} trials{text and '; '}{text}"
            self.console.print(line, highlight=False)

    def training(self, name: str, share: float, trials: int) -> None:
        self.progress.update(self.tasks[name], completed=self.finished[name] + share * trials)

    def confirming(self, name: str) -> None:
        self.progress.update(self.tasks[name], count="fresh seeds")

    def _best(self, best: Tried | None) -> str:
        if best is None:
            return ""
        shown = best.score * (100 if self.unit == "%" else 1)
        where = f"lr {setting(best.setting.lr)}, λ {setting(best.setting.weight_decay)}"
        return plain(f"best {shown:.3g} {self.unit} at {where}")


def show(tuning: Tuning, console: Console) -> None:
    """Prints the table of best settings, the lines to paste and the advice."""
    unit = f" ({plain(tuning.score_unit)})" if tuning.score_unit else ""
    table = new_table(
        f"Best of each method; its {plain(tuning.judge)} is of fresh seeds",
        *("method", "lr", "λ", "γ", "validation" + unit, f"{plain(tuning.judge)}{unit}", "95 % interval"),
    )
    for finding in tuning.findings:
        table.add_row(*_row(finding, tuning))
    console.print(table)
    for finding in tuning.findings:
        if finding.best is None or finding.units is None:
            continue
        console.print(f"[bold]{plain(finding.name)}[/bold]: {decay_words(finding.units)}", highlight=False)
        counts = [
            f"{sum(t.status == status for t in finding.tried)} {status}"
            for status in ("complete", "pruned", "diverged")
        ]
        shares = [f"{AXES.get(name, name)} {100 * share:.0f} %" for name, share in finding.importance.items()]
        importance = f"; share in the score's variance: {', '.join(shares)}" if shares else ""
        console.print(f"  {', '.join(counts)}{importance}", style="dim", highlight=False)
        console.print(f"[green]{plain_lines(finding.code)}[/green]\n", highlight=False, soft_wrap=True)
    lines = advice(tuning)
    if lines:
        listed = Table.grid(padding=(0, 1))
        listed.add_column()
        listed.add_column(overflow="fold")
        for line in lines:
            listed.add_row("•", plain(line))
        console.print(listed, highlight=False)


def plain_lines(text: str) -> str:
    """Like `plain`, and keeps the line breaks."""
    return "\n".join(plain(line) for line in text.splitlines())


def _row(finding: Finding, tuning: Tuning) -> list[str]:
    scores, best = tuning.scores, finding.best
    if best is None or finding.units is None:
        return [plain(finding.name), *["–"] * 6]
    mark = dict.fromkeys((edge.split()[0] for edge in finding.edges), " [yellow]edge[/yellow]")
    gamma = finding.units.gamma
    confirmed = finding.confirmed
    return [
        plain(finding.name),
        setting(best.setting.lr) + mark.get("lr", ""),
        setting(best.setting.weight_decay) + mark.get("weight_decay", ""),
        (setting(gamma) if gamma is not None else "–") + mark.get("gamma", ""),
        scores.number(best.score),
        f"{scores.number(confirmed.mean)} ± {scores.number(confirmed.std)}" if confirmed else "–",
        (scores.mean_interval(confirmed) if confirmed else "") or "–",
    ]
