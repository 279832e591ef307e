"""What was measured over time: bounded in memory, medians at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median

from adamantine.audit.ledger_row import Row
from adamantine.audit.ledger_watch import Watched
from adamantine.audit.model import LayerRow

KEPT = 512  # measured steps; beyond them every second one is dropped, and of those to come as many

#: What is kept of a `Row`, beside ‖θ‖.
COLUMNS = ("decay_step", "gradient_step", "update_to_weight", "rounded", "equilibrium", "gradient")

Numbers = dict[str, float]


class Series:
    """For each optimizer, by index, the measured steps; for each of these, the parameters by place."""

    def __init__(self) -> None:
        self.measured = 0  # steps, also those that were dropped; of the optimizer with the most
        self._kept: dict[int, list[tuple[int, dict[int, Numbers]]]] = {}
        self._count: dict[int, int] = {}
        self._stride: dict[int, int] = {}
        self._written: dict[int, int] = {}  # the last step in the file

    def add(self, step: int, index: int, rows: dict[int, Row], norms: Sequence[float]) -> None:
        """One measured step of optimizer ``index``; nothing is kept of a step that was left out."""
        if not rows:
            return
        count = self._count[index] = self._count.get(index, 0) + 1
        self.measured = max(self.measured, count)
        stride, kept = self._stride.setdefault(index, 1), self._kept.setdefault(index, [])
        if (count - 1) % stride:
            return
        kept.append((step, {place: _numbers(row, norms[place]) for place, row in rows.items()}))
        if len(kept) > KEPT:
            del kept[1::2]
            self._stride[index] = 2 * stride

    def of(self, index: int, place: int) -> list[Numbers]:
        """One parameter's, in the order of steps, without those in which it took no step."""
        return [rows[place] for _, rows in self._kept.get(index, []) if place in rows]

    def unwritten(self, names: Sequence[Sequence[str]]) -> Iterator[dict[str, object]]:
        """What was added since the last call, as JSON objects; not finite is null."""
        for index, kept in self._kept.items():
            for step, rows in kept:
                if step <= self._written.get(index, 0):
                    continue
                for place, numbers in rows.items():
                    shown = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
                    yield {"step": step, "name": names[index][place], **shown}
            self._written[index] = kept[-1][0]


def layer_row(watched: Watched, series: Sequence[Numbers]) -> LayerRow:
    """The medians of one parameter; zeros if it never took a measured step."""
    if not series:
        return LayerRow(watched.name, 0.0, 0.0, 0.0, 0.0, watched.norm, None, 0.0, watched.bad, watched.how)
    middle = {name: _median([numbers[name] for numbers in series]) for name in COLUMNS}
    # Not the first half, whose moments are young; nor the last step, whose lr may be 0.
    balance = _median([numbers["equilibrium"] for numbers in series[len(series) // 2 :]])
    return LayerRow(
        name=watched.name,
        decay_step=middle["decay_step"],
        gradient_step=middle["gradient_step"],
        update_to_weight=middle["update_to_weight"],
        rounded=middle["rounded"],
        norm=series[-1]["norm"],
        equilibrium=balance if math.isfinite(balance) else None,
        gradient=middle["gradient"],
        nonfinite=watched.bad,
        separation=watched.how,
    )


def _numbers(row: Row, norm: float) -> Numbers:
    return {**{name: getattr(row, name) for name in COLUMNS}, "norm": norm}


def _median(values: Sequence[float]) -> float:
    """Of those that are numbers."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan
