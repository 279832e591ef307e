"""How an audit writes its numbers."""

from __future__ import annotations

import math

from adamantine.report.numbers import setting

NOTHING = "–"


def human(count: int) -> str:
    """A number of elements.

    >>> human(650), human(85_100), human(124_439_808), human(7_000_000_000)
    ('650', '85.1 k', '124 M', '7 G')
    """
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def many(value: float | None) -> str:
    """A count of steps, to three digits.

    >>> many(123456.0), many(99.62), many(1.5), many(0.001), many(None), many(math.inf)
    ('123,000', '99.6', '1.5', '1e-3', '–', '∞')
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞"
    if value >= 1e9:
        return setting(value)
    if value >= 1000:
        digits = 3 - len(str(int(value)))
        return f"{round(value, digits):,.0f}"
    return setting(value)


def one(value: float | None) -> str:
    """A learning rate, λ or a fraction.

    >>> one(1e-3), one(None), one(float("nan"))
    ('1e-3', '–', '–')
    """
    if value is None or math.isnan(value):
        return NOTHING
    return setting(value) if math.isfinite(value) else "∞"


def percent(value: float | None) -> str:
    """A fraction as percent, never rounded to 0 or to 100 from inside.

    >>> [percent(v) for v in (0.3679, 0.99998, 1.0, 3e-7, 0.0, None)]
    ['36.8 %', '> 99.9 %', '100 %', '< 0.1 %', '0 %', '–']
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if value in (0.0, 1.0):
        return f"{100 * value:.0f} %"
    if 0 < value < 1e-3:
        return "< 0.1 %"
    if 0.999 < value < 1:
        return "> 99.9 %"
    return f"{100 * value:.3g} %"
