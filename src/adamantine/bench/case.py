"""What a case is: the work, who does it, and what the outcome is meant to be.

Without torch, so that reading the records costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Literal

from adamantine.bench.goals import Goal
from adamantine.bench.shapes import Shapes

OURS, FLAT, LIMIT = "adamantine", "adamantine flat", "memory limit"
FUSED, DEFAULT = "torch fused", "torch default"
SIZE = {"float32": 4, "bfloat16": 2}  # bytes


@dataclass(frozen=True)
class Step:
    """One ``step()`` of an optimizer class of ours (and of the peers' AdamW) on tensors of these shapes.

    Attributes:
        options: for our class, beside lr and weight decay.
        slots: how many arrays of state the rule keeps.
        dtype: of parameters and gradients; what our state is kept in is ``state``.
        gradients: "kept" from step to step, or "fresh" tensors for each step, as backward makes them where
            ``zero_grad`` has dropped the last ones.
        max_norm: clip the global norm: ours inside the step, peers by ``clip_grad_norm_`` before it.
    """

    shapes: Shapes
    optimizer: str = "AdamW"
    options: Mapping[str, object] = field(default_factory=dict)
    slots: int = 2
    dtype: str = "float32"
    state: str = "float32"
    gradients: Literal["kept", "fresh"] = "kept"
    max_norm: float | None = None

    @property
    def elements(self) -> int:
        return sum(map(prod, self.shapes))

    @property
    def memory(self) -> int:
        """Bytes of parameters, gradients and state."""
        return self.elements * (2 * SIZE[self.dtype] + self.slots * SIZE[self.state])

    @property
    def traffic(self) -> int:
        """Bytes that a step moves at least: read θ, g and the slots, write θ and the slots.

        >>> Step(((1,),)).traffic, Step(((1,),), dtype="bfloat16").traffic
        (28, 22)
        """
        return self.elements * (3 * SIZE[self.dtype] + 2 * self.slots * SIZE[self.state])


@dataclass(frozen=True)
class Iteration:
    """A training iteration of an MLP: zero_grad, forward, backward, clip to norm 1, step."""

    widths: tuple[int, ...]
    batch: int = 32
    max_norm: float = 1.0

    @property
    def memory(self) -> int:
        """Bytes of parameters, gradients and state, the batches being small."""
        return 16 * sum((a + 1) * b for a, b in zip(self.widths, self.widths[1:], strict=False))


Work = Step | Iteration


@dataclass(frozen=True)
class Format:
    """How one of our contestants stores weights, gradients and state: its dtype, and options of its class."""

    dtype: str
    options: Mapping[str, object]

    def of(self, work: Step) -> Step:
        """The same step, stored so."""
        return replace(work, dtype=self.dtype, options={**work.options, **self.options})


@dataclass(frozen=True)
class Case:
    """Contestants that do the same work, and what the outcome is meant to be.

    ``name`` is what ``--case`` takes, or the part before the slash. ``quick`` is the same work on tiny sizes.
    ``formats`` are those of ours that store otherwise than the work says; bytes per parameter are shown then.
    """

    name: str
    title: str
    description: str
    unit: str
    work: Work
    quick: Work
    ours: tuple[str, ...] = (OURS,)
    peers: tuple[str, ...] = ()
    limited: bool = True  # whether the memory limit says something about it
    quantity: Literal["seconds", "bytes"] = "seconds"
    goals: tuple[Goal, ...] = ()
    formats: Mapping[str, Format] = field(default_factory=dict)

    @property
    def family(self) -> str:
        return self.name.partition("/")[0]
