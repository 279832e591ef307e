"""Round numbers along an axis, linear or logarithmic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adamantine.report.numbers import setting

_LOG_FROM = 8.0  # a range that spans more than this factor is drawn logarithmically
_FEW_DECADES = 300.0  # below this factor 2 and 5 are marked, too


@dataclass(frozen=True)
class Scale:
    """From values to pixels. ``start`` is the pixel of ``low``, ``end`` that of ``high``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    @classmethod
    def fitted(cls, low: float, high: float, start: float, end: float, margin: float = 0.04) -> Scale:
        """Logarithmic where the values are positive and span more than a factor of eight; with a margin."""
        if low > 0 and high > _LOG_FROM * low:
            spare = (high / low) ** margin
            return cls(low / spare, high * spare, start, end, logarithmic=True)
        spare = (high - low) * margin or abs(high) * 0.05 or 1.0
        return cls(low - spare, high + spare, start, end)

    def __call__(self, value: float) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self.logarithmic else (self.low, self.high)
        at = math.log(value) if self.logarithmic else value
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within the limits."""
        if not self.logarithmic:
            return linear(self.low, self.high, most)
        subs = (1, 2, 5) if self.high < _FEW_DECADES * self.low else (1,)
        return logarithmic(self.low, self.high, subs, most)


def linear(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, at most so many.

    >>> linear(0.3, 9.7)
    [2.0, 4.0, 6.0, 8.0]
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def logarithmic(low: float, high: float, subs: tuple[float, ...] = (1, 2, 5), most: int = 8) -> list[float]:
    """Powers of ten times ``subs``, at most so many: else fewer powers, evenly.

    >>> logarithmic(0.03, 4), logarithmic(1e-9, 1e3, (1,), 5)
    ([0.05, 0.1, 0.2, 0.5, 1.0, 2.0], [1e-09, 1e-06, 0.001, 1.0, 1000.0])
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [float(f"{m}e{d}") for d in decades for m in subs]
    found = [v for v in found if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
    if len(found) <= most or len(subs) > 1:
        return found if len(found) <= most else logarithmic(low, high, (1,), most)
    stride = math.ceil(len(found) / most)
    return found[::stride]


def label(value: float) -> str:
    """A tick's number.

    >>> [label(v) for v in (0.0, 0.05, 1000.0, -2.0, 12500.0)]
    ['0', '0.05', '1000', '−2', '1.25e4']
    """
    text = f"{value:.3g}" if value == 0 or 1e-2 <= abs(value) < 1e3 else setting(value)
    return (f"{value:.0f}" if 1e3 <= abs(value) < 1e4 else text).replace("-", "−" if value < 0 else "-")
