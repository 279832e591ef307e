"""What was found out about an optimizer's decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: The modes of `adamantine.rules.decay`, and what else is seen in the wild: ``ignored`` (weight_decay > 0
#: is accepted and never applied), ``fixed`` (the same fraction of the weight at every step whatever lr is,
#: at lr = 0 too), ``other`` (fits no mode; `Behaviour.evidence` says what was seen).
Decay = Literal[
    "none", "l2", "decoupled", "independent", "corrected", "cautious", "ignored", "fixed", "other", "unknown"
]


@dataclass(frozen=True)
class Behaviour:
    """How one optimizer decays the weights of one group.

    ``none`` as `decay` means that λ is 0; ``unknown`` that it could not be found out (`evidence` says why).
    """

    decay: Decay
    #: Whether a step is divided by a running size of the gradients (Adam, RMSprop, Adagrad, Lion's sign):
    #: g and 1000 g give nearly the same step. With it, L2 is not weight decay. None: not measured, or L2 that
    #: is divided by one number for a whole tensor (LARS), or where gradients are small alone.
    adaptive: bool | None
    #: Fraction of a weight that one step removes where the gradient is zero, at the group's present lr:
    #: η·λ for ``decoupled``; η·λ/(1-μ), the long run, for SGD with L2 and momentum μ, whose buffer repeats
    #: what enters it. None where there is no single number (L2 divided by √v̂).
    shrink: float | None
    #: Whether the weight shrinks before the gradient's step, (1-r)θ - ηu, or after it, (1-r)(θ - ηu).
    order: Literal["before", "after", "unclear"]
    #: The power of lr that the decay per step is proportional to: 1 for ``decoupled``, 0 for ``fixed``, 2 for
    #: ``corrected``; None where it is no power, or not measured.
    lr_power: int | None
    #: ``class``: read from a known class and its group; ``probe``: measured; ``none``: neither was possible.
    source: Literal["class", "probe", "none"]
    #: One sentence with the numbers that led to this, for the report.
    evidence: str
