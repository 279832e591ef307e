"""The checks as pytest cases, for the test suite of whoever writes an optimizer."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from adamantine.testing.errors import ConformanceError
from adamantine.testing.outcome import Outcome, Result
from adamantine.testing.registry import CHECKS, Check
from adamantine.testing.resolve import subject_of
from adamantine.testing.run import ask, chosen

if TYPE_CHECKING:
    import pytest


def parametrize_with_checks(
    optimizers: Iterable[Any],
    *,
    only: Collection[str] | None = None,
    expected_failures: Mapping[str, Mapping[str, str]] | None = None,
) -> pytest.MarkDecorator:
    """A decorator that makes one test case per optimizer and check.

        from adamantine.testing import assert_passes, parametrize_with_checks

        @parametrize_with_checks([MyAdamW, functools.partial(MyAdamW, amsgrad=True)])
        def test_conformance(optimizer, check):
            assert_passes(optimizer, check)

    Args:
        optimizers: classes, factories, partials, ``"module:Class"`` or subjects, as `check_optimizer` takes
            them. ``subject_of(MyLion, name="Lion")`` is held to Lion's formula, which its own name does not
            promise.
        only: names of checks or of families; all by default.
        expected_failures: name of the optimizer → check → reason; these cases are ``xfail(strict=True)``, so
            that a failure that is mended is noticed.

    Raises:
        ConformanceError: a name of a check, or of an optimizer with expected failures, that there is not.
    """
    import pytest

    asked = chosen(only)
    expected = dict(expected_failures or {})
    if unknown := sorted({check for checks in expected.values() for check in checks} - CHECKS.keys()):
        raise ConformanceError(f"expected_failures: no check is called {', '.join(unknown)}")
    cases: list[Any] = []
    names: list[str] = []
    for optimizer in optimizers:
        name = _name(optimizer, names)
        names.append(name)
        reasons = expected.get(name, {})
        for check in asked:
            reason = reasons.get(check.name)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason is not None else []
            cases.append(pytest.param(optimizer, check, id=f"{name}-{check.name}", marks=marks))
    if unknown := sorted(expected.keys() - set(names)):
        raise ConformanceError(
            f"expected_failures: no optimizer is called {', '.join(unknown)}; there are {', '.join(names)}"
        )
    return pytest.mark.parametrize(("optimizer", "check"), cases)


def assert_passes(optimizer: Any, check: Check | str, *, hyper: Mapping[str, Any] | None = None) -> Result:
    """One check as an assertion; its result, if it passes.

    Violations of torch.optim.Optimizer itself that the class inherits do not fail it. Under pytest, a check
    that does not apply is a skipped test, with the reason: one that is not looked at has not passed.

    Raises:
        AssertionError: the check is violated, or raises; the message has the smallest script that shows it.
        ConformanceError: the class cannot be constructed, or there is no such check.

    >>> import torch
    >>> assert_passes(torch.optim.AdamW, "zero-lr").outcome.value
    'passed'
    """
    __tracebackhide__ = True  # the message is what its reader wants
    if isinstance(check, str):
        if check not in CHECKS:
            raise ConformanceError(f"no check is called {check!r}; there are {', '.join(CHECKS)}")
        check = CHECKS[check]
    it = subject_of(optimizer, hyper=hyper)
    result = ask(check, it)
    if result.failed:
        shown = f"\n\n{result.example.text}" if result.example else ""
        kind = "breaks" if result.outcome is Outcome.VIOLATED else "raises in"
        raise AssertionError(
            f"{it.name} {kind} {check.name!r} ({check.question}; asked for by {check.by}): "
            f"{result.statement}{shown}"
        )
    if result.outcome is Outcome.NOT_APPLICABLE and "PYTEST_CURRENT_TEST" in os.environ:
        import pytest

        pytest.skip(result.statement)
    return result


def _name(optimizer: Any, taken: Collection[str]) -> str:
    """A name for the case that no other has; without constructing anything while pytest collects."""
    if isinstance(optimizer, str):
        name = optimizer.rpartition(":")[2]
    else:
        given = getattr(optimizer, "keywords", {})
        inner = getattr(optimizer, "func", optimizer)
        own = getattr(optimizer, "name", None) or getattr(inner, "__name__", type(inner).__name__)
        name = str(own) + "".join(f"-{key}={value}" for key, value in given.items())
    number = 2
    unique = name
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    return unique
