"""The one exception a probe raises."""

from __future__ import annotations

from adamantine.errors import UserError


class ProbeError(UserError):
    """This optimizer cannot be dry-run; the message says what was tried and why it failed."""
