"""``--fix``: the program that makes the optimizer as it should have been made.

It runs as it stands where ``model`` is the user's model. What no program can mend, such as the dtype of the
weights or the length of a schedule, stays as a comment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from adamantine.audit.fix_plan import NewGroup, NewOptimizer, planned
from adamantine.audit.given import signature_of
from adamantine.audit.model import AuditReport, Finding
from adamantine.audit.names import globs
from adamantine.audit.subject import unwrapped_optimizer
from adamantine.groups import param_groups
from adamantine.report.numbers import printable

Style = Literal["adamantine", "torch"]
_WIDTH = 100


@dataclass(frozen=True)
class Fix:
    """A program, with the codes of the findings that are gone once it has run."""

    program: str
    mended: tuple[str, ...]


def fixed(report: AuditReport, optimizer: Any, model: Any, *, style: Style = "adamantine") -> Fix:
    """The program for this audit.

    Args:
        report: of the optimizer and the model.
        optimizer: the one that was audited, or the sequence of them.
        model: the module, or the sequence of modules (``model`` is then that sequence in the program, too).
        style: ``"adamantine"`` writes the groups as a call of `adamantine.param_groups` where that says it;
            ``"torch"`` as patterns over names, without this package wherever torch has the decay.

    Returns:
        Findings of severity ``note`` are left alone: they may well be meant.
    """
    wrong = [finding for finding in report.findings if finding.severity != "note"]
    if not wrong:
        return Fix("# Nothing to mend.\n", ())
    given = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    optimizers = [unwrapped_optimizer(each) for each in given]
    several = isinstance(model, list | tuple)
    modules = torch.nn.ModuleList(model) if several else model
    named = dict(modules.named_parameters())
    plans = planned(report, optimizers, named)
    mended = tuple(dict.fromkeys(f.code for f in wrong if any(f.code in plan.mended for plan in plans)))
    left = [finding for finding in wrong if finding.code not in mended]
    writer = _Writer(list(named), several)
    if mended:
        for place, plan in enumerate(plans):
            name = "optimizer" if len(plans) == 1 else f"optimizer_{place}"
            compact = None
            if style == "adamantine" and len(plans) == 1 and not several:
                compact = _compact(plan, model, list(named))
            writer.optimizer(name, plan, compact)
    return Fix(_assembled(writer, mended, left), mended)


def _assembled(writer: _Writer, mended: Sequence[str], left: Sequence[Finding]) -> str:
    head = [f"# Mends: {', '.join(mended)}." if mended else "# Nothing here can be mended by a program."]
    head += [f"# Not mended here, {finding.code}: {_one_line(finding)}" for finding in left]
    lines = [line for text in head for line in _comment(text)]
    if writer.body:
        lines += ["", *sorted(writer.imports), "", *writer.body]
        lines += _comment(
            "# A scheduler holds the optimizer that it was made with: make it anew, after this."
        )
    return "\n".join(lines) + "\n"


class _Writer:
    """The lines of the program so far."""

    def __init__(self, names: list[str], several: bool) -> None:
        self.names, self.several = names, several
        self.imports: set[str] = set()
        self.body: list[str] = []

    def optimizer(self, name: str, plan: NewOptimizer, compact: str | None) -> None:
        """The call, after what its groups need."""
        for text in dict.fromkeys(plan.comments):
            self.body += _comment(f"# {text}")
        settings = {plan.spelled(key): self._value(key, value, plan) for key, value in plan.settings.items()}
        if compact is not None:
            self.imports.add("from adamantine import param_groups")
            groups, settings = compact, {k: v for k, v in settings.items() if k not in {"lr", "weight_decay"}}
            lr = signature_of(plan.cls).get("lr")
            if lr is not None and lr.default is lr.empty:
                settings = {"lr": self._value("lr", plan.settings["lr"], plan), **settings}
            self.body.append(f"groups = {groups}")
            first = "groups"
        elif plan.groups == [] or (len(plan.groups) == 1 and set(plan.groups[0].names) == set(self.names)):
            first = "model.parameters()"
        else:
            first = self._groups(plan)
        self.body += _call(f"{name} = {self._class(plan)}", [first], settings)

    def _class(self, plan: NewOptimizer) -> str:
        if plan.module == "torch.optim":
            self.imports.add("import torch")
            return f"torch.optim.{plan.name}"
        if "<locals>" in plan.name or plan.module == "__main__":
            self.body.append(f"# {plan.name.rpartition('.')[2]} is your own class")
            return plan.name.rpartition(".")[2]
        self.imports.add(f"from {plan.module} import {plan.name.split('.')[0]}")
        return plan.name

    def _groups(self, plan: NewOptimizer) -> str:
        """Each group by the patterns that match its names and no others."""
        if "def matching(*patterns):" not in self.body:
            self.imports.add("from fnmatch import fnmatchcase")
            source = "model.named_parameters()"
            if self.several:
                self.imports.add("import torch")
                source = "torch.nn.ModuleList(model).named_parameters()"
            self.body += [
                f"named = dict({source})",
                "",
                "",
                "def matching(*patterns):",
                "    return [p for name, p in named.items() if any(fnmatchcase(name, q) for q in patterns)]",
                "",
                "",
            ]
        parts = [self._group(group, plan) for group in plan.groups]
        return "[\n" + "".join(f"    {part},\n" for part in parts) + "]"

    def _group(self, group: NewGroup, plan: NewOptimizer) -> str:
        patterns = [_quoted(pattern) for pattern, _ in globs(group.names, self.names)]
        said = f"matching({', '.join(patterns)})"
        if len(said) > _WIDTH - 30:
            said = "matching(\n" + "".join(f"        {pattern},\n" for pattern in patterns) + "    )"
        settings = "".join(
            f', "{plan.spelled(key)}": {self._value(key, v, plan)}' for key, v in group.settings.items()
        )
        return f'{{"params": {said}{settings}}}'

    def _value(self, key: str, value: Any, plan: NewOptimizer) -> str:
        if key == "weight_decay" and value in plan.conversions:
            self.imports.add("from adamantine import convert_weight_decay")
            return plan.conversions[value]
        return _quoted(value) if isinstance(value, str) else repr(value)


def _compact(plan: NewOptimizer, model: Any, names: list[str]) -> str | None:
    """The groups as one call of `param_groups`, with patterns for what its rules see otherwise; None where
    groups differ in more than decay."""
    lrs = {group.settings.get("lr", plan.settings.get("lr")) for group in plan.groups}
    decays = {group.settings.get("weight_decay", plan.settings.get("weight_decay")) for group in plan.groups}
    others = {key for group in plan.groups for key in group.settings} - {"lr", "weight_decay"}
    trained = {name for group in plan.groups for name in group.names}
    wanted_trained = {name for name, p in model.named_parameters() if p.requires_grad}
    if (
        others
        or len(lrs) != 1
        or len(decays - {0.0, None}) > 1
        or trained != wanted_trained
        or plan.conversions
        or plan.spelled("weight_decay") != "weight_decay"  # the one key that `param_groups` writes
    ):
        return None
    lr, decay = lrs.pop(), max((d for d in decays if d), default=0.0)
    if lr is None:
        return None
    wanted = {
        name: bool(group.settings.get("weight_decay", plan.settings.get("weight_decay")))
        for group in plan.groups
        for name in group.names
    }
    found: list[dict[str, Any]] = []
    for embeddings in ("no_decay", "decay"):
        options: dict[str, Any] = {} if embeddings == "no_decay" else {"embeddings": embeddings}
        if decay:
            decided = {
                d.name: d.decays
                for d in param_groups(model, lr=lr, weight_decay=decay, **options).decisions
                if d.group is not None
            }
            for option, decays_now in (("no_decay", True), ("decay", False)):
                odd = [
                    name for name, does in decided.items() if does is decays_now and wanted[name] is not does
                ]
                if odd:
                    options[option] = [pattern for pattern, _ in globs(odd, names)]
        found.append(options)
    best = min(found, key=lambda options: sum(len(v) for v in options.values() if isinstance(v, list)))
    said = [f"{key}={_quoted(value)}" for key, value in best.items()]
    arguments = ["model", f"lr={lr!r}", f"weight_decay={decay!r}", *said]
    return "\n".join(_call("param_groups", arguments, {}))


def _quoted(value: str | list[str]) -> str:
    """As a literal; whatever is in a name stays inside it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_quoted, value))}]"
    plain = repr(value)
    return plain if '"' in value or "'" in value or "\\" in value else f'"{plain[1:-1]}"'


def _call(function: str, arguments: list[str], settings: dict[str, str]) -> list[str]:
    """A call on one line where it fits, else an argument a line."""
    parts = [*arguments, *(f"{key}={value}" for key, value in settings.items())]
    line = f"{function}({', '.join(parts)})"
    if len(line) <= _WIDTH and "\n" not in line:
        return [line]
    inside = [f"    {part}".replace("\n", "\n    ") + "," for part in parts]
    return [f"{function}(", *inside, ")"]


def _comment(text: str) -> list[str]:
    """A comment in lines of the program's width."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > _WIDTH:
            lines.append(line)
            line = "#  "
        line = f"{line} {word}" if line else word
    return [*lines, line]


def _one_line(finding: Finding) -> str:
    return " ".join(printable(finding.remedy.en).split())
