"""What another library's test suite sees of the kit."""

from __future__ import annotations

import functools

import pytest
import torch

from adamantine.testing import ConformanceError, Subject, assert_passes, parametrize_with_checks, subject_of
from adamantine.testing.registry import CHECKS

NAMED_ORDER = {"AdamW": {"named-order": "torch matches by position"}}


class Inheriting(torch.optim.AdamW):
    """Its loading is torch's, which does not fail it."""


@parametrize_with_checks(
    ["torch.optim:AdamW", functools.partial(torch.optim.SGD, momentum=0.9), Inheriting],
    only=["named-order", "zero-lr"],
    expected_failures={**NAMED_ORDER, "SGD-momentum=0.9": {"named-order": "torch matches by position"}},
)
def test_as_others_use_it(optimizer, check):
    assert_passes(optimizer, check)


def test_ids():
    mark = parametrize_with_checks(
        [torch.optim.SGD, torch.optim.SGD, "torch.optim:Adam"], only=["zero-lr"]
    ).mark
    assert [case.id for case in mark.args[1]] == ["SGD-zero-lr", "SGD-2-zero-lr", "Adam-zero-lr"]
    assert len(parametrize_with_checks([torch.optim.SGD]).mark.args[1]) == len(CHECKS)


def test_the_message_has_the_script():
    with pytest.raises(AssertionError, match=r"AdamW breaks 'named-order' \(state is loaded by") as caught:
        assert_passes(torch.optim.AdamW, "named-order")
    assert "from torch.optim" in str(caught.value)
    assert str(caught.value).rstrip().endswith("# False")


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"AdamW": {"no-such": ""}}, "no check is called no-such"),
        ({"Adam": {}}, "no optimizer is called Adam;"),
    ],
)
def test_misspelt_expectations_are_refused(expected, message):
    with pytest.raises(ConformanceError, match=message):
        parametrize_with_checks([torch.optim.AdamW], expected_failures=expected)


def test_a_subject_of_ones_own():
    """A factory that no name describes, with what it is to be held to."""

    def make(params, lr=0.1):
        return torch.optim.SGD(params, lr=lr, momentum=0.9)

    mine = subject_of(make, name="HeavyBall")
    assert isinstance(mine, Subject)
    assert mine.oracle is None
    assert assert_passes(mine, "resume").outcome.value == "passed"
    with pytest.raises(pytest.skip.Exception, match="takes no weight_decay"):
        assert_passes(mine, "decay-mode")


def test_held_to_a_formula_that_its_own_name_does_not_promise():
    class MyAdamW(torch.optim.AdamW):
        def __init__(self, params, lr=1e-3):
            super().__init__(params, lr=lr, eps=1e-3)
            for group in self.param_groups:
                group["eps"] = 0.1

    with pytest.raises(pytest.skip.Exception, match="no formula is known for this name"):
        assert_passes(MyAdamW, "formula")
    mine = subject_of(MyAdamW, name="SGD")
    with pytest.raises(AssertionError, match="SGD breaks 'formula'"):
        assert_passes(mine, "formula")


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(ConformanceError, match="3 is not an optimizer class; give module:Class"):
        subject_of(3)
    with pytest.raises(ConformanceError, match="dict does not step on a small weight"):
        subject_of(dict)
    with pytest.raises(ConformanceError, match="no check is called 'zero'; there are formula"):
        assert_passes(torch.optim.SGD, "zero")
