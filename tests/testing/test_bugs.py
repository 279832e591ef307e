"""Each re-created public bug is caught by exactly the checks listed for it; the correct twins pass all."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import sys
from pathlib import Path

import pytest

from adamantine.testing import Outcome, check_optimizer


def _bugs():
    if "bugs_of_the_kit" in sys.modules:
        return sys.modules["bugs_of_the_kit"]
    spec = importlib.util.spec_from_file_location("bugs_of_the_kit", Path(__file__).with_name("bugs.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


bugs = _bugs()


@functools.cache
def checked(name):
    return check_optimizer(bugs.BUGS[name][0])


@pytest.mark.parametrize("name", bugs.BUGS)
def test_caught_by_the_check_meant_for_it(name):
    _, expected, _ = bugs.BUGS[name]
    found = checked(name)
    assert {result.check for result in found.failures} == set(expected), found.violations
    assert not found.ok
    for check in expected:
        example = found[check].example
        assert example is not None, (check, found[check].statement)
        assert example.output.splitlines()[-1] == "False"


@pytest.mark.parametrize("name", bugs.BUGS)
def test_the_examples_print_what_they_say(name):
    """Pasted anew, with the class at hand, each script prints what stands below it."""
    cls, expected, _ = bugs.BUGS[name]
    for result in map(checked(name).__getitem__, expected):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(result.example.text, {cls.__name__: cls})
        if name != "random numbers of its own":
            assert printed.getvalue() == result.example.output
        assert printed.getvalue().endswith("False\n")
        assert "Error" not in printed.getvalue()


@pytest.mark.parametrize("name", bugs.CORRECT)
def test_the_correct_twin_passes(name):
    found = check_optimizer(bugs.CORRECT[name])
    assert found.violations == {}
    assert found.ok
    assert not any(result.outcome is Outcome.RAISED for result in found.results)
