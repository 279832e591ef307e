"""What the texts of the formats call beside + - * / and shifts, in NumPy's meaning."""

from __future__ import annotations

from typing import Any

import numpy as np


def bits(x: Any) -> Any:
    """The bits of float32 numbers, as int32."""
    return np.ascontiguousarray(x, np.float32).view(np.int32)


def floats(i: Any) -> Any:
    """The float32 numbers that have these int32 bits."""
    return np.ascontiguousarray(i, np.int32).view(np.float32)


def to_float(i: Any) -> Any:
    """int32 → the nearest float32."""
    return np.asarray(i).astype(np.float32)


def to_int(x: Any) -> Any:
    """float32 → int32, towards zero. The numbers are within int32."""
    return np.asarray(x).astype(np.int32)


def largest(x: Any) -> Any:
    """Of each block, ``[blocks, 1]``; NaN where any is NaN."""
    return np.max(x, axis=-1, keepdims=True)


def total(i: Any) -> Any:
    """int32 sum over each block, ``[blocks, 1]``."""
    return np.sum(i, axis=-1, keepdims=True, dtype=np.int32)


where = np.where
minimum = np.minimum
maximum = np.maximum
