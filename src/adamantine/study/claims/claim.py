"""What a claim is: a sentence of the article, made falsifiable.

A claim is one small file ``cNN_name.py`` with a module-level ``CLAIM``. Its predictions and their tolerances
are constants there, so they are written before anything is measured; `measure` returns plain data, and `draw`
needs nothing else, so that a folder of results can be drawn again without measuring. Heavy imports (torch,
scipy) stand inside the functions that need them: listing or drawing the claims loads no framework.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from adamantine.report.claimmodel import NOT_REVISED
from adamantine.report.words import Words

if TYPE_CHECKING:
    from adamantine.report.claimfigure import Sheet

T = TypeVar("T")

#: How a measured value is held against its tolerance; see `Prediction`.
Rule = Literal["value", "seeds", "interval"]

#: What a prediction's verdict counts for; see `Prediction`.
Role = Literal["claim", "aside"]


class Effort(StrEnum):
    """How much is measured: tolerances never depend on it."""

    SHORT = "short"  # what a test can wait for
    DEFAULT = "default"
    THOROUGH = "thorough"

    def of(self, default: T, thorough: T, *, short: T | None = None) -> T:
        """The number of seeds, steps or units for this effort.

        >>> Effort.THOROUGH.of(5, 20), Effort.SHORT.of(5, 20, short=2), Effort.SHORT.of(5, 20)
        (20, 2, 5)
        """
        if self is Effort.THOROUGH:
            return thorough
        return short if self is Effort.SHORT and short is not None else default


@dataclass(frozen=True)
class Prediction:
    """A number foretold, with the tolerance within which the claim stands.

    ``rule`` says what the measurement holds under ``name``:

    - ``"value"``: one number without chance in it;
    - ``"seeds"``: one number per seed, judged by the 95 % Student-t interval of their mean;
    - ``"interval"``: ``[middle, low, high]``, a 95 % interval the claim made itself (a bootstrap, say).

    A negative control is a prediction too: what must *not* hold differs by at least ``low``.

    ``role="aside"`` is a prediction that goes beyond what is claimed (a size where only a direction is). It
    is judged and shown as every other, and says so, but is no part of the claim's verdict.
    """

    name: str
    text: Words  # what is predicted: "slope of log RMS against log σ, AdamW"
    low: float = -math.inf
    high: float = math.inf
    rule: Rule = "value"
    unit: str = ""  # behind the number: " %", " steps"; with its space
    role: Role = "claim"

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"prediction {self.name!r}: low {self.low} is above high {self.high}")

    @property
    def said(self) -> Words:
        """The text as a table shows it."""
        if self.role == "claim":
            return self.text
        return Words(
            f"aside, no part of the verdict: {self.text.en}", f"附带预测，不计入判定：{self.text.zh}"
        )


@dataclass(frozen=True)
class Measurement:
    """What came out, as plain data: numbers, strings, lists and dictionaries with text keys.

    ``values`` has an entry for each prediction's name, of the form its rule wants; ``data`` is what the
    figure shows. A number that is not finite is stored as null, and read back as None.
    """

    values: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """One claim: what is said, what would refute it, how it is measured and how it looks.

    ``finding`` is the figure's title. Words are shown only where the claim holds (elsewhere its verdict and
    title are); a function says a sentence that is true whatever was measured.

    ``revised`` is for what was changed after a first measurement, and what that one had said: whoever reads a
    verdict is to know that its experiment, or its tolerance, has seen data before.
    """

    number: int
    title: Words  # the claim in one short sentence
    says: Words  # what the article says; Words("–", "–") for what goes beyond it
    formula: str  # Unicode, no LaTeX
    predictions: tuple[Prediction, ...]
    sources: tuple[str, ...]  # "Loshchilov & Hutter 2019, Prop. 1"
    finding: Words | Callable[[Measurement], Words]
    measure: Callable[[Effort], Measurement]
    draw: Callable[[Measurement, Sheet], None]
    revised: Words = NOT_REVISED
    seconds: float = 10.0  # of one core at default effort, about: the longest are started first
