"""The report of a comparison: figures as files, and one page that holds everything and opens offline."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType

from adamantine.report.claimmodel import ClaimResult
from adamantine.report.model import Comparison, Curves, Difference, Estimate, MethodGrid
from adamantine.report.words import Language

__all__ = [
    "FORMATS",
    "Comparison",
    "Curves",
    "Difference",
    "Estimate",
    "MethodGrid",
    "render",
    "render_claims",
]

FORMATS = ("html", "md", "png", "svg")
USUAL = ("html", "png", "svg")


def render(
    comparison: Comparison,
    out_dir: Path,
    *,
    language: Language = "en",
    formats: Collection[str] = USUAL,
    claims: Sequence[ClaimResult] = (),
) -> None:
    """Write the report of a comparison into ``out_dir``, in some of `FORMATS`.

    ``"png"`` (its words always English) and ``"svg"`` are ``figures/*``, each light and dark; ``"html"`` is
    ``report.html``, ``"md"`` is ``report.md`` with links to the figures that the folder has. The folder is
    made if missing. Every file is replaced in one step, the page last, so that whoever opens it at any moment
    finds a whole file, the old one or the new one. The same comparison gives the same bytes. A figure for
    which nothing was recorded is left out.

    Raises:
        ImportError: matplotlib or Jinja is missing.
        OSError: ``out_dir`` cannot be written.
        ValueError: a format that there is not.
    """
    _check(formats)
    _output().write(comparison, out_dir, language, formats, claims)


def render_claims(
    claims: Sequence[ClaimResult],
    out_dir: Path,
    *,
    language: Language = "en",
    formats: Collection[str] = ("html",),
    command: str = "",
) -> None:
    """Write ``report.html`` and ``report.md``, as ``formats`` say, of a run of the claims; see `render`."""
    _check(formats)
    _output().write_claims(claims, out_dir, language, formats, command)


def _check(formats: Collection[str]) -> None:
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ValueError(f"unknown format {unknown[0]!r}; there are {', '.join(FORMATS)}")


def _output() -> ModuleType:
    try:  # here, so that the data classes can be used without loading matplotlib
        from adamantine.report import output
    except ImportError as error:
        raise ImportError(f'a report needs {error.name}: pip install "adamantine[study]"') from error
    return output
