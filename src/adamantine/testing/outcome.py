"""What a check found: one of a few outcomes, one line, and where it matters the smallest example."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """The word that stands in the table."""

    PASSED = "passed"
    #: What somebody asks of an optimizer does not hold; who, is said by `registry.Check.by`.
    VIOLATED = "violated"
    #: The check raised what nobody promised that it would: the class breaks where others work.
    RAISED = "raised"
    #: Not promised by anybody, and there.
    YES = "yes"
    #: Not promised by anybody, and not there.
    NO = "no"
    NOT_APPLICABLE = "n/a"


#: The outcomes that fail a conformance run.
FAILURES = frozenset({Outcome.VIOLATED, Outcome.RAISED})


@dataclass(frozen=True)
class Verdict:
    """What a check's function returns.

    ``code`` are the lines of an example after the class's import; its last line prints ``False`` where the
    promise says ``True``. ``inherited``: torch.optim.Optimizer itself does so, and this class does not change
    it.
    """

    outcome: Outcome
    statement: str
    code: tuple[str, ...] = ()
    inherited: bool = False


def passed(statement: str) -> Verdict:
    return Verdict(Outcome.PASSED, statement)


def violated(statement: str, code: list[str], *, inherited: bool = False) -> Verdict:
    return Verdict(Outcome.VIOLATED, statement, tuple(code), inherited)


def yes(statement: str) -> Verdict:
    return Verdict(Outcome.YES, statement)


def no(statement: str) -> Verdict:
    return Verdict(Outcome.NO, statement)


def not_applicable(statement: str) -> Verdict:
    return Verdict(Outcome.NOT_APPLICABLE, statement)


class NotApplicable(Exception):
    """Raised anywhere below a check that this class gives nothing to look at; the message says why."""


@dataclass(frozen=True)
class Example:
    """A script as run, what it printed, and the exception that ended it, if one did."""

    code: str
    output: str
    raised: str = ""

    @property
    def text(self) -> str:
        """The script with its output as comments: for pasting, and for reading without running."""
        printed = "".join(f"# {line}\n" for line in self.output.splitlines())
        return f"{self.code}\n" + (f"# prints\n{printed}" if printed else "") + self._end

    @property
    def _end(self) -> str:
        return f"# raises\n# {self.raised}\n" if self.raised else ""


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    check: str
    outcome: Outcome
    statement: str
    example: Example | None = None
    inherited: bool = False

    @property
    def failed(self) -> bool:
        """Whether the class itself breaks something: what torch's base class does is not counted."""
        return self.outcome in FAILURES and not self.inherited

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**asdict(self), "outcome": self.outcome.value}

    @staticmethod
    def of_dict(data: dict[str, Any]) -> Result:
        """The inverse of `as_dict`."""
        example = Example(**data["example"]) if data.get("example") else None
        return Result(**{**data, "outcome": Outcome(data["outcome"]), "example": example})


@dataclass(frozen=True)
class Conformance:
    """Everything that was found out about one class.

    ``problem`` says why nothing could be: the class cannot be imported, constructed or made to step.
    """

    name: str
    #: ``module:Class``, or empty for a class that has no importable name.
    reference: str
    #: The keyword arguments it was always constructed with.
    hyper: dict[str, Any] = field(default_factory=dict)
    #: What it needed to run at all, in words: "a closure", "float32", …
    needs: tuple[str, ...] = ()
    #: Name of the rule of `adamantine.rules.RULES` it was compared with, or None.
    oracle: str | None = None
    results: tuple[Result, ...] = ()
    problem: str = ""

    def __getitem__(self, check: str) -> Result:
        for result in self.results:
            if result.check == check:
                return result
        raise KeyError(check)

    @property
    def failures(self) -> tuple[Result, ...]:
        """What fails a run: violations and crashes of the class's own."""
        return tuple(result for result in self.results if result.failed)

    @property
    def violations(self) -> dict[str, str]:
        """Check → statement, of everything that is violated, inherited or not."""
        return {r.check: r.statement for r in self.results if r.outcome in FAILURES}

    @property
    def ok(self) -> bool:
        return not self.problem and not self.failures

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "name": self.name,
            "reference": self.reference,
            "hyper": {key: _plain(value) for key, value in self.hyper.items()},
            "needs": list(self.needs),
            "oracle": self.oracle,
            "problem": self.problem,
            "results": [result.as_dict() for result in self.results],
        }

    @staticmethod
    def of_dict(data: dict[str, Any]) -> Conformance:
        """The inverse of `as_dict`."""
        return Conformance(
            **{
                **data,
                "needs": tuple(data["needs"]),
                "results": tuple(Result.of_dict(result) for result in data["results"]),
            }
        )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
