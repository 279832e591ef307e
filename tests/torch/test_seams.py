"""Where the two engines meet: a parameter that goes from one to the other, memory that belongs to both."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import Parameter

import adamantine.torch as at


def test_a_first_step_elsewhere_is_a_first_step():
    """Dampening spares the first gradient, and only that, whichever engine saw it."""

    def run(engine):
        p, q = Parameter(torch.ones(3, 4)), Parameter(torch.ones(3, 4))
        optimizer = at.SGD([p, q], lr=0.1, momentum=0.9, dampening=0.5, engine=engine)
        for step in range(3):
            p.grad = torch.arange(12.0).view(4, 3).t() if step == 0 else torch.ones(3, 4)
            q.grad = torch.ones(3, 4)
            optimizer.step()
        return p

    assert torch.equal(run("auto"), run("generic"))


def test_memory_that_nobody_writes_is_free():
    """A parameter without a gradient does not move: a gradient may lie in its memory."""
    resting, p = Parameter(torch.ones(4)), Parameter(torch.ones(4))
    optimizer = at.SGD([resting, p], lr=0.5, engine="native")
    resting.grad, p.grad = torch.ones(4), torch.ones(4)
    optimizer.step()
    resting.grad, p.grad = None, resting.data
    optimizer.step()
    assert p.tolist() == [0.25] * 4


@pytest.mark.parametrize("first", ["reader", "writer"])
def test_a_refused_gradient_in_memory_that_is_written(first):
    def run(engine):
        p, q = Parameter(torch.zeros(3, 4)), Parameter(torch.arange(12.0).view(4, 3))
        p.grad, q.grad = q.detach().t(), torch.ones(4, 3)
        at.SGD([p, q] if first == "reader" else [q, p], lr=0.5, engine=engine).step()
        return p

    assert torch.equal(run("auto"), run("generic"))


@pytest.mark.parametrize("which", ["parameter", "gradient"])
def test_freed_storage_is_named(which):
    p, q = Parameter(torch.ones(4)), Parameter(torch.ones(4))
    p.grad, q.grad = torch.ones(4), torch.ones(4)
    optimizer = at.AdamW([("p", p), ("q", q)])
    optimizer.step()
    before = q.detach().clone()
    (p.data if which == "parameter" else p.grad).untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match=r"storage of p, or of its gradient or state, has been freed"):
        optimizer.step()
    assert torch.equal(q, before)


def test_what_is_assigned_is_checked():
    p = Parameter(torch.ones(4))
    p.grad = torch.ones(4)
    optimizer = at.SGD([p])
    optimizer.max_norm = math.nan
    with pytest.raises(ValueError, match="Invalid max_norm: nan"):
        optimizer.step()
    optimizer.max_norm, optimizer.engine = None, "natvie"
    with pytest.raises(ValueError, match="Invalid engine: 'natvie'"):
        optimizer.step()
    assert p.tolist() == [1.0] * 4
