r"""The angle of (x, y) with x ≥ 0, in arithmetic that is the same everywhere: + - × ÷ and choices.

No library's arctan2 will do: its bits depend on the processor, on the build, on the place in the array. Where
+ - × ÷ are rounded correctly (IEEE 754), these depend on x and y alone, in NumPy, torch or C++.

    |y| ≤ x/1.8     arctan2(|y|, x) =       arctan(|y|/x)
    in between                      = π/4 + arctan((|y| - x)/(|y| + x))
    |y| > 1.8·x                     = π/2 + arctan(-x/|y|)

One division, of which the operands are chosen first: |t| ≤ 1/1.8, and arctan t = t + t·z·p(z) with z = t².
1/1.8 exceeds tan ½, so what is added to π/4 ends above ½, where an ulp is large beside the error of t. The
coefficients of p and the largest error, 1.7 ulp in float32 and float64, are from `benchmarks/atan2.py`.
"""

from __future__ import annotations

from typing import Any

from numpy import where


def arctan2(y: Any, x: Any) -> Any:
    """The angle of (x, y), in radians, elementwise; odd in y, at most π/2 in size, 0 where both are 0.

    NaN where either is NaN or both are infinite. arctan2(-0, x) is +0. In the precision of y and x, which
    are arrays: no number below is one. Differentiable wherever the angle is, at y = 0 too, unlike |y|.

    Args:
        y: anything.
        x: of y's shape, ≥ 0, below half the largest number or infinite: a square root.

    >>> import numpy as np
    >>> arctan2(np.array([1.0, -1.0, 0.0, 0.0]), np.array([1.0, 0.0, 2.0, 0.0])) / np.pi
    array([ 0.25, -0.5 ,  0.  ,  0.  ])
    """
    negative = y < 0.0
    a = where(negative, -y, y)
    steep = a > 1.8 * x
    flat = 1.8 * a <= x
    numerator = where(steep, -x, where(flat, a, a - x))
    denominator = where(steep, a, where(flat, x, a + x))
    t = numerator / where(denominator == 0.0, 1.0, denominator)
    z = t * t
    p = -0.006855709766149441 * z + 0.021228434518563998
    p = p * z - 0.03541510406727869
    p = p * z + 0.045209301605771114
    p = p * z - 0.05212621515901539
    p = p * z + 0.05874915040404563
    p = p * z - 0.06665907101863018
    p = p * z + 0.07692255240776492
    p = p * z - 0.090909067508782
    p = p * z + 0.11111111048674874
    p = p * z - 0.1428571428484525
    p = p * z + 0.1999999999999523
    p = p * z - 0.3333333333333333
    t = t + t * (z * p)
    angle = where(steep, 1.5707963267948966 + t, where(flat, t, 0.7853981633974483 + t))
    return where(negative, -angle, angle)
