"""The colours of the terminal's heatmaps: the report's scale and the report's colour map."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from rich.color import Color

from adamantine.report.heatmap import WORST_SHOWN
from adamantine.report.model import Bools, Floats
from adamantine.report.theme import COLOUR_MAP


@dataclass(frozen=True)
class Scale:
    """From the best score to `WORST_SHOWN` times the best, logarithmic; linear where a score is negative."""

    low: float
    high: float

    @classmethod
    def of(cls, scores: Floats, finished: Bools) -> Scale | None:
        """For settings' mean scores, NaN without one; none before the first. Settings that are not finished,
        whose means are yet to move, count only as long as there are no others."""
        known = np.isfinite(scores)
        scores = scores[known & finished] if (known & finished).any() else scores[known]
        if not scores.size:
            return None
        low, high = float(scores.min()), float(scores.max())
        if low >= 0:
            positive = scores[scores > 0]
            low = float(positive.min()) if positive.size else 1.0
            high = min(max(high, 1.05 * low), WORST_SHOWN * low)
        return cls(low, max(high, low + 1e-12))

    def place(self, score: float) -> float:
        """0 for the best, 1 for the worst and everything beyond.

        >>> scale = Scale(0.02, 0.2)
        >>> [round(scale.place(score), 2) for score in (0.0, 0.02, 0.0632, 0.2, 0.9)]
        [0.0, 0.0, 0.5, 1.0, 1.0]
        """
        if score <= self.low:
            return 0.0
        if self.low <= 0:
            return min((score - self.low) / (self.high - self.low), 1.0)
        return min(math.log(score / self.low) / math.log(self.high / self.low), 1.0)


@functools.lru_cache(maxsize=1024)
def _rgb(step: int) -> tuple[int, int, int]:
    import matplotlib as mpl

    red, green, blue, _ = mpl.colormaps[COLOUR_MAP](step / 255, bytes=True)
    return int(red), int(green), int(blue)


def colour(place: float) -> Color:
    """The report's colour of a place on the scale, from 0 to 1."""
    return Color.from_rgb(*_rgb(round(255 * place)))


def ink(place: float) -> Color:
    """Black on bright colours, white on dark ones."""
    red, green, blue = _rgb(round(255 * place))
    return Color.parse("#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else "#ffffff")
