"""Puts one class through the checks, in this process."""

from __future__ import annotations

import contextlib
import io
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from adamantine.testing import checks as _checks  # noqa: F401  registers them
from adamantine.testing.errors import ConformanceError
from adamantine.testing.outcome import Conformance, Example, NotApplicable, Outcome, Result, Verdict
from adamantine.testing.registry import CHECKS, Check
from adamantine.testing.resolve import subject_of
from adamantine.testing.subject import Subject


def check_optimizer(
    optimizer: Any,
    *,
    hyper: Mapping[str, Any] | None = None,
    name: str = "",
    only: Collection[str] | None = None,
    finished: Callable[[Result], object] = lambda result: None,
) -> Conformance:
    """Everything the kit can find out about one optimizer class.

    Args:
        optimizer: a class, a factory ``factory(params, **hyper)``, a `functools.partial`, a `Subject`, or
            ``"module:Class"``.
        hyper: keyword arguments to construct it with, always.
        name: what it is to be judged as, if not its own name.
        only: names of checks or of families; all by default.
        finished: called after each check.

    Raises:
        ConformanceError: it cannot be imported or made to step; or ``only`` names no check.

    >>> import torch
    >>> found = check_optimizer(torch.optim.Adam, only=["decay-mode", "zero-lr"])
    >>> found["zero-lr"].outcome.value, found["decay-mode"].outcome.value
    ('passed', 'yes')
    """
    asked = chosen(only)
    it = subject_of(optimizer, hyper=hyper, name=name)
    results = []
    for check in asked:
        results.append(ask(check, it))
        finished(results[-1])
    return conformance(it, results)


def conformance(it: Subject, results: Collection[Result]) -> Conformance:
    """The record of a subject with these results."""
    return Conformance(
        name=it.name,
        reference=it.reference,
        hyper=dict(it.hyper),
        needs=it.needs.words,
        oracle=it.oracle.rule if it.oracle else None,
        results=tuple(results),
    )


def chosen(only: Collection[str] | None) -> list[Check]:
    """The checks of these names or families.

    Raises:
        ConformanceError: a name that is neither.
    """
    if only is None:
        return list(CHECKS.values())
    families = {check.family for check in CHECKS.values()}
    if unknown := [name for name in only if name not in CHECKS and name not in families]:
        raise ConformanceError(
            f"no check or family is called {', '.join(unknown)}; families: {', '.join(sorted(families))}; "
            f"checks: {', '.join(CHECKS)}"
        )
    return [check for check in CHECKS.values() if check.name in only or check.family in only]


def ask(check: Check, it: Subject) -> Result:
    """One check; whatever the class raises is a result."""
    with _undisturbed():
        try:
            if check.presumes == "determinism" and not it.deterministic:
                raise NotApplicable("two runs from one seed differ, so that bits cannot be compared")
            verdict = check.ask(it)
        except NotApplicable as reason:
            return Result(check.name, Outcome.NOT_APPLICABLE, str(reason))
        except (Exception, SystemExit) as error:  # of a foreign class
            said = " ".join(str(error).split())[:300]
            return Result(check.name, Outcome.RAISED, f"{type(error).__name__}: {said}{_place(error)}")
        return Result(
            check.name, verdict.outcome, verdict.statement, _example(verdict, it), verdict.inherited
        )


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Random numbers, thread count, default dtype and warnings are as before, whatever a check does.

    One thread: for a dozen numbers more only wait for each other (matrix products in bfloat16 ten times as
    long).
    """
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    try:
        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


def _example(verdict: Verdict, it: Subject) -> Example | None:
    """The violation as a script with what it printed, if it shows it.

    Its last line must be False; or it ends by the exception that the verdict speaks of.
    """
    if not verdict.code:
        return None
    module, _, path = it.reference.partition(":")
    if not it.reference:
        origin = [f"# {it.name} is the class under test"]
    elif "." in path or path != it.name:
        origin = [f"import {module}", f"{it.name} = {module}.{path}"]
    else:
        origin = [f"from {module} import {it.name}"]
    own = [line for line in verdict.code if line.startswith(("import ", "from "))]
    rest = [line for line in verdict.code if line not in own]
    head = dict.fromkeys(sorted([*own, "import torch"], key=lambda line: line.startswith("from ")))
    code = "\n".join([*head, *origin, "", *rest])
    output, raised = io.StringIO(), ""
    names: dict[str, Any] = {} if it.reference else {it.name: it.make}
    try:
        with contextlib.redirect_stdout(output):
            exec(compile(code, "<example>", "exec"), names)
    except Exception as error:
        if type(error).__name__ not in verdict.statement:  # it fails otherwise than the check says
            return None
        raised = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    printed = output.getvalue()
    return Example(code, printed, raised) if raised or printed.endswith("False\n") else None


def _place(error: BaseException) -> str:
    """The innermost line of the foreign code that an exception came through, for whoever looks for it."""
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [frame for frame in frames if not Path(frame.filename).is_relative_to(Path(__file__).parent)]
    return f" ({Path(foreign[-1].filename).name}, line {foreign[-1].lineno})" if foreign else ""
