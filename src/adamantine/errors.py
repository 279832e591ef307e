"""The base of every exception that the user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A wrong argument, a missing or corrupt file, a busy folder.

    The message is one line that names the thing, its value and the remedy; the command line prints it and
    exits 2.
    """
