"""Every case from beginning to end on tiny sizes, and what happens when somebody cannot take part."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adamantine.bench import contestants, limit, memory, run
from adamantine.bench.case import DEFAULT, FLAT, FUSED, LIMIT, OURS, Step
from adamantine.bench.cases import CASES
from adamantine.bench.console import Silent
from adamantine.bench.errors import BenchError
from adamantine.bench.measure import Pace
from adamantine.bench.peers import PEERS
from adamantine.bench.results import Outcome, Results

BRIEF = Pace(rounds=3, most_rounds=3, seconds=0.0, turn=0.0, rest=0.0)


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "QUICK", BRIEF)


def _run(*cases: str, **changes: Any) -> Results:
    return run.run(run.prepare(cases=cases, quick=True, **changes), Silent(), "adamantine bench")


def _only(name: str, **changes: Any) -> Outcome:
    return _run(name, **changes).outcomes[0]


@pytest.mark.parametrize("name", CASES)
def test_every_case_runs(name: str) -> None:
    outcome = _only(name)
    assert {*outcome.case.ours} <= outcome.values.keys()
    assert FUSED in outcome.values or "fused" not in outcome.case.peers
    assert set(outcome.missing.values()) <= {"not installed", "no native engine to measure it"}
    for values in outcome.values.values():
        assert len(values) == (3 if outcome.case.quantity == "seconds" else run.MEMORY_ROUNDS)
        assert (values >= 0).all()
        assert np.isfinite(values).all()
    assert {verdict.status for verdict in outcome.verdicts} <= {"not measured"}  # of tiny sizes


def test_the_file_has_every_turn_and_says_where(tmp_path: Path) -> None:
    _run("one", "memory", "rules/lion").write(tmp_path)
    found = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert found["format"] == 1
    assert (found["command"], found["quick"]) == ("adamantine bench", True)
    assert found["threads"] == torch.get_num_threads()
    assert {"processor", "cores", "caches", "system"} <= found["machine"].keys()
    assert {"python", "torch", "adamantine", "native"} <= found["versions"].keys()
    assert found["pace"] == dataclasses.asdict(BRIEF)
    one, peak, lion = found["cases"]
    assert (one["name"], one["quantity"], one["elements"]) == ("one", "seconds", 256)
    assert one["traffic_bytes"] is None
    assert lion["traffic_bytes"] == 20 * lion["elements"]
    assert [goal["status"] for goal in peak["goals"]] == ["not measured"]
    assert set(found["rows"][0]) == {"case", "contestant", "round", "place", "runs", "value"}
    for contestant in one["contestants"]:
        values = [
            row["value"]
            for row in found["rows"]
            if (row["case"], row["contestant"]) == ("one", contestant["name"])
        ]
        assert len(values) == 3
        assert contestant["value"]["median"] == np.median(values)


def test_contestants_do_the_same_work() -> None:
    """From the same start, ours and torch's end at the same parameters."""
    found = {}
    work = CASES["gpt2"].quick
    for entrant in contestants.entrants(CASES["gpt2"], work, run.prepare(peers=("fused",)).peers, 1):
        if entrant.name != LIMIT:
            contestant = entrant.build()
            contestant.run()
            _, module = contestant.kept
            found[entrant.name] = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    assert set(found) == {OURS, FUSED}
    start = torch.cat([t.reshape(-1) for t in contestants._filled(work, 0, 0.02)])  # type: ignore[arg-type]
    assert (found[OURS] - start).abs().max() > 1e-4  # two steps of 1e-4
    # Two float32 roundings of a parameter of size 0.1, with room for the other order of operations.
    torch.testing.assert_close(found[OURS], found[FUSED], rtol=0, atol=4e-8)


def test_fresh_gradients_are_other_tensors_with_the_same_numbers() -> None:
    work = CASES["many"].quick
    ours = contestants.entrants(CASES["many"], work, (), 1)[0].build()
    assert ours.prepare is not None
    _, module = ours.kept
    before = [p.grad for p in module.parameters()]
    ours.prepare()
    after = [p.grad for p in module.parameters()]
    assert all(a is not b and torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert {a.data_ptr() for a in after}.isdisjoint(b.data_ptr() for b in before)


@pytest.mark.parametrize(("name", "intact"), [("many", True), ("mlp", True), ("mlp", False)])
def test_flat_is_only_what_stays_flat(name: str, intact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Handle:
        def __init__(self, module: torch.nn.Module) -> None:
            self.parameters = list(module.parameters())

        def is_intact(self) -> bool:
            return intact

        def __str__(self) -> str:
            return "gradients dropped"

    monkeypatch.setattr(contestants, "flatten", Handle)
    outcome = _only(name, peers=("fused",))
    assert (FLAT in outcome.values) == intact
    assert outcome.missing.get(FLAT, "").endswith("" if intact else "flat no more: gradients dropped")


def test_clipping_is_part_of_both() -> None:
    """A gradient far too long is clipped by ours inside and by torch's before the step."""
    work = dataclasses.replace(CASES["clip"].quick, max_norm=1e-6)  # so short that epsilon shows
    found = {}
    for entrant in contestants.entrants(CASES["clip"], work, run.prepare(peers=("fused",)).peers, 1):
        contestant = entrant.build()
        _, module = contestant.kept
        found[entrant.name] = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    start = torch.cat([t.reshape(-1) for t in contestants._filled(work, 0, 0.02)])  # type: ignore[arg-type]
    assert (found[OURS] - start).abs().mean() < 0.9e-4  # unclipped, a first step is all of 1e-4
    torch.testing.assert_close(found[OURS], found[FUSED], rtol=0, atol=4e-8)


def test_the_limit_moves_what_a_step_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int, int, int]] = []
    monkeypatch.setattr(
        limit,
        "native_traffic",
        lambda: lambda read, written, size, threads: calls.append((len(read), len(written), size, threads)),
    )
    for name in ("tensor", "bfloat16", "rules/sgd", "rules/amsgrad"):
        calls.clear()
        case = CASES[name]
        work = case.quick
        assert isinstance(work, Step)
        limits = [e for e in contestants.entrants(case, work, (), 2) if e.name == LIMIT]
        limits[0].build()
        assert {threads for *_, threads in calls} == {2}
        assert sum((reads + 2 * writes) * size for reads, writes, size, _ in calls) == work.traffic


def test_without_a_native_engine_the_limit_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "native_traffic", lambda: None)
    outcome = _only("tensor", peers=("fused",))
    assert outcome.missing == {LIMIT: "no native engine to measure it"}
    assert all(line.over_limit is None for line in outcome.lines)
    with pytest.raises(RuntimeError, match="build the native engine"):
        limit.traffic(torch.ones(1), torch.ones(1), [], 1)


def test_a_peer_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = dataclasses.replace(PEERS["optimi"], module="no_such_package_anywhere")
    monkeypatch.setitem(PEERS, "optimi", absent)
    results = _run("one", peers=("fused", "optimi"))
    assert results.outcomes[0].missing == {"optimi": "not installed"}
    assert results.manifest["peers not installed"] == ["optimi"]
    assert "torch-optimi" not in results.manifest["versions"]


def test_a_peer_that_fails_costs_its_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(params: list[torch.nn.Parameter]) -> None:
        print("noise")
        raise ValueError("not\ntoday")

    monkeypatch.setitem(PEERS, "default", dataclasses.replace(PEERS["default"], make=fails))
    outcome = _only("one", peers=("fused", "default"))
    assert outcome.missing == {DEFAULT: "ValueError: not today"}
    assert {OURS, FUSED} == set(outcome.values)


def test_an_error_of_ours_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("adamantine.torch.AdamW.step", fails)
    with pytest.raises(ValueError, match="a bug"):
        _only("one", peers=("fused",))


def test_too_little_memory_is_said_and_nothing_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 2**30)
    outcome = _only("tensor", peers=("fused",))
    assert not outcome.rows
    assert set(outcome.missing) == {OURS, LIMIT, FUSED}
    assert "1 GiB to spare; 1.0 GiB are available" in outcome.missing[OURS]


def test_threads_are_set_and_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(
        "adamantine.torch.AdamW.step", lambda self: seen.append(torch.get_num_threads()), raising=True
    )
    results = _run("one", peers=("fused",), threads=before + 1)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
    assert results.manifest["threads"] == before + 1


def test_what_cannot_be_run_is_refused_before() -> None:
    with pytest.raises(BenchError, match="--threads 0"):
        run.prepare(threads=0)
    with pytest.raises(BenchError, match="--peers 'fussed': there are fused, default"):
        run.prepare(peers=("fussed",))
    assert "compile" not in {peer.key for peer in run.prepare().peers}
    assert {peer.key for peer in run.prepare(peers=("compile",)).peers} == {"compile"}
