"""The five scores of docs/separability.md, each for all resamples of the seeds at once.

A score returns ``[resample]`` values, NaN where it is not defined, and a note: why the seeds as they are (row
0) have none, or what a reader should know about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adamantine.report.model import Bools, Floats
from adamantine.report.separability_model import NOTHING, Coordinates
from adamantine.report.words import Words

FLAT = 1e-9  # E that varies no more than this (a relative difference of errors) is rounding
FEWEST = 3  # values on an axis
BASIN, SMALLEST_BASIN = 3, 9  # the basin is the best third of the settings; a paraboloid has six coefficients
BEST = 10  # settings that S5 looks at

Indices = NDArray[np.intp]
Found = tuple[Floats, Words]  # a score of every resample, and why it has none or what to know about it


@dataclass(frozen=True)
class Surface:
    """E of every resample; row 0 is the seeds as they are."""

    x: Floats  # [lr], log2
    y: Floats  # [decay], log2
    e: Floats  # [resample, lr, decay]; NaN where a cell has no score
    measured: Bools  # [lr, decay]: every seed has a score, and none diverged
    shear: int  # the second coordinate is y + shear·x: 0 the grid's own, 1 from λ to γ, -1 from γ to λ

    @property
    def z(self) -> Floats:
        """The second coordinate, ``[lr, decay]``."""
        return np.asarray(self.y[None, :] + self.shear * self.x[:, None])

    @property
    def ranked(self) -> tuple[Floats, Indices]:
        """The measured cells from best to worst: E and index in the flat grid, ``[resample, cell]``."""
        cells = np.flatnonzero(self.measured.ravel())
        flat = self.e.reshape(len(self.e), -1)[:, cells]
        order = np.argsort(flat, axis=1, kind="stable")
        return np.take_along_axis(flat, order, axis=1), cells[order]


def _undefined(surface: Surface, en: str, zh: str) -> Found:
    return np.full(len(surface.e), math.nan), Words(en, zh)


def additivity(surface: Surface, name: Coordinates) -> Found:
    """S1 = 1 - SS_interaction/SS_total of the two-way table."""
    if holes := int(np.isnan(surface.e[0]).sum()):
        return _undefined(surface, f"{holes} settings have no score yet", f"有 {holes} 个设置还没有分数")
    table, note = surface.e, NOTHING
    if min(table.shape[1:]) < FEWEST:
        return _undefined(surface, "needs three values on each axis", "每个轴上至少要有三个值")
    if surface.shear:
        rectangle = _largest_rectangle(surface)
        if rectangle is None:
            return _undefined(
                surface,
                f"no three lrs and three values of {name} lie in one rectangle",
                f"没有三个学习率和三个 {name} 值能组成矩形",
            )
        lrs, z = rectangle
        columns = [_at(surface, np.full((1, len(z)), i), z[None])[0] for i in range(lrs.start, lrs.stop)]
        table = np.stack(columns, axis=1)
        size, whole = f"{table.shape[1]} × {table.shape[2]}", f"{len(surface.x)} × {len(surface.y)}"
        note = Words(
            f"over {size} (lr × {name}), the largest rectangle of these coordinates in the {whole} grid",
            f"在 {size}（学习率 × {name}）上计算，即 {whole} 网格内该坐标下的最大矩形",
        )
    total = table - table.mean(axis=(1, 2), keepdims=True)
    effects = table.mean(axis=1, keepdims=True) + table.mean(axis=2, keepdims=True)
    interaction = table - effects + table.mean(axis=(1, 2), keepdims=True)
    spread = (total**2).sum(axis=(1, 2))
    flat = np.ptp(table, axis=(1, 2)) <= FLAT
    if flat[0]:
        return _undefined(surface, "all settings score alike", "所有设置的分数都相同")
    share = (interaction**2).sum(axis=(1, 2)) / np.where(flat, 1.0, spread)
    return np.where(flat, math.nan, 1 - share), note


def _largest_rectangle(surface: Surface) -> tuple[slice, Floats] | None:
    """The run of neighbouring lrs, and the z in reach of each of them, with the most cells together.

    The z are those of the middle lr, so that grids whose axes step alike need no interpolation at all.
    """
    best: tuple[slice, Floats] | None = None
    most = 0
    shifts, slack = surface.shear * surface.x, 1e-9
    for first in range(len(shifts)):
        for last in range(first + FEWEST - 1, len(shifts)):
            z = surface.y + shifts[(first + last) // 2]
            low, high = surface.y[0] + shifts[first : last + 1], surface.y[-1] + shifts[first : last + 1]
            z = z[(z >= low.max() - slack) & (z <= high.min() + slack)]
            size = len(z) * (last - first + 1)
            if len(z) >= FEWEST and size > most:
                most, best = size, (slice(first, last + 1), z)
    return best


def _at(surface: Surface, lr: Indices, z: Floats) -> tuple[Floats, Bools]:
    """E at lr index ``lr`` and second coordinate ``z``, both ``[resample or 1, ...]``, linear in y between
    neighbours on the same lr; and whether that lies in the grid."""
    y = z - surface.shear * surface.x[lr]
    slack = 1e-9
    inside = (y >= surface.y[0] - slack) & (y <= surface.y[-1] + slack)
    upper = np.clip(np.searchsorted(surface.y, y), 1, len(surface.y) - 1)
    below, above = surface.y[upper - 1], surface.y[upper]
    share = np.clip((y - below) / (above - below), 0.0, 1.0)
    resample = np.arange(len(surface.e)).reshape(-1, *[1] * (z.ndim - 1))
    e = (1 - share) * surface.e[resample, lr, upper - 1] + share * surface.e[resample, lr, upper]
    return e, inside


def tilt(surface: Surface, name: Coordinates) -> Found:
    """S2 = H₁₂/√(H₁₁H₂₂) of the paraboloid fitted by least squares to the best third."""
    e, cells = surface.ranked
    few = max(SMALLEST_BASIN, math.ceil(e.shape[1] / BASIN))
    if e.shape[1] < few:
        return _undefined(surface, *_too_few(e.shape[1], few))
    e, cells = e[:, :few], cells[:, :few]
    x = np.broadcast_to(surface.x[:, None], surface.z.shape).ravel()[cells]
    z = surface.z.ravel()[cells]
    x, z = x - x.mean(axis=1, keepdims=True), z - z.mean(axis=1, keepdims=True)
    design = np.stack([np.ones_like(x), x, z, x * x / 2, x * z, z * z / 2], axis=2)
    fit = np.einsum("rck,rk->rc", np.linalg.pinv(design, rcond=1e-10), e)
    h11, h12, h22 = fit[:, 3], fit[:, 4], fit[:, 5]
    # In both coordinates alike: a shear changes neither the determinant's sign nor the fitted values.
    scale = np.abs(fit[:, 3:]).max(axis=1)
    bowl = (np.minimum(h11, h22) > 1e-9 * scale) & (h11 * h22 - h12**2 > -1e-9 * scale**2)
    bowl &= (np.linalg.matrix_rank(design, tol=1e-9) == design.shape[2]) & (np.ptp(e, axis=1) > FLAT)
    if not bowl[0]:
        return _undefined(
            surface,
            f"the best {few} settings fit no bowl: flat, a saddle, or on a line",
            f"最好的 {few} 个设置拟合不出碗形：过于平坦、呈鞍形或在一条线上",
        )
    tilt = h12 / np.sqrt(np.where(bowl, h11 * h22, 1.0))
    return np.where(bowl, np.clip(tilt, -1.0, 1.0), math.nan), NOTHING


def ridge_slope(surface: Surface, name: Coordinates) -> Found:
    """S3: the slope of z*(x), the best z of each lr whose best cell is in the basin and not on the rim.

    z* is the vertex of the parabola through the best cell and its two neighbours on the same lr.
    """
    e, _ = surface.ranked
    filled = np.where(np.isnan(surface.e), math.inf, surface.e)
    if len(surface.y) < FEWEST or not e.shape[1]:
        return _undefined(surface, "needs three decays", "至少要有三个衰减值")
    worst_of_basin = e[:, min(e.shape[1], max(SMALLEST_BASIN, math.ceil(e.shape[1] / BASIN))) - 1]
    best = filled.argmin(axis=2)
    lowest = filled.min(axis=2)
    middle = np.clip(best, 1, len(surface.y) - 2)
    low, here, high = (np.take_along_axis(filled, (middle + k)[:, :, None], 2)[:, :, 0] for k in (-1, 0, 1))
    used = (best == middle) & np.isfinite(low) & np.isfinite(high) & (lowest <= worst_of_basin[:, None])
    low, high = np.where(used, low, 0.0), np.where(used, high, 0.0)
    here = np.where(used, here, 0.0)
    left = surface.y[middle] - surface.y[middle - 1]
    right = surface.y[middle + 1] - surface.y[middle]
    rise, fall = (high - here) / right, (low - here) / left  # slopes away from the best cell, both >= 0
    bend = rise + fall
    curved = bend > FLAT
    offset = np.where(curved, (fall * right - rise * left) / np.where(curved, 2 * bend, 1.0), 0.0)
    z = surface.y[middle] + offset + surface.shear * surface.x
    count = used.sum(axis=1)
    weights = used / np.maximum(count, 1)[:, None]
    x = surface.x - (weights * surface.x).sum(axis=1, keepdims=True)
    spread = (weights * x * x).sum(axis=1)
    enough = (count >= FEWEST) & (spread > 0)
    if not enough[0]:
        return _undefined(
            surface,
            f"lrs whose best decay is inside the grid: {count[0]}; three are needed",
            f"只有 {count[0]} 个学习率的最优衰减在网格内部；至少需要三个",
        )
    slope = (weights * x * z).sum(axis=1) / np.where(enough, spread, 1.0)
    note = Words(
        f"over {count[0]} of {len(surface.x)} lrs: those in the basin whose best decay is not on the rim",
        f"用了 {len(surface.x)} 个学习率中的 {count[0]} 个：在盆地内且最优衰减不在网格边缘",
    )
    return np.where(enough, slope, math.nan), note


def regret(surface: Surface, name: Coordinates) -> Found:
    """S4: at each lr take the best decay, keep its z and take the best lr; E there above the grid's lowest,
    averaged over the lrs started from."""
    if holes := int(np.isnan(surface.e[0]).sum()):
        return _undefined(surface, f"{holes} settings have no score yet", f"有 {holes} 个设置还没有分数")
    if min(surface.e.shape[1:]) < 2:
        return _undefined(surface, "needs two values on each axis", "每个轴上至少要有两个值")
    if np.ptp(surface.e[0]) <= FLAT:
        return _undefined(surface, "all settings score alike", "所有设置的分数都相同")
    starts = len(surface.x)
    kept = surface.z[np.arange(starts), surface.e.argmin(axis=2)]  # [resample, start]
    shape = (len(surface.e), starts, starts)
    every_lr = np.broadcast_to(np.arange(starts), shape)
    e, inside = _at(surface, every_lr, np.broadcast_to(kept[:, :, None], shape))
    end = np.where(inside, e, math.inf).min(axis=2)
    regret = (end - surface.e.min(axis=(1, 2))[:, None]).mean(axis=1)
    more = f"{100 * math.expm1(float(regret[0])):.1f} %"
    return regret, Words(
        f"tuned one after the other, {more} above the best", f"逐轴调参的结果比最优值高 {more}"
    )


def correlation(surface: Surface, name: Coordinates) -> Found:
    """S5: Pearson's correlation of (x, z) over the ten best cells."""
    _, cells = surface.ranked
    if cells.shape[1] < 2 * BEST:
        return _undefined(surface, *_too_few(cells.shape[1], 2 * BEST))
    x = np.broadcast_to(surface.x[:, None], surface.z.shape).ravel()
    z = surface.z.ravel()
    found = _pearson(x[cells[:, :BEST]], z[cells[:, :BEST]])
    if math.isnan(found[0]):
        return _undefined(
            surface, f"the {BEST} best settings lie on one line", f"最好的 {BEST} 个设置在一条线上"
        )
    chance = float(_pearson(x[cells[:1]], z[cells[:1]])[0])
    if abs(chance) < 0.005:
        return found, NOTHING
    return found, Words(
        f"settings picked by chance from this grid: {chance:+.2f}",
        f"若从这个网格中随机选取，则为 {chance:+.2f}",
    )


def _pearson(x: Floats, z: Floats) -> Floats:
    """Correlation along the last axis; NaN where one of them does not vary."""
    x, z = x - x.mean(axis=1, keepdims=True), z - z.mean(axis=1, keepdims=True)
    size = np.sqrt((x * x).sum(axis=1) * (z * z).sum(axis=1))
    defined = size > 1e-12
    return np.where(defined, (x * z).sum(axis=1) / np.where(defined, size, 1.0), math.nan)


def _too_few(settings: int, needed: int) -> tuple[str, str]:
    return (
        f"only {settings} settings have a score; {needed} are needed",
        f"只有 {settings} 个设置有分数；至少需要 {needed} 个",
    )


@dataclass(frozen=True)
class Definition:
    """A score and its bounds."""

    score: Callable[[Surface, Coordinates], Found]
    least: float = -math.inf
    most: float = math.inf


#: S1 to S5.
SCORES = (
    Definition(additivity, 0.0, 1.0),
    Definition(tilt, -1.0, 1.0),
    Definition(ridge_slope),
    Definition(regret, 0.0),
    Definition(correlation, -1.0, 1.0),
)
