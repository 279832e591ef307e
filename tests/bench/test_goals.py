"""Met, not met and not measured."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from adamantine.bench.goals import Goal, judge
from adamantine.bench.statistics import Floats

ROUNDS = np.linspace(0.99, 1.01, 12)
FASTER = Goal("peer", "ours", "at least", 2.0)


@pytest.mark.parametrize(
    ("sense", "peer", "status", "clear"),
    [
        ("at least", 3.0 * ROUNDS, "met", True),
        ("at least", 1.5 * ROUNDS, "not met", True),
        ("at least", 2.0 * np.ones(12), "met", True),  # exactly is enough
        ("at least", 2.0 * np.linspace(0.9, 1.2, 12), "met", False),
        ("at least", 2.0 * np.linspace(0.8, 1.1, 12), "not met", False),
        ("at most", 1.5 * ROUNDS, "met", True),
        ("at most", 3.0 * ROUNDS, "not met", True),
        ("at most", 2.0 * np.linspace(0.8, 1.1, 12), "met", False),
    ],
)
def test_the_median_decides_and_the_interval_says_how_clearly(
    sense: Literal["at least", "at most"], peer: Floats, status: str, clear: bool
) -> None:
    verdict = judge(Goal("peer", "ours", sense, 2.0), {"peer": peer, "ours": np.ones(12)}, {})
    assert (verdict.status, verdict.clear) == (status, clear)


def test_a_value_alone() -> None:
    goal = Goal("ours", None, "at most", 2**20)
    assert judge(goal, {"ours": np.zeros(7)}, {}).status == "met"
    assert judge(goal, {"ours": np.full(7, 2.0**21)}, {}).status == "not met"


@pytest.mark.parametrize(
    ("values", "missing", "reason"),
    [
        ({"ours": ROUNDS}, {"peer": "not installed"}, "peer: not installed"),
        ({"ours": ROUNDS}, {}, "peer: not chosen"),
        ({"peer": ROUNDS}, {"ours": "too large"}, "ours: too large"),
        ({}, {}, "peer: not chosen"),
    ],
)
def test_nothing_is_met_that_was_not_measured(
    values: dict[str, Floats], missing: dict[str, str], reason: str
) -> None:
    verdict = judge(FASTER, values, missing)
    assert (verdict.status, verdict.measured, verdict.reason) == ("not measured", None, reason)
