"""Storage formats as contestants: each holds the bytes that it says; slow peers have fewer turns."""

from __future__ import annotations

import io
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from adamantine.bench import measure
from adamantine.bench.case import FUSED, OURS, Step
from adamantine.bench.cases import CASES
from adamantine.bench.console import show
from adamantine.bench.contestants import Contestant, entrants
from adamantine.bench.formats import (
    BITSANDBYTES,
    EIGHT,
    FORMATS,
    FOUR,
    MIXED,
    SPLIT,
    STOCHASTIC,
    STOCHASTIC_FOUR,
)
from adamantine.bench.goals import judge
from adamantine.bench.measure import Pace, interleaved
from adamantine.bench.memory import bytes_held
from adamantine.bench.peers import chosen
from adamantine.bench.statistics import median, ratio

HEADER = 4 / 128  # bytes of a block's scale per element


@pytest.mark.parametrize(
    ("name", "bytes_per_parameter"),
    [
        (OURS, 16),
        (EIGHT, 4 + 4 + 2 + 2 * HEADER),
        (MIXED, 4 + 4 + 1.5 + 2 * HEADER),
        (FOUR, 4 + 4 + 1 + 2 * HEADER),
        (SPLIT, 2 + 2 + 1 + 2 + 2 * HEADER),
        (STOCHASTIC, 2 + 2 + 2 + 2 * HEADER),
        (STOCHASTIC_FOUR, 2 + 2 + 1 + 2 * HEADER),
    ],
)
def test_a_format_holds_its_bytes(name: str, bytes_per_parameter: float) -> None:
    case = CASES["formats"]
    work = Step(((256, 128),) * 3)
    (entrant,) = [e for e in entrants(case, work, (), threads=1) if e.name == name]
    contestant = entrant.build()
    assert contestant.held is not None
    # Beside them: a step counter and a rounding key for each tensor, in allocations of their own.
    assert 0 <= contestant.held() / work.elements - bytes_per_parameter < 16 * 3 / work.elements


def test_every_format_and_no_other_is_in_the_case() -> None:
    assert CASES["formats"].ours == (OURS, *FORMATS)
    for case in (CASES["formats"], CASES["format-peers"]):
        named = {name for goal in case.goals for name in (goal.numerator, goal.denominator)}
        assert named <= {*case.ours, *(peer.name for peer in chosen(case.peers))}


def test_bytes_are_those_of_storages_and_counted_once() -> None:
    shared = torch.zeros(10)
    w = torch.nn.Parameter(torch.zeros(5))
    w.grad = torch.zeros(5)

    optimizer = SimpleNamespace(state={w: {"a": shared[:2], "b": [shared[2:], 3.0], "step": 1}})
    assert bytes_held([w], optimizer) == 20 + 20 + 40


def test_bytes_of_a_tensor_that_wraps_others() -> None:
    class Coded(torch.Tensor):
        """As torchao's: claims a shape in float32, holds codes and scales."""

        @staticmethod
        def __new__(cls, codes: torch.Tensor, scales: torch.Tensor) -> Any:
            return torch.Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)

        def __init__(self, codes: torch.Tensor, scales: torch.Tensor) -> None:
            self.codes, self.scales = codes, scales

        def __tensor_flatten__(self) -> Any:
            return ["codes", "scales"], []

        @classmethod
        def __torch_dispatch__(cls, *args: Any) -> Any:
            raise AssertionError("nothing is to be computed")

    w = torch.nn.Parameter(torch.zeros(64))

    coded = Coded(torch.zeros(64, dtype=torch.uint8), torch.zeros(2))
    assert bytes_held([w], SimpleNamespace(state={w: {"exp_avg": coded}})) == 256 + 64 + 8


class _Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(measure, "perf_counter", lambda: self.now)
        monkeypatch.setattr(measure, "sleep", lambda seconds: None)
        self.runs: Counter[str] = Counter()

    def work(self, name: str, seconds: float) -> Contestant:
        def run() -> None:
            self.now += seconds
            self.runs[name] += 1

        return Contestant(name, run)


def test_slow_contestants_have_three_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(monkeypatch)
    pace = Pace(rounds=12, most_rounds=14, seconds=1e9, turn=0.0, slow=2.0, slow_rounds=3)
    entered = [clock.work("fast", 0.1), clock.work("slow", 30.0), clock.work("medium", 2.0)]
    rounds = list(interleaved(entered, pace))
    turns = {
        name: [r[0].round for r in rounds if name in {row.contestant for row in r}] for name in clock.runs
    }
    assert turns["fast"] == turns["medium"] == list(range(14))
    assert turns["slow"] == [0, 4, 8]
    assert clock.runs["slow"] == 4  # one to warm up
    assert all([row.place for row in r] == list(range(len(r))) for r in rounds)


def test_where_all_are_about_as_slow_nobody_sits_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(monkeypatch)
    pace = Pace(rounds=4, most_rounds=4, seconds=0.0, turn=0.0, slow=2.0)
    rounds = list(interleaved([clock.work("a", 3.0), clock.work("b", 4.0)], pace))
    assert [len(r) for r in rounds] == [2, 2, 2, 2]


def test_ratios_are_over_the_rounds_that_both_were_in() -> None:
    ours = np.array([1.0, 2.0, 3.0, 4.0])
    slow = np.array([30.0, np.nan, np.nan, 80.0])
    assert ratio(slow, ours).median == 25.0
    assert (ratio(slow, ours).low, ratio(slow, ours).high) == (20.0, 30.0)
    assert median(slow).median == 55.0


def test_the_table_has_bytes_and_says_who_sat_out(outcome: Any, results: Any) -> None:
    values = {EIGHT: [0.1] * 12, FOUR: [0.12] * 12, BITSANDBYTES: [3.0, 3.1, 2.9]}
    found = outcome("format-peers", values)
    object.__setattr__(found, "held", {EIGHT: round(10.0625 * found.work.elements)})
    out = io.StringIO()
    show(results(found), Console(file=out, width=100))
    text = out.getvalue()
    assert "10.06" in text
    assert f"{BITSANDBYTES}: slow, so in 3 of 12 rounds" in text
    assert "30.0" in text
    (goal,) = [g for g in found.case.goals if g.numerator == BITSANDBYTES]
    assert judge(goal, found.values, {}).status == "met"
    assert found.bytes_per_parameter(BITSANDBYTES) is None
    assert outcome("gpt2", {OURS: [1.0], FUSED: [1.0]}).bytes_per_parameter(OURS) is None
