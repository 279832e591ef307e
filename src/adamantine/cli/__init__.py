"""The command line: argument parsing only. A module per command, listed here in the order of the help."""

from adamantine.cli import compare as compare, report as report, tasks as tasks, bench as bench  # noqa: I001
from adamantine.cli.app import app

__all__ = ["app"]
