"""Can lr and λ be tuned one after the other? Five scores with intervals, in two systems of coordinates.

The surface is E = log of the mean score over seeds, over x = log₂ lr and y = log₂ λ, on the rectangle that a
method's grid is; λ = 0 has no logarithm and is left out. The other system has γ = ηλ, the fraction of a
weight that one step at peak lr removes, in place of λ: the same cells at (x, y + x), a sheared grid. For
``decay="independent"``, whose λ *is* that fraction, the systems change places.

A diverged run counts as the worst finite score of its grid. docs/separability.md defines all of it for a
user; design: claim 10 of the article (Loshchilov & Hutter 2019, Section 4.1, Figure 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]

from adamantine.report.model import Bools, Floats, MethodGrid
from adamantine.report.separability_model import Coordinates, Score, Separability
from adamantine.report.words import Words
from adamantine.study.separability_scores import SCORES, Definition, Indices, Surface

RESAMPLES = 2000  # of the seeds, with replacement
CONFIDENCE = 0.95
UNDEFINED = 0.05  # share of resamples without a score that an interval may leave out
HOPELESS = 0.5  # share of them beyond which the value is left out too


def of_grid(grid: MethodGrid, split: str = "test") -> tuple[Separability, Separability]:
    """The scores of a compared method on its ``"test"`` or ``"validation"`` scores, in λ and in γ."""
    return separability(
        grid.name,
        grid.lrs,
        grid.weight_decays,
        {"test": grid.test, "validation": grid.validation}[split],
        grid.diverged,
        decay=grid.decay,
    )


def separability(
    method: str,
    lrs: Sequence[float],
    weight_decays: Sequence[float],
    scores: Floats,
    diverged: Bools,
    *,
    decay: str = "decoupled",
) -> tuple[Separability, Separability]:
    """The five scores in coordinates (lr, λ) and (lr, γ), γ = ηλ.

    Args:
        method: its name.
        lrs: ascending, ``[lr]``.
        weight_decays: ascending, ``[weight_decay]``; a leading 0 is left out.
        scores: errors or losses ≥ 0, ``[lr, weight_decay, seed]``; NaN where there is none.
        diverged: of the same shape, which of the NaN stand for divergence. The others are not known.
        decay: the mode that gives λ its unit.

    >>> x, y = np.log2([[1e-3], [2e-3], [4e-3]]), np.log2([[0.1, 0.2, 0.4]])
    >>> error = np.exp(x**2 + y**2)[:, :, None]
    >>> own, sheared = separability("made up", [1e-3, 2e-3, 4e-3], [0.1, 0.2, 0.4], error, np.isnan(error))
    >>> own.coordinates, own.additivity.value, sheared.additivity.note.en
    ('λ', 1.0, 'no three lrs and three values of γ lie in one rectangle')
    """
    values = np.asarray(weight_decays, np.float64)
    scores = np.asarray(scores, np.float64)[:, values > 0]
    diverged = np.asarray(diverged, np.bool_)[:, values > 0]
    known = np.all(np.isfinite(scores) | diverged, axis=2)
    lost = known & diverged.any(axis=2)
    why_not = _why_not(scores)

    def among(name: Coordinates, shear: int) -> Separability:
        if why_not:
            five = [Score(math.nan, math.nan, math.nan, why_not)] * len(SCORES)
        else:
            e, again = _resampled(scores, diverged)
            x, y = np.log2(np.asarray(lrs, np.float64)), np.log2(values[values > 0])
            surface = Surface(x, y, e, np.asarray(known & ~lost), shear)
            five = [_scored(score, surface, again, scores.shape[2], name) for score in SCORES]
        s1, s2, s3, s4, s5 = five
        return Separability(
            method, name, s1, s2, s3, s4, s5, int(known.sum()), int(lost.sum()), scores.shape[2]
        )

    if decay == "independent":
        return among("λ", -1), among("γ", 0)
    return among("λ", 0), among("γ", 1)


def _why_not(scores: Floats) -> Words | None:
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        return Words("no setting with decay has a score", "没有任何带衰减的设置得到分数")
    if finite.min() < 0 or finite.max() == 0:
        return Words("scores of 0 or less have no logarithm", "分数不大于 0，没有对数")
    return None


def _resampled(scores: Floats, diverged: Bools) -> tuple[Floats, Indices]:
    """E of each *different* resample of the seeds, the first being the seeds as they are, and for each of
    `RESAMPLES` draws which one it is: three seeds have no more than ten.

    A mean of 0 counts as half of what the smallest positive score in one of the runs would make it.
    """
    floor = scores[scores > 0].min() / scores.shape[2] / 2
    scores = np.where(diverged, np.nanmax(scores), scores)
    # In an order that does not depend on how the seeds are numbered, so that no score or interval does.
    scores = scores[:, :, np.lexsort(np.nan_to_num(scores).reshape(-1, scores.shape[2]))]
    seeds = scores.shape[2]
    draws = np.random.default_rng(0).multinomial(seeds, [1 / seeds] * seeds, size=RESAMPLES)
    different, again = np.unique(draws, axis=0, return_inverse=True)
    weights = np.concatenate([np.ones((1, seeds), np.int64), different]) / seeds
    means = np.einsum("rs,ijs->rij", weights, scores)
    return np.log(np.maximum(means, floor)), again.ravel() + 1


def _scored(
    definition: Definition, surface: Surface, again: Indices, seeds: int, coordinates: Coordinates
) -> Score:
    """The score of the seeds as they are, ± Student's t times the bootstrap standard error.

    The error is multiplied by √(n/(n-1)), since n resampled values vary so much less than n new ones
    (Hesterberg 2015, The American Statistician 69:371). For a mean this is the t interval
    itself. Percentiles of resamples would not do: those of three seeds hold a true mean three times in four.
    """
    values, note = definition.score(surface, coordinates)
    value = float(values[0])
    drawn = values[again]
    defined = drawn[np.isfinite(drawn)]
    missing = 1 - defined.size / drawn.size
    if math.isnan(value):
        return Score(math.nan, math.nan, math.nan, note)
    if missing > HOPELESS:
        return Score(math.nan, math.nan, math.nan, _unstable(missing))
    if seeds < 2:
        return Score(value, math.nan, math.nan, note)
    if missing > UNDEFINED:
        return Score(value, math.nan, math.nan, _unstable(missing))
    error = float(defined.std()) * math.sqrt(seeds / (seeds - 1))
    half = float(stdtrit(seeds - 1, 0.5 + CONFIDENCE / 2)) * error
    return Score(value, max(value - half, definition.least), min(value + half, definition.most), note)


def _unstable(missing: float) -> Words:
    return Words(
        f"not defined in {100 * missing:.0f} % of the resamples of the seeds: too flat for these seeds",
        f"对种子重抽样时，{100 * missing:.0f} % 的样本中没有定义：对这些种子来说过于平坦",
    )
