"""The command line: argument parsing only. A module per command, listed here in the order of the help."""

from adamantine.cli import (  # noqa: I001
    compare as compare,
    claims as claims,
    tune as tune,
    transfer as transfer,
    report as report,
    tasks as tasks,
    bench as bench,
)
from adamantine.cli.app import app

__all__ = ["app"]
