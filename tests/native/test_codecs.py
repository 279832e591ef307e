"""Half precision in the kernel: every bit pattern decoded, and encoding held against torch and NumPy."""

from __future__ import annotations

import numpy as np
import pytest

native = pytest.importorskip("adamantine._native", reason="this installation has no compiled kernel")

EVERY_TARGET = pytest.mark.parametrize("target", native.targets)
MINUS_ZERO = {"bfloat16": 0x8000, "float16": 0x8000}


def add(target, theta, theta_dtype, g, g_dtype):
    """θ ← θ + g by the rule "sgd": with θ = -0 it is g, the sign of a zero included."""
    streams = [(theta.ctypes.data, theta_dtype), (g.ctypes.data, g_dtype)]
    native.step(target, "sgd", 0, [1.0, 0.0, 1.0, -1.0], streams, 0, theta.size)


def decoded(target, bits, dtype):
    theta = np.full(bits.size, -0.0, np.float32)
    add(target, theta, "float32", bits, dtype)
    return theta


def encoded(target, numbers, dtype):
    theta = np.full(numbers.size, MINUS_ZERO[dtype], np.uint16)
    add(target, theta, dtype, numbers, "float32")
    return theta


def assert_same_numbers(mine, its):
    """float32, bit for bit, but a NaN is a NaN."""
    np.testing.assert_array_equal(np.isnan(mine), np.isnan(its))
    number = ~np.isnan(its)
    np.testing.assert_array_equal(mine[number].view(np.uint32), its[number].view(np.uint32))


def bfloat16_sample():
    """Every upper half, with the lower halves next to and on the tie; and numbers at random."""
    high = np.arange(65536, dtype=np.uint32)[:, None] << 16
    low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    dice = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    return np.concatenate([(high | low).ravel(), dice]).view(np.float32)


def float16_sample():
    """Every float16, every tie between two, the float32 beside each; overflow; at random."""
    finite = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    beyond = np.append(finite[1:], np.float32(65536.0))
    ties = (finite + beyond) / 2  # exact in float32
    sizes = np.concatenate([finite, ties, [65519.996, 65520.0, 65536.0, 1e30, 1e-8, 1e-40, np.inf, np.nan]])
    sizes = sizes.astype(np.float32)
    near = [np.nextafter(sizes, np.float32(0)), np.nextafter(sizes, np.float32(np.inf))]
    dice = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    sizes = np.concatenate([sizes, *near])
    return np.concatenate([sizes, -sizes, dice])


SAMPLES = {"bfloat16": bfloat16_sample, "float16": float16_sample}


@EVERY_TARGET
def test_every_float16_is_decoded(target):
    bits = np.arange(65536, dtype=np.uint16)
    assert_same_numbers(decoded(target, bits, "float16"), bits.view(np.float16).astype(np.float32))


@EVERY_TARGET
def test_every_bfloat16_is_decoded(target):
    bits = np.arange(65536, dtype=np.uint16)
    assert_same_numbers(decoded(target, bits, "bfloat16"), (bits.astype(np.uint32) << 16).view(np.float32))


@EVERY_TARGET
@pytest.mark.parametrize("dtype", SAMPLES)
def test_encoding_is_torchs(target, dtype):
    torch = pytest.importorskip("torch")
    sample = SAMPLES[dtype]()
    its = torch.from_numpy(sample).to(getattr(torch, dtype))
    mine = torch.from_numpy(encoded(target, sample, dtype)).view(its.dtype)
    assert_same_numbers(mine.float().numpy(), its.float().numpy())


@EVERY_TARGET
def test_float16_is_encoded_as_in_numpy(target):
    sample = float16_sample()
    with np.errstate(over="ignore", invalid="ignore"):
        its = sample.astype(np.float16)
    assert_same_numbers(
        encoded(target, sample, "float16").view(np.float16).astype(np.float32), its.astype(np.float32)
    )


@EVERY_TARGET
@pytest.mark.parametrize("dtype", SAMPLES)
def test_there_and_back_is_where_it_was(target, dtype):
    bits = np.arange(65536, dtype=np.uint16)
    numbers = decoded(target, bits, dtype)
    kept = ~np.isnan(numbers)
    np.testing.assert_array_equal(encoded(target, numbers, dtype)[kept], bits[kept])
    assert np.isnan(decoded(target, encoded(target, numbers, dtype)[~kept], dtype)).all()
