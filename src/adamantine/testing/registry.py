"""Every check by name, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from adamantine.testing.outcome import Verdict
from adamantine.testing.subject import Subject


@dataclass(frozen=True)
class Check:
    """One question put to a class.

    Attributes:
        name: stable, for ``--only`` and for expected failures.
        family: the group of the table, named like the module it is defined in.
        question: what is asked, as a sentence that is true of a class that passes.
        ask: the function; its docstring says who promises this, and what broke where it was not so.
    """

    name: str
    family: str
    question: str
    ask: Callable[[Subject], Verdict]
    #: ``"determinism"``: it compares bits, which says nothing of a class whose runs differ from each other.
    presumes: Literal["nothing", "determinism"] = "nothing"


CHECKS: dict[str, Check] = {}


def check(
    name: str, question: str, *, presumes: Literal["nothing", "determinism"] = "nothing"
) -> Callable[[Callable[[Subject], Verdict]], Callable[[Subject], Verdict]]:
    """Registers a check's function."""

    def register(ask: Callable[[Subject], Verdict]) -> Callable[[Subject], Verdict]:
        family = ask.__module__.rpartition(".")[2]
        CHECKS[name] = Check(name, family, question, ask, presumes)
        return ask

    return register
