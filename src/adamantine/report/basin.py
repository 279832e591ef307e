"""How wide the basin of good settings is along each axis, for the page and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from adamantine.report.model import Bools, MethodGrid
from adamantine.report.words import Words

#: What the numbers below mean, for a reader.
RULE = Words(
    "Its width along an axis is that of the run of its settings through the best one, in octaves (factors "
    "of 2); ≥ where the run reaches the rim of the grid or no decay at all; less than 1 step where both "
    "neighbours are outside.",
    "它沿一条轴的宽度，是经过最佳设置的那一串盆地内设置的宽度，以二倍程（因子 2）计；≥ 表示这一串到达网格边"
    "缘或完全没有衰减；“不到一格”表示两侧相邻的设置都在盆地之外。",
)


@dataclass(frozen=True)
class Width:
    """Extent of a basin along one axis, in octaves (factors of 2) from its first to its last cell.

    ``open`` when it reaches the last value on some side or weight decay 0: then it is at least so wide.
    """

    octaves: float
    open: bool

    def __str__(self) -> str:
        """The number as a table shows it.

        >>> [str(Width(*w)) for w in ((3.32, False), (8.0, True), (0.0, False), (0.0, True))]
        ['3.3', '≥ 8.0', '< 1 step', 'at rim']
        """
        if self.octaves == 0:
            return "at rim" if self.open else "< 1 step"
        return f"{'≥ ' if self.open else ''}{self.octaves:.1f}"


def width(inside: Sequence[bool] | Bools, best: int, axis: Sequence[float]) -> Width:
    """Of the run of ``inside`` cells around ``best`` on one line of the grid.

    >>> width([False, True, True, False], 1, (1.0, 2.0, 8.0, 16.0))
    Width(octaves=2.0, open=False)
    """
    low = high = best
    while low > 0 and inside[low - 1]:
        low -= 1
    while high < len(axis) - 1 and inside[high + 1]:
        high += 1
    reaches_rim = len(axis) > 1 and (low == 0 or high == len(axis) - 1)
    positive = [value for value in axis[low : high + 1] if value > 0]
    octaves = math.log2(positive[-1] / positive[0]) if positive else 0.0
    return Width(octaves, reaches_rim)


def widths(method: MethodGrid) -> tuple[str, str]:
    """Along learning rate and weight decay; a dash where there is no best setting or one value only."""
    if method.best is None:
        return "–", "–"
    i, j = method.best
    lr, decay = method.basin[:, j], method.basin[i, :]
    return (
        str(width(lr, i, method.lrs)) if len(method.lrs) > 1 else "–",
        str(width(decay, j, method.weight_decays)) if len(method.weight_decays) > 1 else "–",
    )
