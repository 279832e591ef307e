"""Other codes than ours: one curve for all blocks, 16 bits, and a v that rows and columns share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from quantization_cases import At
from quantization_codes import Rounding, blocks_of, phases, shares

from adamantine.formats import block
from adamantine.formats.ops import bits

Array = NDArray[Any]


@dataclass(frozen=True)
class Curved:
    """A curve of [0, 1] for all blocks: codes are equal steps of ``bend(\\|x\\|/largest)``."""

    width: int
    signed: bool
    bend: Callable[[Array], Array]
    unbend: Callable[[Array], Array]
    rounding: Rounding = "nearest"
    size: int = block.BLOCK
    zero: Literal["excluded", "allowed"] = "excluded"  # for what is positive

    def __call__(self, x: Array, at: At) -> Array:
        values = blocks_of(x, self.size).astype(np.float64)
        a = np.abs(values)
        top = a.max(-1, keepdims=True)
        top = np.where(top > 0, top, 1)
        most = 2 ** (self.width - self.signed) - 1
        u = shares(phases(values.shape, self.rounding, at, 0 if self.signed else 1))
        c = np.minimum(np.floor(self.bend(a / top) * most + u), most)
        if not self.signed and self.zero == "excluded":
            c = np.where(a > 0, np.maximum(c, 1), 0)
        y = np.copysign(self.unbend(c / most) * top, values)
        return y.ravel()[: x.size].reshape(x.shape).astype(np.float32)


def power(p: float, width: int, signed: bool, **options: Any) -> Curved:
    """x^(1/p): p = 1 is linear, p = 2 codes the square root."""
    return Curved(width, signed, lambda a: a ** (1 / p), lambda y: y**p, **options)


def logarithm(octaves: float, width: int, signed: bool, **options: Any) -> Curved:
    """The true logarithm that `block` approximates: log₂(1 + x·(2^R - 1))/R."""
    top = 2.0**octaves - 1
    return Curved(
        width,
        signed,
        lambda a: np.log2(1 + a * top) / octaves,
        lambda y: (2 ** (y * octaves) - 1) / top,
        **options,
    )


@dataclass(frozen=True)
class Nearest16:
    """bfloat16, to nearest."""

    def __call__(self, x: Array, at: At) -> Array:
        b = bits(x)
        return (((b + 0x7FFF + ((b >> 16) & 1)) >> 16) << 16).view(np.float32)


# -- v of fewer numbers -----------------------------------------------------------------------------------


def rank_one(x: Array, at: At) -> Array:
    """Row means times column means over the mean: Adafactor. A convolution is outputs by the rest."""
    if x.ndim < 2 or not x.any():
        return x
    a = x.reshape(len(x), -1).astype(np.float64)
    return (
        (a.mean(1, keepdims=True) * a.mean(0, keepdims=True) / a.mean()).reshape(x.shape).astype(np.float32)
    )


def per_row(x: Array, at: At) -> Array:
    """One v per output: Adam-mini."""
    if x.ndim < 2:
        return x
    a = x.reshape(len(x), -1)
    return np.broadcast_to(a.mean(1, keepdims=True), a.shape).reshape(x.shape).astype(np.float32)
