"""What a benchmark shows in the terminal: progress while it runs, tables when it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from adamantine.bench.case import LIMIT, OURS, Case, Step
from adamantine.bench.contestants import NOT_INSTALLED
from adamantine.bench.goals import MIB, Verdict
from adamantine.bench.numbers import factor, interval, mebibytes, three
from adamantine.bench.results import Outcome, Results
from adamantine.report.numbers import counted
from adamantine.report.terminal import new_table, plain

_STYLE = {"met": "green", "not met": "red", "not measured": "dim"}


class Silent:
    """A watcher that shows nothing."""

    def begins(self, case: Case, contestants: int) -> None: ...

    def says(self, what: str) -> None: ...

    def finished(self, outcome: Outcome) -> None: ...


class Display:
    """A bar over the cases, with what is going on; where the output is no terminal, a line per case."""

    def __init__(self, cases: int, console: Console) -> None:
        self.console = console
        self.title = ""
        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            auto_refresh=False,  # a thread that draws would run in somebody's turn
            disable=not console.is_interactive,
        )
        self.task = self.progress.add_task("", total=cases)

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.progress.stop()

    def begins(self, case: Case, contestants: int) -> None:
        self.title = case.title

    def says(self, what: str) -> None:
        self.progress.update(self.task, description=plain(f"{self.title}: {what}"), refresh=True)

    def finished(self, outcome: Outcome) -> None:
        self.progress.advance(self.task)
        if not self.console.is_interactive:
            rounds = max((row.round for row in outcome.rows), default=-1) + 1
            self.console.print(
                plain(f"{outcome.case.name}: {len(outcome.values)} contestants, {rounds} rounds"),
                highlight=False,
                soft_wrap=True,
            )


def show(results: Results, console: Console) -> None:
    """Prints where it ran, a table per case (one for all rules), and the goals; fits 80 columns."""
    console.print(_where(results.manifest), highlight=False)
    for _, group in groupby(results.outcomes, key=lambda outcome: outcome.case.family):
        outcomes = list(group)
        if "/" in outcomes[0].case.name:
            _show_family(outcomes, console)
        else:
            _show_case(outcomes[0], console)
    if results.manifest["quick"]:
        console.print("--quick has tiny sizes: these numbers show that everything runs, and judge no goal.")
    else:
        console.print(_goals(results.outcomes, results.manifest["threads"]))


def _where(manifest: Mapping[str, Any]) -> str:
    machine, versions = manifest["machine"], dict(manifest["versions"])
    native = versions.pop("native")
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    lines = [
        f"{machine['processor']}, {machine['cores']} cores{f' ({caches})' if caches else ''}",
        f"{counted(manifest['threads'], 'thread')}; native engine: {native}",
        ", ".join(f"{name} {number}" for name, number in versions.items()),
    ]
    if manifest["peers not installed"]:
        lines.append(f"not installed: {', '.join(manifest['peers not installed'])}")
    text = "\n".join(map(plain, lines))
    return f"\n{text}\n"


def _show_case(outcome: Outcome, console: Console) -> None:
    case = outcome.case
    _head(case.title, case.name, case.description, console)
    if outcome.rows:
        console.print(_peaks(outcome) if case.quantity == "bytes" else _times(outcome))
        _say_who_sat_out(outcome, console)
    _reasons([outcome], console)


def _head(title: str, name: str, description: str, console: Console) -> None:
    console.print(f"[bold]{plain(title)}[/bold]  --case {plain(name)}", highlight=False)
    console.print(f"[dim]{plain(description)}[/dim]", highlight=False)


def _reasons(outcomes: list[Outcome], console: Console) -> None:
    """Why contestants are missing; those that are not installed are named once, at the top."""
    said = {(name, why): None for o in outcomes for name, why in o.missing.items() if why != NOT_INSTALLED}
    for name, why in said:
        console.print(f"[dim]{plain(name)} not measured: {plain(why)}[/dim]", highlight=False)
    others = max((o.others for o in outcomes if o.others is not None), default=0.0)
    if any(outcome.busy for outcome in outcomes):
        console.print(
            f"[yellow]Other programs took {others:.0%} of the processors meanwhile. That slows torch, whose "
            "threads wait for each other by spinning, more than us: measure again when it is idle.[/yellow]",
            highlight=False,
        )
    console.print()


def _say_who_sat_out(outcome: Outcome, console: Console) -> None:
    rounds = {line.name: outcome.rounds(line.name) for line in outcome.lines}
    most = max(rounds.values())
    if slow := [name for name, count in rounds.items() if count < most]:
        console.print(
            f"[dim]{plain(', '.join(slow))}: slow, so in {rounds[slow[0]]} of {most} rounds; their smallest "
            "and largest ratio are given.[/dim]",
            highlight=False,
        )


def _times(outcome: Outcome) -> Table:
    limited = LIMIT in outcome.values
    scale, unit = _unit(outcome)
    headings = ["contestant", f"median\n{unit}", *(["×\nlimit"] if limited else [])]
    headings += ["bytes per\nparameter"] if outcome.case.formats else []
    table = new_table(outcome.case.unit, *headings, f"÷\n{outcome.case.ours[0]}", "95 %\ninterval")
    for line in outcome.lines:
        over_ours = None if line.name == LIMIT else line.over_ours
        cells = [plain(line.name), three(line.value.median * scale)]
        cells += [factor(line.over_limit)] if limited else []
        if outcome.case.formats:
            held = outcome.bytes_per_parameter(line.name)
            cells.append("–" if held is None else f"{held:.2f}")
        style = "bold" if line.name in outcome.case.ours else "dim" if line.name == LIMIT else ""
        table.add_row(*cells, factor(over_ours), interval(over_ours), style=style)
    return table


def _unit(outcome: Outcome) -> tuple[float, str]:
    fastest = min(line.value.median for line in outcome.lines)
    return (1e6, "µs") if fastest < 1e-3 else (1e3, "ms")


def _peaks(outcome: Outcome) -> Table:
    table = new_table(outcome.case.unit, "contestant", "median\nMiB", "95 %\ninterval")
    for line in outcome.lines:
        style = "bold" if line.name in outcome.case.ours else ""
        table.add_row(plain(line.name), f"{line.value.median / MIB:.2f}", mebibytes(line.value), style=style)
    return table


def _show_family(outcomes: list[Outcome], console: Console) -> None:
    """Cases with nobody but us and the limit, a row each."""
    family = outcomes[0].case.family
    _head("The other rules", family, "Each on one tensor, against its own memory limit.", console)
    headings = ("bytes per\nparameter", "median\nms", "×\nlimit", "95 %\ninterval")
    table = new_table("one step", "rule", *headings)
    for outcome in outcomes:
        assert isinstance(outcome.work, Step)
        ours = next((line for line in outcome.lines if line.name == OURS), None)
        table.add_row(
            plain(outcome.case.title),
            f"{outcome.work.traffic // outcome.work.elements}",
            three(ours.value.median * 1e3) if ours else "–",
            factor(ours.over_limit if ours else None),
            interval(ours.over_limit if ours else None),
        )
    console.print(table)
    _reasons(outcomes, console)


def _goals(outcomes: Sequence[Outcome], threads: int) -> Table:
    """A row per goal; the cases of a family that share one are counted in one row."""
    said = "Goals" if threads == 2 else f"Goals, stated for 2 threads; here: {threads}"
    table = new_table(said, "case", "goal", "median", "95 %\ninterval", "")
    table.columns[1].justify = table.columns[4].justify = "left"
    shared: dict[tuple[str, str], list[tuple[Case, Verdict]]] = {}
    for outcome in outcomes:
        for verdict in outcome.verdicts:
            key = (outcome.case.family, str(verdict.goal))
            shared.setdefault(key, []).append((outcome.case, verdict))
    for (family, goal), found in shared.items():
        if len(found) == 1:
            case, verdict = found[0]
            table.add_row(plain(case.name), plain(goal), *_measured(verdict), _status(verdict))
        else:
            table.add_row(plain(family), plain(goal), "", "", _counted(found))
    return table


def _measured(verdict: Verdict) -> tuple[str, str]:
    if verdict.goal.denominator is None and verdict.measured is not None:
        return f"{verdict.measured.median / MIB:.2f}", mebibytes(verdict.measured)
    return factor(verdict.measured), interval(verdict.measured)


def _status(verdict: Verdict) -> str:
    text = f"[{_STYLE[verdict.status]}]{verdict.status}[/]"
    if verdict.measured is not None and not verdict.clear:
        text += ", within noise"
    if verdict.reason:
        text += f"\n[dim]{plain(verdict.reason)}[/dim]"
    return text


def _counted(found: list[tuple[Case, Verdict]]) -> str:
    lines = []
    for status, style in _STYLE.items():
        cases = [case.title for case, verdict in found if verdict.status == status]
        if cases:
            names = "" if status == "met" else f": {', '.join(cases)}"
            lines.append(f"[{style}]{status}[/] by {len(cases)} of {len(found)}{plain(names)}")
    return "\n".join(lines)
