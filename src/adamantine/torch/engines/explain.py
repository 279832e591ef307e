"""Which parameter runs on which engine, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adamantine.torch.kernel import MISSING, native

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer


@dataclass(frozen=True)
class Placement:
    """Where one parameter's step runs: its name, shape and dtype, the engine, and the reason."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    engine: str
    reason: str


@dataclass(frozen=True)
class Explanation:
    """One `Placement` per parameter, in the order of the groups; ``str`` is a table."""

    placements: tuple[Placement, ...]

    def of_engine(self, engine: str) -> Explanation:
        """Those that run on this engine."""
        return Explanation(tuple(p for p in self.placements if p.engine == engine))

    def __str__(self) -> str:
        rows = [("parameter", "shape", "dtype", "engine", "why")]
        rows += [
            (p.name, "×".join(map(str, p.shape)) or "scalar", p.dtype, p.engine, p.reason)
            for p in self.placements
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            "  ".join(
                [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]
            ).rstrip()
            for row in rows
        ]
        counts = {p.engine: 0 for p in self.placements}
        for p in self.placements:
            counts[p.engine] += 1
        total = ", ".join(f"{count} on the {engine} engine" for engine, count in counts.items())
        return "\n".join([*lines, total or "no parameters"])


def explain(optimizer: Optimizer) -> Explanation:
    """What the next step does with each parameter, as far as gradients and states that are there tell."""
    names = name_parameters(optimizer.param_groups)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    reasons = _reasons(optimizer, len(params))
    kernel = "" if native is None else f"kernel for {native.target}"
    return Explanation(
        tuple(
            Placement(
                name=names[p],
                shape=tuple(p.shape),
                dtype=str(p.dtype).removeprefix("torch."),
                engine="native" if reason is None else "generic",
                reason=kernel if reason is None else reason,
            )
            for p, reason in zip(params, reasons, strict=True)
        )
    )


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
