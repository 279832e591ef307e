"""The command line: argument parsing only. A module per command, listed here in the order of the help."""

from adamantine.cli import (  # noqa: I001
    compare as compare,
    claims as claims,
    tune as tune,
    transfer as transfer,
    report as report,
    tasks as tasks,
    bench as bench,
    audit as audit,
    check as check,
    checkpoint as checkpoint,
)
from adamantine.cli.app import app, flowing

__all__ = ["app"]

for command in app.registered_commands:
    assert command.callback is not None
    command.help = flowing(command.callback.__doc__ or "")
