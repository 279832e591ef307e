"""What `adamantine.torch.stalls` says cannot move does not move, and what it is silent about does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adamantine.torch as optim
from adamantine.torch.resolution import lost_below
from adamantine.torch.stalls import notes_of, stalls

HALF = [torch.bfloat16, torch.float16]
WEIGHTS = ["nearest", "stochastic", "kahan", "split8", "split16"]


def kinds(optimizer: Any) -> list[str]:
    return [stall.kind for stall in stalls(optimizer)]


def decayed(dtype: torch.dtype, weights: str, shrink: float, steps: int) -> torch.Tensor:
    """Weights in [1, 2) after so many steps of nothing but decay, as a mean relative loss."""
    w = torch.nn.Parameter((1 + torch.arange(256) / 256).to(dtype))
    before = w.detach().double()
    optimizer = optim.SGD([w], lr=1.0, weight_decay=shrink, decay="decoupled", weights=weights)
    for _ in range(steps):
        w.grad = torch.zeros_like(w)
        optimizer.step()
    return ((before - w.detach().double()) / before).mean() / (shrink * steps)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_decay_is_lost_below_the_limit_and_not_above(dtype: torch.dtype, weights: str) -> None:
    if dtype == torch.float16 and weights.startswith("split"):
        pytest.skip("split weights are bfloat16")
    limit = lost_below(dtype, weights)
    # Far more steps than would carry every weight over several units, if any were kept.
    if limit > 0 and weights != "split16":  # 2⁻²⁵ would need millions
        shrink = 0.9 * limit
        steps = min(round(4 * torch.finfo(dtype).eps / shrink), 3000)
        lost = decayed(dtype, weights, shrink, steps)
        if weights == "nearest":
            assert lost == 0
        w = torch.nn.Parameter(torch.ones(4, dtype=dtype))
        sgd = optim.SGD([w], lr=1.0, weight_decay=shrink, decay="decoupled", weights=weights)
        assert kinds(sgd) == ["decay"]
    else:
        shrink = 1e-5
        lost = decayed(dtype, weights, shrink, 2000)  # 2 % in all, 2.5 to 40 units
        assert lost == pytest.approx(1.0, abs=0.15)


def test_kahan_holds_what_is_above_its_own_limit_and_stalls_below() -> None:
    limit = lost_below(torch.bfloat16, "kahan")
    assert decayed(torch.bfloat16, "kahan", 16 * limit, 2000) == pytest.approx(1.0, abs=0.15)
    # 4000 steps are to take 4000·2⁻¹⁹ = 2 units of bfloat16; the residual stops before half of one.
    assert decayed(torch.bfloat16, "kahan", limit / 2, 4000) == 0


@pytest.mark.parametrize("dtype", HALF)
def test_share_of_updates_that_stay(dtype: torch.dtype) -> None:
    """With half of the elements large and half small, only the large ones stay; said and seen alike."""
    w = torch.nn.Parameter(torch.cat([torch.full((64,), 1.0), torch.full((64,), 1e-3)]).to(dtype))
    before = w.detach().clone()
    optimizer = optim.AdamW([w], lr=1e-4, weight_decay=0.0, state="float32")
    found = [stall for stall in stalls(optimizer) if stall.kind == "updates"]
    assert len(found) == 1
    assert "50%" in found[0].reason
    for _ in range(20):
        w.grad = torch.ones_like(w)
        optimizer.step()
    assert torch.equal(w[:64], before[:64])
    assert (w[64:] != before[64:]).all()


@pytest.mark.parametrize("weights", ["stochastic", "split8", "split16", "kahan"])
def test_what_the_remedies_rescue_is_not_told(weights: str) -> None:
    w = torch.nn.Parameter(torch.ones(128, dtype=torch.bfloat16))
    optimizer = optim.AdamW([w], lr=1e-3, weight_decay=0.1, weights=weights, state="8bit")
    assert stalls(optimizer) == []
    assert notes_of(optimizer) == []
    for _ in range(50):  # 50 times half a unit of 1.0 over 4
        w.grad = torch.ones_like(w)
        optimizer.step()
    assert (w < 1.0).float().mean() == 1.0


def test_sgd_is_judged_by_its_gradient() -> None:
    w = torch.nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
    optimizer = optim.SGD([w], lr=0.1)
    assert stalls(optimizer) == []  # nothing tells
    w.grad = torch.full_like(w, 1e-2)
    assert kinds(optimizer) == ["updates"]
    w.grad = torch.full_like(w, 1.0)
    assert stalls(optimizer) == []


AVERAGES: list[tuple[str, dict[str, Any], str]] = [
    ("AdamW", {}, "exp_avg_sq"),
    ("AdamW", {"amsgrad": True}, "exp_avg_sq"),
    ("Adamax", {}, "exp_inf"),
    ("NAdam", {}, "exp_avg_sq"),
    ("RMSprop", {"alpha": 0.999}, "square_avg"),
    ("AdamAtan2", {"betas": (0.9, 0.999)}, "exp_avg_sq"),
    ("Lion", {"betas": (0.9, 0.999)}, "exp_avg"),
]


@pytest.mark.parametrize(("name", "options", "key"), AVERAGES)
def test_averages_that_cannot_fall(name: str, options: dict[str, Any], key: str) -> None:
    """Said of bfloat16 state, and seen: nothing moves under 100 zero gradients. In 8 bits it falls."""

    def after(state: str) -> tuple[list[str], torch.Tensor, torch.Tensor]:
        w = torch.nn.Parameter(torch.ones(128))
        optimizer = getattr(optim, name)([w], lr=1e-3, state=state, **options)
        w.grad = torch.linspace(1, 2, 128)
        optimizer.step()
        said = [stall.reason.split()[0] for stall in stalls(optimizer) if stall.kind == "average"]
        keys = [k for k in (key, key + "_codes", key + "_codes_scale") if k in optimizer.state[w]]
        before = [optimizer.state[w][k].clone() for k in keys]
        w.grad = torch.zeros(128)
        for _ in range(100):
            optimizer.step()
        same = [torch.equal(a, optimizer.state[w][k]) for a, k in zip(before, keys, strict=True)]
        return said, torch.tensor(same), before[0]

    said, same, _ = after("bfloat16")
    assert said == [key]
    assert same.all()
    said, same, _ = after("8bit")
    if name == "Lion":  # its momentum has a sign, and is rounded to nearest
        assert said == [key]
    else:
        assert said == []
        assert not same.all()


def test_first_moments_in_4_bits() -> None:
    """Beside a second moment they are dithered; alone they are rounded to nearest, 1/14 of the largest."""
    w = torch.nn.Parameter(torch.ones(128))
    assert kinds(optim.AdamW([w], state="4bit", betas=(0.95, 0.999))) == []
    assert kinds(optim.Lion([w], state="4bit", betas=(0.9, 0.95))) == ["average"]
    assert kinds(optim.Lion([w], state="4bit", betas=(0.9, 0.9))) == []
    assert kinds(optim.Lion([w], state="8bit")) == []  # β₂ = 0.99


def test_where_kahan_stands_still() -> None:
    """At θ = 1: half a unit is 2⁻⁸, and half a unit of a residual so large 2⁻¹⁷."""
    w = torch.nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
    for lr, said in [(2**-17, []), (2**-18, ["updates"])]:
        optimizer = optim.AdamW([w], lr=lr, weight_decay=0.0, weights="kahan", state="float32")
        assert kinds(optimizer) == said


def test_a_variance_that_16_bits_make_zero() -> None:
    """Gradients of N(1, 0.2²): bfloat16 averages give a step of g/ε, float32 ones none longer than 20 lr."""
    longest = {}
    for state in ("bfloat16", "float32"):
        generator = torch.Generator().manual_seed(0)
        w = torch.nn.Parameter(torch.zeros(512))
        optimizer = optim.RMSprop([w], lr=1e-3, centered=True, state=state)
        assert kinds(optimizer).count("cancellation") == (state == "bfloat16")
        longest[state] = 0.0
        for _ in range(400):
            before = w.detach().clone()
            w.grad = 1 + 0.2 * torch.randn(512, generator=generator)
            optimizer.step()
            longest[state] = max(longest[state], float((w.detach() - before).abs().max()))
    assert longest["float32"] < 0.02
    assert longest["bfloat16"] > 10.0


def test_squares_that_float16_cannot_hold() -> None:
    w = torch.nn.Parameter(torch.ones(8))
    assert kinds(optim.AdamW([w], state="float16")) == ["underflow"]
    assert kinds(optim.AdamW([w], state="float16", eps=1e-3)) == []
    assert kinds(optim.AdamW([w], state={"exp_avg": "float16"})) == []
    optimizer = optim.AdamW([w], lr=1e-3, weight_decay=0.0, state="float16", betas=(0.9, 0.99))
    for size in (2e-3, 0.0):  # v takes in 0.01·4e-6, just what float16 can hold, and half of that is 0
        w.grad = torch.full_like(w, size / 2)
        optimizer.step()
    assert (w - 1).abs().max() > 1.0  # a step of 1e-3 was meant


def test_the_highest_learning_rate_counts_and_nothing_is_changed() -> None:
    w = torch.nn.Parameter(torch.full((8,), 0.01, dtype=torch.bfloat16))
    optimizer = optim.AdamW([w], lr=1e-3, weight_decay=1.0, betas=(0.9, 0.95))
    torch.optim.lr_scheduler.LinearLR(optimizer, 1e-6)
    before = str(optimizer.state_dict())
    assert kinds(optimizer) == [
        "decay"
    ]  # 1e-3 is below 2⁻⁹; the updates are not lost at 1e-3, at 1e-9 they are
    assert str(optimizer.state_dict()) == before
    optimizer.param_groups[0]["weight_decay"] = 3.0
    assert stalls(optimizer) == []


def test_sentences_name_the_parameters_and_the_remedy() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)).bfloat16()
    optimizer = optim.AdamW(model.named_parameters(), lr=1e-5, weight_decay=0.1, state="float32")
    decay, updates = notes_of(optimizer)
    assert decay.startswith("0.weight and 3 more: a step's decay removes 1e-06")
    assert 'weights="stochastic"' in decay
    assert "half a unit" in updates


def test_odd_parameters() -> None:
    """Complex, empty, frozen, scalar and sparse-gradient ones neither raise nor are told without reason."""
    frozen = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16), requires_grad=False)
    embedding = torch.nn.Embedding(5, 4, sparse=True, dtype=torch.bfloat16)
    embedding(torch.tensor([1])).sum().backward()
    params = [
        frozen,
        torch.nn.Parameter(torch.ones(0, dtype=torch.bfloat16)),
        torch.nn.Parameter(torch.ones(3, dtype=torch.complex64)),
        torch.nn.Parameter(torch.ones((), dtype=torch.float64)),
        embedding.weight,
    ]
    assert stalls(optim.SGD(params, lr=1.0)) == []
    assert notes_of(optim.AdamW(params, lr=1.0, betas=(0.9, 0.95))) == []
