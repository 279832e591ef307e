"""The report of a comparison: figures as files, and one page that holds everything and opens offline."""

from __future__ import annotations

from pathlib import Path

from adamantine.report.model import Comparison, Curves, Difference, Estimate, MethodGrid

__all__ = ["Comparison", "Curves", "Difference", "Estimate", "MethodGrid", "render"]


def render(comparison: Comparison, out_dir: Path) -> None:
    """Write ``figures/*.png``, ``figures/*.svg`` (each light and dark) and ``report.html`` into ``out_dir``.

    The folder is made if missing. Every file is replaced in one step, the page last, so that whoever opens it
    at any moment finds a whole file, the old one or the new one. The same comparison gives the same bytes.
    A figure for which nothing was recorded is left out.

    Raises:
        ImportError: matplotlib or Jinja is missing.
        OSError: ``out_dir`` cannot be written.
    """
    try:  # here, so that the data classes can be used without loading matplotlib
        from adamantine.report import page
    except ImportError as error:
        raise ImportError(f'a report needs {error.name}: pip install "adamantine[study]"') from error
    page.write(comparison, out_dir)
