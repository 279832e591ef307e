"""The state of an optimizer's parameters: made where it is missing, and counted on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from adamantine.formats.words import first_key
from adamantine.rules import Rule
from adamantine.torch.storage import layout as storage
from adamantine.torch.storage.checks import check_kept

State = dict[str, Any]


def fill(
    state: Any,
    params: Iterable[Tensor],
    group: dict[str, Any],
    rule: Rule,
    position: Callable[[Tensor], int],
    seed: int,
) -> set[Tensor]:
    """Make what is missing, under torch's names; of which parameters slots were.

    Args:
        state: parameter → its state by key, as ``optimizer.state``; a missing entry makes itself.
        params: those of one group.
        position: a parameter's place among all of the optimizer's, asked where it begins to round.
        seed: of the rounding.

    Raises:
        ValueError: what is there is stored in another way than the group asks for.
    """
    how = storage.formats(group, rule)
    fresh = set()
    for p in params:
        entry = state[p]
        if rule.counts_steps and "step" not in entry:
            entry["step"] = torch.zeros((), dtype=scalar_dtype(), device="cpu")
        for name, value in rule.carried.items():
            if name not in entry:
                entry[name] = torch.tensor(value, dtype=torch.float64, device="cpu")
        check_kept(entry, p, rule, how)
        if storage.fill_slots(entry, p, group, rule, how):
            fresh.add(p)
        storage.fill_residual(entry, p, how)
        if how.rounds(p) and storage.ROUNDING not in entry:
            entry[storage.ROUNDING] = torch.tensor(first_key(seed, position(p)), dtype=torch.int64)
    return fresh


def advance(entries: Sequence[State], rule: Rule, first: Sequence[bool]) -> list[int]:
    """t of the step to come, which the entries then count; ``first``: whose slots were made for it."""
    if not rule.counts_steps:
        return [1 if is_first else 2 for is_first in first]
    counters = [entry["step"] for entry in entries]
    torch._foreach_add_(counters, 1)
    return [int(counter) for counter in counters]


def scalar_dtype() -> torch.dtype:
    """torch keeps ``step`` in float32, which counts exactly up to 2²⁴, unless the default is float64."""
    return torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
