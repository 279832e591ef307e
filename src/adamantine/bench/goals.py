"""What a case is meant to reach, as data, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from adamantine.bench.statistics import Estimate, Floats, median, ratio

MIB = 2**20


@dataclass(frozen=True)
class Goal:
    """``numerator ÷ denominator`` at most or at least ``bound``; without denominator, the value itself.

    >>> print(Goal("torch fused", "adamantine", "at least", 1.1))
    torch fused ÷ adamantine ≥ 1.1
    >>> print(Goal("adamantine", None, "at most", 2**20))
    adamantine ≤ 1 MiB
    """

    numerator: str
    denominator: str | None
    sense: Literal["at most", "at least"]
    bound: float

    def __str__(self) -> str:
        sign = "≤" if self.sense == "at most" else "≥"
        if self.denominator is None:
            return f"{self.numerator} {sign} {self.bound / MIB:g} MiB"
        return f"{self.numerator} ÷ {self.denominator} {sign} {self.bound:g}"

    def holds(self, value: float) -> bool:
        return value <= self.bound if self.sense == "at most" else value >= self.bound


@dataclass(frozen=True)
class Verdict:
    """``status`` goes by the median; ``clear`` when the whole interval is on its side of the bound."""

    goal: Goal
    status: Literal["met", "not met", "not measured"]
    measured: Estimate | None = None
    clear: bool = False
    reason: str = ""


def judge(goal: Goal, values: Mapping[str, Floats], missing: Mapping[str, str]) -> Verdict:
    """``values``: one number per round for every contestant measured; ``missing``: why others were not."""
    for name in (goal.numerator, goal.denominator):
        if name is not None and name not in values:
            return Verdict(goal, "not measured", reason=f"{name}: {missing.get(name, 'not chosen')}")
    if goal.denominator is None:
        measured = median(values[goal.numerator])
    else:
        measured = ratio(values[goal.numerator], values[goal.denominator])
    ends = {goal.holds(measured.low), goal.holds(measured.high)}
    holds = goal.holds(measured.median)
    return Verdict(goal, "met" if holds else "not met", measured, clear=ends == {holds})
