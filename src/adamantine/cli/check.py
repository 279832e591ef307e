"""``adamantine check``."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from adamantine.cli.app import app
from adamantine.cli.errors import errors_in_one_line

if TYPE_CHECKING:
    from adamantine.testing import Conformance

EXAMPLES = """
[bold]Examples[/bold]

  adamantine check torch.optim:AdamW
  [dim]one class, a row per check[/dim]

  adamantine check torch.optim:Adam bitsandbytes.optim:AdamW8bit lion_pytorch:Lion
  [dim]several: checks down, classes across[/dim]

  adamantine check mypackage.optim:MyAdamW --as AdamW --kwargs '{"amsgrad": true}' --only decay --examples
  [dim]some checks, with the smallest script that shows each violation[/dim]
"""


@app.command(epilog=EXAMPLES)
def check(
    targets: Annotated[
        list[str] | None, typer.Argument(help="Optimizer classes as module:Class.", metavar="MODULE:CLASS...")
    ] = None,
    kwargs: Annotated[
        str,
        typer.Option(help="Keyword arguments of the constructor, as JSON; for every class.", metavar="JSON"),
    ] = "{}",
    judged_as: Annotated[
        str,
        typer.Option(
            "--as", help="The name whose formula and decay it is held to, if not its own.", metavar="NAME"
        ),
    ] = "",
    only: Annotated[
        str | None, typer.Option(help="Checks or families, separated by commas.", metavar="NAMES")
    ] = None,
    examples: Annotated[
        bool, typer.Option("--examples", help="Print the smallest script that shows each violation.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="Show the checks; run none.")] = False,
    isolate: Annotated[
        bool,
        typer.Option("--isolate", help="A process of its own for a single class too: a crash is then a row."),
    ] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds after which a silent process is ended.", metavar="SECONDS")
    ] = 60.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Does an optimizer class do what [bold]its name, its paper and torch promise[/bold]?

    Runs the conformance kit on any class: the paper's formula, how weight_decay acts, lr = 0, groups, state
    dicts, schedulers, layouts, closures. Exit code 1 when a rule is broken, 2 when a class cannot be
    imported or constructed. A violation of torch's own base class, inherited, is shown and not counted.
    """
    console = Console()
    with errors_in_one_line("Stopped."):
        if show_list:
            _print_list(console)
            return
        # What other programs read must not be mixed with what a foreign class prints.
        apart = isolate or as_json or as_markdown or len(targets or []) > 1
        found = _run(targets or [], _hyper(kwargs), judged_as, only, apart, timeout, quiet=quiet)
        _print(found, console, examples=examples, as_json=as_json, as_markdown=as_markdown)
        if any(each.problem for each in found):
            raise typer.Exit(2)
        if any(each.failures for each in found):
            raise typer.Exit(1)


def _hyper(text: str) -> dict[str, Any]:
    from adamantine.testing import ConformanceError

    try:
        hyper = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConformanceError(f"--kwargs {text!r}: {error}; give JSON such as '{{\"lr\": 1e-3}}'") from None
    if not isinstance(hyper, dict):
        raise ConformanceError(f"--kwargs {text!r}: give an object such as '{{\"lr\": 1e-3}}'")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in hyper.items()}


def _run(
    targets: list[str],
    hyper: dict[str, Any],
    judged_as: str,
    only: str | None,
    apart: bool,
    timeout: float,
    *,
    quiet: bool,
) -> list[Conformance]:
    from adamantine.testing import ConformanceError, check_optimizer
    from adamantine.testing.isolated import check_isolated
    from adamantine.testing.run import chosen

    if os.getcwd() not in sys.path:  # a class of the user's own project, as with any script there
        sys.path.insert(0, os.getcwd())
    if not targets:
        raise ConformanceError("no class given; for instance: adamantine check torch.optim:AdamW")
    names = None if only is None else [part.strip() for part in only.split(",") if part.strip()]
    total = len(chosen(names)) * len(targets)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    found = []
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        bar = progress.add_task("checks", total=total)
        for number, target in enumerate(targets, 1):
            progress.update(bar, description=target)
            options: dict[str, Any] = {
                "hyper": hyper,
                "name": judged_as,
                "only": names,
                "finished": lambda result: progress.advance(bar),
            }
            if apart:
                found.append(check_isolated(target, timeout=timeout, **options))
            else:
                found.append(check_optimizer(target, **options))
            progress.update(bar, completed=total * number // len(targets))
    return found


def _print(
    found: list[Conformance], console: Console, *, examples: bool, as_json: bool, as_markdown: bool
) -> None:
    from adamantine.testing import table

    if as_json:
        print(json.dumps([each.as_dict() for each in found], indent=1, ensure_ascii=False))
        return
    if as_markdown:
        print(table.markdown(found, examples=examples), end="")
        return
    if len(found) == 1 and not found[0].problem:
        console.print(table.single(found[0]), highlight=False)
    else:
        console.print(table.matrix(found), highlight=False)
    if examples:
        from rich.syntax import Syntax

        for each in found:
            for statement, code in table.examples_text(each):
                console.print(f"\n[bold]{statement}[/bold]", highlight=False)
                console.print(Syntax(code, "python", background_color="default", word_wrap=True))


def _print_list(console: Console) -> None:
    from rich.table import Table

    from adamantine.testing import checks as _registered  # noqa: F401
    from adamantine.testing.registry import CHECKS

    table = Table("check", "asked for by", "a class that passes …", box=None, pad_edge=False)
    family = ""
    for each in CHECKS.values():
        if each.family != family:
            family = each.family
            table.add_row(f"[bold cyan]{family}[/bold cyan]")
        table.add_row(f"  {each.name}", each.by, each.question)
    console.print(table, highlight=False)
