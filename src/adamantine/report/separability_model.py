"""How separable the search over (lr, λ) is, as plain data: ``adamantine.study.separability`` fills it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adamantine.report.words import Words

Coordinates = Literal["λ", "γ"]  # the second axis beside lr: as torch's AdamW takes it, or per step, γ = ηλ
NOTHING = Words("", "")


@dataclass(frozen=True)
class Score:
    """One score with its 95 % bootstrap interval over seeds.

    ``value`` is NaN where the score is not defined, and ``note`` then says why. ``low`` and ``high`` are NaN
    without an interval: a single seed, or too many resamples in which the score is not defined.
    """

    value: float
    low: float
    high: float
    note: Words = NOTHING


@dataclass(frozen=True)
class Separability:
    """The five scores of one method in one system of coordinates; docs/separability.md defines them."""

    method: str
    coordinates: Coordinates
    additivity: Score  # S1, 1 when log error = f(lr) + g(decay); at most 1
    tilt: Score  # S2, -1 .. 1, 0 when the basin's axes are the coordinates'
    ridge_slope: Score  # S3, octaves of best decay per octave of lr; 0 when the best decay does not move
    regret: Score  # S4, in log error: what tuning one axis after the other loses; 0 when nothing
    correlation: Score  # S5, -1 .. 1, of the coordinates of the ten best settings
    settings: int  # with a score; those at λ = 0 have no place in logarithmic coordinates and are left out
    clipped: int  # settings among them at which some seed diverged
    seeds: int

    @property
    def scores(self) -> dict[str, Score]:
        """The scores by their numbers, in order."""
        found = (self.additivity, self.tilt, self.ridge_slope, self.regret, self.correlation)
        return dict(zip(NAMES, found, strict=True))


NAMES = {
    "S1": Words("additive share", "可加部分所占比例"),
    "S2": Words("tilt of the basin", "盆地的倾斜"),
    "S3": Words("slope of the ridge", "最优线的斜率"),
    "S4": Words("coordinate-search regret", "逐轴调参的损失"),
    "S5": Words("correlation of the ten best", "十个最优设置的相关系数"),
}

#: What a score is where lr and decay can be tuned one after the other.
SEPARABLE = {"S1": 1.0, "S2": 0.0, "S3": 0.0, "S4": 0.0, "S5": 0.0}

MEANINGS = {
    "S1": Words(
        "How much of the variation of log error is a function of lr plus a function of the decay.",
        "对数误差的变化中，有多大一部分可以写成“学习率的函数加上衰减的函数”。",
    ),
    "S2": Words(
        "H₁₂/√(H₁₁H₂₂) of a paraboloid through the best third of the settings: 0 is an upright basin, "
        "±1 a diagonal valley.",
        "对最好的三分之一设置拟合抛物面，取 H₁₂/√(H₁₁H₂₂)：0 表示盆地与坐标轴平行，±1 表示斜向的山谷。",
    ),
    "S3": Words(
        "By how many octaves the best decay moves when lr doubles.",
        "学习率每加倍一次，最优衰减变为原来的 2 的多少次方倍。",
    ),
    "S4": Words(
        "What is lost by tuning the decay first, at any one lr, and lr afterwards.",
        "先在某个学习率下调衰减，再调学习率，比同时调两者差多少。",
    ),
    "S5": Words(
        "Whether good settings with a larger lr have a larger (+) or smaller (−) decay.",
        "好的设置中，学习率较大的那些，衰减是较大（+）还是较小（−）。",
    ),
}
