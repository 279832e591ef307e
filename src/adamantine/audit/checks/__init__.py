"""What the static audit looks for: one file per family, one function per check.

A check is a function from a `Subject` to findings; its docstring argues the severity. `CATALOGUE` has every
code with what it means in general.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from adamantine.audit.checks import (
    averages,
    default,
    dynamic,
    frozen,
    membership,
    mode,
    peak,
    plan,
    precision,
    size,
    who,
)
from adamantine.audit.checks.kind import Kind
from adamantine.audit.model import Finding
from adamantine.audit.subject import Subject

Check = Callable[[Subject], Iterator[Finding]]

#: In the order in which findings of one severity are told.
CHECKS: tuple[Check, ...] = (
    mode.decay_ignored,
    mode.l2_in_adaptive,
    mode.decay_ignores_lr,
    membership.not_in_optimizer,
    membership.not_of_model,
    membership.twice,
    membership.tied_split,
    size.size_of_decay,
    precision.rounds_to_nothing,
    precision.eps_too_small,
    averages.averages_stall,
    plan.schedule_of_another,
    plan.schedule_ends_early,
    plan.schedule_changes_decay,
    peak.peak_lr_wrong,
    who.decays_what_it_should_not,
    who.spares_matrix,
    frozen.frozen_decays,
    mode.unknown_decay,
    default.default_decay,
    plan.schedule_unknown,
    who.flattened,
)

_FAMILIES = (mode, default, membership, size, precision, averages, plan, peak, who, frozen, dynamic)

#: Every finding that there is, by its code; those of the ledger too.
CATALOGUE: dict[str, Kind] = {kind.code: kind for family in _FAMILIES for kind in family.KINDS}

__all__ = ["CATALOGUE", "CHECKS", "Check", "Kind"]
