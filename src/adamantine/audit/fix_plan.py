"""What an optimizer should have been: its class, its arguments and its groups, with the findings mended."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from adamantine.audit.given import given, signature_of
from adamantine.audit.model import AuditReport
from adamantine.probe.sandbox import DECAY_KEYS, decay_key

#: Who decays and who is listed: mended by making the groups anew.
OF_GROUPS = (
    "decays-bias",
    "decays-norm",
    "decays-scalar",
    "decays-listed",
    "decays-table",
    "spares-matrix",
    "not-in-optimizer",
    "not-of-model",
    "twice",
    "frozen-decays",
)
#: Mended by another λ.
OF_SIZE = ("shrink-above-one", "unit-of-another-mode", "timescale-too-short", "timescale-too-long")
#: Mended by another class or argument, where one is known.
OF_CLASS = ("l2-in-adaptive", "decay-ignored", "decay-ignores-lr", "eps-too-small")

_UNKNOWN_RUN = 1000  # steps of τ where the length of the run is not known: the shortest of published settings
_EPS_OF_HALF = 1e-4  # the checks' own advice for float16 weights

#: Keys of a group that are no arguments: torch's bookkeeping, the schedulers', ours.
_KEPT_BY_OTHERS = {
    "params", "param_names", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum",
    "constructed_lr", "highest_lr", "swa_lr",
}  # fmt: skip


@dataclass
class NewGroup:
    """Parameters that share their arguments."""

    settings: dict[str, Any]
    names: list[str]


@dataclass
class NewOptimizer:
    """One optimizer to write; the comments say what its reader has to decide."""

    cls: type
    settings: dict[str, Any]  # of the call, lr and weight_decay always among them
    groups: list[NewGroup] = field(default_factory=list)
    chosen: set[str] = field(default_factory=set)  # arguments that mend something: no group keeps its own
    conversions: dict[float, str] = field(default_factory=dict)  # λ → the call that gives it
    comments: list[str] = field(default_factory=list)
    mended: set[str] = field(default_factory=set)

    @property
    def module(self) -> str:
        """Where people import the class from."""
        homes = ("torch.optim", "adamantine.torch")
        return next((home for home in homes if self.cls.__module__.startswith(home)), self.cls.__module__)

    @property
    def name(self) -> str:
        """The class, as the program calls it."""
        return self.cls.__qualname__

    def spelled(self, setting: str) -> str:
        """A setting's name for this class; λ is ``weight_decay`` in this plan whatever the class calls it."""
        return _decay_argument(self.cls) if setting == "weight_decay" else setting


def planned(report: AuditReport, optimizers: Sequence[Any], named: Mapping[str, Any]) -> list[NewOptimizer]:
    """One for each optimizer, in their order. ``named`` are the model's parameters by name."""
    plans, first = [], 0
    for place, optimizer in enumerate(optimizers):
        indexes = range(first, first + len(optimizer.param_groups))
        first = indexes.stop
        plans.append(_planned(report, optimizer, indexes, named, adopts=place == 0))
    return plans


def _planned(
    report: AuditReport, optimizer: Any, indexes: range, named: Mapping[str, Any], *, adopts: bool
) -> NewOptimizer:
    codes = {
        finding.code
        for finding in report.findings
        if finding.severity != "note" and (not finding.groups or set(finding.groups) & set(indexes))
    }
    cls = type(optimizer)
    defaults = getattr(optimizer, "defaults", {})
    plan = NewOptimizer(cls, _arguments(defaults, cls))
    _choose_class(plan, optimizer, report, indexes, codes)
    size = _new_sizes(plan, optimizer, report, indexes, codes)
    settings = {
        index: {**_group_arguments(given(group, defaults), plan), **size.get(index, {})}
        for index, group in zip(indexes, optimizer.param_groups, strict=True)
    }
    rows = [row for row in report.parameters if row.name in named and row.trains]
    strongest = max(
        (index for index in indexes if settings[index].get("weight_decay")),
        key=lambda index: sum(row.elements for row in rows if row.group == index),
        default=indexes.start,
    )
    of_code = {
        finding.code: set(finding.parameters) for finding in report.findings if finding.severity != "note"
    }
    spare = set().union(*(names for code, names in of_code.items() if code.startswith("decays-")))
    decay = of_code.get("spares-matrix", set())
    groups: dict[tuple[tuple[str, Any], ...], NewGroup] = {}
    for row in rows:
        index = row.group
        if index is None and adopts and row.name in of_code.get("not-in-optimizer", ()):
            index = strongest
            own = dict(settings[index])
            own["weight_decay"] = own.get("weight_decay", 0.0) if row.should_decay else 0.0
        elif index in settings:
            own = dict(settings[index])
        else:
            continue
        if row.name in spare:
            own["weight_decay"] = 0.0
        elif row.name in decay:
            own["weight_decay"] = settings[strongest]["weight_decay"]
        key = tuple(sorted((name, _hashable(value)) for name, value in own.items()))
        groups.setdefault(key, NewGroup(own, [])).names.append(row.name)
    plan.groups = sorted(groups.values(), key=lambda group: not group.settings.get("weight_decay"))
    _settle(plan)
    plan.mended |= codes & set(OF_GROUPS)
    return plan


def _choose_class(
    plan: NewOptimizer, optimizer: Any, report: AuditReport, indexes: range, codes: set[str]
) -> None:
    """Another class or argument where the present one cannot decay as it should."""
    from adamantine.torch import OPTIMIZERS

    if "l2-in-adaptive" in codes:
        if plan.module == "adamantine.torch":
            _choose(plan, decay="decoupled")
        elif plan.module == "torch.optim" and plan.name in {"NAdam", "RAdam"}:
            _choose(plan, decoupled_weight_decay=True)
        elif plan.module == "torch.optim" and plan.name in {"RMSprop", "Adagrad", "Adamax"}:
            _become(plan, optimizer, OPTIMIZERS[plan.name], decay="decoupled")
        else:
            _become(plan, optimizer, torch.optim.AdamW)
        plan.mended.add("l2-in-adaptive")
        plan.comments.append(
            "λ was L2 and no factor converts it. The value below is only a starting point: tune it."
        )
    if "decay-ignored" in codes:
        plan.settings["weight_decay"] = 0.0
        plan.mended.add("decay-ignored")
        plan.comments.append(
            f"{plan.name} has never applied weight_decay: 0 keeps it so. Or take a class that decays."
        )
    if "decay-ignores-lr" in codes and plan.name in OPTIMIZERS:
        _become(plan, optimizer, OPTIMIZERS[plan.name], decay="independent")
        plan.mended.add("decay-ignores-lr")
        plan.comments.append(
            "independent: still a fraction per step, at the peak lr, and it follows the schedule."
        )
    if "eps-too-small" in codes:
        _choose(plan, eps=_EPS_OF_HALF)
        plan.mended.add("eps-too-small")
        plan.comments.append("eps for float16 weights; float32 weights with autocast are the better remedy.")


def _become(plan: NewOptimizer, optimizer: Any, cls: type, **more: Any) -> None:
    plan.cls = cls
    plan.settings = _arguments(getattr(optimizer, "defaults", {}), cls)
    _choose(plan, **more)


def _choose(plan: NewOptimizer, **arguments: Any) -> None:
    plan.settings |= arguments
    plan.chosen |= set(arguments)


def _new_sizes(
    plan: NewOptimizer, optimizer: Any, report: AuditReport, indexes: range, codes: set[str]
) -> dict[int, dict[str, Any]]:
    """λ of the groups whose decay has the wrong size or the wrong unit; 0 where it never acted."""
    new: dict[int, dict[str, Any]] = {}
    rows = {row.index: row for row in report.groups}
    steps = report.plan.steps
    if "decay-ignored" in codes:
        ignored = [i for i in indexes if rows[i].behaviour.decay == "ignored"]
        new |= {index: {"weight_decay": 0.0} for index in ignored}
    if "l2-in-adaptive" in codes:
        for index in indexes:
            row = rows[index]
            if row.behaviour.decay == "l2" and row.weight_decay:
                guess = 1 / (row.peak_lr * steps) if steps and row.peak_lr > 0 else 0.01
                new[index] = {"weight_decay": _two_digits(guess)}
        if steps:
            plan.comments.append(f"Its τ = 1/(lr·λ) is {steps:,} steps, the length of the run.")
    for finding in report.findings:
        if finding.code not in OF_SIZE or finding.code not in codes or finding.code in plan.mended:
            continue
        for index in set(finding.groups) & set(indexes):
            new[index] = {"weight_decay": _resized(plan, report, index, finding.code)}
        plan.mended.add(finding.code)
    return new


def _resized(plan: NewOptimizer, report: AuditReport, index: int, code: str) -> float:
    group = next(row for row in report.groups if row.index == index)
    decay, steps = group.weight_decay or 0.0, report.plan.steps
    shrinks = [1 / row.timescale for row in report.parameters if row.group == index and row.timescale]
    if code == "unit-of-another-mode" and group.behaviour.decay in {"independent", "fixed"}:
        call = f'{decay!r}, source="decoupled", target="independent", peak_lr={group.peak_lr!r}'
        plan.conversions[decay * group.peak_lr] = f"convert_weight_decay({call})"
        plan.comments.append(
            "λ taken for a decoupled one and converted to the fraction per step that is meant here."
            " For a normalized λ, adamantine.normalized_weight_decay instead."
        )
        return decay * group.peak_lr
    wanted = 1 / (steps or _UNKNOWN_RUN)
    plan.comments.append(
        f"λ for τ = 1/(lr·λ) of {steps or _UNKNOWN_RUN:,} steps"
        + (", the length of the run" if steps else " (say --steps for the length of the run)")
        + ": a starting point, to be tuned."
    )
    return _two_digits(decay * wanted / max(shrinks)) if shrinks else decay


def _settle(plan: NewOptimizer) -> None:
    """What all groups share is said once, in the call; λ of the call is the one that most groups decay by."""
    if not plan.groups:
        return
    shared = {
        name: value
        for name, value in plan.groups[0].settings.items()
        if all(group.settings.get(name) == value for group in plan.groups)
    }
    plan.settings |= shared
    decays = [group.settings["weight_decay"] for group in plan.groups if group.settings.get("weight_decay")]
    if "weight_decay" in plan.settings or decays:
        plan.settings["weight_decay"] = decays[0] if decays else 0.0
    lrs = [group.settings["lr"] for group in plan.groups if "lr" in group.settings]
    if lrs:
        plan.settings["lr"] = max(lrs)
    for group in plan.groups:
        group.settings = {k: v for k, v in group.settings.items() if plan.settings.get(k, _NONE) != v}


_NONE = object()


def _arguments(settings: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """Those that the class takes and that are not its defaults; lr and weight_decay whatever they are."""
    takes = _takes(cls)
    found = {}
    for name, value in _named_alike(settings):
        value = _plain(value)
        if name not in takes or name in _KEPT_BY_OTHERS or value is _NONE:
            continue
        if name in {"lr", "weight_decay"} or value != takes[name].default:
            found[name] = value
    return found


def _decay_argument(cls: type) -> str:
    """What the class calls λ."""
    takes = signature_of(cls)
    return next((key for key in DECAY_KEYS if key in takes), DECAY_KEYS[0])


def _takes(cls: type) -> dict[str, inspect.Parameter]:
    """The arguments of a class, λ under the name of this plan."""
    own = _decay_argument(cls)
    takes = signature_of(cls)
    return {"weight_decay" if name == own else name: parameter for name, parameter in takes.items()}


def _named_alike(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings of a group, or defaults, λ under the name of this plan."""
    own = decay_key(settings)
    return (("weight_decay" if name == own else name, value) for name, value in settings.items())


def _group_arguments(group: Mapping[str, Any], plan: NewOptimizer) -> dict[str, Any]:
    """A group's lr before any schedule, its λ, and what else differs from the call's arguments."""
    takes = _takes(plan.cls)
    found = {}
    for name, value in _named_alike(group):
        value = _plain(_own_lr(group) if name == "lr" else value)
        if name in _KEPT_BY_OTHERS or value is _NONE or name not in takes:
            continue
        usual = plan.settings.get(name, takes[name].default)
        if name in {"lr", "weight_decay"} or (value != usual and name not in plan.chosen):
            found[name] = value
    return found


def _own_lr(group: Mapping[str, Any]) -> Any:
    """The lr that schedulers multiply; under OneCycleLR, which takes no notice of it, the highest."""
    return group.get("max_lr", group.get("initial_lr", group["lr"]))


def _plain(value: Any) -> Any:
    """A number, text or tuple of such; one-element tensors as numbers; `_NONE` for what cannot be written."""
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            return _NONE
        # 0.001 of float32 is 0.0010000000474974513
        return float(f"{value.item():.7g}") if value.dtype == torch.float32 else value.item()
    if isinstance(value, tuple | list):
        parts = tuple(_plain(part) for part in value)
        return _NONE if any(part is _NONE for part in parts) else parts
    return value if value is None or isinstance(value, bool | int | float | str) else _NONE


def _hashable(value: Any) -> Any:
    return repr(value)


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")
