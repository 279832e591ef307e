"""Where the polynomial of `adamantine.rules.arctan2` comes from, and how far from the truth it ends.

python benchmarks/atan2.py

Prints the coefficients, highest power first, and the largest errors found in units in the last place (ulp).
mpmath comes with torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from adamantine.rules.arctan2 import arctan2

STEEP = 1.8  # a quotient beyond 1/STEEP is turned by π/4
TERMS = 13

#: A type, and one whose arctan2 serves as its truth: NumPy's, wrong by far less than an ulp of the first.
TRUTHS = ((np.float64, np.longdouble), (np.float32, np.float64))


def coefficients(terms: int = TERMS) -> tuple[list[float], float]:
    """p with arctan t = t + t·z·p(z), z = t², for |t| ≤ 1/STEEP: highest power first; and its relative error.

    Interpolation at Chebyshev's points, within a small factor of the best polynomial there is.
    """
    mpmath.mp.dps = 60
    largest = 1 / mpmath.mpf(STEEP)

    def p(z: Any) -> Any:
        t = mpmath.sqrt(z)
        return (mpmath.atan(t) / t - 1) / z

    found, error = mpmath.chebyfit(p, [0, largest**2], terms, error=True)
    return [float(c) for c in found], float(error * largest**3 / mpmath.atan(largest))


def points(dtype: type, count: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Every direction at many lengths; ratios of every size; the turning points and the diagonal closely."""
    rng = np.random.default_rng(0)
    angle, length = rng.uniform(0, np.pi / 2, count), np.exp2(rng.uniform(-20, 20, count))
    yield (length * np.sin(angle)).astype(dtype), (length * np.cos(angle)).astype(dtype)
    x = np.exp2(rng.uniform(-3, 3, count))
    yield (x * np.exp2(rng.uniform(-30, 30, count))).astype(dtype), x.astype(dtype)
    for ratio in (1 / STEEP, 1.0, STEEP):
        yield (x * ratio * rng.uniform(0.97, 1.03, count)).astype(dtype), x.astype(dtype)


def largest_error(dtype: type, truth: type, count: int) -> tuple[float, float]:
    """In ulp of the true result, and the y/x where it was found."""
    worst = (0.0, 0.0)
    for y, x in points(dtype, count):
        exact = np.arctan2(y.astype(truth), x.astype(truth))
        error = np.abs(arctan2(y, x).astype(truth) - exact) / np.spacing(exact.astype(dtype)).astype(truth)
        at = int(error.argmax())
        worst = max(worst, (float(error[at]), float(y[at] / x[at])))
    return worst


if __name__ == "__main__":
    found, error = coefficients()
    print(f"relative error of the polynomial in exact arithmetic: {error:.1e}")
    print("\n".join(map(repr, found)))
    for dtype, truth in TRUTHS:
        ulp, ratio = largest_error(dtype, truth, count=4_000_000)
        print(f"{dtype.__name__}: at most {ulp:.2f} ulp, at y/x = {ratio:.4g}")
