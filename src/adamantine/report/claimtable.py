"""The claims as a page shows them: a tally, and a card with its badge for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from adamantine.report.claimmodel import BADGES, STATUS_WORDS, CheckedPrediction, ClaimResult
from adamantine.report.numbers import printable
from adamantine.report.phrases import fill, joined
from adamantine.report.words import Language, Words

#: The badge's class in the style sheet.
_KINDS = {"holds": "decided", "refuted": "refuted", "not decided": "open", "error": "refuted"}


_SOME = {
    "holds": Words("{n} hold", "{n} 条成立"),
    "refuted": Words("{n} are refuted", "{n} 条被否证"),
    "not decided": Words("{n} are not decided", "{n} 条未定"),
    "error": Words("{n} failed to run", "{n} 条出错"),
}
_ONE = {
    "holds": Words("1 holds", "1 条成立"),
    "refuted": Words("1 is refuted", "1 条被否证"),
    "not decided": Words("1 is not decided", "1 条未定"),
    "error": _SOME["error"],
}


@dataclass(frozen=True)
class PredictionView:
    """One prediction beside what was measured."""

    text: str
    predicted: str
    measured: str
    verdict: str
    kind: str
    sign: str

    @classmethod
    def of(cls, one: CheckedPrediction, language: Language) -> PredictionView:
        said, kind, sign = STATUS_WORDS[one.verdict].of(language), _KINDS[one.verdict], BADGES[one.verdict]
        text, predicted, measured = one.text.of(language), one.predicted, one.measured
        return cls(printable(text), printable(predicted), printable(measured), said, kind, sign)


@dataclass(frozen=True)
class ClaimView:
    """One claim's card."""

    number: int
    title: str
    says: str
    formula: str
    sources: str
    verdict: str
    kind: str
    sign: str
    figure: Markup
    error: str
    revised: str
    predictions: list[PredictionView]

    @classmethod
    def of(cls, claim: ClaimResult, language: Language) -> ClaimView:
        says = claim.says.of(language)
        return cls(
            number=claim.number,
            title=printable(claim.title.of(language)),
            says="" if says == "–" else printable(says),
            formula=printable(claim.formula),
            sources=printable("; ".join(claim.sources)),
            verdict=STATUS_WORDS[claim.verdict].of(language),
            kind=_KINDS[claim.verdict],
            sign=claim.badge,
            figure=Markup(claim.figure),
            error=printable(claim.error),
            revised=printable(claim.revised.of(language)),
            predictions=[PredictionView.of(one, language) for one in claim.predictions],
        )


def tally(claims: Sequence[ClaimResult], language: Language) -> list[tuple[str, str, str, int]]:
    """Kind, sign, word and count of each verdict that occurs."""
    counts = {status: sum(claim.verdict == status for claim in claims) for status in STATUS_WORDS}
    return [
        (_KINDS[status], BADGES[status], STATUS_WORDS[status].of(language), n)
        for status, n in counts.items()
        if n
    ]


def answer_of(claims: Sequence[ClaimResult]) -> Words:
    """How many hold, in one sentence."""
    if not claims:
        return Words("No claim has been run.", "还没有运行任何论断。")
    parts = [
        fill(_ONE[status] if n == 1 else _SOME[status], n=str(n))
        for status in STATUS_WORDS
        if (n := sum(claim.verdict == status for claim in claims))
    ]
    template = Words("Of {all} claims: {parts}.", "{all} 条论断中：{parts}。")
    if len(claims) == 1:
        template = Words("Of {all} claim: {parts}.", template.zh)
    return fill(template, all=str(len(claims)), parts=joined(parts, Words(", ", "，")))


def headings(language: Language) -> list[str]:
    """Of the table of predictions."""
    every = (
        Words("Prediction", "预测"),
        Words("Predicted", "预测值"),
        Words("Measured", "实测值"),
        Words("Verdict", "判定"),
    )
    return [words.of(language) for words in every]
