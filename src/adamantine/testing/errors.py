"""The one exception the kit raises for what its user can mend."""

from __future__ import annotations

from adamantine.errors import UserError


class ConformanceError(UserError):
    """A class that cannot be imported or constructed. (A violated check is a result, not an error.)"""
