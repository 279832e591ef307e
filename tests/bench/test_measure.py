"""Rounds: everyone in turn, in a balanced order, and only ``run`` is timed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from adamantine.bench import measure
from adamantine.bench.contestants import Contestant
from adamantine.bench.measure import Pace, interleaved, order


@pytest.mark.parametrize("count", range(1, 9))
def test_everyone_has_every_place_once(count: int) -> None:
    rounds = [order(count, number) for number in range(count)]
    for place in range(count):
        assert sorted(turn[place] for turn in rounds) == list(range(count))


@pytest.mark.parametrize("count", range(2, 9))
def test_everyone_follows_everyone_equally_often(count: int) -> None:
    rounds = count if count % 2 == 0 else 2 * count
    followed = Counter(pair for number in range(rounds) for pair in pairwise(order(count, number)))
    assert len(followed) == count * (count - 1)
    assert len(set(followed.values())) == 1


class Clock:
    """Time that only passes when somebody works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.log: list[str] = []
        monkeypatch.setattr(measure, "perf_counter", lambda: self.now)
        monkeypatch.setattr(measure, "sleep", lambda seconds: self.pass_by("rest", seconds))

    def work(self, name: str, seconds: float) -> Contestant:
        return Contestant(name, lambda: self.pass_by(name, seconds))

    def pass_by(self, name: str, seconds: float) -> None:
        self.now += seconds
        self.log.append(name)


def test_short_runs_are_repeated_until_a_turn_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pace = Pace(rounds=3, most_rounds=3, seconds=0, turn=1.0, rest=0.5)
    rows = [
        row for turns in interleaved([clock.work("a", 2.0), clock.work("b", 0.125)], pace) for row in turns
    ]
    assert {(row.contestant, row.runs, row.value) for row in rows} == {("a", 1, 2.0), ("b", 8, 0.125)}
    assert [(row.round, row.place, row.contestant) for row in rows] == [
        *((0, 0, "a"), (0, 1, "b"), (1, 0, "b"), (1, 1, "a"), (2, 0, "b"), (2, 1, "a"))
    ]
    a, b = ["rest", "a"], ["rest", *["b"] * 8]
    measured = [*a, *b, *b, *a, *b, *a]
    assert clock.log[-len(measured) :] == measured


def test_preparation_comes_before_every_run_and_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    contestant = Contestant(
        "fresh", lambda: clock.pass_by("run", 0.25), lambda: clock.pass_by("prepare", 100.0)
    )
    (row,) = next(interleaved([contestant], Pace(turn=1.0, rest=50.0)))
    assert (row.runs, row.value) == (4, 0.25)
    worked = [what for what in clock.log if what != "rest"]
    assert worked == ["prepare", "run"] * (len(worked) // 2)


@pytest.mark.parametrize(
    ("seconds_a_run", "rounds"),
    [(1.0, 12), (0.5, 17), (0.01, 40)],  # at least 12; while 8 seconds last; at most 40
)
def test_time_decides_between_the_least_and_the_most_rounds(
    monkeypatch: pytest.MonkeyPatch, seconds_a_run: float, rounds: int
) -> None:
    clock = Clock(monkeypatch)
    found = list(
        interleaved(
            [clock.work("a", seconds_a_run)], Pace(rounds=12, most_rounds=40, seconds=8.0, turn=0, rest=0)
        )
    )
    assert len(found) == rounds


def test_garbage_is_collected_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    import gc

    clock = Clock(monkeypatch)
    rounds = interleaved([clock.work("a", 1.0)], Pace(rounds=1, most_rounds=1))
    next(rounds)
    assert not gc.isenabled()
    rounds.close()
    assert gc.isenabled()
