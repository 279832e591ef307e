"""The one exception a study raises for what its user can mend."""

from __future__ import annotations

from adamantine.errors import UserError


class StudyError(UserError):
    """A wrong argument, a missing or corrupt file, a busy run folder."""
