"""``adamantine report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from adamantine.cli.app import app
from adamantine.cli.errors import errors_in_one_line
from adamantine.cli.options import formats_of, language_of, must_be_a_comparison

if TYPE_CHECKING:
    from adamantine.report.claimmodel import ClaimResult
    from adamantine.report.words import Language

EXAMPLES = """
[bold]Examples[/bold]

  adamantine report runs/digits-1a2b3c4d --lang zh
  [dim]the page again, in Chinese[/dim]

  adamantine report runs/digits-1a2b3c4d --claims runs/claims-default --format html,md
  [dim]with the article's claims, and as Markdown[/dim]

  adamantine report runs/claims-default
  [dim]the claims alone[/dim]
"""


@app.command(epilog=EXAMPLES)
def report(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A run folder of [bold]adamantine compare[/bold] or [bold]adamantine claims[/bold]."
        ),
    ],
    claims: Annotated[
        Path | None,
        typer.Option(
            help="A run folder of [bold]adamantine claims[/bold], to stand in the page of a comparison.",
            metavar="DIR",
        ),
    ] = None,
    lang: Annotated[str, typer.Option(help="en or zh.")] = "en",
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="html, md, png, svg: with commas or repeated. Default: html,png,svg."),
    ] = None,
) -> None:
    """Draws the figures and the page of a run folder again, and prints its tables. Trains nothing."""
    from adamantine.report import USUAL, render, render_claims
    from adamantine.study.analysis import read
    from adamantine.study.console import show

    console = Console()
    with errors_in_one_line():
        language = language_of(lang)
        kinds = formats_of(",".join(formats)) if formats else USUAL
        if _is_of_claims(folder):
            results = _claims(claims or folder, language)
            render_claims(results, folder, language=language, formats=kinds, command=_command(results))
        else:
            must_be_a_comparison(folder)
            comparison = read(folder)
            beside = _claims(claims, language) if claims else []
            render(comparison, folder, language=language, formats=kinds, claims=beside)
            show(comparison, console, language)
        for kind, name in (("html", "report.html"), ("md", "report.md")):
            if kind in kinds:
                console.print(f"\nReport: {escape(str(folder / name))}")


def _is_of_claims(folder: Path) -> bool:
    return not (folder / "manifest.json").exists() and any(folder.glob("claim-*.json"))


def _claims(folder: Path, language: Language) -> list[ClaimResult]:
    """Read, judged and drawn again; in one place, for the experiments' code is loaded with them."""
    from adamantine.study.claims.run import load

    return load(folder, language)


def _command(claims: list[ClaimResult]) -> str:
    """What measures these again."""
    from adamantine.study.claims import modules

    numbers = [claim.number for claim in claims]
    some = [] if set(numbers) == set(modules()) else [str(number) for number in numbers]
    thorough = ["--thorough"] if {claim.effort for claim in claims} == {"thorough"} else []
    return " ".join(["adamantine claims", *some, *thorough])
