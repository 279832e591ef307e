"""The few statistics of a comparison, as pure functions of NumPy arrays.

Everything is lower-is-better and indexed ``[lr, weight_decay, seed]``; NaN marks a run that diverged,
failed or is not done yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label  # type: ignore[import-untyped]
from scipy.special import stdtr, stdtrit  # type: ignore[import-untyped]

from adamantine.report.model import Bools, Difference, Estimate, Floats

CONFIDENCE = 0.95
POWER = 0.8  # with which a true difference is to be decided
UNDECIDED = "not decided"
FEW = 5  # settings near the optimum, to measure noise by
SAME = 1e-9  # scores closer than this, relatively, are a tie: they differ by the rounding of a mean


def estimate(values: ArrayLike) -> Estimate:
    """Mean, sample standard deviation and 95 % Student-t interval of independent values, shape ``[n]``.

    >>> e = estimate([1.0, 2.0, 3.0])
    >>> e.mean, e.std, round(e.high - e.mean, 3)  # t(0.975; 2) = 4.303, / sqrt(3)
    (2.0, 1.0, 2.484)
    """
    x = np.asarray(values, np.float64)
    n = x.size
    mean = float(x.mean()) if n else math.nan
    if n < 2:
        return Estimate(mean, math.nan, math.nan, math.nan, n)
    std = float(x.std(ddof=1))
    half = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * std / math.sqrt(n)
    return Estimate(mean, std, mean - half, mean + half, n)


def difference(a: str, b: str, scores_a: ArrayLike, scores_b: ArrayLike) -> Difference:
    """``a`` minus ``b``, paired by seed. Decided only when the 95 % interval of the mean leaves out 0.

    Fewer than three seeds, or seeds that all show the very same difference, tell nothing about chance and
    decide nothing.
    """
    paired = estimate(np.asarray(scores_a, np.float64) - np.asarray(scores_b, np.float64))
    if _p_value(paired) < 1 - CONFIDENCE:
        return Difference(a, b, paired, f"{a if paired.mean < 0 else b} is better")
    return Difference(a, b, paired, UNDECIDED)


def together(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """Verdicts that hold for all pairs at once with 95 % confidence (Holm 1979); intervals stay as they are.

    Without this, among eleven equally good methods the luckiest would be called better than some other in
    more than every second comparison.
    """
    by_p = sorted(range(len(differences)), key=lambda k: _p_value(differences[k].estimate))
    settled = list(differences)
    for rank, k in enumerate(by_p):
        if not _p_value(differences[k].estimate) < (1 - CONFIDENCE) / (len(by_p) - rank):
            for later in by_p[rank:]:
                settled[later] = replace(settled[later], verdict=UNDECIDED)
            break
    return tuple(settled)


def _p_value(paired: Estimate) -> float:
    """Two-sided, of Student's t test that the mean is 0; 1 where the seeds cannot tell."""
    if paired.n < 3 or not paired.std > SAME * abs(paired.mean):
        return 1.0
    t = abs(paired.mean) / (paired.std / math.sqrt(paired.n))
    return 2.0 * float(stdtr(paired.n - 1, -t))


def seeds_to_decide(paired: Estimate) -> int | None:
    """How many seeds would decide, four times in five, a true difference and a spread as large as those seen.

    ``None`` where there is no spread, no difference, or more than 1000 would be needed.

    >>> seeds_to_decide(Estimate(mean=1.0, std=1.0, low=-1.5, high=3.5, n=3))
    10
    """
    if not (paired.n > 1 and paired.std > 0 and paired.mean != 0):
        return None
    n = np.arange(3, 1001)
    quantiles = stdtrit(n - 1, 0.5 + CONFIDENCE / 2) + stdtrit(n - 1, POWER)
    enough = np.flatnonzero(quantiles * paired.std / np.sqrt(n) < abs(paired.mean))
    return int(n[enough[0]]) if enough.size else None


def choose(validation: Floats) -> tuple[int, int] | None:
    """The cell with the lowest mean over seeds; a setting without a score for every seed is never chosen.

    Among ties the one whose neighbours (up to eight) score best on average, then the smallest lr and
    weight decay.
    """
    means = validation.mean(axis=2)
    if not np.isfinite(means).any():
        return None
    lowest = np.nanmin(means)
    ties = np.argwhere(means <= lowest + SAME * max(abs(lowest), 1e-3))
    worst = np.nanmax(means)
    filled = np.where(np.isnan(means), worst, means)

    def around(cell: NDArray[np.intp]) -> float:
        rows, columns = (slice(max(k - 1, 0), k + 2) for k in cell)
        return round(float(filled[rows, columns].mean()), 12)

    i, j = min(ties, key=lambda cell: (around(cell), *cell))
    return int(i), int(j)


def edges(best: tuple[int, int], lrs: Sequence[float], weight_decays: Sequence[float]) -> tuple[str, ...]:
    """Where the best cell touches the rim, so that a better one may lie outside.

    Not an edge: an axis of one value (the user fixed it), and weight decay 0 (there is nothing below it).
    """
    found = []
    for name, index, axis in (("lr", best[0], lrs), ("weight_decay", best[1], weight_decays)):
        if len(axis) > 1 and index == 0 and axis[0] > 0:
            found.append(f"{name} low")
        if len(axis) > 1 and index == len(axis) - 1:
            found.append(f"{name} high")
    return tuple(found)


def basin(validation: Floats, best: tuple[int, int], tolerance: float) -> Bools:
    """The cells that are as good as the best, shape ``[lr, weight_decay]``: joined to it through neighbours
    whose difference to it, paired by seed, has a mean of at most ``tolerance``."""
    excess = (validation - validation[best]).mean(axis=2)
    close = excess <= max(tolerance, 0.0) + SAME
    regions, _ = label(close)
    return np.asarray(regions == regions[best], np.bool_)


def paired_spread(scores: Sequence[Floats]) -> float:
    """The standard deviation over seeds that pairing by seed leaves, pooled over the methods' grids.

    Of each grid the best settings are taken, five, or a quarter if that is less, but two at least. What a
    seed does to all of these (an easy split, say) and what a setting does for all seeds are taken out; the
    rest is noise. 0 for a single seed.
    """
    variances = []
    for grid in scores:
        rows = grid.reshape(-1, grid.shape[-1])
        rows = rows[np.isfinite(rows).all(axis=1)]
        few = max(min(FEW, len(rows) // 4), 2)
        rows = rows[np.argsort(rows.mean(axis=1), kind="stable")[:few]]
        freedom = (rows.shape[0] - 1) * (rows.shape[1] - 1)
        if freedom > 0:
            rest = rows - rows.mean(axis=0) - rows.mean(axis=1, keepdims=True) + rows.mean()
            variances.append(float((rest**2).sum()) / freedom)
    return math.sqrt(math.fsum(variances) / len(variances)) if variances else 0.0
