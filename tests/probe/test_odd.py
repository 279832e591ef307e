"""What the dry run says of optimizers that it has never seen: the truth, or that it does not know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.probe import odd

from adamantine.probe import behaviour_of

LR, DECAY = 2e-3, 0.05

#: class, mode, order, adaptive, lr_power, shrink in units of lr·λ
CASES: list[tuple[type, str, str, bool | None, int | None, float | None]] = [
    (odd.DecayAfter, "decoupled", "after", True, 1, 1.0),
    (odd.Beside, "decoupled", "before", True, 1, 1.0),
    (odd.Coupled, "l2", "unclear", True, None, None),
    (odd.CoupledLion, "l2", "unclear", True, None, None),
    (odd.Inside, "l2", "unclear", True, None, None),
    (odd.Fixed, "fixed", "before", True, 0, 1 / LR),
    (odd.Ignored, "ignored", "unclear", True, None, 0.0),
    (odd.Independent, "independent", "before", True, 1, 1 / LR),
    (odd.Corrected, "corrected", "before", True, 2, 1.0),
    (odd.Cautious, "cautious", "before", True, 1, 1.0),
    (odd.StrictlyCautious, "cautious", "before", True, 1, 1.0),
    (odd.SquaredRate, "other", "before", True, 2, LR),
    (odd.RootOfDecay, "other", "before", True, 1, DECAY**-0.5),
    (odd.ConstantPull, "other", "unclear", True, None, None),
    (odd.ThroughMomentum, "other", "unclear", True, None, 20.0),
    (odd.TrustRatio, "other", "unclear", True, None, None),
    (odd.Lars, "l2", "unclear", None, None, None),
    (odd.StableDecay, "other", "unclear", True, None, None),
    (odd.Averaged, "decoupled", "unclear", True, 1, 1.0),
    (odd.Grows, "other", "unclear", True, None, None),
    (odd.PlainAfter, "decoupled", "after", False, 1, 1.0),
    (odd.MomentumL2, "l2", "unclear", False, 1, 10.0),
    (odd.MomentumDecoupled, "decoupled", "before", False, 1, 1.0),
    (odd.SeededNoise, "decoupled", "before", True, 1, 1.0),
    (odd.Single, "decoupled", "before", True, 1, 1.0),
    (odd.WantsClosure, "decoupled", "after", True, 1, 1.0),
    (odd.TrainMode, "decoupled", "after", True, 1, 1.0),
    (odd.Late, "decoupled", "after", True, 1, 1.0),
    (odd.Noise, "unknown", "unclear", None, None, None),
    (odd.OwnShapesOnly, "unknown", "unclear", None, None, None),
    (odd.Raises, "unknown", "unclear", None, None, None),
]


def parameter(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.linspace(-1.0, 1.0, 12).reshape(shape or (3, 4)))


@pytest.mark.parametrize(
    ("cls", "decay", "order", "adaptive", "power", "shrink"), CASES, ids=[case[0].__name__ for case in CASES]
)
def test_found_out(
    cls: Any, decay: str, order: str, adaptive: bool | None, power: int | None, shrink: float | None
) -> None:
    found = behaviour_of(cls([parameter()], lr=LR, weight_decay=DECAY))
    assert (found.decay, found.adaptive, found.lr_power) == (decay, adaptive, power), found.evidence
    # float32 tells the order only where lr·λ·lr stands out of its rounding
    assert found.order in ({order, "unclear"} if cls is odd.Single else {order}), found.evidence
    if shrink is None:
        assert found.shrink is None
    else:
        # 5 %: the long run of a momentum buffer is extrapolated; all else is exact to 1 %
        tolerance = 0.05 if cls in (odd.MomentumL2, odd.ThroughMomentum) else 0.01
        assert found.shrink == pytest.approx(shrink * LR * DECAY, rel=tolerance), found.evidence
    assert found.source == ("none" if decay == "unknown" else "probe")
    assert found.evidence


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert "no kernel" in behaviour_of(odd.Raises([parameter()], weight_decay=0.1)).evidence
    assert "same seed" in behaviour_of(odd.Noise([parameter()], weight_decay=0.1)).evidence
    assert "leave the weight as it is" in behaviour_of(odd.OwnShapesOnly([parameter()])).evidence


def test_no_decay_and_hidden_decay() -> None:
    assert behaviour_of(odd.DecayAfter([parameter()])).decay == "none"
    hidden = behaviour_of(odd.HiddenDecay([parameter()]))
    assert hidden.decay == "other"
    assert hidden.shrink == pytest.approx(1e-3)
    ignored = behaviour_of(odd.HiddenDecay([parameter()], weight_decay=0.1))
    assert (ignored.decay, ignored.shrink) == ("ignored", pytest.approx(1e-3))
    assert "all the same" in ignored.evidence


def test_constant_pull_is_named() -> None:
    found = behaviour_of(odd.ConstantPull([parameter()], weight_decay=0.1))
    assert "whatever its size" in found.evidence


def test_growth_is_named() -> None:
    found = behaviour_of(odd.Grows([parameter()], weight_decay=0.1))
    assert "away from 0" in found.evidence


@pytest.mark.parametrize(
    ("every", "seen"), [(4, "in step 4, 8 of"), (10, "until step 10"), (100, "until step 100")]
)
def test_decay_now_and_then_is_neither_ignored_nor_fixed(every: int, seen: str) -> None:
    found = behaviour_of(odd.NowAndThen([parameter()], lr=1e-2, weight_decay=0.1, every=every))
    assert (found.decay, found.shrink) == ("other", None)
    assert seen in found.evidence


def test_decay_of_the_wrong_sign_is_named() -> None:
    found = behaviour_of(odd.FlippedL2([parameter()], lr=1e-2, weight_decay=0.1, maximize=True))
    assert (found.decay, found.shrink) == ("other", None)
    assert "away from 0, by 0.001" in found.evidence


def test_an_optimizer_with_an_lr_of_its_own() -> None:
    found = behaviour_of(odd.OwnRate([parameter()], weight_decay=0.1))
    assert (found.decay, found.lr_power, found.shrink) == ("fixed", 0, pytest.approx(1e-3))


def test_another_name_for_the_decay() -> None:
    found = behaviour_of(odd.OtherKey([parameter()], lr=0.01, wd=0.1))
    assert (found.decay, found.shrink) == ("decoupled", pytest.approx(1e-3))


@pytest.mark.parametrize("weight_decay", [1e-6, 1e-4, 10.0, 2000.0])
@pytest.mark.parametrize("cls", [odd.DecayAfter, odd.Coupled, odd.Single, odd.CoupledLion])
def test_any_size_of_decay(cls: Any, weight_decay: float) -> None:
    """From 1e-9 per step, which float32 cannot show, to twice the weight, which turns its sign."""
    expected = "l2" if cls in (odd.Coupled, odd.CoupledLion) else "decoupled"
    found = behaviour_of(cls([parameter()], lr=1e-3, weight_decay=weight_decay))
    assert found.decay == expected, found.evidence


@pytest.mark.parametrize("lr", [1e-6, 1.0])
@pytest.mark.parametrize(
    "cls", [odd.DecayAfter, odd.Coupled, odd.CoupledLion, odd.Cautious, odd.MomentumDecoupled]
)
def test_any_size_of_lr(cls: Any, lr: float) -> None:
    expected = {odd.Coupled: "l2", odd.CoupledLion: "l2", odd.Cautious: "cautious"}.get(cls, "decoupled")
    found = behaviour_of(cls([parameter()], lr=lr, weight_decay=1e-3))
    assert found.decay == expected, found.evidence


def test_ignored_is_not_said_of_a_decay_that_could_not_be_raised() -> None:
    """A λ this small turns no sign of a gradient, and none that would is accepted."""

    class Strict(odd.CoupledLion):
        def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
            if weight_decay > 1e-3:
                raise ValueError("weight_decay must be small")
            super().__init__(params, lr, weight_decay)

    assert behaviour_of(Strict([parameter()], weight_decay=1e-3)).decay == "unknown"


def test_lr_of_zero() -> None:
    """The first step of a warm-up: the mode is found at the lr to come, the shrink is the present one."""
    optimizer = odd.Beside([parameter()], lr=0.5, weight_decay=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)
    assert optimizer.param_groups[0]["lr"] == 0.0
    found = behaviour_of(optimizer)
    assert (found.decay, found.shrink) == ("decoupled", 0.0)


@pytest.mark.parametrize("shape", [(12,), (3, 4), (2, 2, 3)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert behaviour_of(odd.Beside([parameter(*shape)], weight_decay=0.1)).decay == "decoupled"
