"""What claims show in the terminal: a bar while they run, a table of predictions and verdicts at the end."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from adamantine.report.claimmodel import BADGES, STATUS_WORDS, ClaimResult
from adamantine.report.terminal import plain
from adamantine.report.words import Language, Words
from adamantine.study.claims.claim import Claim

HEADS = (
    Words("claim", "论断"),
    Words("predicted", "预测"),
    Words("measured [95 %]", "实测 [95 %]"),
    Words("", ""),
)
STYLES = {"holds": "green", "refuted": "red", "not decided": "yellow", "error": "bold red"}


def badge(verdict: str, language: Language) -> str:
    """A verdict in its colour, the sign first: ✓ holds."""
    style = STYLES[verdict]
    return f"[{style}]{BADGES[verdict]} {STATUS_WORDS[verdict].of(language)}[/{style}]"


class Display:
    """A bar over all claims, and a line for each as soon as its verdict is there."""

    def __init__(self, claims: Sequence[Claim], language: Language, console: Console) -> None:
        self.claims = {claim.number: claim for claim in claims}
        self.language, self.console = language, console
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self.task = self.bar.add_task(Words("claims", "论断").of(language), total=len(self.claims))

    def __enter__(self) -> Display:
        if self.console.is_interactive:
            self.bar.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.bar.stop()

    def finished(self, result: ClaimResult) -> None:
        self.bar.advance(self.task)
        said = f"{result.number:2d}  {plain(result.title.of(self.language))}  "
        self.console.print(said + badge(result.verdict, self.language), highlight=False)


def show(results: Sequence[ClaimResult], language: Language, console: Console) -> None:
    """Of every claim its verdict, and a row per prediction: tolerance, what was measured, ✓ ✗ or ?."""
    console.print(_rows([[head.of(language) for head in HEADS]], style="italic"), highlight=False)
    for result in results:
        title = f"[bold]{result.number}  {plain(result.title.of(language))}[/bold]"
        console.print(f"\n{title}  {badge(result.verdict, language)}", highlight=False)
        console.print(f"   [dim]{plain(result.formula)}[/dim]", highlight=False)
        if result.error:
            console.print(f"   [red]{plain(result.error)}[/red]", highlight=False)
        rows = [
            [
                f"   {plain(p.text.of(language))}",
                plain(p.predicted),
                plain(p.measured),
                f"[{STYLES[p.verdict]}]{BADGES[p.verdict]}[/{STYLES[p.verdict]}]",
            ]
            for p in result.predictions
        ]
        if rows:
            console.print(_rows(rows), highlight=False)
        if said := result.revised.of(language):
            changed = Words("changed after a first look: ", "初次测量后的改动：").of(language)
            console.print(f"   [dim]{changed}{plain(said)}[/dim]", highlight=False)
    console.print(f"\n{summary(results, language)}", highlight=False)


def _rows(rows: Sequence[Sequence[str]], style: str = "") -> Table:
    """Part of one table: the columns are as wide in every part, whatever stands in them."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 0, 0, 2), expand=True)
    table.add_column(ratio=1, overflow="fold", style=style)
    table.add_column(width=15, justify="right", overflow="fold", style=style)
    table.add_column(width=24, justify="right", overflow="fold", style=style)
    table.add_column(width=1)
    for row in rows:
        table.add_row(*row)
    return table


def summary(results: Sequence[ClaimResult], language: Language) -> str:
    """How many of each verdict: "13 ✓ holds · 1 ✗ refuted"."""
    found = [result.verdict for result in results]
    return " · ".join(
        f"{found.count(verdict)} {badge(verdict, language)}" for verdict in STYLES if verdict in found
    )


def listing(claims: Sequence[Claim], language: Language) -> Table:
    """What there is to measure: number, claim, formula and the predictions with their tolerances."""
    from adamantine.study.claims.verdict import tolerance

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for claim in claims:
        table.add_row(f"[bold]{claim.number}[/bold]", f"[bold]{plain(claim.title.of(language))}[/bold]")
        table.add_row("", f"[dim]{plain(claim.formula)}[/dim]")
        for p in claim.predictions:
            table.add_row("", f"{plain(p.said.of(language))}: [cyan]{plain(tolerance(p))}[/cyan]")
        table.add_row()
    return table
