"""Work that is cut over threads: no bit of any format depends on how many there are, or where a cut falls."""

from __future__ import annotations

import pytest

pytest.importorskip("adamantine._native", reason="this installation has no compiled kernel")
torch = pytest.importorskip("torch")
at = pytest.importorskip("adamantine.torch")

#: dtype, weights, state: what counts elements or blocks from a tensor's first, and what does not.
FORMATS = [
    ("float32", None, "8bit"),
    ("float32", None, "4bit"),
    ("float32", None, {"exp_avg": "4bit", "exp_avg_sq": "bfloat16"}),
    ("float64", None, "4bit"),
    ("bfloat16", None, "8bit"),
    ("bfloat16", None, None),
    ("bfloat16", "stochastic", "8bit"),
    ("bfloat16", "stochastic", None),
    ("float16", "stochastic", "float32"),
    ("bfloat16", "split8", None),
    ("bfloat16", "kahan", "4bit"),
]
#: An item of work is 32768 elements of all tensors end to end, each tensor from a multiple of 128 on: cuts
#: fall within the first, the fourth and the last, after different numbers of its elements.
SIZES = (33_001, 1, 129, 70_001, 127, 40_000)


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def stepped(engine, threads, dtype, weights, state):
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, dtype)
    params = [torch.nn.Parameter(torch.randn(n, generator=generator).to(dtype)) for n in SIZES]
    optimizer = at.AdamW(params, lr=0.01, weights=weights, state=state, engine=engine)
    for _ in range(2):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator).to(dtype)
        optimizer.step()
    return [{"θ": p.detach(), **optimizer.state[p]} for p in params]


@pytest.mark.parametrize(("dtype", "weights", "state"), FORMATS, ids=str)
def test_no_bit_depends_on_threads(dtype, weights, state):
    alone = stepped("generic", 1, dtype, weights, state)
    for threads in (1, 2, 5):
        for size, mine, its in zip(
            SIZES, stepped("native", threads, dtype, weights, state), alone, strict=True
        ):
            assert mine.keys() == its.keys()
            for key, value in mine.items():
                assert torch.equal(value, its[key]), (threads, size, key)
