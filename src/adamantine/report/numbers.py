"""How numbers are written in a report."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from adamantine.report.model import Comparison, Estimate
from adamantine.report.words import Language, Words

_MINUS = "\N{MINUS SIGN}"
_NARROW = "\N{NARROW NO-BREAK SPACE}"
_POINTS = Words("percentage points", "个百分点")
_TO = Words("to", "至")


def setting(value: float) -> str:
    """A learning rate or a decay coefficient, as short as its first three digits allow.

    >>> [setting(v) for v in (0.0, 3e-4, 1.25e-3, 0.01, 0.1, 1.0, 32.0, 999.7, math.nan)]
    ['0', '3e-4', '1.25e-3', '0.01', '0.1', '1', '32', '1e3', 'nan']
    """
    if value == 0 or not math.isfinite(value) or 0.01 <= abs(value) < 999.5:  # beyond, three digits make 1e3
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def counted(count: int, noun: str) -> str:
    """A count with its noun.

    >>> counted(1, "seed"), counted(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """Text without control characters, which move a terminal's cursor and which XML cannot carry, and without
    lone surrogates, which UTF-8 cannot carry.

    >>> printable("a\\x00b\\ud800c\\nd")
    'a\ufffdb\ufffdc d'
    """
    text = text.replace("\n", " ").replace("\t", " ")
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs") else c for c in text
    )


@dataclass(frozen=True)
class Scores:
    """Writes the scores of one comparison: the same unit and the same number of decimals everywhere.

    >>> error = Scores("error", "%", decimals=2)
    >>> error.mean(Estimate(0.0194, 0.0011, 0.0167, 0.0221, 3))
    '1.94 ± 0.11\u202f%'
    >>> error.difference(Estimate(-0.0031, 0.0009, -0.0052, -0.0010, 3))
    '−0.31 percentage points'
    """

    name: str
    unit: str
    decimals: int
    language: Language = "en"

    @classmethod
    def of(cls, comparison: Comparison) -> Scores:
        """Decimals such that a typical standard deviation over seeds shows two significant digits, and that
        of a difference paired by seed, which is often much smaller, at least one."""
        scale = 100.0 if comparison.score_unit == "%" else 1.0
        own = [m.at_best for m in comparison.methods if m.at_best is not None]
        spread = _typical(e.std if e.std > 0 else abs(e.mean) / 50 for e in own) or 0.01 / scale
        paired = _typical(d.estimate.std for d in comparison.differences) or spread
        finest = min(spread / 10, paired) * scale
        decimals = min(max(-math.floor(math.log10(finest)), 0), 6)
        return cls(comparison.score_name, comparison.score_unit, decimals)

    @property
    def scale(self) -> float:
        """What a score is multiplied by to be shown."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def label(self) -> str:
        """The score with its unit, for an axis after "test" or "validation"."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def number(self, score: float) -> str:
        """The bare number, without its unit."""
        if not math.isfinite(score):
            return "–"
        text = f"{score * self.scale:.{self.decimals}f}"
        return text.replace("-", _MINUS) if float(text) else text.lstrip("-")

    def value(self, score: float) -> str:
        """A score with its unit."""
        return self._with_unit(self.number(score))

    def mean(self, estimate: Estimate) -> str:
        """Mean ± standard deviation; the mean alone where one seed gives no spread."""
        text = self.number(estimate.mean)
        if math.isfinite(estimate.std):
            text += f" ± {self.number(estimate.std)}"
        return self._with_unit(text)

    def limits(self, estimate: Estimate) -> tuple[float, float]:
        """The confidence limits of a mean score; no percentage lies below 0 or above 100.

        >>> Scores("error", "%", decimals=2).limits(Estimate(0.01, 0.01, -0.02, 0.04, 3))
        (0.0, 0.04)
        """
        if self.unit != "%":
            return estimate.low, estimate.high
        return min(max(estimate.low, 0.0), estimate.mean), max(min(estimate.high, 1.0), estimate.mean)

    def mean_interval(self, estimate: Estimate) -> str:
        """The confidence interval of a mean score, in the unit of `mean`."""
        return self._interval(*self.limits(estimate)) if math.isfinite(estimate.low + estimate.high) else ""

    def interval(self, estimate: Estimate) -> str:
        """The confidence interval of a difference, in the unit of `difference`.

        >>> Scores("error", "%", decimals=1).interval(Estimate(-0.002, 0.001, -0.004, -0.0002, 3))
        '−0.4 to −0.02'
        """
        return self._interval(estimate.low, estimate.high)

    def difference(self, estimate: Estimate) -> str:
        """A signed difference; of percentages, in percentage points."""
        sign = "+" if estimate.mean > 0 else _MINUS if estimate.mean < 0 else ""
        level = self.number(abs(estimate.mean)) == self.number(0.0)  # no sign before a difference of 0.0
        return self.gap(estimate) if level else sign + self.gap(estimate)

    def gap(self, estimate: Estimate) -> str:
        """The size of a difference; of percentages, in percentage points."""
        return self.apart(abs(estimate.mean))

    def apart(self, distance: float) -> str:
        """How far two scores are apart; of percentages, in percentage points.

        >>> Scores("error", "%", decimals=2).apart(0.0043), Scores("loss", "nats", decimals=2).apart(0.5)
        ('0.43 percentage points', '0.50\u202fnats')
        """
        number = self.number(distance)
        return f"{number} {_POINTS.of(self.language)}" if self.unit == "%" else self._with_unit(number)

    def cell(self, score: float) -> str:
        """A score in a heatmap's cell: three significant digits, no unit.

        >>> [Scores("loss", "", decimals=2).cell(v) for v in (0.0, 0.982, 2.7, 12.0, 100.0, 12345.0)]
        ['0.00', '0.982', '2.70', '12.0', '100', '1.2e4']
        """
        shown = score * self.scale
        if shown == 0 or 0.001 <= abs(shown) < 1000:
            text = f"{shown:#.3g}".rstrip(".")
        else:
            text = f"{shown:.1e}".replace("e+0", "e").replace("e-0", "e-")
        return text.replace("-", _MINUS)

    def _interval(self, low: float, high: float) -> str:
        if not math.isfinite(low + high):
            return ""
        return f"{self._limit(low)} {_TO.of(self.language)} {self._limit(high)}"

    def _limit(self, score: float) -> str:
        """Never rounded to 0, so that it shows on which side of 0 it lies."""
        shown, text = abs(score * self.scale), self.number(score)
        if float(text.replace(_MINUS, "-")) != 0 or shown < 1e-6:
            return text
        return f"{_MINUS if score < 0 else ''}{shown:.{-math.floor(math.log10(shown))}f}"

    def _with_unit(self, text: str) -> str:
        return f"{text}{_NARROW}{self.unit}" if self.unit else text


def _typical(spreads: Iterable[float]) -> float | None:
    """The median of those that say something."""
    known = sorted(spread for spread in spreads if math.isfinite(spread) and spread > 0)
    return known[len(known) // 2] if known else None
