"""A class that crashes, hangs or cannot be had costs a row, not the table."""

from __future__ import annotations

import sys
import textwrap

import pytest

from adamantine.testing import ConformanceError, Outcome, check_optimizer
from adamantine.testing.isolated import check_isolated

CLASSES = """
    import ctypes, time
    import torch

    class Crashes(torch.optim.SGD):
        def state_dict(self):
            ctypes.string_at(0)

    class Hangs(torch.optim.SGD):
        def zero_grad(self, set_to_none=True):
            time.sleep(600)

    class Prints(torch.optim.SGD):
        def step(self, closure=None):
            print("noise that is not JSON")
            return super().step(closure)

    class Exits(torch.optim.SGD):
        def __init__(self, *args, **kwargs):
            raise SystemExit(3)
"""


@pytest.fixture(autouse=True)
def _importable(tmp_path, monkeypatch):
    (tmp_path / "odd_optimizers.py").write_text(textwrap.dedent(CLASSES))
    monkeypatch.chdir(tmp_path)


def test_a_crash_is_a_row():
    found = check_isolated("odd_optimizers:Crashes", only=["zero-lr", "resume", "zero-grad"])
    assert [result.check for result in found.results] == ["zero-lr", "resume", "zero-grad"]
    assert found["resume"].outcome is Outcome.RAISED
    assert found["resume"].statement == "the process was ended by SIGSEGV"
    assert found["zero-lr"].outcome is found["zero-grad"].outcome is Outcome.PASSED
    assert not found.ok


def test_silence_is_a_row():
    found = check_isolated("odd_optimizers:Hangs", only=["zero-grad", "zero-lr"], timeout=10)
    assert found["zero-grad"].statement == "the process said nothing for 10 s and was ended"
    assert found["zero-lr"].outcome is Outcome.PASSED


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


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("no_such_package:X", "there is no module 'no_such_package' here"),
        ("odd_optimizers:Exits", "importing or constructing it ended with exit code 3"),
    ],
)
def test_what_cannot_be_had_is_said(target, problem):
    found = check_isolated(target, only=["zero-lr"])
    assert problem in found.problem
    assert not found.results
    assert not found.ok


def test_unknown_checks_are_refused():
    with pytest.raises(ConformanceError, match=r"no check or family is called nosuch; families: .*decay"):
        check_isolated("torch.optim:SGD", only=["nosuch"])
