"""Logarithmic axes whose numbers need no mathematics typesetting, as the figures' other texts do not."""

from __future__ import annotations

import math
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(value: float, base: int = 10) -> str:
    """A power of the base, as a tick shows it; nothing else gets a number.

    >>> power(1e-3), power(1.0), power(100.0), power(2.0**-9, base=2), power(0.5, base=10)
    ('10⁻³', '1', '100', '2⁻⁹', '')
    """
    exponent = round(math.log(value, base))
    if not math.isclose(value, float(base) ** exponent, rel_tol=1e-6):
        return ""
    if base == 10 and 0 <= exponent <= 3:
        return str(10**exponent)
    return f"{base}{str(exponent).translate(_SUPERSCRIPTS)}"


def logarithmic(ax: Axes, which: Literal["x", "y"], *, base: int = 10, most: int = 8) -> None:
    """Makes one axis logarithmic, with at most so many ticks, at powers of ``base``."""
    axis: Axis = ax.xaxis if which == "x" else ax.yaxis
    if which == "x":
        ax.set_xscale("log", base=base)
    else:
        ax.set_yscale("log", base=base)
    axis.set_major_locator(LogLocator(base=base, numticks=most))
    axis.set_major_formatter(FuncFormatter(lambda value, _: power(value, base) if value > 0 else ""))
    axis.set_minor_locator(NullLocator())
