"""What one parameter's step comes to: the numbers of a ledger's row, at one measured step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adamantine.audit.counterfactual import Again, believed
from adamantine.audit.equilibrium import norm_at_balance
from adamantine.audit.ledger_split import How, Split, Step, split
from adamantine.probe import Behaviour

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """As `adamantine.audit.model.LayerRow`, of one step; NaN where there is no number."""

    decay_step: float
    gradient_step: float
    update_to_weight: float
    rounded: float
    equilibrium: float
    gradient: float
    how: How
    effective: Floats | None  # fraction that decay removed from each chosen element


def row(
    step: Step,
    behaviour: Behaviour,
    shrink: float | None,
    *,
    elements: int,
    again: Again | None = None,
    keeps_more: bool = False,
) -> Row:
    """All numbers of one step.

    Args:
        step: what was seen of the chosen elements.
        behaviour: the group's.
        shrink: its fraction per step, at this step's lr and λ.
        elements: of the whole parameter.
        again: the same step by a copy, in float64.
        keeps_more: the state holds what the weights cannot (master weights, compensated summation), so that
            a weight that stays has lost nothing.
    """
    told = None if again is None else believed(again, step)
    meant = step.change if again is None or told is None else again.meant
    found = split(step, behaviour, shrink) or told
    finite = bool(np.isfinite(step.grad).all())
    size = _rms(step.before)
    balance = norm_at_balance(step, found, behaviour, elements) if found is not None and finite else None
    return Row(
        decay_step=math.nan if found is None else _rms(found.by_decay),
        gradient_step=_rms(meant if found is None else meant - found.by_decay),
        update_to_weight=_rms(step.change) / size if size else math.nan,
        rounded=0.0 if keeps_more else _rounded(step, found, None if told is None else meant),
        equilibrium=math.nan if balance is None else balance,
        gradient=_rms(step.grad),
        how="unknown" if found is None else found.how,
        effective=None if found is None else found.effective,
    )


def _rounded(step: Step, found: Split | None, meant: Floats | None) -> float:
    """Of the elements that were to move, the share that stayed bit for bit.

    With a copy's step it is known which were to move. Without, those are taken for it that had a reason to:
    a gradient, or decay on a weight that is not 0.
    """
    if meant is None:
        moves = (step.grad != 0) & (step.lr != 0)
        if found is not None:
            moves = moves | (found.by_decay != 0)
    else:
        moves = meant != 0
        if _dithered(step, meant):
            return 0.0
    stayed = step.before == step.after
    return float((stayed & moves).sum() / moves.sum()) if moves.any() else 0.0


def _dithered(step: Step, meant: Floats) -> bool:
    """Whether weights are rounded stochastically: then steps far below half a spacing move some of them, one
    in so many that the mean is right, and nothing is lost."""
    with np.errstate(divide="ignore"):
        spacing = step.resolution * np.exp2(np.floor(np.log2(np.abs(step.before))))
    tiny = (meant != 0) & (np.abs(meant) < spacing / 8) & (step.before != 0)
    expected = float((np.abs(meant[tiny]) / spacing[tiny]).sum())
    moved = int((step.before != step.after)[tiny].sum())
    return expected > 0 and moved >= max(3.0, 0.3 * expected)


def _rms(x: Floats) -> float:
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.mean(x * x))) if x.size else 0.0
