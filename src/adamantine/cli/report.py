"""``adamantine report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from adamantine.cli.app import app
from adamantine.cli.errors import errors_in_one_line


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder of [bold]adamantine compare[/bold].")],
) -> None:
    """Draws figures and report.html of a run folder again, and prints its tables. Trains nothing."""
    from adamantine.report import render
    from adamantine.study.analysis import read
    from adamantine.study.console import show

    with errors_in_one_line():
        comparison = read(folder)
        render(comparison, folder)
        show(comparison, Console())
