"""Every rule that torch.optim has, against torch.optim: 1000 steps, checkpoints both ways, low precision.

The problem: minimise the mean of log cosh(Aθ - y), with noise on the residual. It is smooth, not quadratic,
and convex, so that two runs that differ by rounding stay together and two that differ by a formula do not.
"""

from __future__ import annotations

import pytest
import torch

import adamantine.torch as at

#: Largest difference after 1000 steps, relative to the largest value. Both sides evaluate the same formulas
#: in another order: torch divides √v by √(1-β₂ᵗ) where we multiply v by 1/(1-β₂ᵗ) before the root, folds the
#: bias correction of m into lr, and updates m by lerp. Each operation then differs by an ulp; the worst that
#: a thousand steps make of it here is 9e-15 in float64 and 9e-7 in float32 (torch 2.13, x86-64).
TOLERANCE = {torch.float64: 5e-14, torch.float32: 5e-6}

#: Distance to the float64 run as a multiple of torch's. In bfloat16 we round once per step and torch after
#: every operation, so ours is smaller or, where the rounding of θ itself rules, the same. In float32 both sit
#: at 1e-7, and torch's lerp, which rounds m once less, is up to 1.3 times closer.
NO_WORSE = {torch.float32: 1.5, torch.bfloat16: 1.05}

STEPS = 1000
LR = 0.01

#: Options per class, each run with weight_decay 0 and 0.1.
OPTIONS = {
    "SGD": [
        {},
        {"maximize": True},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "nesterov": True, "maximize": True},
    ],
    "Adagrad": [
        {},
        {"maximize": True, "eps": 1e-3},
        {"lr_decay": 0.01},
        {"initial_accumulator_value": 0.1},
    ],
    "RMSprop": [
        {},
        {"alpha": 0.9, "eps": 1e-3},
        {"centered": True},
        {"momentum": 0.9, "maximize": True},
        {"centered": True, "momentum": 0.9},
    ],
    "Adam": [
        {},
        {"betas": (0.8, 0.95), "eps": 1e-3},
        {"amsgrad": True},
        {"decoupled_weight_decay": True},
        {"maximize": True, "decoupled_weight_decay": True, "amsgrad": True},
    ],
    "AdamW": [{}, {"betas": (0.8, 0.95), "eps": 1e-3}, {"amsgrad": True}, {"maximize": True}],
    "Adamax": [{}, {"betas": (0.8, 0.95), "eps": 1e-3}, {"maximize": True}],
    "NAdam": [
        {},
        {"momentum_decay": 0.01, "eps": 1e-3},
        {"betas": (0.8, 0.95), "decoupled_weight_decay": True},
        {"maximize": True},
    ],
    "RAdam": [
        {},
        {"betas": (0.8, 0.95), "eps": 1e-3},  # ρ stays near 39; with the defaults it starts below 5
        {"decoupled_weight_decay": True},
        {"maximize": True},
    ],
}
CASES = [
    pytest.param(name, {**options, "weight_decay": weight_decay}, id=f"{name}-{i}-{weight_decay}")
    for name, table in OPTIONS.items()
    for i, options in enumerate(table)
    for weight_decay in (0.0, 0.1)
]
#: The options with the most state, per class, for what is handed over.
RICHEST = [pytest.param(name, {**table[-1], "weight_decay": 0.1}, id=name) for name, table in OPTIONS.items()]


@pytest.fixture(autouse=True)
def _default_dtype():
    """torch keeps NAdam's Πμ in the default dtype: float32 would be off by 1e-7 and hide all else."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


class Problem:
    """The regression, its parameter, and the noise of every step."""

    def __init__(self, dtype, columns):
        generator = torch.Generator().manual_seed(0)

        def randn(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.a, self.y, self.noise = randn(12, 8), randn(12, columns), randn(STEPS, 12, columns)
        self.theta = torch.nn.Parameter(randn(8, columns))

    @torch.no_grad()
    def train(self, optimizer, start, stop):
        for t in range(start, stop):
            residual = torch.tanh(self.a @ self.theta - self.y) + 0.3 * self.noise[t]
            self.theta.grad = self.a.T @ residual / len(self.a)
            optimizer.step()


def run(cls, options, *, dtype=torch.float64, steps=STEPS, columns=3):
    problem = Problem(dtype, columns)
    optimizer = cls([problem.theta], lr=LR, **options)
    problem.train(optimizer, 0, steps)
    return problem, optimizer


def gap(actual, expected):
    """max|a - e| / max|e|, or 0 where both are."""
    actual, expected = actual.detach().double(), expected.detach().double()
    difference = (actual - expected).abs().max().item()
    return difference and difference / expected.abs().max().item()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_1000_steps(name, options):
    ours, our_optimizer = run(at.OPTIMIZERS[name], options)
    torchs, torch_optimizer = run(getattr(torch.optim, name), options)
    assert gap(ours.theta, torchs.theta) < TOLERANCE[torch.float64]
    mine, its = our_optimizer.state[ours.theta], torch_optimizer.state[torchs.theta]
    assert mine.keys() == its.keys()
    for key in its:
        assert gap(mine[key], its[key]) < TOLERANCE[torch.float64], key


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW", "Adamax", "NAdam", "RAdam"])
def test_one_cycle(name):
    """OneCycleLR moves the lr and, against it, the momentum or β₁."""
    ends = []
    for cls in (at.OPTIMIZERS[name], getattr(torch.optim, name)):
        problem, optimizer = run(cls, {"momentum": 0.9} if name in {"SGD", "RMSprop"} else {}, steps=1)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=100)
        for t in range(1, 100):
            problem.train(optimizer, t, t + 1)
            scheduler.step()
        ends.append(problem.theta)
    assert gap(*ends) < TOLERANCE[torch.float64]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("name", "options"), RICHEST)
def test_a_checkpoint_goes_on(name, options, dtype):
    """500 steps of one, the state dict handed over, 500 of the other: as 1000 of torch alone, both ways."""
    torch.set_default_dtype(dtype)
    torchs, ours = getattr(torch.optim, name), at.OPTIMIZERS[name]
    expected, _ = run(torchs, options, dtype=dtype)
    for first, second in ((torchs, ours), (ours, torchs)):
        problem, optimizer = run(first, options, dtype=dtype, steps=STEPS // 2)
        successor = second([problem.theta], lr=1.0, **options)  # a wrong lr, for the checkpoint to put right
        successor.load_state_dict(optimizer.state_dict())
        problem.train(successor, STEPS // 2, STEPS)
        assert gap(problem.theta, expected.theta) < TOLERANCE[dtype], (first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_low_precision_is_no_worse(name, dtype):
    """The distance of 800 numbers to their float64 run, after 300 steps."""

    def distance(cls):
        problem, _ = run(cls, {"weight_decay": 0.1}, dtype=dtype, steps=300, columns=100)
        return (problem.theta.double() - truth.theta).square().mean().sqrt().item()

    truth, _ = run(getattr(torch.optim, name), {"weight_decay": 0.1}, steps=300, columns=100)
    ours, torchs = distance(at.OPTIMIZERS[name]), distance(getattr(torch.optim, name))
    assert ours < NO_WORSE[dtype] * torchs
