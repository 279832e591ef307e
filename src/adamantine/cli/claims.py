"""``adamantine claims``."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from adamantine.cli.app import app
from adamantine.cli.errors import errors_in_one_line
from adamantine.cli.options import folder as folder_of
from adamantine.cli.options import language_of

EXAMPLES = """
[bold]Examples[/bold]

  adamantine claims
  [dim]all of them, in about two minutes on two cores[/dim]

  adamantine claims 7
  [dim]one: large gradients are decayed too little, small ones too much[/dim]

  adamantine claims 1 3 7 --thorough --out runs/mine
  [dim]some, with more seeds and longer runs[/dim]
"""


@app.command(epilog=EXAMPLES)
def claims(
    numbers: Annotated[
        list[int] | None, typer.Argument(help="Which claims. Default: all.", metavar="[NUMBER]...")
    ] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="Show the claims with their predictions; measure nothing.")
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="More seeds, longer runs; the same tolerances.")
    ] = False,
    out: Annotated[
        str | None, typer.Option(help="Folder. Default: runs/claims-default or -thorough.", metavar="DIR")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what the folder already has.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(help="Worker processes. Default: all cores. Results do not depend on it."),
    ] = None,
    lang: Annotated[str, typer.Option(help="en or zh: the language of tables and figures.")] = "en",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Are the article's claims true? Each is an [bold]experiment that can fail[/bold].

    A claim states a formula, a number and a tolerance before anything is measured. Its verdict is holds,
    refuted or not decided. Writes a JSON file and a figure per claim, light and dark; killed at any moment,
    the same command goes on where it was. Exit code 1 when an experiment could not be carried out; a refuted
    claim is a result. For a page to look at: [bold]adamantine report[/bold] with the folder.
    """
    from adamantine.study.claims import load_claim, run
    from adamantine.study.claims.claim import Effort
    from adamantine.study.claims.console import Display, listing, show
    from adamantine.study.workers import cores

    console = Console()
    with errors_in_one_line():
        language = language_of(lang)
        modules = run.chosen(numbers or [])
        loaded = [load_claim(module) for module in modules]
        if show_list:
            console.print(listing(loaded, language), highlight=False)
            return
        effort = Effort.THOROUGH if thorough else Effort.DEFAULT
        folder = folder_of(out) or run.default_folder(effort)
        watcher = Display(loaded, language, console)
        with nullcontext() if quiet else watcher:
            results = run.run(
                modules,
                effort,
                folder,
                jobs=cores() if jobs is None else jobs,
                language=language,
                fresh=fresh,
                finished=(lambda result: None) if quiet else watcher.finished,
            )
        console.print()
        show(results, language, console)
        console.print(f"\nWritten: {escape(str(folder))}")
        if any(result.verdict == "error" for result in results):
            raise typer.Exit(1)
