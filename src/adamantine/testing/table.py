"""The results as tables: for the terminal (rich), and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from adamantine.testing.outcome import FAILURES, Conformance, Outcome, Result
from adamantine.testing.registry import CHECKS

#: One character per outcome, for the matrix.
SIGNS = {
    Outcome.PASSED: ("✓", "green"),
    Outcome.VIOLATED: ("✗", "bold red"),
    Outcome.RAISED: ("!", "bold red"),
    Outcome.YES: ("+", "green"),
    Outcome.NO: ("−", "yellow"),
    Outcome.NOT_APPLICABLE: ("·", "dim"),
}
LEGEND = (
    "✓ kept   ✗ broken   ✗† by torch's base class, inherited   ! raises or crashes   "
    "+ can   − cannot (nobody asks for it)   · not applicable"
)


def sign(result: Result | None) -> str:
    """The result in one or two characters."""
    if result is None:
        return ""
    return SIGNS[result.outcome][0] + ("†" if result.inherited else "")


def single(found: Conformance) -> Group:
    """One class: a row per check, with what was found."""
    table = Table(title=_heading(found), title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("what was found", overflow="fold")
    family = ""
    for result in found.results:
        if (now := _family(result.check)) != family:
            family = now
            table.add_row(Text(family, style="bold cyan"))
        outcome = Text(f"{sign(result)} {result.outcome.value}", style=SIGNS[result.outcome][1])
        table.add_row(f"  {result.check}", outcome, Text(result.statement + _asked_by(result)))
    return Group(table, Text(""), Text(summary(found), style="bold"))


def matrix(found: Sequence[Conformance]) -> Group:
    """Several classes: checks down, classes across, then every violation in words."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("")
    columns = [each for each in found if not each.problem]
    for number, _ in enumerate(columns, 1):
        table.add_column(str(number), justify="left", no_wrap=True)
    for name in _asked(columns):
        cells = []
        for each in columns:
            result = _get(each, name)
            style = SIGNS[result.outcome][1] if result else ""
            cells.append(Text(sign(result), style=style))
        table.add_row(Text(name), *cells)
    lines = [Text(f"{number:>3} {_heading(each)}") for number, each in enumerate(columns, 1)]
    failures = [
        Text.assemble(
            (f"{each.name} ", "bold"), (f"{result.check} ", "red"), result.statement + _asked_by(result)
        )
        for each in columns
        for result in each.failures
    ]
    problems = [Text.assemble((f"{each.name} ", "bold red"), each.problem) for each in found if each.problem]
    return Group(table, Text(""), *lines, Text(""), Text(LEGEND, style="dim"), *failures, *problems)


def summary(found: Conformance) -> str:
    """One line of counts."""
    if found.problem:
        return found.problem
    of = {
        outcome: sum(r.outcome is outcome and not r.inherited for r in found.results) for outcome in Outcome
    }
    inherited = sum(r.inherited for r in found.results)
    said = (
        f"{of[Outcome.PASSED]} rules kept, {of[Outcome.VIOLATED] + of[Outcome.RAISED]} broken, "
        f"{of[Outcome.YES]} capabilities of {of[Outcome.YES] + of[Outcome.NO]}"
    )
    return said + (f"; {inherited} broken by torch's base class" if inherited else "")


def markdown(found: Sequence[Conformance], *, examples: bool = False) -> str:
    """The matrix, or the one table, and every violation in words; with ``examples``, the script of each."""
    good = [each for each in found if not each.problem]
    parts = []
    if len(found) == 1 and good:
        parts.append(_rows(["check", "outcome", "what was found"], _single_rows(good[0])))
    elif good:
        parts.append(_rows(["", *(each.name for each in good)], _matrix_rows(good)))
        parts.append(LEGEND)
    if len(good) > 1:
        parts += _in_words(good)
    parts += [f"`{each.reference}`: {each.problem}" for each in found if each.problem]
    if examples:
        for each in good:
            for said, script in examples_text(each):
                parts += [said, f"```python\n{script.rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _in_words(found: Sequence[Conformance]) -> list[str]:
    """Every violation once, with the classes that share it."""
    shared: dict[tuple[str, str], list[str]] = {}
    for each in found:
        for result in each.results:
            if result.outcome in FAILURES:
                key = f"`{result.check}`{'†' if result.inherited else ''}", result.statement
                shared.setdefault(key, []).append(each.name)
    order = list(CHECKS)
    rows = sorted(shared.items(), key=lambda row: order.index(row[0][0].split("`")[1]))
    return [f"{check} **{', '.join(names)}**: {statement}" for (check, statement), names in rows]


def examples_text(found: Conformance) -> Iterable[tuple[str, str]]:
    """Statement and script of every violation that has one."""
    for result in found.results:
        if result.example:
            yield f"{found.name}, {result.check}: {result.statement}", result.example.text


def _asked_by(result: Result) -> str:
    return f" [asked for by {CHECKS[result.check].by}]" if result.outcome is Outcome.VIOLATED else ""


def _heading(found: Conformance) -> str:
    given = ", ".join(f"{key}={value!r}" for key, value in found.hyper.items())
    oracle = f"compared with the formula {found.oracle}" if found.oracle else "no formula known"
    needs = f"; with {', '.join(found.needs)}" if found.needs else ""
    return f"{found.reference or found.name}({given}), {oracle}{needs}"


def _family(name: str) -> str:
    return CHECKS[name].family if name in CHECKS else ""


def _get(found: Conformance, name: str) -> Result | None:
    return next((result for result in found.results if result.check == name), None)


def _asked(found: Sequence[Conformance]) -> list[str]:
    names = {result.check for each in found for result in each.results}
    return [name for name in CHECKS if name in names]


def _single_rows(found: Conformance) -> list[list[str]]:
    return [[f"`{r.check}`", f"{sign(r)} {r.outcome.value}", r.statement] for r in found.results]


def _matrix_rows(found: Sequence[Conformance]) -> list[list[str]]:
    return [[f"`{name}`", *(sign(_get(each, name)) for each in found)] for name in _asked(found)]


def _rows(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)
