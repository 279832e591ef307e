"""Every check by name, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from adamantine.testing.outcome import Verdict
from adamantine.testing.subject import Subject

#: Who asks for what a check looks at. "torch's classes": no documentation says so, but all of torch.optim
#: does it and other code builds upon it. "this kit": nobody else does, and without it training goes wrong
#: unseen.
AskedBy = Literal[
    "its paper",
    "its name",
    "its signature",
    "torch's documentation",
    "torch's classes",
    "torch.distributed",
    "this kit",
    "nobody",
]


@dataclass(frozen=True)
class Check:
    """One question put to a class.

    Attributes:
        name: stable, for ``--only`` and for expected failures.
        family: the group of the table, named like the module it is defined in.
        question: what is asked, as a sentence that is true of a class that passes.
        by: who asks it of an optimizer; ``"nobody"`` of a capability.
        ask: the function; its docstring says who promises this, and what broke where it was not so.
    """

    name: str
    family: str
    question: str
    by: AskedBy
    ask: Callable[[Subject], Verdict]
    #: ``"determinism"``: it compares bits, which says nothing of a class whose runs differ from each other.
    presumes: Literal["nothing", "determinism"] = "nothing"


CHECKS: dict[str, Check] = {}


def check(
    name: str, question: str, *, by: AskedBy, presumes: Literal["nothing", "determinism"] = "nothing"
) -> Callable[[Callable[[Subject], Verdict]], Callable[[Subject], Verdict]]:
    """Registers a check's function."""

    def register(ask: Callable[[Subject], Verdict]) -> Callable[[Subject], Verdict]:
        family = ask.__module__.rpartition(".")[2]
        CHECKS[name] = Check(name, family, question, by, ask, presumes)
        return ask

    return register
