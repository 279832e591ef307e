"""Each number of the ledger against what is known of it beforehand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import adamantine.torch as ours
from adamantine.audit.checks import CATALOGUE
from adamantine.audit.errors import AuditError
from adamantine.audit.ledger import Ledger
from adamantine.audit.model import LayerRow, LedgerReport

LR = 1e-3


class Weights(nn.Module):
    """One parameter ``w`` whose gradient the test sets."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)


def watch(
    w: Tensor,
    make: Callable[[Any], torch.optim.Optimizer],
    gradient: Callable[[int, Tensor], Tensor],
    steps: int,
    *,
    every: int = 1,
    each: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None,
) -> tuple[Weights, torch.optim.Optimizer, LedgerReport]:
    model = Weights(w)
    optimizer = make(model.parameters())
    with Ledger(optimizer, model, every=every) as ledger:
        for step in range(steps):
            model.w.grad = gradient(step, model.w.detach()).to(model.w.dtype)
            optimizer.step()
            each(optimizer)
    return model, optimizer, ledger.report()


def noise(seed: int = 0, sigma: Tensor | float = 1.0) -> Callable[[int, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda step, theta: sigma * torch.randn(theta.shape, generator=generator, dtype=torch.float64)


def weights(count: int = 400, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)


def one(report: LedgerReport) -> LayerRow:
    (layer,) = report.layers
    return layer


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


# --- decay told from the gradient's part


@pytest.mark.parametrize("mode", ["decoupled", "independent", "corrected"])
def test_decoupled_decay_is_r_theta_under_a_schedule(mode: Any) -> None:
    """lr falls to half before the last step: r is that of the present lr. Exact, up to float64's rounding."""
    strength = {"decoupled": 0.5 * LR, "independent": 0.5, "corrected": 0.25 * LR}[mode]
    weight_decay = 0.01
    seen: list[Tensor] = []

    def halve(optimizer: torch.optim.Optimizer) -> None:
        optimizer.param_groups[0]["lr"] = LR / 2
        seen.append(optimizer.param_groups[0]["params"][0].detach().clone())

    _, _, report = watch(
        weights(),
        lambda p: ours.AdamW(p, lr=LR, weight_decay=weight_decay, decay=mode),
        noise(),
        101,
        every=100,
        each=halve,
    )
    layer = one(report)  # the median of the steps 1 and 100
    first, hundredth = rms(weights()), rms(seen[98])
    rate = {"decoupled": LR, "independent": 1.0, "corrected": LR}[mode] * weight_decay
    assert layer.decay_step == pytest.approx(
        (rate * first + strength * weight_decay * hundredth) / 2, rel=1e-12
    )
    assert layer.separation == "formula"


@pytest.mark.parametrize("make", [torch.optim.Adam, ours.Adam])
def test_l2_in_adam_against_moments_kept_apart(make: Any) -> None:
    """m = m_g + m_θ with m_θ the running mean of λθ, so the decay's step is η·m̂_θ/(√v̂ + ε), exactly.

    The ledger takes m̂_θ for λθ: off by what θ moves within 1/(1-β₁) = 10 steps, at most 10·η = 1 % of
    weights of size 1.
    """
    weight_decay, steps = 0.1, 200
    mean = torch.zeros(400, dtype=torch.float64)
    kept: dict[str, Tensor] = {}
    source = noise()

    def gradient(step: int, theta: Tensor) -> Tensor:
        mean.mul_(0.9).add_(weight_decay * theta, alpha=0.1)
        kept["theta"] = theta.clone()
        return source(step, theta)

    model, optimizer, report = watch(
        weights(), lambda p: make(p, lr=LR, weight_decay=weight_decay), gradient, steps, every=steps
    )
    v = optimizer.state[model.w]["exp_avg_sq"] / (1 - 0.999**steps)
    exact = LR * mean / (1 - 0.9**steps) / (v.sqrt() + 1e-8)
    change = model.w.detach() - kept["theta"]
    with Ledger(optimizer, model, every=1) as ledger:  # one more step alone, so that no median is in between
        before = model.w.detach().clone()
        model.w.grad = gradient(steps, before)
        optimizer.step()
    layer = one(ledger.report())
    v = optimizer.state[model.w]["exp_avg_sq"] / (1 - 0.999 ** (steps + 1))
    exact = LR * mean / (1 - 0.9 ** (steps + 1)) / (v.sqrt() + 1e-8)
    change = model.w.detach() - before
    assert layer.separation == "formula"
    assert layer.decay_step == pytest.approx(rms(exact), rel=0.01)
    assert layer.gradient_step == pytest.approx(rms(change + exact), rel=0.01)
    assert one(report).separation == "formula"


def test_l2_in_sgd_with_momentum() -> None:
    """The buffer holds 1/(1-μ) times λθ: 10 η λ θ. θ moves by 1e-4 of itself in the buffer's 10 steps."""
    _, _, report = watch(
        weights(),
        lambda p: torch.optim.SGD(p, lr=1e-5, momentum=0.9, weight_decay=0.1),
        lambda step, theta: torch.zeros_like(theta),
        200,
        every=200,
    )
    start = rms(weights())
    assert one(report).decay_step == pytest.approx(1e-5 * 0.1 * 10 * start, rel=1e-3)


class OddL2(torch.optim.Optimizer):
    """RMSprop by another name and with state of other names: only a copy of the step can tell."""

    def __init__(self, params: Any, lr: float = LR, weight_decay: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                g = p.grad + group["weight_decay"] * p
                size = self.state[p].setdefault("size", torch.ones_like(p))
                size.mul_(0.9).add_(g.square(), alpha=0.1)
                p.sub_(group["lr"] * g / size.sqrt())


def test_an_unknown_optimizer_is_stepped_again_without_decay() -> None:
    """step(λ) - step(0) of the same state, by hand, is what the ledger says. The first measured
    step tells that no formula holds; the copy is there from the second on."""
    size, theta, source = torch.ones(400, dtype=torch.float64), weights(), noise()
    expected = []
    for step in range(3):
        g = source(step, theta)
        with_decay, without = (0.9 * size + 0.1 * (g + lam * theta) ** 2 for lam in (0.1, 0.0))
        moved = LR * (g + 0.1 * theta) / with_decay.sqrt()
        expected.append(rms(moved - LR * g / without.sqrt()))
        theta, size = theta - moved, with_decay
    _, _, report = watch(weights(), OddL2, noise(), 3)
    layer = one(report)
    assert layer.separation == "counterfactual"
    assert layer.decay_step == pytest.approx(np.median(expected[1:]), rel=1e-9)


class Mixing(torch.optim.Optimizer):
    """A step in which every element depends on all the others, and a decay that no mode describes."""

    def __init__(self, params: Any, lr: float = LR, weight_decay: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * p.grad.flip(0) * p.numel() + group["weight_decay"] * p.sum() * p**2)


def test_what_cannot_be_told_apart_is_said_to_be_unknown() -> None:
    """9000 elements are sampled, and the copy of a sample does not step as the whole does."""
    _, _, report = watch(0.01 * weights(9000), Mixing, noise(sigma=1e-3), 4)
    layer = one(report)
    assert layer.separation == "unknown"
    assert math.isnan(layer.decay_step)
    assert layer.gradient_step > 0


def test_cautious_decay_counts_where_it_acts() -> None:
    """Weights that gradients push away from 0 do not decay, those pushed towards 0 do; half and half here."""
    theta = torch.cat([torch.ones(50), -torch.ones(50)]).double()
    _, _, report = watch(
        theta,
        lambda p: ours.AdamW(p, lr=LR, weight_decay=0.1, decay="cautious"),
        lambda step, theta: torch.ones_like(theta),  # u·θ > 0 for the first half only
        1,
    )
    assert one(report).decay_step == pytest.approx(LR * 0.1 * math.sqrt(0.5), rel=1e-12)


# --- rounding


@pytest.mark.parametrize("make", [torch.optim.AdamW, ours.AdamW])
def test_decay_below_the_spacing_of_bf16_is_rounded_to_nothing(make: Any) -> None:
    """ηλ = 1e-4 < 2⁻⁹: 1000 steps leave 1.0 at 1.0, and all updates vanish. In float32 none do."""
    for dtype, share in ((torch.bfloat16, 1.0), (torch.float32, 0.0)):
        model, _, report = watch(
            torch.ones(64, dtype=dtype),
            lambda p: make(p, lr=1e-3, weight_decay=0.1),
            lambda step, theta: torch.zeros_like(theta),
            1000,
            every=100,
        )
        assert bool((model.w == 1.0).all()) == (share == 1.0)
        assert one(report).rounded == share
        assert one(report).decay_step == pytest.approx(
            1e-4, rel=0.1
        )  # what was meant; θ falls by 10 % in float32
        assert ("stalled-updates" in codes(report)) == (share == 1.0)


def test_share_of_rounded_updates_is_that_of_large_weights() -> None:
    """Sign-like steps of 2⁻¹⁰: a bf16 weight in [1, 2) has neighbours 2⁻⁷ away and stays, one in [2⁻⁶, 2⁻⁵)
    has them 2⁻¹³ away and moves. A quarter of the weights is large."""
    theta = torch.cat([torch.full((25,), 1.5), torch.full((75,), 1.5 * 2.0**-6)]).bfloat16()
    _, _, report = watch(
        theta,
        lambda p: torch.optim.AdamW(p, lr=2.0**-10, weight_decay=0.0),
        lambda step, theta: torch.ones_like(theta),
        4,
    )
    assert one(report).rounded == 0.25


def test_elements_that_were_not_to_move_are_not_rounded() -> None:
    """A mask of its own (here: odd places never move) leaves weights alone on purpose; the copy knows."""

    class Masked(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for p in group["params"]:
                    p[::2] -= group["lr"] * p.grad[::2]

    _, _, report = watch(weights(100), Masked, noise(), 9)
    assert (
        one(report).rounded == 0.0
    )  # the first measured step takes the odd places for rounded, 8 others do not


def test_stochastic_rounding_loses_nothing() -> None:
    """Steps of 1/16 of a spacing move one weight in 16, so that the mean is right."""

    class Dithering(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float = 2.0**-11) -> None:
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for p in group["params"]:
                    exact = p.float() - group["lr"] * p.grad.float().sign()
                    if p.dtype == torch.bfloat16:
                        bits = exact.view(torch.int32) + torch.randint(1 << 16, p.shape, dtype=torch.int32)
                        exact = (bits & -(1 << 16)).view(torch.float32)
                    p.copy_(exact)

    torch.manual_seed(0)
    _, _, report = watch(torch.full((2000,), 1.5).bfloat16(), Dithering, noise(), 5)
    assert one(report).rounded == 0.0
    assert not codes(report)


# --- equilibrium


def settled(make: Callable[[Any], torch.optim.Optimizer], sigma: float, steps: int, start: float) -> LayerRow:
    """The last row of a run under pure noise."""
    _, _, report = watch(start * weights(2000), make, noise(sigma=sigma), steps, every=steps)
    return one(report)


@pytest.mark.parametrize("sigma", [0.01, 1.0])
@pytest.mark.parametrize("method", ["adamw", "adam_l2", "sgdm"])
def test_pure_noise_comes_to_rest_at_the_predicted_norm(method: str, sigma: float) -> None:
    """From twice the norm at rest, for 6 relaxation times 1/(2r): 3·e⁻⁶ = 0.7 % are left in the square, and a
    sample of 2000 weights has √(1/4000) = 1.6 %. As in claim 6, 5 % in all.
    """
    lr, decay = {
        "adamw": (1e-2, 0.5),
        "adam_l2": (1e-2, 0.5 * sigma),
        "sgdm": (1e-2, 0.05),
    }[method]
    rate = lr * decay / {"adamw": 1.0, "adam_l2": sigma, "sgdm": 0.1}[method]
    rest = {
        "adamw": math.sqrt(lr / (2 * decay)),
        "adam_l2": math.sqrt(lr * sigma / (2 * decay)),
        "sgdm": sigma * math.sqrt(lr / (2 * decay * 0.1)),
    }[method]
    make = {
        "adamw": lambda p: ours.AdamW(p, lr=lr, weight_decay=decay),
        "adam_l2": lambda p: ours.Adam(p, lr=lr, weight_decay=decay),
        "sgdm": lambda p: ours.SGD(p, lr=lr, momentum=0.9, weight_decay=decay),
    }[method]
    layer = settled(make, sigma, round(3 / rate), 2 * rest)
    assert layer.equilibrium == pytest.approx(rest * math.sqrt(2000), rel=0.05)
    assert layer.norm == pytest.approx(layer.equilibrium, rel=0.05)


def test_no_equilibrium_without_decay_or_for_steps_of_unknown_length() -> None:
    for make in (
        lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=0.0),
        lambda p: torch.optim.Adagrad(p, lr=LR, weight_decay=0.1),
        lambda p: ours.Lion(p, lr=LR, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=0.1, amsgrad=True),
    ):
        _, _, report = watch(weights(), make, noise(), 3)
        assert one(report).equilibrium is None


# --- distortion


def spread(make: Callable[[Any], torch.optim.Optimizer]) -> LedgerReport:
    """Gradients of scales over three decades, 4000 weights."""
    sigma = torch.logspace(-3, 0, 4000, dtype=torch.float64)
    _, _, report = watch(weights(4000), make, noise(sigma=sigma), 200, every=20)
    return report


def slope(report: LedgerReport) -> float:
    assert report.distortion is not None
    picture = report.distortion
    return float(np.polyfit(np.log(picture.gradient), np.log(picture.effective), 1)[0])


def test_adamw_gives_every_element_the_same_decay() -> None:
    report = spread(lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=0.1))
    picture = report.distortion
    assert picture is not None
    assert picture.nominal == pytest.approx(1e-4, rel=1e-12)
    assert picture.low == picture.high == picture.effective
    assert picture.effective == pytest.approx([1e-4] * len(picture.effective), rel=1e-12)
    assert codes(report) == set()


def test_adam_with_l2_divides_it_by_the_gradients_size() -> None:
    """Effective decay ηλ/√v̂ ∝ 1/σ: slope -1. The RMS of 10 measured gradients scatters by 22 %, which
    flattens a slope over 3 decades little: -1 ± 0.05 as in claim 2."""
    report = spread(lambda p: torch.optim.Adam(p, lr=LR, weight_decay=1e-5))
    assert slope(report) == pytest.approx(-1, abs=0.05)
    (finding,) = [f for f in report.findings if f.code == "distorted-decay"]
    assert finding.parameters == ("w",)
    assert "slope" in finding.reason.en
    assert "斜率" in finding.reason.zh


# --- findings, files


def codes(report: LedgerReport) -> set[str]:
    return {finding.code for finding in report.findings}


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_gradients_that_are_not_finite(bad: float) -> None:
    """Every step is looked through, also those that are not measured."""

    def gradient(step: int, theta: Tensor) -> Tensor:
        return torch.where(torch.arange(len(theta)) == 7, bad if step in (3, 5) else 1.0, 1.0)

    _, _, report = watch(
        weights(6000),
        lambda p: ours.AdamW(p, lr=LR, on_nonfinite="skip"),
        gradient,
        10,
        every=4,
    )
    assert one(report).nonfinite == 2
    assert report.checked == 10
    (finding,) = report.findings
    assert (finding.code, finding.severity) == ("nonfinite-gradients", "warning")
    _, _, report = watch(weights(6000), lambda p: torch.optim.AdamW(p, lr=LR), gradient, 10, every=4)
    assert [(f.code, f.severity) for f in report.findings] == [("nonfinite-gradients", "error")]


def test_decay_that_moves_weights_further_than_the_loss() -> None:
    _, _, report = watch(
        weights(), lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1), noise(sigma=1e-3), 20
    )
    assert codes(report) == {"decay-dominates"}
    _, _, report = watch(
        weights(), lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-3), noise(sigma=1.0), 20
    )
    assert codes(report) == set()


def test_norms_that_rest_elsewhere_are_a_note() -> None:
    """A gradient with a lasting direction holds the weights at 1/λ, not where noise would."""

    def towards_one(step: int, theta: Tensor) -> Tensor:
        return (theta - 1.0).sign()

    _, _, report = watch(
        weights().view(20, 20),
        lambda p: ours.AdamW(p, lr=1e-2, weight_decay=0.5),
        towards_one,
        400,
        every=50,
    )
    (finding,) = report.findings
    assert (finding.code, finding.severity) == ("far-from-equilibrium", "note")


def test_a_measurement_that_fails_ends_the_measuring_not_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for state of a class that refuses to be read."""
    model = Weights(weights())
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def refuse(*_: Any) -> None:
        raise RuntimeError("not now\nnor later")

    with Ledger(optimizer, model, every=1) as ledger:
        for step in range(4):
            if step == 2:
                monkeypatch.setattr(ledger._watches[0], "after", refuse)
            model.w.grad = torch.ones_like(model.w)
            optimizer.step()
    report = ledger.report()
    assert model.w.detach().allclose(weights() - 4 * LR, atol=1e-12)
    assert (report.steps, report.measured) == (4, 2)
    (finding,) = report.findings
    assert (finding.code, finding.severity) == ("not-measured", "note")
    assert "step 3 (RuntimeError: not now)" in finding.reason.en
    assert finding.code in CATALOGUE  # so that it can be explained and ignored


@pytest.mark.parametrize("offload", [False, True])
def test_released_gradients_are_not_taken_for_gradients_of_zero(offload: bool) -> None:
    """They are gone before ``step()``; the ledger says so, whenever release begins."""
    model = Weights(weights())
    optimizer = ours.AdamW(model.parameters(), lr=LR, offload=offload)
    with (
        optimizer.release_gradients(),
        pytest.raises(AuditError, match=r"releases its gradients .* audit the training without"),
        Ledger(optimizer, model),
    ):
        pass
    with Ledger(optimizer, model, every=1) as ledger, optimizer.release_gradients():
        model.w.sum().backward()
        optimizer.step()
    (finding,) = ledger.report().findings
    assert "step 1 (AuditError: AdamW releases its gradients" in finding.reason.en


def test_formulas_of_other_names_are_recognized_by_their_steps() -> None:
    """RAdam and Adamax with L2 step by formulas of their own; NAdam's is not known: a copy has to tell."""
    for make, how in (
        (torch.optim.RAdam, "formula"),
        (torch.optim.Adamax, "formula"),
        (torch.optim.RMSprop, "formula"),
        (torch.optim.Adagrad, "formula"),
        (torch.optim.NAdam, "counterfactual"),
    ):
        _, _, report = watch(weights(), lambda p: make(p, lr=LR, weight_decay=0.1), noise(), 12)  # noqa: B023
        assert (make, one(report).separation) == (make, how)


class Halving(torch.optim.AdamW):
    """AdamW's state and half of its gradient's step."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        before = [p.clone() for p in self.param_groups[0]["params"]]
        super().step()
        for p, old in zip(self.param_groups[0]["params"], before, strict=True):
            p.add_(old).div_(2)


def test_no_equilibrium_from_the_names_of_state_alone() -> None:
    _, _, report = watch(weights(), lambda p: Halving(p, lr=LR, weight_decay=0.1), noise(), 3)
    assert one(report).equilibrium is None


def test_lines_are_appended_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    model = Weights(weights())
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    with Ledger(optimizer, model, every=2) as ledger:
        for _ in range(2):
            for _ in range(3):
                model.w.grad = torch.ones_like(model.w)
                optimizer.step()
            ledger.write(path)
            ledger.write(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 4, 6]
    assert {line["name"] for line in lines} == {"w"}
    assert lines[0]["gradient"] == 1.0


def test_memory_is_bounded() -> None:
    """1100 measured steps: never more than 512 are kept, evenly spread."""
    model = Weights(torch.ones(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with Ledger(optimizer, model, every=1) as ledger:
        for _ in range(1100):
            model.w.grad = torch.ones(2)
            optimizer.step()
    kept = [line["step"] for line in ledger._series.unwritten([["w"]])]
    assert kept == list(range(1, 1101, 4))
    assert ledger.report().measured == 1100


def test_same_numbers_twice() -> None:
    """With ``every`` given, nothing depends on the clock."""
    reports = [
        watch(weights(9000), lambda p: torch.optim.AdamW(p, lr=LR), noise(), 20, every=3)[2] for _ in range(2)
    ]
    assert reports[0] == reports[1]
