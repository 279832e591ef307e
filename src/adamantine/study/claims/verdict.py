"""Verdicts: pure functions of predictions and measured numbers.

A prediction *holds* when the value, or its whole 95 % interval, lies within the tolerance; it is *refuted*
when the value, or its whole interval, lies outside; an interval across a bound, or a value that could not be
measured, decides nothing. A claim is refuted by one refuted prediction, and holds when all of them do; what
is predicted aside counts for itself only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adamantine.report.claimmodel import Status
from adamantine.study.claims.claim import Prediction
from adamantine.study.statistics import estimate

_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Interval:
    """A measured number between its 95 % bounds; all three equal where there is no chance in it."""

    middle: float
    low: float
    high: float


def interval(prediction: Prediction, measured: Any) -> Interval:
    """What was measured for this prediction, by its rule.

    Raises:
        ValueError: the measured thing has not the form that the rule wants.
    """
    try:
        if prediction.rule == "value":
            value = _number(measured)
            return Interval(value, value, value)
        if prediction.rule == "seeds":
            e = estimate([_number(x) for x in measured])
            return Interval(e.mean, e.low, e.high)
        middle, low, high = (_number(x) for x in measured)
    except (TypeError, ValueError) as error:
        form = {
            "value": "one number",
            "seeds": "a list, one number per seed",
            "interval": "[middle, low, high]",
        }
        raise ValueError(
            f"prediction {prediction.name!r}: rule {prediction.rule!r} wants {form[prediction.rule]}, "
            f"measured was {measured!r}"
        ) from error
    return Interval(middle, low, high)


def judge(prediction: Prediction, measured: Any) -> Status:
    """Does the measured thing bear the prediction out?

    >>> from adamantine.report.words import Words
    >>> flat = Prediction("slope", Words("", ""), low=-0.05, high=0.05, rule="seeds")
    >>> judge(flat, [0.01, -0.01, 0.0]), judge(flat, [0.47, 0.46, 0.48]), judge(flat, [0.0, 0.2, -0.1])
    ('holds', 'refuted', 'not decided')
    """
    found = interval(prediction, measured)
    if math.isnan(found.low) or math.isnan(found.high):
        return "not decided"
    if prediction.low <= found.low and found.high <= prediction.high:
        return "holds"
    if found.high < prediction.low or found.low > prediction.high:
        return "refuted"
    return "not decided"


def verdict(statuses: Iterable[Status]) -> Status:
    """The claim's verdict from its predictions'.

    >>> verdict(["holds", "holds"]), verdict(["holds", "not decided"]), verdict(["not decided", "refuted"])
    ('holds', 'not decided', 'refuted')
    """
    found = set(statuses)
    if "refuted" in found:
        return "refuted"
    return "holds" if found == {"holds"} else "not decided"


def judged(predictions: Sequence[Prediction], values: Mapping[str, Any]) -> list[Status]:
    """The predictions' verdicts, in their order.

    Raises:
        ValueError: a prediction without a measured value, or the other way round.
    """
    names = [prediction.name for prediction in predictions]
    if sorted(names) != sorted(values):
        raise ValueError(
            f"predicted were {sorted(names)}, measured {sorted(values)}; they must be the same names"
        )
    return [judge(prediction, values[prediction.name]) for prediction in predictions]


def claim_verdict(predictions: Sequence[Prediction], values: Mapping[str, Any]) -> Status:
    """The claim's verdict: that of its predictions without the asides.

    Raises:
        ValueError: as `judged`.
    """
    statuses = zip(predictions, judged(predictions, values), strict=True)
    return verdict(status for prediction, status in statuses if prediction.role == "claim")


def tolerance(prediction: Prediction) -> str:
    """What is predicted, as a table shows it.

    >>> from adamantine.report.words import Words
    >>> any_text = Words("", "")
    >>> tolerance(Prediction("a", any_text, high=1e-13)), tolerance(Prediction("b", any_text, 0.1, unit=" %"))
    ('≤ 1e−13', '≥ 0.1 %')
    >>> tolerance(Prediction("c", any_text, -1.05, -0.95)), tolerance(Prediction("d", any_text, 0, 0))
    ('[−1.05, −0.95]', '0')
    """
    low, high = (shown(bound, digits=6) for bound in (prediction.low, prediction.high))
    unit = prediction.unit
    if prediction.low == prediction.high:
        return f"{low}{unit}"
    if math.isinf(prediction.low):
        return f"≤ {high}{unit}"
    return f"≥ {low}{unit}" if math.isinf(prediction.high) else f"[{low}, {high}]{unit}"


def measured_text(prediction: Prediction, measured: Any) -> str:
    """What was measured, with its 95 % interval where chance plays a part.

    >>> from adamantine.report.words import Words
    >>> measured_text(Prediction("a", Words("", ""), rule="seeds"), [1.0, 2.0, 3.0])
    '2 [−0.484, 4.48]'
    >>> measured_text(Prediction("a", Words("", ""), rule="interval"), [1.0002, 0.9996, 1.0008])
    '1.0002 [0.9996, 1.0008]'
    """
    found = interval(prediction, measured)
    if prediction.rule == "value":
        return f"{shown(found.middle)}{prediction.unit}"
    digits = _digits(found)
    middle, low, high = (shown(x, digits) for x in (found.middle, found.low, found.high))
    return f"{middle} [{low}, {high}]{prediction.unit}"


def shown(value: float, digits: int = 3) -> str:
    """A number in so many significant digits.

    >>> [shown(x) for x in (0.0, -1.0, 0.04712, 2.25e-13, 12345.0, 101.0, float("nan"))]
    ['0', '−1', '0.0471', '2.25e−13', '12345', '101', '–']
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    size = abs(value)
    if size >= 100 and size < 1e6:
        text = f"{value:.0f}"
    elif size == 0 or 1e-3 <= size < 100:
        text = f"{value:.{digits}g}"
    else:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", _MINUS)


def _digits(found: Interval) -> int:
    """Enough of them, 3 to 6, that the interval's ends differ from its middle in print."""
    spread, size = (found.high - found.low) / 2, max(abs(found.low), abs(found.high))
    if not 0 < spread < math.inf:
        return 3
    return min(max(math.floor(math.log10(size)) - math.floor(math.log10(spread)) + 1, 3), 6)


def _number(thing: Any) -> float:
    return math.nan if thing is None else float(thing)
