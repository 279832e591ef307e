"""What the user can mend ends as one line, never as a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from adamantine.errors import UserError
from adamantine.report.terminal import plain


@contextmanager
def errors_in_one_line(
    stopped: str = "Stopped; what is finished is kept. Resume with the same command.",
) -> Iterator[None]:
    """What the user can mend ends as one red line and exit code 2; Ctrl-C ends with what to do next."""
    errors = Console(stderr=True, soft_wrap=True, emoji=False)
    try:
        yield
    except BrokenPipeError:  # the reader of our output has seen enough; click ends quietly
        raise
    except (UserError, OSError) as error:
        said = str(error)
        if isinstance(error, OSError) and error.strerror:
            said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        errors.print(f"[bold red]error:[/bold red] {plain(' '.join(said.split()))}", highlight=False)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        errors.print(f"\n{stopped}", highlight=False)
        raise typer.Exit(130) from None
