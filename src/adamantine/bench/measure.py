"""Rounds in which every contestant has its turn, and what was measured in each."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter, sleep

from adamantine.bench.contestants import Contestant


@dataclass(frozen=True)
class Pace:
    """How long a case may take.

    Attributes:
        rounds: at least so many, however long they take.
        most_rounds: no more than so many.
        seconds: rounds beyond the least begin within so much time.
        turn: seconds that a contestant's turn lasts at least: short runs are repeated.
        rest: seconds before every turn. OpenMP's threads spin for some milliseconds when their work is done,
            and would take the next contestant's cores. In a training loop they do that to every optimizer,
            which the cases of whole iterations include.
        slow: a contestant whose run takes more seconds than this, and 5 times the fastest's, is slow.
        slow_rounds: so many of the first ``rounds`` have a turn of the slow ones, at equal distances.
    """

    rounds: int = 12
    most_rounds: int = 40
    seconds: float = 8.0
    turn: float = 0.005
    rest: float = 0.015
    slow: float = 2.0
    slow_rounds: int = 3


QUICK = Pace(rounds=5, most_rounds=12, seconds=0.1, turn=0.0005, rest=0.002)


@dataclass(frozen=True)
class Row:
    """One turn: ``value`` is in seconds per run, or in bytes where memory was measured."""

    contestant: str
    round: int
    place: int  # in the order of its round, from 0
    runs: int  # repeated so often
    value: float


def interleaved(contestants: Sequence[Contestant], pace: Pace) -> Iterator[list[Row]]:
    """Time the contestants round by round, after a warm-up that is not counted."""
    with _no_garbage_collection():
        warmed = [_warm_up(contestant, pace) for contestant in contestants]
        runs = [count for count, _ in warmed]
        everyone = list(range(len(contestants)))
        slow = max(pace.slow, 5 * min((seconds for _, seconds in warmed), default=0.0))
        fast = [index for index in everyone if warmed[index][1] <= slow]
        every = max(pace.rounds // pace.slow_rounds, 1)
        began = perf_counter()
        for number in range(pace.most_rounds):
            if number >= pace.rounds and perf_counter() - began > pace.seconds:
                return
            turns = []
            present = everyone if number < pace.rounds and number % every == 0 else fast
            for place, index in enumerate(present[k] for k in order(len(present), number)):
                sleep(pace.rest)
                seconds = _time(contestants[index], runs[index])
                turns.append(Row(contestants[index].name, number, place, runs[index], seconds / runs[index]))
            yield turns


def order(count: int, number: int) -> list[int]:
    """Who comes when in this round, by a Williams square (1949).

    In every ``count`` rounds everyone has every place once. In as many, or twice as many where ``count`` is
    odd, everyone has followed everyone else equally often, so that what one leaves in the caches for the next
    is shared fairly.

    >>> [order(4, number) for number in range(4)]
    [[0, 3, 1, 2], [1, 0, 2, 3], [2, 1, 3, 0], [3, 2, 0, 1]]
    """
    zigzag = [(index + 1) // 2 if index % 2 == 0 else -(index + 1) // 2 for index in range(count)]
    turned = [(step + number) % count for step in zigzag]
    return turned[::-1] if number // count % 2 else turned


def _warm_up(contestant: Contestant, pace: Pace) -> tuple[int, float]:
    """Run until state and caches are there; how many runs fill a turn, and the seconds of one."""
    for _ in range(2):  # the first run makes the state
        seconds = _time(contestant, 1)
        if seconds > pace.slow:
            return 1, seconds  # no cache remembers that long
    runs, seconds = 1, _time(contestant, 1)
    while seconds < pace.turn:
        runs *= 2
        seconds = _time(contestant, runs)
    return max(1, round(runs * pace.turn / seconds)), seconds / runs


def _time(contestant: Contestant, runs: int) -> float:
    """Seconds that so many runs take."""
    run, prepare = contestant.run, contestant.prepare
    if prepare is None:
        began = perf_counter()
        for _ in range(runs):
            run()
        return perf_counter() - began
    total = 0.0
    for _ in range(runs):
        prepare()
        began = perf_counter()
        run()
        total += perf_counter() - began
    return total


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """As in timeit: a collection would be charged to whoever happens to run."""
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
