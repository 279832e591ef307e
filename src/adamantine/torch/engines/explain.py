"""Which parameter runs on which engine, and why; and how it and its state are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adamantine.rules import Rule
from adamantine.torch.kernel import MISSING, native
from adamantine.torch.storage import layout as storage

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer


@dataclass(frozen=True)
class Placement:
    """Where one parameter's step runs, and how it is stored.

    Attributes:
        name: of the parameter.
        shape: likewise.
        dtype: likewise, as in ``"bfloat16"``.
        engine: ``"native"`` or ``"generic"``.
        reason: why there.
        weights: how the parameter is stored: ``"bfloat16, stochastic"``; ``"float32"`` whatever ``weights=``
            asks for, since that concerns 16-bit parameters.
        state: how each slot is stored: ``"exp_avg 4bit, exp_avg_sq 8bit"``; a dense one by its dtype.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    engine: str
    reason: str
    weights: str = ""
    state: str = ""


@dataclass(frozen=True)
class Explanation:
    """One `Placement` per parameter, in the order of the groups; ``str`` is a table.

    Attributes:
        placements: the rows.
        notes: what in this storage keeps the training from what it is to do, with the remedy: one sentence
            each (`adamantine.torch.stalls`).
    """

    placements: tuple[Placement, ...]
    notes: tuple[str, ...] = ()

    def of_engine(self, engine: str) -> Explanation:
        """Those that run on this engine."""
        return Explanation(tuple(p for p in self.placements if p.engine == engine))

    def __str__(self) -> str:
        rows = [("parameter", "shape", "weights", "state", "engine", "why")]
        rows += [
            (p.name, "×".join(map(str, p.shape)) or "scalar", p.weights, p.state, p.engine, p.reason)
            for p in self.placements
        ]
        widths = [*(max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]), 0]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        counts = {p.engine: 0 for p in self.placements}
        for p in self.placements:
            counts[p.engine] += 1
        total = ", ".join(f"{count} on the {engine} engine" for engine, count in counts.items())
        return "\n".join([*lines, total or "no parameters", *self.notes])


def explain(optimizer: Optimizer) -> Explanation:
    """What the next step does with each parameter, as far as gradients and states that are there tell."""
    names = name_parameters(optimizer.param_groups)
    from adamantine.torch.stalls import notes_of  # which names parameters as this module does

    reasons = _reasons(optimizer, sum(len(group["params"]) for group in optimizer.param_groups))
    kernel = "" if native is None else f"kernel for {native.target}"
    return Explanation(
        tuple(
            Placement(
                name=names[p],
                shape=tuple(p.shape),
                dtype=storage.dtype_name(p.dtype),
                engine="native" if reason is None else "generic",
                reason=kernel if reason is None else reason,
                weights=_weights(p, how),
                state=_state(p, group, rule, how, optimizer.state.get(p, {})),
            )
            for (p, group, rule, how), reason in zip(_stored(optimizer), reasons, strict=True)
        ),
        tuple(notes_of(optimizer)),
    )


def _stored(optimizer: Optimizer) -> Iterator[tuple[Tensor, dict[str, Any], Rule, storage.Formats]]:
    for group in optimizer.param_groups:
        rule = optimizer.rule(group)
        how = storage.formats(group, rule)
        for p in group["params"]:
            yield p, group, rule, how


def _weights(p: Tensor, how: storage.Formats) -> str:
    weights = how.weights_of(p)
    return (
        storage.dtype_name(p.dtype)
        if weights in {"exact", "nearest"}
        else f"{storage.dtype_name(p.dtype)}, {weights}"
    )


def _state(p: Tensor, group: dict[str, Any], rule: Rule, how: storage.Formats, entry: dict[str, Any]) -> str:
    """Each slot by its key; a dense one in the dtype it has, or is about to have."""
    slots = []
    for key, (form, _) in zip(rule.slots.values(), how.slots, strict=True):
        found = entry.get(key)
        asked = storage.dense_dtype(p, storage.slot_option(group, key)) if form == "dense" else None
        if asked is not None:
            form = storage.dtype_name(found.dtype if isinstance(found, Tensor) else asked)
        slots.append(f"{key} {form}")
    return ", ".join(slots) or "none"


def _reasons(optimizer: Optimizer, count: int) -> Sequence[str | None]:
    """Per parameter: None for the native engine, else why not."""
    if optimizer.engine == "generic":
        return ["engine='generic'"] * count
    if optimizer.defaults["differentiable"]:
        return ["differentiable=True: gradients flow through torch operations"] * count
    if native is None:
        return [MISSING] * count
    rules = [optimizer.rule(group) for group in optimizer.param_groups]
    with optimizer.native_engine() as engine:
        engine.gather(optimizer.param_groups, rules, optimizer.state)
        return engine.reasons()


def name_parameters(groups: Sequence[dict[str, Any]]) -> dict[Tensor, str]:
    """Parameter → its name where the group has names, else its place."""
    names: dict[Tensor, str] = {}
    for number, group in enumerate(groups):
        own = group.get("param_names")
        for index, p in enumerate(group["params"]):
            names[p] = own[index] if own else f"parameter {index} of group {number}"
    return names
