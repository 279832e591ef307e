"""What each group's optimizer does, found out once for groups that are alike."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from adamantine.audit.schedule import number
from adamantine.probe import Behaviour, behaviour_of

#: Keys in which the groups of a layer-wise lr differ.
_LRS = frozenset({"lr", "initial_lr", "constructed_lr", "highest_lr", "max_lr", "min_lr", "lr_scale"})
#: Modes whose shrink at another lr needs no other dry run, with the power of lr.
_FOLLOWS_LR = {"none": 0, "ignored": 0, "fixed": 0, "decoupled": 1, "cautious": 1, "l2": 1}

#: Of the dry run that asks whether vectors are treated as matrices are.
_MATRIX, _VECTOR = (8, 8), (64,)


class Behaviours:
    """The dry runs of one audit: a group of equal settings and dtype takes none, one that differs in lr alone
    takes none where the mode says how lr counts."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, float], Behaviour] = {}
        self._first: dict[str, tuple[Behaviour, float]] = {}
        self._spares: dict[str, bool] = {}

    def of(self, optimizer: Any, place: int) -> Behaviour:
        """`adamantine.probe.behaviour_of` this group of the optimizer."""
        group = optimizer.param_groups[place]
        alike, lr = _but_for_lr(optimizer, group), number(group.get("lr", math.nan))
        if (alike, lr) not in self._known:
            if alike in self._first and (found := _at(lr, *self._first[alike])) is not None:
                self._known[alike, lr] = found
            else:
                found = behaviour_of(optimizer, place)
                self._known[alike, lr] = found
                self._first.setdefault(alike, (found, lr))
        return self._known[alike, lr]

    def spares_vectors(self, optimizer: Any, place: int) -> bool:
        """Whether this class leaves vectors out of the decay by itself (LARS of Barlow Twins, VICReg)."""
        found, group = self.of(optimizer, place), optimizer.param_groups[place]
        flat = _is_flat(group)
        if found.source != "probe" or not any(p.ndim < 2 for p in group["params"]):
            return False
        if (found.decay == "ignored") is not flat or found.decay in {"none", "unknown"}:
            return False
        alike = _but_for_lr(optimizer, group)
        if alike not in self._spares:
            other = behaviour_of(optimizer, place, shape=_MATRIX if flat else _VECTOR).decay
            self._spares[alike] = other not in {"ignored", "unknown"} if flat else other == "ignored"
        return self._spares[alike]


def _is_flat(group: dict[str, Any]) -> bool:
    return all(p.ndim < 2 for p in group["params"])


def _but_for_lr(optimizer: Any, group: dict[str, Any]) -> str:
    """All that a dry run depends on, lr left out."""
    params = group["params"]
    kind = (params[0].dtype, _is_flat(group), params[0].device) if params else None
    settings = {k: v for k, v in group.items() if k not in _LRS | {"params", "param_names"}}
    return repr((id(optimizer), kind, sorted(settings.items(), key=lambda item: str(item[0]))))


def _at(lr: float, measured: Behaviour, measured_lr: float) -> Behaviour | None:
    """What was measured at one lr, at another; None where it takes a dry run, or a reading, of its own."""
    if measured.source != "probe" or measured.decay not in _FOLLOWS_LR or not measured_lr > 0:
        return None
    factor = (lr / measured_lr) ** _FOLLOWS_LR[measured.decay]
    shrink = None if measured.shrink is None else measured.shrink * factor
    return replace(measured, shrink=shrink, evidence=f"{measured.evidence} (at lr={measured_lr:g})")
