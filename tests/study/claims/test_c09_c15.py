"""The claims about training: those with a known answer as tests, the others' machinery, and every figure."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from adamantine.report.claimfigure import panel
from adamantine.report.words import Language
from adamantine.study.cell import Cell
from adamantine.study.claims import (
    _arms,
    c09_ablation,
    c10_separability,
    c11_corrected,
    c12_bf16,
    c13_frozen_scale,
    c14_grokking,
    c15_generalization,
    load_claim,
    modules,
)
from adamantine.study.claims.claim import Effort
from adamantine.study.claims.record import from_record, to_record
from adamantine.study.claims.verdict import claim_verdict, judge, judged, verdict
from adamantine.study.claims.work import headline
from adamantine.study.ensemble import train
from adamantine.study.task import Settings, Task
from adamantine.study.tasks import load

LANGUAGES: tuple[Language, ...] = ("en", "zh")
TORCH: dict[str, Any] = {
    "i": partial(torch.optim.Adam, weight_decay=0.1),
    "iv": partial(torch.optim.AdamW, weight_decay=0.1),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("number", [12, 13])
def test_known_answers_hold(number: int) -> None:
    claim = load_claim(modules()[number])
    measured = claim.measure(Effort.SHORT)
    assert verdict(judged(claim.predictions, measured.values)) == "holds", measured.values


def test_proposition_3_is_refuted_for_every_other_form() -> None:
    equal = c13_frozen_scale.PREDICTIONS[0]
    measured = c13_frozen_scale.measure(Effort.SHORT).values
    assert judge(equal, measured["adjusted"]) == "holds"
    for control in ("plain", "running", "momentum"):
        assert judge(equal, measured[control]) == "refuted"


def test_in_float32_weights_no_decay_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of claim 12: it is the format, not the optimizer."""
    bf16 = c12_bf16.measure(Effort.SHORT)
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
    float32 = c12_bf16.measure(Effort.SHORT)
    for name in ("ours", "torch"):
        assert bf16.data["shares"][name][:5] == [0.0] * 5
        assert float32.data["shares"][name] == pytest.approx([1.0] * 10, abs=1e-2)
    assert judge(c12_bf16.PREDICTIONS[0], float32.values["lost_ours"]) == "refuted"


def test_stochastic_rounding_hits_the_neighbours_and_the_mean() -> None:
    ulp = 2.0**-7
    x = torch.full((40_000,), 1 + 0.3 * ulp)
    rounded = c12_bf16.round_stochastically(x, torch.Generator().manual_seed(0)).double()
    assert set(rounded.tolist()) == {1.0, 1 + ulp}
    spread = ulp * math.sqrt(0.3 * 0.7 / len(x))
    assert abs(float(rounded.mean()) - (1 + 0.3 * ulp)) < 4 * spread
    assert float(x.bfloat16().double().mean()) == 1.0  # to nearest, all of them go down


def _arm(name: str, decay: float, steps: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(2, 3, generator=generator).requires_grad_()
    m, v = torch.zeros_like(theta), torch.zeros_like(theta)
    eta, rate = torch.full((2, 1), 1e-2), torch.full((2, 1), decay)
    for step in range(1, steps + 1):
        theta.grad = torch.randn(2, 3, generator=generator)
        _arms.move(_arms.ARMS[name], theta, m, v, step, eta, rate)
    return theta.detach()


@pytest.mark.parametrize("name", ["i", "iv"])
def test_two_arms_are_torch_s_own(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    theta = torch.nn.Parameter(torch.randn(2, 3, generator=generator))
    optimizer = TORCH[name]([theta], lr=1e-2)
    for _ in range(5):
        theta.grad = torch.randn(2, 3, generator=generator)
        optimizer.step()
    assert torch.allclose(_arm(name, 0.1), theta.detach(), rtol=1e-5, atol=1e-6)  # a few roundings a step
    for other in _arms.ARMS.keys() - {name}:
        assert not torch.allclose(_arm(other, 0.1), theta.detach(), rtol=1e-4, atol=1e-5)


def test_without_decay_all_arms_are_adam() -> None:
    for name in _arms.ARMS:
        assert torch.equal(_arm(name, 0.0), _arm("iv", 0.0))


@pytest.fixture(scope="module")
def quick() -> Task:
    return replace(load("digits", Settings()), epochs=2)


def test_an_arm_trained_in_a_batch_is_the_method_of_the_study(quick: Task) -> None:
    settings = [("i", "Adam", 1e-2), ("iv", "AdamW", 0.5)]
    members = [_arms.Member(arm, 1e-2, decay, seed) for arm, _, decay in settings for seed in (0, 1)]
    cells = [Cell(method, 1e-2, decay, seed) for _, method, decay in settings for seed in (0, 1)]
    ours, theirs = _arms.train(quick, members), train(quick, cells)
    wrong = 1.5 / 500  # a digit may tip over by rounding
    assert np.abs(ours[:, 0] - [result.validation for result in theirs]).max() < wrong
    assert np.abs(ours[:, 1] - [result.test for result in theirs]).max() < wrong
    assert np.ptp(ours[:, 0]) > 0


def test_corrected_decay_is_flat_and_decoupled_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c11_corrected, "STEPS", 400)
    monkeypatch.setattr(c11_corrected, "DECAY", 5.0)  # the same number of timescales in fewer steps
    measured = c11_corrected.measure(Effort.SHORT).values
    assert min(measured["decoupled"]) > 1.5
    assert max(abs(x - 1) for x in measured["corrected"]) < 0.35  # a little wider for a shorter run


def test_the_recursion_of_claim_11_ends_at_the_known_equilibrium() -> None:
    *_, last = c11_corrected.squared_norms("corrected")
    known = c11_corrected.LR * c11_corrected.WEIGHTS / (2 * c11_corrected.DECAY)
    assert last == pytest.approx(known, rel=0.05)  # the first order in ηλ = 0.02


def test_wrong_labels_are_wrong_and_only_in_training() -> None:
    clean, noisy = load("digits", Settings()).data(3), c09_ablation.mislabelled().data(3)
    assert float((clean.train[1] != noisy.train[1]).double().mean()) == pytest.approx(c09_ablation.WRONG)
    for split in ("validation", "test"):
        assert torch.equal(getattr(clean, split)[1], getattr(noisy, split)[1])


def test_no_run_without_decay_stops_before_the_slowest_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Started(Exception):
        pass

    def start(task: Task, cells: list[Cell], *, schedule: str, on_epoch: Any) -> None:
        raise Started([cell.weight_decay for cell in cells], on_epoch)

    monkeypatch.setattr("adamantine.study.ensemble.train", start)
    with pytest.raises(Started) as started:
        c14_grokking.measure(Effort.SHORT)
    decays, on_epoch = started.value.args
    assert decays == [0.0, 2.0, 1e-3]
    assert on_epoch(60, {0: 1.0, 1: 0.5, 2: 0.04}) == [2]
    assert on_epoch(1200, {0: 1.0, 1: 0.5}) == []
    assert sorted(on_epoch(1260, {0: 1.0, 1: 0.04})) == [0, 1]


def test_claim_11_s_size_is_refuted_aside_and_its_direction_is_judged() -> None:
    assert round(c11_corrected.FORETOLD, 2) == 4.07
    values = {"decoupled": [2.4, 2.5, 2.3], "corrected": [0.8, 0.85, 0.85], "size": [2.4, 2.5, 2.3]}
    assert judged(c11_corrected.PREDICTIONS, values) == ["holds", "holds", "refuted"]
    assert claim_verdict(c11_corrected.PREDICTIONS, values) == "holds"
    flat = {"decoupled": [1.0, 1.1, 0.9], "corrected": [1.0, 1.1, 0.9], "size": [1.0, 1.1, 0.9]}
    assert claim_verdict(c11_corrected.PREDICTIONS, flat) == "refuted"


@pytest.mark.parametrize(
    ("decays", "edges", "decided"),
    [
        ((0.3, 1e-3), [], True),
        ((0.0, 1e-3), [], True),
        ((0.0, 0.0), [], False),
        ((0.3, 1e-3), ["lr low"], False),
    ],
)
def test_claim_15_compares_only_what_can_be_compared(
    decays: tuple[float, float], edges: list[str], decided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without decay both methods are Adam, and a best on the grid's rim is no method's best."""
    decay = dict(zip(("AdamW", "Adam"), decays, strict=True))
    errors = {"AdamW": [4.0, 5.0, 6.0], "Adam": [4.5, 5.6, 6.4]}
    monkeypatch.setattr(
        c15_generalization, "_tuned", lambda task, method, seeds: (1e-2, decay[method], edges)
    )
    monkeypatch.setattr(c15_generalization, "_judged", lambda task, method, *_: errors[method])
    measured = c15_generalization.measure(Effort.SHORT)
    said = c15_generalization.finding(measured).en
    assert ("nothing to compare" in said) == (not any(decays)), said
    expected = "holds" if decided else "not decided"
    assert judged(c15_generalization.PREDICTIONS, measured.values) == [expected, expected]


def _small(number: int, quick: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts an experiment down to a second: what it finds means nothing then."""
    if number == 9:
        monkeypatch.setattr(c09_ablation, "mislabelled", lambda: quick)
        monkeypatch.setattr(c09_ablation, "DECAYS", dict.fromkeys(_arms.ARMS, (1e-08, 1e-07)))
    if number in (10, 15):
        monkeypatch.setattr("adamantine.study.tasks.load", lambda *_: replace(quick, epochs=1))
    if number == 10:
        short = {method: decays[1:4] for method, decays in c10_separability.DECAYS.items()}
        monkeypatch.setattr(c10_separability, "DECAYS", short)
    if number == 11:
        monkeypatch.setattr(c11_corrected, "STEPS", 200)
    if number == 14:
        monkeypatch.setattr(c14_grokking, "STEPS", 40)  # nobody groks: every time is missing
    if number == 15:
        monkeypatch.setattr(c15_generalization, "GROWN", 0)
        monkeypatch.setattr(c15_generalization, "row_transformer", lambda task: task)


@pytest.mark.parametrize("number", range(9, 16))
def test_every_claim_is_measured_stored_and_drawn(
    number: int, quick: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small(number, quick, monkeypatch)
    claim = load_claim(modules()[number])
    stored = from_record({"measurement": to_record(claim.measure(Effort.SHORT))})
    assert len(judged(claim.predictions, stored.values)) == len(claim.predictions)
    title = headline(claim, stored)
    for language in LANGUAGES:
        drawn = panel(f"claim-{number}", title, partial(claim.draw, stored), language)
        assert drawn.startswith("<svg")
        assert ">nan" not in drawn
