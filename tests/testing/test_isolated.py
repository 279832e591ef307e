"""A class that crashes, hangs or cannot be had costs a row, not the table."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import replace

import pytest

from adamantine.testing import ConformanceError, Outcome, check_optimizer
from adamantine.testing.isolated import check_isolated

CLASSES = """
    import ctypes, os, time
    import torch

    class CrashesAndHangs(torch.optim.SGD):
        def state_dict(self):
            ctypes.string_at(0)

        def zero_grad(self, set_to_none=True):
            time.sleep(600)

        def step(self, closure=None):
            print("noise that is not JSON")
            return super().step(closure)

    class Exits(torch.optim.SGD):
        def __init__(self, *args, **kwargs):
            os._exit(3)
"""


@pytest.fixture(autouse=True)
def _importable(tmp_path, monkeypatch):
    (tmp_path / "odd_optimizers.py").write_text(textwrap.dedent(CLASSES))
    monkeypatch.chdir(tmp_path)


def test_a_crash_and_silence_are_rows():
    """The other rows are what they are in this process, printing or not."""
    target, options = "odd_optimizers:CrashesAndHangs", {"hyper": {"momentum": 0.9}}
    fine = ["lr-schedule", "independence", "deterministic"]
    heard = []
    found = check_isolated(
        target, only=[*fine, "resume", "zero-grad"], timeout=3, finished=heard.append, **options
    )
    assert found["resume"].outcome is Outcome.RAISED
    assert found["resume"].statement == "the process was ended by SIGSEGV"
    assert found["zero-grad"].statement == "the process said nothing for 3 s and was ended"
    assert not found.ok
    assert list(found.results) == heard
    sys.path.insert(0, "")
    try:
        here = check_optimizer(target, only=fine, **options)
    finally:
        sys.path.remove("")
        sys.modules.pop("odd_optimizers", None)
    assert {result.outcome for result in here.results} <= {Outcome.PASSED, Outcome.YES}
    ended = {"resume", "zero-grad"}
    assert replace(found, results=tuple(r for r in found.results if r.check not in ended)) == here


def test_a_class_that_ends_the_process_is_a_problem():
    """What cannot be imported is tested with the command."""
    found = check_isolated("odd_optimizers:Exits", only=["zero-lr"])
    assert "importing or constructing it ended with exit code 3" in found.problem
    assert not found.results
    assert not found.ok


def test_unknown_checks_are_refused():
    with pytest.raises(ConformanceError, match=r"no check or family is called nosuch; families: .*decay"):
        check_isolated("torch.optim:SGD", only=["nosuch"])
