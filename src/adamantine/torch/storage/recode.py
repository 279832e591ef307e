"""A live optimizer's state and weights into other storage formats, with a statement of what that cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adamantine.rules import Rule
from adamantine.torch.engines.explain import name_parameters
from adamantine.torch.options import check_state_keys
from adamantine.torch.storage import layout as storage
from adamantine.torch.storage.change import Account, StorageChange
from adamantine.torch.storage.checks import check_kept, check_storable
from adamantine.torch.storage.layout import RESIDUAL, ROUNDING, Formats, coded_keys, residual_dtype
from adamantine.torch.storage.masters import recode_weights
from adamantine.torch.storage.recode_slots import recode_slots
from adamantine.torch.storage.transfer import Transfer

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer


def store_as(optimizer: Optimizer, *, state: Any = "unchanged", weights: Any = "unchanged") -> StorageChange:
    """See `Optimizer.store_as`. Every check is made before any change."""
    asked = {"state": state, "weights": weights}
    asked = {key: value for key, value in asked.items() if not _is_unchanged(value)}
    names = name_parameters(optimizer.param_groups)
    transfers = []
    for group in optimizer.param_groups:
        wanted = {**group, **asked}
        optimizer._check_options(wanted)
        rule = optimizer.rule(group)
        owner = f"{type(optimizer).__name__} ({rule.name})"
        check_state_keys(wanted["state"], list(rule.slots.values()), owner)
        saved, live = storage.formats(group, rule), storage.formats(wanted, rule)
        for p in group["params"]:
            check_storable(p, names[p], live)
            check_kept(optimizer.state.get(p, {}), p, rule, saved)
        transfers.append(Transfer(wanted, rule, saved, live, "as live"))
    account = Account()
    for group, transfer in zip(optimizer.param_groups, transfers, strict=True):
        for p in group["params"]:
            if entry := optimizer.state.get(p):
                with torch.no_grad():
                    if "state" in asked:
                        entry.update(recode_slots(p, names[p], transfer, entry, account))
                    recode_weights(p, names[p], transfer, entry, account)
                drop_superfluous(entry, p, transfer.rule, transfer.live)
        group.update({key: transfer.group[key] for key in asked})
        optimizer.defaults.update({key: transfer.group[key] for key in asked})
    optimizer._native = optimizer._laid_out = None
    return account.statement()


def drop_superfluous(entry: dict[str, Any], p: Tensor, rule: Rule, how: Formats) -> None:
    """Remove parts of other formats than these; not a dense slot that waits to be encoded."""
    for key, (form, _) in zip(rule.slots.values(), how.slots, strict=True):
        codes, headers = coded_keys(key)
        if form == "dense":
            entry.pop(codes, None)
            entry.pop(headers, None)
        elif codes in entry:
            entry.pop(key, None)
    if residual_dtype(p, how) is None:
        entry.pop(RESIDUAL, None)
    if not how.rounds(p):
        entry.pop(ROUNDING, None)


def _is_unchanged(value: Any) -> bool:
    return isinstance(value, str) and value == "unchanged"
