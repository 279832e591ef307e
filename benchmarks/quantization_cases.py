"""The tests of the quantization study: sequences of gradients, and how far AdamW ends from where it should.

A *case* gives gradients that do not depend on the steps taken. AdamW without decay (lr 1, β 0.9 and 0.999,
ε 10⁻⁸) goes through them once with float32 moments and once with every *store* under test, which passes its
moments through a code after each step. What counts is the displacement d = -Σ u over the counted steps:
error = ‖d̂ - d‖/‖d‖ over all elements.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Case:
    """``gradients(seed)`` yields, step by step, one float32 array per tensor; always new, never kept.

    ``counted_from``: steps before it move nothing, so that a change of the scales can be studied long after.
    """

    name: str
    title: str
    gradients: Callable[[int], Iterator[list[Array]]]
    counted_from: int = 0


class At(NamedTuple):
    """What a code may know beside the values: where, when, and v: for m as it is kept, for v the true one."""

    step: int
    tensor: int
    seed: int
    v: Array


class Roundtrip(Protocol):
    """Decode(encode(x)), of x's shape."""

    def __call__(self, x: Array, at: At) -> Array: ...


def exact(x: Array, at: At) -> Array:
    """float32, as it is."""
    return x


class Store(NamedTuple):
    """How the two moments are kept."""

    m: Roundtrip = exact
    v: Roundtrip = exact


def displacements(case: Case, stores: Mapping[str, Store], seed: int = 0) -> dict[str, list[Array]]:
    """d of every store, float64, one array per tensor."""
    moments: dict[str, list[tuple[Array, Array]]] = {}
    found: dict[str, list[Array]] = {}
    for t, gradients in enumerate(case.gradients(seed), 1):
        if t == 1:
            moments = {s: [(np.zeros_like(g), np.zeros_like(g)) for g in gradients] for s in stores}
            found = {s: [np.zeros(g.shape) for g in gradients] for s in stores}
        for name, store in stores.items():
            for k, g in enumerate(gradients):
                m, v = moments[name][k]
                m = np.float32(BETA1) * m + np.float32(1 - BETA1) * g
                v = np.float32(BETA2) * v + np.float32(1 - BETA2) * g * g
                if t > case.counted_from:
                    found[name][k] += (m / (1 - BETA1**t)) / (np.sqrt(v / (1 - BETA2**t)) + EPS)
                kept = store.v(v, At(t, k, seed, v))
                moments[name][k] = (store.m(m, At(t, k, seed, kept)), kept)
    return found


def error(found: list[Array], truth: list[Array]) -> float:
    """‖d̂ - d‖/‖d‖ over all tensors."""
    off = sum(float(np.square(a - b).sum()) for a, b in zip(found, truth, strict=True))
    return float(np.sqrt(off / sum(float(np.square(b).sum()) for b in truth)))


def errors(case: Case, stores: Mapping[str, Store], seed: int = 0) -> dict[str, float]:
    """The error of every store in one case."""
    found = displacements(case, {"exact": Store(), **stores}, seed)
    truth = found.pop("exact")
    return {name: error(d, truth) for name, d in found.items()}


Noise = Callable[[np.random.Generator, tuple[int, ...]], Array]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """N(0, 1)."""
    return rng.standard_normal(shape)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Student's t with 3 degrees of freedom: finite variance, infinite fourth moment."""
    return rng.standard_t(3, shape)


def rare(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """N(0, 1) in one step of ten, else 0: a row of an embedding."""
    return rng.standard_normal(shape) * (rng.random(shape) < 0.1)


def synthetic(
    name: str,
    title: str,
    decades: float,
    *,
    mean: float = 0.3,
    noise: Noise = normal,
    steps: int = 200,
    change_at: int = 0,
    counted_from: int = 0,
    elements: int = 4096,
) -> Case:
    """g = σ·(noise + mean), σ = 10^U(-decades, 0) drawn for every element, anew at ``change_at``."""

    def gradients(seed: int) -> Iterator[list[Array]]:
        rng = np.random.default_rng(seed)
        scale = 10 ** rng.uniform(-decades, 0, (elements,))
        for t in range(1, steps + 1):
            if t == change_at:
                scale = 10 ** rng.uniform(-decades, 0, (elements,))
            yield [(scale * (noise(rng, (elements,)) + mean)).astype(np.float32)]

    return Case(name, title, gradients, counted_from)


@functools.cache
def _recorded(task_name: str, seed: int, steps: int) -> list[list[Array]]:
    import torch

    from adamantine.study.task import Settings
    from adamantine.study.tasks import load

    torch.set_num_threads(1)
    task = load(task_name, Settings())
    torch.manual_seed(seed)
    model = task.model(seed)
    inputs, targets = task.data(seed).train
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rng = np.random.default_rng(seed)
    found: list[list[Array]] = []
    while len(found) < steps:
        batches = np.array_split(rng.permutation(len(inputs)), len(inputs) // task.batch_size)
        for batch in batches[: steps - len(found)]:
            optimizer.zero_grad()
            loss: Any = task.loss(model(inputs[batch]), targets[batch])
            loss.backward()
            found.append([p.grad.numpy().copy() for p in model.parameters() if p.grad is not None])
            optimizer.step()
    return found


def recorded(name: str, title: str, task: str, steps: int = 200) -> Case:
    """The gradients of a task of `adamantine.study`, trained with torch's AdamW at lr 10⁻³."""
    return Case(name, title, lambda seed: iter(_recorded(task, seed, steps)))


#: The scales of a block over so many decades.
SPREADS = {
    f"{decades} decades": synthetic(f"{decades} decades", f"scales over {decades} decades", decades)
    for decades in range(7)
}

#: "alike" and "spread" are the goals' two tests.
_CASES = (
    synthetic("alike", "scales alike", 0),
    synthetic("spread", "scales over 4 decades", 4),
    synthetic("alike, mean 0", "scales alike, mean 0", 0, mean=0.0),
    synthetic("spread, mean 0", "4 decades, mean 0", 4, mean=0.0),
    synthetic("heavy tails", "scales alike, Student's t₃", 0, noise=heavy),
    synthetic("rare", "scales alike, one step of ten", 0, noise=rare, mean=0.0),
    synthetic("shift", "4 decades, drawn anew at step 200", 4, steps=1200, change_at=200, counted_from=1000),
    recorded("text", "char Transformer, real gradients", "text"),
    recorded("digits", "residual CNN on digits, real gradients", "digits-resnet"),
)
CASES = {case.name: case for case in _CASES}
