"""The one exception a study raises for what its user can mend."""

from __future__ import annotations


class StudyError(Exception):
    """A wrong argument, a missing or corrupt file, a busy run folder.

    The message is one line that names the thing, its value and the remedy; the command line prints it and
    exits 2.
    """
