"""The one exception an audit raises for what its user can mend."""

from __future__ import annotations

from adamantine.errors import UserError


class AuditError(UserError):
    """A wrong argument, or a script that could not be loaded."""
