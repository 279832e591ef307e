"""The one exception a checkpoint raises."""

from __future__ import annotations

from adamantine.errors import UserError


class CheckpointError(UserError):
    """A file that is not what it says, or does not fit the optimizer. Nothing has been loaded."""
