"""The command ``adamantine``; each subcommand is a module of this package."""

from __future__ import annotations

from typing import Annotated

import typer

from adamantine import __version__
from adamantine.cli.errors import errors_in_one_line

app = typer.Typer(
    name="adamantine",
    help="[bold]AdamW done right[/bold], and the experiments that show what its weight decay does.",
    epilog="Start with [bold]adamantine compare[/bold]: half a minute on two cores.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def flowing(text: str) -> str:
    r"""A docstring whose paragraphs the terminal breaks, whatever its width, and not the source file.

    >>> flowing("One\n    line.\n\n    A paragraph\n    of two.")
    'One line.\n\nA paragraph of two.'
    """
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _show_version(asked: bool) -> None:
    if asked:
        with errors_in_one_line():
            print(f"adamantine {__version__}", flush=True)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Keeps the commands as subcommands."""
