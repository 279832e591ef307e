"""How numbers are written in a report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from adamantine.report.model import Comparison, Estimate

_MINUS = "\N{MINUS SIGN}"
_NARROW = "\N{NARROW NO-BREAK SPACE}"


def setting(value: float) -> str:
    """A learning rate or a decay coefficient, as short as its first three digits allow.

    >>> [setting(v) for v in (0.0, 3e-4, 1.25e-3, 0.01, 0.1, 1.0, 32.0)]
    ['0', '3e-4', '1.25e-3', '0.01', '0.1', '1', '32']
    """
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def span(values: Iterable[float]) -> str:
    """The range that settings cover.

    >>> span([1e-3, 3e-3, 1e-2]), span([0.1])
    ('1e-3 – 0.01', '0.1')
    """
    low, *rest = [setting(v) for v in sorted(values)]
    return f"{low} – {rest[-1]}" if rest else low


def counted(count: int, noun: str) -> str:
    """A count with its noun.

    >>> counted(1, "seed"), counted(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


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

    @classmethod
    def of(cls, comparison: Comparison) -> Scores:
        """Decimals such that a typical standard deviation shows two significant digits."""
        scale = 100.0 if comparison.score_unit == "%" else 1.0
        estimates = [m.at_best for m in comparison.methods if m.at_best is not None]
        spreads = sorted(
            s for e in estimates if math.isfinite(s := e.std if e.std > 0 else abs(e.mean) / 50) and s > 0
        )
        typical = spreads[len(spreads) // 2] * scale if spreads else 0.01
        decimals = min(max(1 - math.floor(math.log10(typical)), 0), 6)
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
        return f"{score * self.scale:.{self.decimals}f}".replace("-", _MINUS)

    def value(self, score: float) -> str:
        """A score with its unit."""
        return self._with_unit(self.number(score))

    def mean(self, estimate: Estimate) -> str:
        """Mean ± standard deviation; the mean alone where one seed gives no spread."""
        text = self.number(estimate.mean)
        if math.isfinite(estimate.std):
            text += f" ± {self.number(estimate.std)}"
        return self._with_unit(text)

    def interval(self, estimate: Estimate) -> str:
        """The confidence interval of the mean, in the unit of `mean`."""
        if not math.isfinite(estimate.low + estimate.high):
            return ""
        return f"{self.number(estimate.low)} to {self.number(estimate.high)}"

    def difference(self, estimate: Estimate) -> str:
        """A signed difference; of percentages, in percentage points."""
        sign = "+" if estimate.mean > 0 else _MINUS if estimate.mean < 0 else ""
        return sign + self.gap(estimate)

    def gap(self, estimate: Estimate) -> str:
        """The size of a difference, in percentage points if of percentages."""
        number = self.number(abs(estimate.mean))
        return f"{number} percentage points" if self.unit == "%" else self._with_unit(number)

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

    def _with_unit(self, text: str) -> str:
        return f"{text}{_NARROW}{self.unit}" if self.unit else text
