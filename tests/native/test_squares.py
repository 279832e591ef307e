"""The norm's one read in the kernel: Σx² and the largest |x|, the bits of the NumPy text of that order."""

from __future__ import annotations

import math

import numpy as np
import pytest

native = pytest.importorskip("adamantine._native", reason="this installation has no compiled kernel")
torch = pytest.importorskip("torch")
norm = pytest.importorskip("adamantine.torch.norm")

EVERY_TARGET = pytest.mark.parametrize("target", native.targets)
DTYPES = ("float32", "float64", "bfloat16", "float16")
B = native.BLOCK
SIZES = (0, 1, 7, 31, 32, 33, 63, 64, 65, 5003, B - 1, B, B + 1, 9 * B + 17)


def numbers(size, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size + 1, generator=generator, dtype=torch.float64)
    x *= 10.0 ** torch.randint(-3, 3, (size + 1,), generator=generator)
    return x.to(getattr(torch, dtype))


def measured(tensors, threads, target=""):
    arrays = [(x.data_ptr(), str(x.dtype).removeprefix("torch."), x.numel()) for x in tensors]
    return native.squares(arrays, threads, target)


def same(mine, its):
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(mine, its, strict=True))


@EVERY_TARGET
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("off", [0, 1])
def test_same_bits_as_the_numpy_text(target, dtype, off):
    tensors = [numbers(size, dtype, seed=size)[off : size + off] for size in SIZES]
    expected = [tuple(norm._squares_of_array(x)) for x in tensors]
    for threads in (1, 2, 3):
        assert measured(tensors, threads, target) == expected
    for x, each in zip(tensors, expected, strict=True):  # alone as in company
        assert measured([x], 2, target) == [each]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_numpy_text_is_the_sum(dtype):
    x = numbers(5003, dtype)
    exact = math.fsum(v * v for v in x.double().tolist())
    total, largest = norm._squares_of_array(x)
    assert total == pytest.approx(exact, rel=1e-14)
    assert largest == x.double().abs().max().item()


@EVERY_TARGET
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("at", [0, 31, 32, 99, B, B + 40])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_shows(target, dtype, at, value):
    x = numbers(B + 40, dtype)
    x[at] = value
    (mine,) = measured([x], 2, target)
    assert same(mine, norm._squares_of_array(x))
    assert not math.isfinite(mine[0])
    assert mine[1] == (math.inf if math.isinf(value) else x[~x.isnan()].double().abs().max().item())


@EVERY_TARGET
def test_all_nan_and_denormals_and_overflow(target):
    nan, small, large = (torch.full((40,), v, dtype=torch.float64) for v in (math.nan, 5e-324, -1e200))
    found = measured([nan, small, large], 1, target)
    assert same(found[0], (math.nan, 0.0))
    assert found[1] == (0.0, 5e-324)
    assert found[2] == (math.inf, 1e200)


@EVERY_TARGET
@pytest.mark.parametrize("threads", [1, 2])
def test_helpers_flush_denormals_as_the_caller_does(target, threads):
    """A flag of each thread: with two of them the second is to take the first one's."""
    x = torch.full((20 * B,), 5e-324, dtype=torch.float64)
    assert {largest for _, largest in measured([x] * 4, threads, target)} == {5e-324}
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush denormals")
    try:
        flushed = measured([x] * 4, threads, target)
    finally:
        torch.set_flush_denormal(False)
    assert flushed == [(0.0, 0.0)] * 4
    assert {largest for _, largest in measured([x] * 4, threads, target)} == {5e-324}


def test_the_block_is_the_norms():
    assert native.BLOCK == norm.BLOCK
    assert np.float32(native.BLOCK) % norm.LANES == 0
