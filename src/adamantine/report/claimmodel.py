"""What a report shows of the claims, as plain data; `adamantine.study.claims` fills it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adamantine.report.words import Words

NOT_REVISED = Words("", "")
Status = Literal["holds", "refuted", "not decided"]
BADGES: dict[str, str] = {"holds": "✓", "refuted": "✗", "not decided": "?", "error": "!"}
STATUS_WORDS: dict[str, Words] = {
    "holds": Words("holds", "成立"),
    "refuted": Words("refuted", "被否证"),
    "not decided": Words("not decided", "未定"),
    "error": Words("error", "出错"),
}


@dataclass(frozen=True)
class CheckedPrediction:
    """One prediction and what came out: ``predicted`` and ``measured`` are numbers as a table shows them."""

    text: Words
    predicted: str
    measured: str
    verdict: Status


@dataclass(frozen=True)
class ClaimResult:
    """One claim of the article after its experiment.

    ``verdict`` is a `Status`, or ``"error"`` with the reason in ``error`` and no predictions checked.
    ``revised`` says what was changed after a first measurement, and what that one had said.
    ``figure`` is SVG that can stand inside HTML, in the page's CSS variables; ``""`` where there is none.
    """

    number: int
    title: Words
    says: Words  # what the article says; "–" for what goes beyond it
    formula: str
    sources: tuple[str, ...]
    predictions: tuple[CheckedPrediction, ...]
    verdict: str
    effort: str = "default"
    seconds: float = 0.0
    figure: str = ""
    error: str = ""
    revised: Words = NOT_REVISED

    @property
    def badge(self) -> str:
        """✓ holds, ✗ refuted, ? not decided, ! error."""
        return BADGES[self.verdict]
