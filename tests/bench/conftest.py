"""Made-up measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from adamantine.bench.cases import CASES
from adamantine.bench.measure import Row
from adamantine.bench.results import Outcome, Results

MANIFEST = {
    "command": "adamantine bench",
    "time": "2026-01-01T00:00:00+00:00",
    "threads": 2,
    "quick": False,
    "pace": {"rounds": 12, "most_rounds": 40, "seconds": 8.0, "turn": 0.005},
    "machine": {
        "system": "Linux 6",
        "processor": "A Processor (x86_64)",
        "cores": 2,
        "caches": {"L1 data": "32K"},
        "memory available (GiB)": 20.0,
    },
    "versions": {"python": "3.11", "adamantine": "0.1.0", "torch": "2.13.0", "native": "x86-64-v3"},
    "peers not installed": ["optimi"],
}

Made = Callable[..., Outcome]


@pytest.fixture
def outcome() -> Made:
    """``outcome("tensor", {"adamantine": [1.0, …]}, missing={…})``: one value per round."""

    def make(
        name: str,
        values: Mapping[str, Sequence[float]],
        missing: Mapping[str, str] | None = None,
        others: float = 0.0,
    ) -> Outcome:
        rows = [
            Row(contestant, number, place, 1, value)
            for place, (contestant, of_rounds) in enumerate(values.items())
            for number, value in enumerate(of_rounds)
        ]
        return Outcome(CASES[name], False, tuple(rows), missing or {}, others)

    return make


@pytest.fixture
def results() -> Callable[..., Results]:
    """``results(outcome, …, threads=4)``."""

    def make(*outcomes: Outcome, **changes: object) -> Results:
        return Results({**MANIFEST, **changes}, outcomes)

    return make
