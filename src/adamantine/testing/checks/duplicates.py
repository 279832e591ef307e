"""Copies of the optimizer itself: `copy.deepcopy` and pickle."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import torch

from adamantine.testing.checks.state import three_steps
from adamantine.testing.measure import copies, same
from adamantine.testing.outcome import Verdict, no, passed, violated, yes
from adamantine.testing.registry import check
from adamantine.testing.subject import Subject


@check("deepcopy", "a deep copy is an optimizer of its own", by="torch's classes", presumes="determinism")
def deepcopy(subject: Subject) -> Verdict:
    """`copy.deepcopy`, for a trial step or a fork: it goes on as the original would, and leaves it alone.

    `Optimizer.__getstate__` hands on defaults, state and groups alone: an attribute that a class sets beside
    them is missing in the copy, which then raises at its first step, or starts counting anew.
    """
    try:
        problem = _differs(subject, copy.deepcopy)
    except _Uncopied as error:
        return no(f"cannot be copied: {error}")
    if not problem:
        return passed("the copy's next three steps are the original's, to the bit")
    return violated(
        problem,
        [
            "import copy",
            *three_steps(subject),
            "twin = copy.deepcopy(optimizer)",
            'v = twin.param_groups[0]["params"][0]',
            "before = w.detach().clone()",
            "v.grad = torch.ones_like(v)",
            subject.step_of("twin"),
            'print("the original moved:", not torch.equal(w, before))',
            "w.grad = torch.ones_like(w)",
            f"if torch.equal(w, before): {subject.step_of()}",
            "print(w.flatten()[0].item(), v.flatten()[0].item())",
            "print(torch.equal(w, v) and w is not v)",
        ],
    )


@check("pickle", "survives pickling", by="nobody", presumes="determinism")
def pickling(subject: Subject) -> Verdict:
    """``pickle.dumps`` of the optimizer itself, as spawned processes and some launchers do."""
    try:
        problem = _differs(subject, lambda optimizer: pickle.loads(pickle.dumps(optimizer)))
    except _Uncopied as error:
        return no(f"cannot be pickled: {error}")
    return no(problem) if problem else yes("its next three steps are the original's, to the bit")


class _Uncopied(Exception):
    """There is no copy."""


def _differs(subject: Subject, duplicate: Callable[[torch.optim.Optimizer], torch.optim.Optimizer]) -> str:
    """What is wrong with a copy after three steps, or nothing."""
    params = subject.parameters()
    optimizer = subject.build(params, **subject.lr, **subject.strong_decay)
    subject.run(params, optimizer, range(3))
    try:
        twin = duplicate(optimizer)
    except Exception as error:
        raise _Uncopied(f"{type(error).__name__}: {' '.join(str(error).split())[:160]}") from error
    others = twin.param_groups[0]["params"]
    before = copies(params)
    torch.default_generator.manual_seed(1)
    try:
        subject.run(others, twin, range(3, 6))
    except Exception as error:
        return f"a step of the copy raises {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    if not same(copies(params), before):
        return "steps of the copy move the original"
    torch.default_generator.manual_seed(1)
    subject.run(params, optimizer, range(3, 6))
    return (
        "" if same(copies(params), copies(others)) else "the copy's next three steps are not the original's"
    )
