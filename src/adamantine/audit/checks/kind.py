"""What a check can find: the catalogue's entry, and how a finding of it is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from adamantine.audit.given import given, signature_of
from adamantine.audit.members import Parameter
from adamantine.audit.model import Finding, Severity
from adamantine.audit.subject import Group
from adamantine.report.numbers import setting
from adamantine.report.words import Words


@dataclass(frozen=True)
class Kind:
    """One thing that audits look for. The texts hold for every model; a finding's hold its numbers."""

    code: str
    severity: Severity  # the worst that it is given
    title: Words
    why: Words
    remedy: Words
    source: str  # paper, thread or computation behind it

    def finding(
        self,
        *,
        title: Words,
        reason: Words,
        remedy: Words | None = None,
        parameters: Sequence[Parameter] = (),
        groups: Sequence[Group] = (),
        severity: Severity | None = None,
    ) -> Finding:
        """A finding of this kind; what is not said is the kind's own."""
        return Finding(
            code=self.code,
            severity=severity or self.severity,
            title=title,
            reason=reason,
            remedy=remedy or self.remedy,
            parameters=tuple(parameter.name for parameter in parameters),
            groups=tuple(sorted({group.index for group in groups})),
        )


def percent(share: float) -> str:
    """A share of a whole, with three digits.

    >>> percent(1e-5), percent(0.632), percent(1.0)
    ('0.001 %', '63.2 %', '100 %')
    """
    scaled = share * 100
    return f"{scaled:.3g} %" if scaled == 0 or abs(scaled) >= 1e-4 else f"{setting(scaled)} %"


def counted(parameters: Sequence[Parameter], one: Words, many: Words) -> Words:
    """``3 biases (192 numbers)``."""
    elements = sum(p.elements for p in parameters)
    noun = one if len(parameters) == 1 else many
    numbers = "number" if elements == 1 else "numbers"
    return Words(
        f"{len(parameters)} {noun.en} ({elements:,} {numbers})",
        f"{len(parameters)} {noun.zh}（共 {elements:,} 个数）",
    )


def places(groups: Sequence[Group]) -> Words:
    """``group 0``, ``groups 0 and 2``."""
    indexes = sorted({group.index for group in groups})
    if len(indexes) == 1:
        return Words(f"group {indexes[0]}", f"第 {indexes[0]} 组")
    if len(indexes) > 4:
        return Words(
            f"{len(indexes)} groups (from {indexes[0]} to {indexes[-1]})",
            f"{len(indexes)} 个组（从第 {indexes[0]} 组到第 {indexes[-1]} 组）",
        )
    text = ", ".join(map(str, indexes[:-1]))
    return Words(f"groups {text} and {indexes[-1]}", f"第 {text.replace(', ', '、')} 和 {indexes[-1]} 组")


def class_name(optimizer: object) -> str:
    """As it is written in a script: ``torch.optim.AdamW``.

    >>> import torch
    >>> class_name(torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))]))
    'torch.optim.AdamW'
    """
    cls = type(optimizer)
    for package in ("torch.optim", "adamantine.torch"):
        if cls.__module__.startswith(package + "."):
            return f"{package}.{cls.__name__}"
    return cls.__name__


def by_class(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Groups by the class of their optimizer."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(class_name(group.optimizer), []).append(group)
    return found


def settings_of(groups: Sequence[Group], read: str) -> str:
    """One number, or the range, of an attribute of the groups."""
    read_out = {getattr(group, read) for group in groups}
    values = sorted(value for value in read_out if value is not None and math.isfinite(value))
    if not values:
        return "?"
    return setting(values[0]) if len(values) == 1 else f"{setting(values[0])} – {setting(values[-1])}"


def grouped_call(cls: str, groups: Sequence[Group], **changed: object) -> str:
    """The call that makes an optimizer of this class over `adamantine.param_groups`, as it is typed in.

    Settings that are not the class's defaults are kept.
    """
    options = _unusual(groups[0]) | changed
    return f"{cls}({', '.join([groups_call(groups), *(f'{k}={v!r}' for k, v in options.items())])})"


def groups_call(groups: Sequence[Group]) -> str:
    """The call of `adamantine.param_groups`; ``…`` where the groups differ in lr or λ, or have none."""
    decaying = [g for g in groups if g.weight_decay] or groups
    lr, decay = (settings_of(decaying, read) for read in ("peak_lr", "weight_decay"))
    lr, decay = ("…" if "–" in text or text == "?" else text for text in (lr, decay))
    return f"adamantine.param_groups(model, lr={lr}, weight_decay={decay})"


def _unusual(group: Group) -> dict[str, object]:
    """The group's settings that differ from what its class takes when nothing is said."""
    parameters = signature_of(type(group.optimizer))
    return {
        name: value
        for name, value in given(group.settings, getattr(group.optimizer, "defaults", {})).items()
        if name in parameters
        and name not in {"lr", "weight_decay"}
        and isinstance(value, bool | int | float | str | tuple)
        and value != parameters[name].default
    }
