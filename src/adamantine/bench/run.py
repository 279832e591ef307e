"""Runs the cases, one after the other, each with all its contestants in this one process."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

import torch

from adamantine.bench import cases as all_cases
from adamantine.bench import memory
from adamantine.bench import peers as all_peers
from adamantine.bench.case import Case, Step, Work
from adamantine.bench.contestants import Contestant, Entrant, Unavailable, entrants
from adamantine.bench.errors import BenchError
from adamantine.bench.machine import Others, machine, versions
from adamantine.bench.measure import QUICK, Pace, Row, interleaved
from adamantine.bench.peers import Peer
from adamantine.bench.results import Outcome, Results

RESERVE = 2**30  # bytes left to everyone else
MEMORY_ROUNDS = 7


@dataclass(frozen=True)
class Plan:
    """What is to be run; made by :func:`prepare`."""

    cases: tuple[Case, ...]
    peers: tuple[Peer, ...]
    threads: int
    quick: bool

    @property
    def pace(self) -> Pace:
        return QUICK if self.quick else Pace()


class Watcher(Protocol):
    """Is told how a benchmark goes on; see :mod:`adamantine.bench.console`."""

    def begins(self, case: Case, contestants: int) -> None:
        """A case's contestants are about to be built and measured."""

    def says(self, what: str) -> None:
        """What is going on within the case."""

    def finished(self, outcome: Outcome) -> None:
        """A case is done."""


def prepare(
    *, cases: Sequence[str] = (), peers: Sequence[str] = (), threads: int | None = None, quick: bool = False
) -> Plan:
    """Check what was asked for.

    Raises:
        BenchError: an unknown case or peer, or no thread.
    """
    if threads is not None and threads < 1:
        raise BenchError(f"--threads {threads}: at least 1 is needed")
    return Plan(
        all_cases.chosen(tuple(cases)),
        all_peers.chosen(tuple(peers)),
        threads or torch.get_num_threads(),
        quick,
    )


def run(plan: Plan, watcher: Watcher, command: str = "") -> Results:
    """Run every case of the plan."""
    manifest = {
        "command": command,
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "threads": plan.threads,
        "quick": plan.quick,
        "pace": asdict(plan.pace),
        "machine": machine(),
        "versions": versions(plan.peers),
        "peers not installed": [peer.name for peer in plan.peers if not peer.installed],
    }
    outcomes = []
    with _threads(plan.threads):
        for case in plan.cases:
            outcomes.append(_outcome(case, plan, watcher))
            watcher.finished(outcomes[-1])
    return Results(manifest, tuple(outcomes))


def default_folder() -> Path:
    """``runs/bench-`` and the time, to the second."""
    return Path("runs") / f"bench-{datetime.now():%Y%m%d-%H%M%S}"


def _outcome(case: Case, plan: Plan, watcher: Watcher) -> Outcome:
    gc.collect()  # what the last case has left
    work = case.quick if plan.quick else case.work
    taking_part = entrants(case, work, plan.peers, plan.threads)
    watcher.begins(case, len(taking_part))
    measure = _times if case.quantity == "seconds" else _peaks
    others = Others()
    found = measure(taking_part, work, plan, watcher)
    return Outcome(case, plan.quick, tuple(found.rows), found.missing, others.share(), found.held)


@dataclass
class _Found:
    """What comes of measuring a case."""

    rows: list[Row] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)


def _times(taking_part: list[Entrant], work: Work, plan: Plan, watcher: Watcher) -> _Found:
    """All contestants at once in memory, in turn."""
    ready: list[Contestant] = []
    found = _Found()
    for entrant in taking_part:
        watcher.says(f"building {entrant.name}")
        contestant = _built(entrant, work, found.missing)
        if contestant is not None:
            ready.append(contestant)
            if contestant.held is not None:
                found.held[contestant.name] = contestant.held()
    if ready:
        watcher.says("warming up")
        for turns in interleaved(ready, plan.pace):
            found.rows += turns
            watcher.says(f"round {turns[0].round + 1}")
    return found


def _peaks(taking_part: list[Entrant], work: Work, plan: Plan, watcher: Watcher) -> _Found:
    """One contestant after the other: a high-water mark is the process's."""
    found = _Found()
    for entrant in taking_part:
        watcher.says(entrant.name)
        contestant = _built(entrant, work, found.missing)
        if contestant is None:
            continue
        for _ in range(3):
            contestant.run()
        for number in range(MEMORY_ROUNDS):
            peak = memory.peak_extra(contestant.run)
            if peak is None:
                found.missing[entrant.name] = "this system does not tell a high-water mark of memory"
                break
            found.rows.append(Row(entrant.name, number, 0, 1, float(peak)))
    return found


def _built(entrant: Entrant, work: Work, missing: dict[str, str]) -> Contestant | None:
    """The contestant, or None with the reason noted."""
    room = memory.available()
    needed = work.memory + (
        3 * 4 * work.elements if isinstance(work, Step) else 0
    )  # and what a step may take
    if room is not None and needed + RESERVE > room:
        missing[entrant.name] = (
            f"needs {needed / 2**30:.1f} GiB and 1 GiB to spare; {room / 2**30:.1f} GiB are available"
        )
        return None
    try:
        return entrant.build()
    except Unavailable as error:
        missing[entrant.name] = str(error)
        return None


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
