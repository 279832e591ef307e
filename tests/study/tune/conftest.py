"""Searches that cost nothing: a valley with a known bottom instead of a training."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from adamantine.study.tune import Tuning, tune
from adamantine.study.tune.training import Objective, Report


def valley(lr: float, weight_decay: float, seed: int, report: Report) -> float:
    """Best at lr = 0.01 and γ = 1e-3; better from epoch to epoch."""
    gamma = lr * weight_decay
    score = (math.log10(lr) + 2) ** 2 + (math.log10(max(gamma, 1e-9)) + 3) ** 2 + 0.01 * seed
    for epoch in range(1, 5):
        report(epoch, score + 1 / epoch)
    return score


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Without forests and figures, except where a test is about them."""
    if "whole" not in request.fixturenames:
        monkeypatch.setattr("adamantine.study.tune.engine.importance", lambda study, names: {})
        monkeypatch.setattr("adamantine.study.tune.figure.figure_files", lambda tuning: [])


@pytest.fixture
def whole() -> None:
    """For tests that want everything as it is."""


@pytest.fixture
def search() -> Callable[..., Tuning]:
    """``tune`` on the valley with a small budget; arguments as changes."""

    def run(objective: Objective = valley, **changes: object) -> Tuning:
        arguments: dict[str, object] = {
            "objective": objective,
            "trials": 8,
            "batch": 4,
            "seeds": (0, 1),
            "confirm": 3,
            "sampler": "random",
            "pruner": "none",
            "epochs": 4,
            **changes,
        }
        return tune(**arguments)  # type: ignore[arg-type]

    return run


@pytest.fixture
def diverging() -> Objective:
    """The valley, with everything beyond lr = 0.02 diverged."""

    def objective(lr: float, weight_decay: float, seed: int, report: Report) -> float:
        return math.nan if lr > 0.02 and seed else valley(lr, weight_decay, seed, report)

    return objective
