"""The one exception a benchmark raises for what its user can mend."""

from __future__ import annotations

from adamantine.errors import UserError


class BenchError(UserError):
    """A wrong argument."""
