"""Which instruction set a process uses: the best, or the one that ADAMANTINE_TARGET names."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

native = pytest.importorskip("adamantine._native", reason="this installation has no compiled kernel")


def report(target):
    """The end of a fresh interpreter that was asked for this target."""
    code = "from adamantine import _native; print(_native.target)"
    environment = {**os.environ, "ADAMANTINE_TARGET": target}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("target", native.targets)
def test_a_target_can_be_forced(target):
    assert report(target).stdout.strip() == target


def test_the_best_is_taken_by_itself():
    assert report("").stdout.strip() == native.targets[-1]


def test_a_wrong_name_is_refused_with_the_choices():
    end = report("x86-64-v9")
    assert end.returncode != 0
    assert "Invalid ADAMANTINE_TARGET: 'x86-64-v9'" in end.stderr
    for target in native.targets:
        assert target in end.stderr


def test_step_refuses_names_and_counts_that_it_has_not():
    with pytest.raises(ValueError, match="this CPU and build have"):
        native.step("x86-64-v9", "sgd", 0, [1.0] * 4, [(0, "float32")] * 2, 0, 0)
    for rule, form, numbers, arrays, words in [
        ("sgdd", 0, [1.0] * 4, [(0, "float32")] * 2, "no kernel for rule 'sgdd'"),
        ("sgd", 3, [1.0] * 4, [(0, "float32")] * 2, "no such form"),
        ("sgd", 0, [1.0] * 3, [(0, "float32")] * 2, "wrong number of scalars"),
        ("sgd", 0, [1.0] * 4, [(0, "float32")], "wrong number of arrays"),
        ("sgd", 0, [1.0] * 4, [(0, "int8")] * 2, "dtype: 'int8'"),
    ]:
        with pytest.raises(ValueError, match=words):
            native.step("", rule, form, numbers, arrays, 0, 0)


def test_step_members_refuses_what_would_read_past_its_rows():
    rows = np.ones((2, 4))
    for rule, width, members, words in [
        ("sgdd", 4, 2, "no kernel for rule 'sgdd'"),
        ("sgd", 3, 2, "wrong number of scalars"),
        ("sgd", 4, 3, "more members than rows"),
    ]:
        with pytest.raises(ValueError, match=words):
            native.step_members(
                rule, bytes(2), rows.ctypes.data, width, [(0, 1, [(0, "float32")] * 2)], members, 1
            )
