"""What a benchmark found: rows, what they say, and the file they are kept in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from adamantine.bench.case import LIMIT, Case, Step, Work
from adamantine.bench.goals import Verdict, judge
from adamantine.bench.measure import Row
from adamantine.bench.statistics import Estimate, Floats, median, ratio
from adamantine.report.files import write_atomic

FORMAT = 1
FILE = "results.json"
NOT_FULL_SIZE = "--quick has other sizes"
BUSY = 0.1  # of all processors' time taken by other programs: beyond it no goal about time is judged


@dataclass(frozen=True)
class Line:
    """One contestant of a case: its median, and medians of its per-round ratios."""

    name: str
    value: Estimate  # seconds per run, or bytes
    over_limit: Estimate | None
    over_ours: Estimate | None


@dataclass(frozen=True)
class Outcome:
    """One case.

    Attributes:
        quick: on tiny sizes.
        missing: contestant → why it was not measured.
        others: the part of all processors' time that other programs took meanwhile; None if unknown.
        held: contestant → bytes of its parameters, gradients and state.
    """

    case: Case
    quick: bool = False
    rows: tuple[Row, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    others: float | None = None
    held: Mapping[str, int] = field(default_factory=dict)

    @property
    def work(self) -> Work:
        """What was done."""
        return self.case.quick if self.quick else self.case.work

    @property
    def busy(self) -> bool:
        """Whether other programs took so much that times mean little."""
        return self.others is not None and self.others > BUSY

    @cached_property
    def values(self) -> dict[str, Floats]:
        """Every contestant's numbers by round; NaN where it sat out."""
        names = dict.fromkeys(row.contestant for row in self.rows)
        rounds = 1 + max((row.round for row in self.rows), default=-1)
        found = {name: np.full(rounds, np.nan) for name in names}
        for row in self.rows:
            found[row.contestant][row.round] = row.value
        return found

    @property
    def lines(self) -> list[Line]:
        """Ours first, then the limit, then the peers from fast to slow."""
        first = (*self.case.ours, LIMIT)
        places = {name: index for index, name in enumerate(first)}
        found = [
            Line(name, median(values), self._over(name, LIMIT), self._over(name, self.case.ours[0]))
            for name, values in self.values.items()
        ]
        return sorted(found, key=lambda line: (places.get(line.name, len(first)), line.value.median))

    @property
    def verdicts(self) -> list[Verdict]:
        if self.quick:
            return [Verdict(goal, "not measured", reason=NOT_FULL_SIZE) for goal in self.case.goals]
        if self.busy and self.case.quantity == "seconds":
            reason = f"other programs took {self.others:.0%} of the processors"
            return [Verdict(goal, "not measured", reason=reason) for goal in self.case.goals]
        return [judge(goal, self.values, self.missing) for goal in self.case.goals]

    def bytes_per_parameter(self, name: str) -> float | None:
        """Of a contestant's parameters, gradients and state together; None where formats are not the case's
        matter."""
        if not self.case.formats or name not in self.held or not isinstance(self.work, Step):
            return None
        return self.held[name] / self.work.elements

    def rounds(self, name: str) -> int:
        """In how many rounds it took part."""
        return sum(row.contestant == name for row in self.rows)

    def _over(self, name: str, other: str) -> Estimate | None:
        if name == other or other not in self.values or self.case.quantity == "bytes":
            return None
        return ratio(self.values[name], self.values[other])


@dataclass(frozen=True)
class Results:
    """A whole run. ``manifest``: command, time, machine, versions, threads, pace."""

    manifest: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]

    def write(self, folder: Path) -> None:
        """Writes ``results.json``; its form is described in docs/bench.md."""
        write_atomic(
            folder / FILE, (json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n").encode()
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            **self.manifest,
            "cases": [_case(outcome) for outcome in self.outcomes],
            "rows": [{"case": o.case.name, **asdict(row)} for o in self.outcomes for row in o.rows],
        }


def _case(outcome: Outcome) -> dict[str, Any]:
    case, work = outcome.case, outcome.work
    return {
        "name": case.name,
        "title": case.title,
        "description": case.description,
        "unit": case.unit,
        "quantity": case.quantity,
        "elements": work.elements if isinstance(work, Step) else None,
        "traffic_bytes": work.traffic if isinstance(work, Step) and case.limited else None,
        "contestants": [
            {**asdict(line), "bytes_per_parameter": outcome.bytes_per_parameter(line.name)}
            for line in outcome.lines
        ],
        "missing": dict(outcome.missing),
        "others": outcome.others,
        "goals": [
            {
                "goal": str(verdict.goal),
                "status": verdict.status,
                "measured": asdict(verdict.measured) if verdict.measured else None,
                "interval_agrees": verdict.clear,
                "reason": verdict.reason,
            }
            for verdict in outcome.verdicts
        ],
    }
