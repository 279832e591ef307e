"""What is said about the machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from adamantine.bench import machine, peers
from adamantine.bench.machine import Others


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processor times are read from /proc")
def test_others_are_counted_and_we_are_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On made-up times of two processors: 100 ticks a second, of which we had none."""
    monkeypatch.setattr(machine, "_TIMES", tmp_path / "stat")
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 100)
    clock, own = [0.0], [5.0]
    monkeypatch.setattr(machine, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(machine.os, "times", lambda: (own[0], 0.0, 0.0, 0.0, 0.0))
    (tmp_path / "stat").write_text("cpu  1000 0 500 9000 0 0 0 0 0 0\ncpu0 ...\n")
    others = Others()
    # Ten seconds later: 6 s of user time, 1 s stolen, 13 s idle; 3 s of it all were ours.
    clock[0], own[0] = 10.0, 8.0
    (tmp_path / "stat").write_text("cpu  1600 0 500 10300 0 0 0 100 0 0\ncpu0 ...\n")
    assert others.share() == pytest.approx((6 + 1 - 3) / 20)


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_TIMES", tmp_path / "none")
    monkeypatch.setattr(machine, "_CACHES", tmp_path / "none")
    assert Others().share() is None
    assert machine.machine()["caches"] == {}


def test_versions_name_those_who_are_installed() -> None:
    found = machine.versions(tuple(peers.PEERS.values()))
    assert {"python", "adamantine", "torch", "native"} <= found.keys()
    assert ("deepspeed" in found) == peers.PEERS["deepspeed"].installed
