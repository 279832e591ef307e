"""Our arctan2: how near the truth, what it is at the edges, and that its bits depend on nothing else."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from adamantine.rules.arctan2 import arctan2

EVERY_PRECISION = pytest.mark.parametrize("dtype", [np.float32, np.float64])
#: benchmarks/atan2.py finds 1.66; the rest of the room is for points that neither it nor this test meets.
LARGEST_ERROR = 1.75


def error_in_ulp(y, x):
    """Against NumPy in a type with at least 11 bits more, at one ulp of the true result."""
    wide = np.float64 if y.dtype == np.float32 else np.longdouble
    if np.finfo(wide).nmant < np.finfo(y.dtype).nmant + 11:
        pytest.skip("no type here is precise enough to tell the truth")
    exact = np.arctan2(y.astype(wide), x.astype(wide))
    found = arctan2(y, x)
    assert found.dtype == y.dtype
    return np.abs(found.astype(wide) - exact) / np.spacing(np.abs(exact).astype(y.dtype)).astype(wide)


@EVERY_PRECISION
def test_within_two_ulp_in_every_direction(dtype):
    rng = np.random.default_rng(0)
    ratio = np.tan(np.linspace(0, np.pi / 2, 400_001)[1:-1])
    near = np.concatenate([r * np.linspace(0.97, 1.03, 50_000) for r in (1 / 1.8, 1.0, 1.8)])
    far = np.exp2(rng.uniform(-60, 60, 50_000))
    ratio = np.concatenate([ratio, near, far])
    x = np.exp2(rng.uniform(-10, 10, ratio.size)).astype(dtype)
    assert error_in_ulp((x * ratio).astype(dtype), x).max() < LARGEST_ERROR


@EVERY_PRECISION
def test_within_two_ulp_at_the_edges(dtype):
    """Every y there is, with every x that a square root of this type can be."""
    info = np.finfo(dtype)
    y = [info.smallest_subnormal, 3 * info.smallest_subnormal, info.tiny, info.eps, 1.0, 3.0, 1e38, info.max]
    v = [0.0, info.smallest_subnormal, info.tiny, info.eps, 1.0, 3.0, 1e38, info.max]
    y, v = (grid.astype(dtype).ravel() for grid in np.meshgrid(np.array(y), np.array(v)))
    x = np.sqrt(v)
    equal = x[x > 0]
    with np.errstate(over="ignore", under="ignore"):
        assert error_in_ulp(y, x).max() < LARGEST_ERROR
        assert error_in_ulp(equal, equal).max() < LARGEST_ERROR


@EVERY_PRECISION
def test_odd_in_y_and_never_beyond_a_quarter_turn(dtype):
    rng = np.random.default_rng(1)
    x, y = (np.exp2(rng.uniform(-60, 60, 100_000)).astype(dtype) for _ in range(2))
    angle = arctan2(y, x)
    np.testing.assert_array_equal(arctan2(-y, x), -angle)
    assert (angle > 0).all()
    assert (angle <= dtype(np.pi / 2)).all()


@EVERY_PRECISION
@pytest.mark.parametrize(
    ("y", "x", "angle"),
    [
        (0.0, 0.0, 0.0),
        (-0.0, 0.0, 0.0),
        (0.0, 3.0, 0.0),
        (-2.0, 0.0, -np.pi / 2),
        (1e-30, np.inf, 0.0),
        (-np.inf, 1.0, -np.pi / 2),
        (np.inf, np.inf, np.nan),
        (np.nan, 0.0, np.nan),
        (np.nan, np.inf, np.nan),
        (0.0, np.nan, np.nan),
        (np.inf, np.nan, np.nan),
    ],
)
def test_zeros_infinities_and_nan(dtype, y, x, angle):
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(arctan2(np.array([y], dtype), np.array([x], dtype)), dtype(angle))


@pytest.mark.parametrize(("dtype", "checksum"), [("<f4", 2904242077), ("<f8", 789410614)])
def test_the_same_bits_everywhere(dtype, checksum):
    """On every processor, NumPy and operating system, and wherever in an array the numbers lie."""
    y, x = np.mgrid[-150:151, 0:301].astype(dtype)
    angle = arctan2(y, x)
    found = zlib.crc32(angle.astype(dtype).tobytes())
    assert found == checksum
    np.testing.assert_array_equal(arctan2(y[:, 1::3], x[:, 1::3]), angle[:, 1::3])
