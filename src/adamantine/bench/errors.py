"""The one exception a benchmark raises for what its user can mend."""

from __future__ import annotations


class BenchError(Exception):
    """A wrong argument. One line that names it, its value and the remedy; the command line exits 2."""
