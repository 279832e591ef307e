"""A class that crashes, hangs or cannot be had costs a row, not the table."""

from __future__ import annotations

import sys
import textwrap

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

    class Prints(torch.optim.SGD):
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
    asked = ["zero-lr", "resume", "step-hooks", "zero-grad", "deterministic"]
    found = check_isolated("odd_optimizers:CrashesAndHangs", only=asked, timeout=5)
    assert {result.check for result in found.results} == set(asked)
    assert found["resume"].outcome is Outcome.RAISED
    assert found["resume"].statement == "the process was ended by SIGSEGV"
    assert found["zero-grad"].statement == "the process said nothing for 5 s and was ended"
    assert {found[name].outcome for name in ("zero-lr", "step-hooks", "deterministic")} == {Outcome.PASSED}
    assert not found.ok


def test_as_in_this_process():
    heard = []
    found = check_isolated(
        "odd_optimizers:Prints", hyper={"momentum": 0.9}, only=["lr", "state"], finished=heard.append
    )
    assert list(found.results) == heard
    sys.path.insert(0, "")
    try:
        here = check_optimizer("odd_optimizers:Prints", hyper={"momentum": 0.9}, only=["lr", "state"])
    finally:
        sys.path.remove("")
        sys.modules.pop("odd_optimizers", None)
    assert found == here


def test_a_class_that_ends_the_process_is_a_problem():
    """What cannot be imported is tested with the command."""
    found = check_isolated("odd_optimizers:Exits", only=["zero-lr"])
    assert "importing or constructing it ended with exit code 3" in found.problem
    assert not found.results
    assert not found.ok


def test_unknown_checks_are_refused():
    with pytest.raises(ConformanceError, match=r"no check or family is called nosuch; families: .*decay"):
        check_isolated("torch.optim:SGD", only=["nosuch"])
