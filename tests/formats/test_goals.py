"""The study's goals, on the optimizer itself; and the study measures what the optimizer does.

docs/quantization.md has these tests with more elements, and what others' codes do in them.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from adamantine.torch import AdamW

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
study: Any = importlib.import_module("quantization_cases")
codes: Any = importlib.import_module("quantization_codes")
curves: Any = importlib.import_module("quantization_curves")

ELEMENTS = 1024  # eight blocks, on which the errors differ by a tenth from those of many


def case(decades: float) -> Any:
    return study.synthetic("test", "", decades, elements=ELEMENTS)


def displacement(case: Any, state: Any) -> Any:
    """-θ of AdamW with lr 1 from 0, without decay."""
    p = torch.nn.Parameter(torch.zeros(ELEMENTS))
    optimizer = AdamW(
        [p], lr=1.0, betas=(study.BETA1, study.BETA2), eps=study.EPS, weight_decay=0.0, state=state
    )
    for (g,) in case.gradients(0):
        p.grad = torch.from_numpy(g)
        optimizer.step()
    kept = sum(t.nbytes for key, t in optimizer.state[p].items() if key.startswith("exp_avg"))
    return [-p.detach().double().numpy()], kept / ELEMENTS


@pytest.mark.parametrize(
    ("state", "decades", "most", "most_bytes"),
    [("8bit", 0, 0.0075, 2.1), ("8bit", 4, 0.05, 2.1), ("4bit", 0, 0.12, 1.15), ("4bit", 4, 0.5, 1.15)],
)
def test_goals(state: str, decades: float, most: float, most_bytes: float) -> None:
    """Errors and bytes of the issue's table; 4 bits with spread scales: bounded, half of the displacement."""
    truth = study.displacements(case(decades), {"exact": study.Store()})["exact"]
    found, size = displacement(case(decades), state)
    assert study.error(found, truth) <= most
    assert size <= most_bytes


@pytest.mark.parametrize(("m", "v"), [(8, 8), (4, 8), (4, 4)])
def test_the_study_measures_the_optimizer(m: int, v: int) -> None:
    """Its displacement and the optimizer's agree to 10⁻⁵: 200 updates added up in float32 are off by 10⁻⁶."""
    stored = study.displacements(case(4), {"ours": study.Store(*codes.ours(m, v))})["ours"]
    found, _ = displacement(case(4), {"exp_avg": f"{m}bit", "exp_avg_sq": f"{v}bit"})
    assert study.error(found, stored) < 1e-5


def test_a_blunt_code_fails_the_goals() -> None:
    """The measure sees it: a linear m with a linear √v is off by more than half at four decades."""
    blunt = study.Store(curves.power(1, 8, True), curves.power(2, 8, False))
    assert study.errors(case(4), {"blunt": blunt})["blunt"] > 0.5
    assert study.errors(case(4), {"same": study.Store()})["same"] == 0
