"""How a report gets onto the disk; see `adamantine.report.render`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from adamantine.report.claimmodel import ClaimResult
from adamantine.report.figures import figure_files
from adamantine.report.files import write_atomic
from adamantine.report.markdown import claims_document, document
from adamantine.report.model import Comparison
from adamantine.report.page import claims_page, page
from adamantine.report.svg import KINDS
from adamantine.report.words import Language

PAGE, DOCUMENT, FIGURES = "report.html", "report.md", "figures"


def write(
    comparison: Comparison,
    out_dir: Path,
    language: Language,
    formats: Collection[str],
    claims: Sequence[ClaimResult],
) -> None:
    """The figures, then the document, then the page."""
    out_dir.mkdir(parents=True, exist_ok=True)
    if kinds := [kind for kind in KINDS if kind in formats]:
        (out_dir / FIGURES).mkdir(exist_ok=True)
        for name, content in figure_files(comparison, kinds, language):
            write_atomic(out_dir / FIGURES / name, content)
    if "md" in formats:
        there = {file.name for file in (out_dir / FIGURES).glob("*")}
        _write(out_dir / DOCUMENT, document(comparison, language, claims, there))
    if "html" in formats:
        _write(out_dir / PAGE, page(comparison, language, claims))


def write_claims(
    claims: Sequence[ClaimResult], out_dir: Path, language: Language, formats: Collection[str], command: str
) -> None:
    """The document, then the page."""
    out_dir.mkdir(parents=True, exist_ok=True)
    if "md" in formats:
        _write(out_dir / DOCUMENT, claims_document(claims, language, command))
    if "html" in formats:
        _write(out_dir / PAGE, claims_page(claims, language, command))


def _write(file: Path, text: str) -> None:
    write_atomic(file, text.encode(errors="replace"))
