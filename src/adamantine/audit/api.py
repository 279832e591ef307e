"""`audit` and `assert_no_findings`: what people call."""

from __future__ import annotations

import difflib
import platform
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

import adamantine
from adamantine.audit.checks import CATALOGUE, CHECKS
from adamantine.audit.errors import AuditError
from adamantine.audit.model import AuditReport, Finding, Plan, Severity
from adamantine.audit.static import group_rows, parameter_rows, trajectories
from adamantine.audit.subject import subject

if TYPE_CHECKING:
    from adamantine.audit.ledger import Ledger

_SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # the gravest first


def audit(
    optimizer: Any,
    model: Any,
    *,
    steps: int | None = None,
    steps_per_epoch: int | None = None,
    scheduler: Any = None,
    interval: Literal["step", "epoch"] | None = None,
    every: int | None = None,
    ignore: Sequence[str] = (),
) -> Audit:
    """What decays in this training, by how much, and what is wrong with it.

    Nothing changes: no parameter, no optimizer state, no schedule, no random state. The model is neither run
    nor copied.

    Args:
        optimizer: any ``torch.optim.Optimizer``, or a sequence of those that train this model together (GANs,
            SparseAdam beside AdamW).
        model: the module, or a sequence of modules.
        steps: optimizer steps of the whole run. None: as the scheduler says, if it does.
        steps_per_epoch: optimizer steps in an epoch, for timescales in epochs.
        scheduler: the lr scheduler or schedulers; copies of them are played forward.
        interval: whether ``scheduler.step()`` is called once per ``"step"`` or per ``"epoch"``. None: judged
            by the length of the schedule against ``steps`` and ``steps_per_epoch``.
        every: the ledger's interval in steps (``with audit(...) as ledger:``); None: adapts to its own cost.
        ignore: codes not to report, ``"decays-bias"``, or for some parameters only: ``"decays-bias:head.*"``.

    Raises:
        AuditError: an argument is of the wrong kind or out of range, or an unknown code to ignore.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2))
    >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    >>> found = audit(optimizer, model, steps=10_000)
    >>> for finding in found.findings:
    ...     print(finding.severity, finding.code, finding.parameters)
    warning decays-bias ('0.bias', '2.bias')
    warning decays-norm ('1.weight', '1.bias')
    >>> row = found.report.parameters[0]
    >>> row.name, row.shrink, round(row.timescale), round(row.total_shrink, 3)
    ('0.weight', 0.0001, 10000, 0.368)
    """
    for name, value in {"steps": steps, "steps_per_epoch": steps_per_epoch, "every": every}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise AuditError(f"Invalid {name}: {value!r}; it must be a whole number >= 1, or None")
    if interval not in (None, "step", "epoch"):
        raise AuditError(f"Invalid interval: {interval!r}; choose 'step' or 'epoch'")
    rules = _rules(ignore)
    with _same_random_state():
        seen = subject(optimizer, model, Plan(steps, steps_per_epoch, interval), scheduler)
        found = [finding for check in CHECKS for finding in check(seen)]
    found.sort(key=lambda finding: _SEVERITIES.index(finding.severity))
    report = AuditReport(
        optimizer=", ".join(f"{type(o).__module__}.{type(o).__qualname__}" for o in seen.optimizers),
        plan=seen.plan,
        groups=group_rows(seen),
        parameters=parameter_rows(seen),
        findings=_without(found, rules),
        trajectories=trajectories(seen),
        versions={
            "adamantine": adamantine.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    )
    return Audit(report, optimizer, model, every=every, rules=rules)


def assert_no_findings(optimizer: Any, model: Any, *, at_least: Severity = "warning", **options: Any) -> None:
    """Fail with the findings as text, for test suites.

    Args:
        optimizer: as for `audit`.
        model: as for `audit`.
        at_least: the mildest severity that fails.
        options: as for `audit`: ``steps``, ``scheduler``, ``ignore``, ...

    Raises:
        AssertionError: there are findings of that severity or graver.
        AuditError: as `audit`; or an unknown severity.

    >>> model = torch.nn.Linear(4, 2)
    >>> assert_no_findings(torch.optim.Adam(model.parameters(), lr=1e-3), model)
    """
    if at_least not in _SEVERITIES:
        raise AuditError(f"Invalid at_least: {at_least!r}; choose one of {', '.join(map(repr, _SEVERITIES))}")
    counting = _SEVERITIES[: _SEVERITIES.index(at_least) + 1]
    found = [f for f in audit(optimizer, model, **options).findings if f.severity in counting]
    if found:
        raise AssertionError("\n".join(_lines(found)))


class Audit:
    """The findings, and the ledger: ``with audit(optimizer, model) as ledger:`` measures while training.

    The static part is as it was when `audit` was called. ``print`` gives a table.
    """

    def __init__(
        self,
        report: AuditReport,
        optimizer: Any,
        model: Any,
        *,
        every: int | None = None,
        rules: Sequence[tuple[str, str | None]] = (),
    ) -> None:
        """Made by `audit`. ``rules``: codes to ignore, each with a pattern of parameter names or None."""
        self._static = report
        self._optimizer, self._model, self._every, self._rules = optimizer, model, every, rules
        self._ledger: Ledger | None = None

    @property
    def report(self) -> AuditReport:
        """All of it as plain data; with what the ledger has seen so far, once there is one."""
        if self._ledger is None:
            return self._static
        ledger = self._ledger.report()
        return replace(self._static, ledger=replace(ledger, findings=_without(ledger.findings, self._rules)))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The static findings and the ledger's, the gravest first."""
        report = self.report
        every = [*report.findings, *(report.ledger.findings if report.ledger else ())]
        return tuple(sorted(every, key=lambda finding: _SEVERITIES.index(finding.severity)))

    def __enter__(self) -> Ledger:
        from adamantine.audit.ledger import Ledger

        self._ledger = Ledger(self._optimizer, self._model, every=self._every)
        self._ledger.attach()
        return self._ledger

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._ledger is not None
        self._ledger.detach()

    def __str__(self) -> str:
        from adamantine.audit.console import text

        return text(self.report)

    def __repr__(self) -> str:
        counts = {severity: sum(f.severity == severity for f in self.findings) for severity in _SEVERITIES}
        said = ", ".join(f"{n} {severity}{'s' * (n != 1)}" for severity, n in counts.items() if n)
        return f"<{type(self).__name__} of {self._static.optimizer}: {said or 'no findings'}>"


def _rules(ignore: Sequence[str]) -> list[tuple[str, str | None]]:
    """Codes to leave out, each with its pattern of names."""
    if isinstance(ignore, str):
        raise AuditError(f"Invalid ignore: {ignore!r}; give a sequence of codes, such as [{ignore!r}]")
    rules = []
    for entry in ignore:
        code, colon, pattern = entry.partition(":")
        if code not in CATALOGUE:
            close = difflib.get_close_matches(code, CATALOGUE, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the codes are {', '.join(sorted(CATALOGUE))}"
            raise AuditError(f"Invalid ignore: there is no finding {code!r}; {hint}")
        rules.append((code, pattern if colon else None))
    return rules


def _without(findings: Sequence[Finding], rules: Sequence[tuple[str, str | None]]) -> tuple[Finding, ...]:
    """The findings that are not ignored, without the parameters that are."""
    left = []
    for finding in findings:
        patterns = [pattern for code, pattern in rules if code == finding.code]
        if None in patterns:
            continue
        globs = [pattern for pattern in patterns if pattern is not None]
        names = tuple(n for n in finding.parameters if not any(fnmatchcase(n, g) for g in globs))
        if names or not finding.parameters:
            left.append(replace(finding, parameters=names))
    return tuple(left)


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    yield f"{len(findings)} finding{'s' * (len(findings) != 1)} about weight decay:"
    for finding in findings:
        names = ", ".join(finding.parameters[:5]) + (", …" if len(finding.parameters) > 5 else "")
        yield f"{finding.severity}: {finding.title.en} [{finding.code}]"
        yield f"    {finding.reason.en}"
        yield f"    remedy: {finding.remedy.en}"
        if names:
            yield f"    parameters: {names}"


@contextmanager
def _same_random_state() -> Iterator[None]:
    """Python's, NumPy's and torch's (CPU) random state as it was, whatever a schedule or a dry run draws."""
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002  # the global one is the user's
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])  # noqa: NPY002
