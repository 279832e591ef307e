"""Sparse gradients: the dense result to the bit where the rule allows it, a clear error where it does not."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

import adamantine.torch as at
from adamantine.rules.decay import MODES

CASES = {
    "sgd": ("SGD", {}),
    "sgdw": ("SGDW", {"maximize": True}),
    "heavy_ball": ("SGD", {"momentum": 0.9, "dampening": 0.5}),
    "nesterov": ("SGDW", {"momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
}
SUPPORTED = pytest.mark.parametrize(("name", "options"), CASES.values(), ids=list(CASES))


def entries(dtype, layout):
    """Sparse gradients of a 6 x 3 matrix, step by step: repeated entries, several, none."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([0, 4, 4, 2]), torch.tensor([5]), torch.tensor([], dtype=torch.long)
    for row in rows:
        if layout == "rows":  # what an embedding gives: sparse rows of dense values
            indices, values = row[None], torch.randn(len(row), 3, generator=generator)
        else:
            indices, values = torch.stack([row, row % 3]), torch.randn(len(row), generator=generator)
        yield torch.sparse_coo_tensor(indices, values.to(dtype), (6, 3), check_invariants=True)


def train(name, options, dtype, layout, *, dense, **more):
    torch.manual_seed(1)
    p, other = Parameter(torch.randn(6, 3).to(dtype)), Parameter(torch.randn(2))
    optimizer = at.OPTIMIZERS[name]([p, other], lr=0.1, **options, **more)
    for grad in entries(dtype, layout):
        p.grad = grad.to_dense() if dense else grad
        other.grad = torch.ones(2)  # a neighbour with a dense gradient
        optimizer.step()
    return [
        p.detach(),
        other.detach(),
        *(value for state in optimizer.state.values() for value in state.values()),
    ]


@pytest.mark.parametrize(
    ("case", "mode"),
    [(case, mode) for case in CASES for mode in MODES if mode != "l2" or "momentum" in CASES[case][1]],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("layout", ["rows", "elements"])
def test_equals_dense(case, mode, dtype, layout):
    name, options = CASES[case]
    more = {"decay": mode, "weight_decay": 0.2, "max_norm": 0.5}
    sparse, dense = (train(name, options, dtype, layout, dense=flag, **more) for flag in (False, True))
    for a, b in zip(sparse, dense, strict=True):
        assert torch.equal(a, b)


@SUPPORTED
def test_torch_agrees(name, options):
    """What torch.optim makes of the same sparse gradients, where it takes them."""
    theirs = getattr(torch.optim, name, torch.optim.SGD)
    ends = []
    for cls in (at.OPTIMIZERS[name], theirs):
        p = Parameter(torch.ones(6, 3, dtype=torch.float64))
        optimizer = cls([p], lr=0.1, **options)
        for grad in entries(torch.float64, "rows"):
            p.grad = grad
            # torch's Adagrad makes tensors without saying whether to check them, and would warn
            with torch.sparse.check_sparse_tensor_invariants(enable=False):
                optimizer.step()
        ends.append(p.detach())
    torch.testing.assert_close(*ends, rtol=1e-14, atol=0.0)


@SUPPORTED
def test_differentiable(name, options):
    """The derivative by the sparse gradient is the dense one."""
    derivatives = []
    for dense in (False, True):
        grad = next(entries(torch.float64, "rows")).coalesce()
        values = grad.values().requires_grad_()
        grad = torch.sparse_coo_tensor(grad.indices(), values, (6, 3), check_invariants=True)
        p = torch.ones(6, 3, dtype=torch.float64, requires_grad=True).clone()
        p.grad = grad.to_dense() if dense else grad
        at.OPTIMIZERS[name]([p], lr=0.1, differentiable=True, **options).step()
        derivatives += torch.autograd.grad(p.square().sum(), values)
    assert derivatives[0].abs().min() > 0
    assert torch.equal(*derivatives)


@pytest.mark.parametrize(("name", "options"), [CASES["sgd"], CASES["adagrad"]])
def test_l2_gives_every_row_a_gradient(name, options):
    with pytest.raises(RuntimeError, match=r"not compatible with sparse gradients.*decay='decoupled'"):
        train(name, options, torch.float32, "rows", dense=False, weight_decay=0.1)


@pytest.mark.parametrize("name", sorted(set(at.OPTIMIZERS) - {"SGD", "SGDW", "Adagrad"}))
def test_the_others_say_so(name):
    """And nothing has moved, though the first group's gradient was fine."""
    dense, sparse = Parameter(torch.ones(2)), Parameter(torch.ones(6, 3))
    optimizer = at.OPTIMIZERS[name]([{"params": [dense]}, {"params": [sparse]}])
    dense.grad, sparse.grad = torch.ones(2), next(entries(torch.float32, "rows"))
    with pytest.raises(RuntimeError, match=f"{name} does not support sparse gradients, please consider"):
        optimizer.step()
    assert torch.equal(dense, torch.ones(2))
    assert not optimizer.state


@SUPPORTED
def test_an_embedding_learns(name, options):
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(20, 4, sparse=True)
    optimizer = at.OPTIMIZERS[name](embedding.parameters(), lr=0.05, **options)
    words = torch.arange(0, 20, 2)
    losses = []
    for _ in range(10):
        loss = (embedding(words) - 1.0).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert (losses[-1] < losses[0]) is not options.get("maximize", False)
