"""``adamantine tasks``."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adamantine.cli.app import app
from adamantine.cli.errors import errors_in_one_line


@app.command()
def tasks() -> None:
    """Lists the tasks, and how to write your own."""
    from adamantine.study import task
    from adamantine.study.tasks import TASKS

    console = Console()
    with errors_in_one_line():
        table = Table(caption="Time: the default comparison on two cores, about.", caption_justify="left")
        for heading in ("task", "what it is", "time", "from you"):
            table.add_column(heading)
        for name, entry in TASKS.items():
            table.add_row(f"[bold]{name}[/bold]", escape(entry.summary), entry.duration, entry.needs)
        console.print(table)
        console.print("\n[bold]Your own[/bold]\n")
        protocol = (task.__doc__ or "").partition("\n\n")[2].replace("``", "").replace("::", ":")
        console.print(escape(protocol.strip()), highlight=False)
