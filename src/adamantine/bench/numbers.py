"""How a benchmark writes its numbers."""

from __future__ import annotations

from adamantine.bench.goals import MIB
from adamantine.bench.statistics import Estimate

_DASH = "–"


def three(value: float) -> str:
    """A positive number to three digits.

    >>> [three(v) for v in (0.0123, 0.954, 1.078, 11.66, 103.4, 9754.0)]
    ['0.0123', '0.954', '1.08', '11.7', '103', '9754']
    """
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:#.3g}"


def factor(ratio: Estimate | None) -> str:
    """The median ratio alone."""
    return _DASH if ratio is None else three(ratio.median)


def interval(ratio: Estimate | None) -> str:
    """The limits of a ratio."""
    return _DASH if ratio is None else f"{three(ratio.low)} to {three(ratio.high)}"


def mebibytes(size: Estimate) -> str:
    """The limits of a size in bytes."""
    return f"{size.low / MIB:.2f} to {size.high / MIB:.2f}"
