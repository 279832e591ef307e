"""Accumulation with release: in float32 torch's own bits, in bfloat16 unbiased, in the moments AdamA."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import adamantine.torch as at

MICRO = 4


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 70), nn.Tanh(), nn.Linear(70, 3))


def batch(t: int) -> torch.Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(t))


def train(model, optimizer, steps=range(3), micro=MICRO):
    for t in steps:
        optimizer.zero_grad()
        for i in range(micro):
            model(batch(t * MICRO + i)).square().mean().div(micro).backward()
        optimizer.step()


def assert_same(model, other):
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q), name


def distance(model, other) -> float:
    return at.global_norm(
        p.detach() - q.detach() for p, q in zip(model.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("micro", [MICRO, 3])
def test_float32_sums_are_ordinary_accumulation(dtype, micro):
    """Also where ``step()`` comes before as many backward passes as announced."""
    ends = []
    for released in (False, True):
        model = nn.Sequential(Cast(torch.float64), mlp().double()) if dtype == torch.float64 else mlp()
        optimizer = at.AdamW(model.parameters(), lr=0.01)
        if released:
            optimizer.release_gradients(accumulate=MICRO)
        train(model, optimizer, micro=micro)
        ends.append(model)
    assert_same(*ends)


class Cast(nn.Module):
    def __init__(self, dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x):
        return x.to(self.dtype)


def test_gradients_are_freed_between_micro_batches():
    model = mlp()
    optimizer = at.AdamW(model.parameters())
    optimizer.release_gradients(accumulate=2, buffer="bfloat16")
    before = copy.deepcopy(model)
    for _ in range(2):
        assert_same(model, before)
        model(batch(0)).sum().backward()
        assert all(p.grad is None for p in model.parameters())
    assert not torch.equal(model[0].weight, before[0].weight)


def test_parameters_that_some_micro_batches_do_not_reach():
    ends = []
    for released in (False, True):
        model = nn.ModuleList([mlp(), mlp()])
        optimizer = at.AdamW(model.parameters(), lr=0.01)
        if released:
            optimizer.release_gradients(accumulate=3)
        for t in range(3):
            for i in range(3):
                model[i % 2](batch(3 * t + i)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append(model)
    assert_same(*ends)


def sums(kind, grads, dtype=torch.float32, seed=0):
    """Θ after SGD with lr 1 from 0: minus the sum of the gradients."""
    theta = nn.Parameter(torch.zeros(grads[0].numel(), dtype=dtype))
    optimizer = at.SGD([theta], lr=1.0, seed=seed)
    optimizer.release_gradients(accumulate=len(grads), buffer=kind)
    for g in grads:
        (theta * g.to(dtype)).sum().backward()
    optimizer.step()
    return -theta.detach()


def test_bfloat16_sums_lose_nothing_on_average():
    """64 gradients of 0.001 on top of one of 1: to nearest all of them would be lost."""
    n = 20_000
    grads = [torch.ones(n), *[torch.full((n,), 0.001)] * 64]
    exact = 1.064
    found = sums("bfloat16", grads)
    # A rounding to a multiple of 2⁻⁷ has a variance below 2⁻¹⁶, and 64 are rounded: six standard errors.
    spread = (64 * 2**-16) ** 0.5
    assert abs(found.mean().item() - exact) < 6 * spread / n**0.5
    assert 1e-3 < found.std() < 1.1 * spread  # the same word in every pass would add up to 0.17
    assert torch.equal(found, sums("bfloat16", grads))
    assert not torch.equal(found, sums("bfloat16", grads, seed=1))
    to_nearest = grads[0].bfloat16()
    for g in grads[1:]:
        to_nearest += g.bfloat16()
    assert to_nearest.eq(1).all()


def test_half_precision_gradients_are_summed_in_float32():
    grads = [torch.ones(3), *[torch.full((3,), 2.0**-9)] * 8]
    assert sums("float32", grads, torch.bfloat16).tolist() == [1 + 2.0**-6] * 3


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float64, torch.float16])
def test_bfloat16_sums_of_other_dtypes_and_layouts(dtype):
    theta = nn.Parameter(torch.zeros(3, 2, dtype=dtype).t())
    optimizer = at.SGD([theta], lr=1.0)
    optimizer.release_gradients(accumulate=2, buffer="bfloat16")
    gradient = (torch.arange(6).reshape(2, 3) * (1 + 2j if dtype.is_complex else 1)).to(dtype)
    for _ in range(2):
        theta.backward(gradient)
    optimizer.step()
    assert torch.equal(theta.detach(), -2 * gradient)  # small integers are exact in bfloat16


def test_bfloat16_sums_go_on_from_a_checkpoint():
    def optimizer_of(m):
        optimizer = at.AdamW(m.parameters(), lr=0.01)
        return optimizer, lambda: optimizer.release_gradients(accumulate=MICRO, buffer="bfloat16")

    through, model = mlp(), mlp()
    one, release = optimizer_of(through)
    release()
    train(through, one, range(4))
    first, release = optimizer_of(model)
    release()
    train(model, first, range(2))
    resumed = copy.deepcopy(model)
    second, release = optimizer_of(resumed)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    release()
    train(resumed, second, range(2, 4))
    assert_same(resumed, through)
    assert distance(through, mlp()) > 0


def adam_a(theta, steps, *, lr=0.1, betas=(0.9, 0.999), eps=1e-8, shrink=1.0):
    """AdamA (arXiv 2305.19982, Algorithm 1), float64: m takes micro-batches in, v their squares."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, grads in enumerate(steps, 1):
        m, v = betas[0] * m, betas[1] * v
        for g in grads:
            m, v = m + (1 - betas[0]) * g, v + (1 - betas[1]) * g * g
        u = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
        theta = shrink * theta - lr * u
    return theta


@pytest.mark.parametrize("engine", ["auto", "generic"])
@pytest.mark.parametrize("micro", [3, 2])
def test_accumulation_into_the_moments_is_adam_a(engine, micro):
    """``accumulate=3``; with two backward passes ``step()`` moves by what is in the moments."""
    random = np.random.default_rng(0)
    steps = random.normal(size=(5, micro, 6))
    theta = nn.Parameter(torch.ones(6, dtype=torch.float64))
    optimizer = at.AdamW([theta], lr=0.1, weight_decay=0.2, engine=engine)
    optimizer.release_gradients(accumulate=3, buffer="moments")
    for grads in steps:
        for i, g in enumerate(grads):
            before = theta.detach().clone()
            (theta * torch.from_numpy(g)).sum().backward()
            assert torch.equal(theta, before) == (i < 2)
        optimizer.step()
    expected = adam_a(np.ones(6), steps, shrink=1 - 0.1 * 0.2)
    np.testing.assert_allclose(theta.detach().numpy(), expected, rtol=1e-13)
    assert optimizer.state[theta]["step"] == 5


@pytest.mark.parametrize("name", ["Adam", "AdamAtan2", "RAdam"])
def test_one_micro_batch_per_step_is_the_ordinary_step(name):
    ends = []
    for released in (False, True):
        model = mlp()
        optimizer = at.OPTIMIZERS[name](model.parameters(), lr=0.01)
        if released:
            optimizer.release_gradients(accumulate=2, buffer="moments")
        train(model, optimizer, micro=1)
        ends.append(model)
    assert_same(*ends)


def test_momentum_is_linear_so_its_accumulation_is_exact():
    ends = []
    for buffer in (None, "moments"):
        model = mlp().double()
        optimizer = at.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
        if buffer:
            optimizer.release_gradients(accumulate=MICRO, buffer=buffer)
        wrapped = nn.Sequential(Cast(torch.float64), model)
        train(wrapped, optimizer)
        ends.append(model)
    assert distance(*ends) < 1e-14  # float64 sums in another order


@pytest.mark.parametrize("state", ["bfloat16", "8bit"])
def test_moments_of_every_format_take_gradients_in(state):
    ends = []
    for formats in (None, state):
        model = mlp()
        optimizer = at.AdamW(model.parameters(), lr=0.01, state=formats)
        optimizer.release_gradients(accumulate=MICRO, buffer="moments")
        train(model, optimizer)
        ends.append(model)
    moved = distance(ends[0], mlp())
    assert 0 < distance(*ends) < 0.05 * moved  # each format's error of a step is below 5 %


def test_zero_grad_drops_sums_and_refuses_to_drop_moments():
    model = mlp()
    optimizer = at.AdamW(model.parameters(), lr=0.01)
    handle = optimizer.release_gradients(accumulate=2)
    model(batch(7)).sum().backward()
    optimizer.zero_grad()
    train(model, optimizer, micro=2)
    twin = mlp()
    train(twin, at.AdamW(twin.parameters(), lr=0.01), micro=2)
    assert_same(model, twin)
    model(batch(7)).sum().backward()
    handle.remove()
    assert all(p.grad is not None for p in model.parameters())  # the sum so far is not lost
    optimizer.zero_grad()
    handle = optimizer.release_gradients(accumulate=2, buffer="moments")
    model(batch(7)).sum().backward()
    for call in (optimizer.zero_grad, handle.remove):
        with pytest.raises(RuntimeError, match="already in the moments of parameter 0 of group 0"):
            call()
    optimizer.step()
    handle.remove()


def test_accumulation_with_two_passes_is_ordinary_clipping():
    ends = []
    for released in (False, True):
        model = mlp()
        optimizer = at.AdamW(model.parameters(), lr=0.01, max_norm=0.05)
        if released:
            optimizer.release_gradients("two-pass", accumulate=MICRO)

        def closure(model=model, optimizer=optimizer):
            optimizer.zero_grad()
            for i in range(MICRO):
                model(batch(i)).square().mean().backward()
            return 0.0

        for _ in range(3):
            optimizer.step(closure)
        ends.append((model, optimizer.last_norm))
    assert_same(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1] > 0.05


def test_what_the_moments_cannot_take_is_refused():
    def release(optimizer, **options):
        optimizer.release_gradients(buffer="moments", **{"accumulate": 2, **options})

    model = mlp()
    with pytest.raises(ValueError, match="accumulate > 1"):
        release(at.AdamW(model.parameters()), accumulate=1)
    with pytest.raises(ValueError, match="before a norm or a bad gradient"):
        release(at.AdamW(model.parameters(), on_nonfinite="skip"))
    for name in ("Lion", "NAdam", "RMSprop", "Adagrad", "Adamax"):
        with pytest.raises(ValueError, match=rf"the step of {name} .* buffer='float32'"):
            release(at.OPTIMIZERS[name](model.parameters()))
    with pytest.raises(ValueError, match="dampening=0"):
        release(at.SGD(model.parameters(), momentum=0.9, dampening=0.5))
    with pytest.raises(ValueError, match="decay='decoupled'"):
        release(at.Adam(model.parameters(), weight_decay=0.1))
    assert all(not p._post_accumulate_grad_hooks for p in model.parameters())


@pytest.mark.parametrize(("buffer", "size"), [("float32", 4), ("bfloat16", 2), ("moments", 0)])
def test_the_memory_report_counts_the_sums(buffer, size):
    p = nn.Parameter(torch.ones(300))
    optimizer = at.AdamW([p])
    optimizer.release_gradients(accumulate=2, buffer=buffer)
    p.sum().backward()
    report = optimizer.memory_report()
    assert report.actual.get("sums of gradients", 0) == size * 300
    assert ("sums of gradients" in str(report)) is bool(size)
    p.sum().backward()
    assert "sums of gradients" not in optimizer.memory_report().actual
