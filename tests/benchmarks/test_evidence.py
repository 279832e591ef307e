"""The benchmarks behind docs/memory.md: their statistics, and each in its shortest form on the real path."""

from __future__ import annotations

import doctest
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


statistics = load("equivalence")
sys.modules["equivalence"] = statistics  # as its siblings import it
training = load("low_memory_training")


@pytest.mark.parametrize(
    ("shift", "noise", "verdict"),
    [
        (0.0, 0.05, "equivalent"),
        (2.0, 0.05, "different"),
        (-2.0, 0.05, "different"),
        (0.0, 5.0, "not decided"),
    ],
)
def test_three_verdicts(shift: float, noise: float, verdict: str) -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=12)
    arm = reference + shift + noise * rng.normal(size=12)
    assert statistics.equivalence(arm.tolist(), reference.tolist()).verdict == verdict


def test_the_margin_is_the_standard_error_of_five_seeds_however_many_were_run() -> None:
    reference = [1.0, 2.0, 3.0] * 4
    found = statistics.equivalence(reference, reference)
    assert found.margin == pytest.approx(np.std(reference, ddof=1) / 5**0.5)


def test_a_difference_at_the_margin_is_called_equivalent_in_one_of_twenty() -> None:
    """The level of the test. Of 1000 trials at 5 %, fewer than 30 or more than 72 are one in 400 (binomial).

    The margin is estimated from the same seeds; here they are scaled so that it is what it estimates.
    """
    rng = np.random.default_rng(1)
    called = 0
    for _ in range(1000):
        reference = rng.normal(size=20)
        reference = (reference - reference.mean()) / reference.std(ddof=1)
        arm = reference + 1 / 5**0.5 + rng.normal(scale=0.5, size=20)
        called += statistics.equivalence(arm.tolist(), reference.tolist()).verdict == "equivalent"
    assert 30 <= called <= 72


def test_an_arm_that_diverged_is_never_equivalent() -> None:
    assert statistics.equivalence([1.0, float("nan"), 1.0], [1.0, 1.1, 0.9]).verdict == "different"


@pytest.mark.parametrize("name", ["8-bit state", "bf16 split8, 4-bit state"])
def test_an_arm_trains(name: str) -> None:
    from adamantine.study.task import Settings
    from adamantine.study.tasks import load as task

    setting = replace(training.SETTINGS["digits-resnet"], epochs=2)
    found = training.train(task("digits-resnet", Settings(epochs=2)), setting, training.ARMS[name], 0)
    assert found["train"] < 2.0  # chance is ln 10 = 2.3
    assert found["test"] < 2.0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_measured_memory_is_what_the_report_predicts() -> None:
    """Of a net this small (84 MB) within a quarter: buffers of torch and holes in the heap are 10 MB."""
    command = [sys.executable, str(BENCHMARKS / "peak_memory.py"), "--child", "float32, 8-bit state"]
    done = subprocess.run(
        [*command, "--layers=8", "--width=1024"], check=True, capture_output=True, text=True, timeout=120
    )
    row = json.loads(done.stdout)
    elements = row["parameters"]
    assert elements == 8 * 1024**2
    assert row["predicted"] == elements * (4 + 4 + 2 * (1 + 4 / 128)) + 8 * 12  # step count, rounding key
    assert row["peak"] - row["baseline"] == pytest.approx(row["predicted"], rel=0.25)


def test_the_page_runs() -> None:
    found = doctest.testfile(str(BENCHMARKS.parent / "docs" / "memory.md"), module_relative=False)
    assert found.attempted > 10
    assert found.failed == 0
