"""Our own optimizers, every decay mode, both engines: nothing violated."""

from __future__ import annotations

import pytest

import adamantine.torch as at
from adamantine.rules.decay import MODES
from adamantine.testing import Outcome, check_optimizer
from adamantine.torch.kernel import native

ENGINES = ("generic",) if native is None else ("native", "generic")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", at.OPTIMIZERS)
def test_every_check(name, engine):
    found = check_optimizer(at.OPTIMIZERS[name], hyper={"engine": engine})
    assert found.violations == {}
    assert found["formula"].outcome is Outcome.PASSED
    slots = found["named-order"].outcome
    assert slots is Outcome.PASSED or name in {"SGD", "SGDW"}  # these keep no state without momentum


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", at.OPTIMIZERS)
def test_every_mode(name, mode):
    """The mode asked for is the mode found, and leaves the weights alone at lr = 0; engines take turns."""
    engine = ENGINES[(len(name) + len(mode)) % len(ENGINES)]
    found = check_optimizer(
        at.OPTIMIZERS[name],
        hyper={"engine": engine, "decay": mode},
        only=["decay", "loading", "zero-lr"],
    )
    assert found.violations == {}
    assert found["decay-mode"].outcome is Outcome.PASSED
    assert found["decay-mode"].statement.startswith("ignored" if mode == "none" else mode)
