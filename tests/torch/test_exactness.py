"""The generic engine on a CPU gives the reference's bits: every rule, mode, dtype, path and thread count."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests.torch.rule_cases import CASES

import adamantine.torch as at
from adamantine.reference import Optimizer as Reference
from adamantine.rules import RULES
from adamantine.rules.decay import MODES
from adamantine.torch.engines import generic

SHAPES = {"matrix": (7, 9), "vector": (5,), "scalar": (), "empty": (0, 3), "wide": (3, 401)}
STEPS = 12


def run_both(rule, mode, dtype, *, lam=0.1, lr=0.03, scale=1.0, **flags):
    """The same training in the reference and in torch; parameters and slots of both at the end."""
    name, options = CASES[rule]
    rng = np.random.default_rng(3)
    theta = {key: rng.normal(size=shape).astype(dtype) for key, shape in SHAPES.items()}
    params = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in theta.items()}
    cls = at.OPTIMIZERS[name]
    ours = cls(params.items(), lr=lr, weight_decay=lam, decay=mode, **options, **flags)
    hyper = {key: options.get(key, ours.defaults[key]) for key in ours.rule(ours.param_groups[0]).hyper}
    reference = Reference(rule, lr=lr, decay=mode, weight_decay=lam, **hyper)
    for t in range(STEPS):
        grads = {key: (scale * rng.normal(size=shape)).astype(dtype) for key, shape in SHAPES.items()}
        reference.lr = ours.param_groups[0]["lr"] = lr * (1 - t / STEPS)
        reference.step(theta, grads)
        for key, p in params.items():
            p.grad = torch.tensor(grads[key])
        ours.step()
    return reference, theta, ours, params


@pytest.mark.parametrize("rule", sorted(CASES))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_as_the_reference(rule, mode, foreach, dtype):
    reference, theta, ours, params = run_both(rule, mode, dtype, foreach=foreach)
    for key, p in params.items():
        pairs = [(p.detach().numpy(), theta[key])]
        pairs += [
            (ours.state[p][slot].numpy(), reference.state[key][slot])
            for slot in reference.rule.slots.values()
        ]
        for mine, its in pairs:
            assert mine.dtype == its.dtype
            np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize(
    ("rule", "extra"),
    [(rule, {}) for rule in sorted(CASES)]
    + [(rule, {"eps": 0.0}) for rule in sorted(CASES) if "eps" in RULES[rule].hyper],
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_for_numbers_at_the_edges(rule, extra, mode, dtype):
    """±0, denormals, the largest, ∞ and NaN as weights and as gradients; of a NaN only the place counts."""
    name, options = CASES[rule]
    options = {**options, **extra}
    info = np.finfo(dtype)
    sizes = np.array([0.0, info.smallest_subnormal, info.tiny, 1e-20, 1.0, 1e18, info.max, np.inf], dtype)
    edges = np.array([*sizes, *-sizes, np.nan], dtype)
    w, g = (grid.ravel() for grid in np.meshgrid(edges, edges))
    theta, p = {"w": w}, torch.nn.Parameter(torch.tensor(w))
    cls = at.OPTIMIZERS[name]
    ours = cls([p], lr=0.5, weight_decay=0.1, decay=mode, **options)
    hyper = {key: options.get(key, ours.defaults[key]) for key in ours.rule(ours.param_groups[0]).hyper}
    reference = Reference(rule, lr=0.5, decay=mode, weight_decay=0.1, **hyper)
    bits = f"u{info.bits // 8}"
    for t in range(7):  # RAdam changes its rule after five
        gradient = g if t % 3 else -g
        reference.step(theta, {"w": gradient})
        p.grad = torch.tensor(gradient)
        ours.step()
        pairs = [(p.detach().numpy(), theta["w"])]
        pairs += [
            (ours.state[p][slot].numpy(), reference.state["w"][slot]) for slot in RULES[rule].slots.values()
        ]
        for mine, its in pairs:
            number = ~np.isnan(its)
            np.testing.assert_array_equal(np.isnan(mine), ~number)
            np.testing.assert_array_equal(mine[number].view(bits), its[number].view(bits))


@pytest.mark.parametrize("rule", ["adam", "adam_atan2", "rmsprop_centered_momentum", "sgd"])
@pytest.mark.parametrize("mode", ["decoupled", "cautious", "l2"])
def test_joining_cutting_and_threads_do_not_show(monkeypatch, rule, mode):
    def end(threads, small, room):
        monkeypatch.setattr(generic, "SMALL", small)
        monkeypatch.setattr(generic, "ROOM_PER_THREAD", room)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            _, _, _, params = run_both(rule, mode, np.float32, max_norm=0.5)
        finally:
            torch.set_num_threads(before)
        return params

    plain = end(1, 0, 10**9)
    for setting in ((2, 0, 10**9), (1, 0, 100), (2, 50, 60), (1, 10**9, 10**9), (1, 10**9, 1)):
        for key, p in end(*setting).items():
            assert torch.equal(p, plain[key]), (setting, key)


def test_every_rule_is_held_against_the_reference():
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("mode", ["independent", "corrected"])
def test_both_track_the_same_peak_from_below(mode):
    """A warm-up that starts before the first step: the lr given at construction is the peak in both."""
    w = {"w": np.array([1.0])}
    p = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    reference = Reference("adam", lr=0.1, decay=mode, weight_decay=0.01)
    ours = at.AdamW([p], lr=0.1, decay=mode, weight_decay=0.01)
    shrink = 1.0
    for lr in (0.001, 0.01, 0.1, 0.05):
        reference.lr = ours.param_groups[0]["lr"] = lr
        p.grad = torch.zeros_like(p)
        ours.step()
        reference.step(w, {"w": np.zeros(1)})
        shrink *= 1 - 0.01 * lr / 0.1 * (lr if mode == "corrected" else 1.0)
    np.testing.assert_array_equal(p.detach().numpy(), w["w"])
    np.testing.assert_allclose(w["w"], shrink, rtol=1e-14)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_global_norm_is_exact_for_any_thread_count(threads):
    generator = torch.Generator().manual_seed(0)
    grads = [torch.randn(1_300_001, generator=generator), torch.randn(17, 33, generator=generator).t()]
    expected = np.sqrt(sum(np.sum(g.double().numpy() ** 2) for g in grads))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        norm = at.global_norm(grads)
    finally:
        torch.set_num_threads(before)
    assert norm == pytest.approx(expected, rel=1e-13)
    assert norm == at.global_norm(grads)


def test_global_norm_of_anything():
    assert at.global_norm([]) == 0.0
    assert at.global_norm([torch.zeros(0), torch.tensor(-3.0), torch.tensor([4 + 0j])]) == 5.0
    assert at.global_norm([torch.full((4,), 6e4, dtype=torch.float16)]) == pytest.approx(1.2e5, rel=1e-3)
    sparse = torch.sparse_coo_tensor(
        [[1, 1]], [3.0, 1.0], (5,), check_invariants=True
    )  # duplicates add up: one entry of 4
    assert at.global_norm([sparse, torch.tensor([3.0])]) == 5.0
    assert np.isinf(at.global_norm([torch.tensor([np.inf, 1.0])]))
    assert np.isnan(at.global_norm([torch.tensor([np.inf]), torch.tensor([np.nan])]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("foreach", [True, False])
def test_half_precision_rounds_once(dtype, foreach):
    """θ in half precision after one step is the float32 step, rounded: not the sum of ten roundings."""
    generator = torch.Generator().manual_seed(1)
    p = torch.nn.Parameter(torch.randn(1000, generator=generator).to(dtype))
    g = torch.randn(1000, generator=generator).to(dtype)
    exact = torch.nn.Parameter(p.detach().float())
    p.grad, exact.grad = g, g.float()
    for q in (p, exact):
        at.AdamW([q], lr=0.01, weight_decay=0.1, foreach=foreach).step()
    assert torch.equal(p, exact.to(dtype))


def test_resume_is_bit_exact():
    def run(model, optimizer, steps, seed):
        torch.manual_seed(seed)
        for _ in range(steps):
            loss = model(torch.randn(8, 6)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    for name, cls in at.OPTIMIZERS.items():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
        make = lambda m, cls=cls: cls(  # noqa: E731
            m.named_parameters(), lr=0.01, weight_decay=0.1, decay="corrected", max_norm=1.0
        )
        optimizer = make(model)
        run(model, optimizer, 5, 1)
        other = copy.deepcopy(model)
        resumed = make(other)
        resumed.load_state_dict(optimizer.state_dict())
        run(model, optimizer, 5, 2)
        run(other, resumed, 5, 2)
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(p, q), name
