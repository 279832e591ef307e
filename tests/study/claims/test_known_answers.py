"""Claims with a known answer are tests of the optimizers too, in short forms, with negative controls."""

from __future__ import annotations

import numpy as np
import pytest

from adamantine.study.claims import c02_divided_decay as c02
from adamantine.study.claims import c06_equilibrium as c06
from adamantine.study.claims import c07_gradient_scale as c07
from adamantine.study.claims import load_claim, modules
from adamantine.study.claims.claim import Effort
from adamantine.study.claims.record import to_record
from adamantine.study.claims.verdict import judged


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.mark.parametrize("number", [1, 3, 4, 5, 8])
def test_holds(number: int) -> None:
    claim = load_claim(modules()[number])
    values = to_record(claim.measure(Effort.SHORT))["values"]
    statuses = dict(zip((p.name for p in claim.predictions), judged(claim.predictions, values), strict=True))
    assert set(statuses.values()) == {"holds"}, (statuses, values)


def test_2_only_l2_is_divided() -> None:
    adamw, adam_l2 = (c02.rates(method, 80, seed=0) for method in ("adamw", "adam_l2"))
    assert adamw.rate / (c02.LR * c02.DECAYS["adamw"]) == pytest.approx(1, abs=1e-6)
    assert abs(c02.slope(adam_l2.divisor, adam_l2.rate) + 1) < 0.1
    assert len(adam_l2.rate) > 5000


@pytest.mark.parametrize("name", ["adamw", "sgdm"])
def test_6_norm_and_rotation_at_rest(name: str) -> None:
    walk = c06.walk(name, [1.0], 1500, seeds=2)
    # The tolerance of the claim, for a walk a tenth as long that starts at rest.
    assert c06.at_rest(walk.norm).mean() / c06.norm_at_rest(name) == pytest.approx(1, abs=0.05)
    assert walk.rotation.mean() / c06.rotation(name) == pytest.approx(1, abs=0.05)


def test_6_only_l2_sees_the_size_of_the_gradients() -> None:
    assert c06.norm_at_rest("adamw", 8.0) == c06.norm_at_rest("adamw")
    assert c06.norm_at_rest("adam_l2", 8.0) == pytest.approx(2 * c06.norm_at_rest("adam_l2"))
    for name, start in (("adamw", 1.0), ("adam_l2", 2.0)):
        walk = c06.walk(name, [1.0], 1000, seeds=1, sigma=8.0)
        assert c06.at_rest(walk.norm).mean() / c06.norm_at_rest(name) == pytest.approx(start, abs=0.1 * start)


def test_7_slope_0_and_one_half() -> None:
    slopes = {m: c07.slope(c07.SIGMAS, c07.noise(m, 9_000, 1)[0]) for m in c07.DECAYS}
    assert abs(slopes["adamw"]) < 0.1  # one seed: twice the claim's tolerance
    assert abs(slopes["adam_l2"] - 0.5) < 0.1


def test_7_a_normalized_net_shows_it() -> None:
    pixels = {m: c07.net(m, 800, seed=0) for m in c07.DECAYS}
    slopes = {m: c07.slope(p.scale, p.rms) for m, p in pixels.items()}
    assert slopes["adam_l2"] - slopes["adamw"] > 0.25
    assert np.ptp(np.log10(pixels["adamw"].scale)) > 1  # decades
