"""What the checks look at: every parameter and group, with verdicts, behaviour and course worked out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from adamantine.audit.errors import AuditError
from adamantine.audit.gains import gain
from adamantine.audit.model import Plan
from adamantine.audit.rates import removed
from adamantine.audit.schedule import Course, Numbers, Own, course, number, settled, unwrapped
from adamantine.groups.reasons import Verdict, judge, listed_by_model
from adamantine.probe import Behaviour, behaviour_of
from adamantine.report.words import Words
from adamantine.schedules import peak_lr


@dataclass(frozen=True)
class Parameter:
    """One tensor, with all its names and all its places."""

    name: str
    aliases: tuple[str, ...]
    tensor: Tensor
    verdict: Verdict
    owner: str  # class of the module that holds it; "" if it is not of the model
    groups: tuple[int, ...]  # indexes of all groups it is in, one entry per occurrence
    of_model: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.shape)

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return self.tensor.numel()


@dataclass(frozen=True)
class Group:
    """One param group with what it does to weights over the run."""

    index: int  # over all optimizers
    optimizer: Any
    place: int  # within its optimizer
    settings: Mapping[str, Any]  # its keys but the parameters, as they are now
    members: tuple[Parameter, ...]
    behaviour: Behaviour
    peak_lr: float
    lrs: Numbers  # over the course
    decays: Numbers  # λ over the course

    @property
    def lr(self) -> float:
        """The present one; NaN without the key."""
        return number(self.settings.get("lr", float("nan")))

    @property
    def weight_decay(self) -> float | None:
        """The present λ; None without the key."""
        value = self.settings.get("weight_decay")
        return None if value is None else number(value)

    @property
    def acts(self) -> bool:
        """Whether decay touches weights at any step of the course, as far as is known."""
        return float(np.max(self.decays)) > 0 and self.behaviour.decay not in {"none", "ignored"}

    @property
    def is_l2_in_adaptive(self) -> bool:
        """Whether λθ is divided by the running size of the gradients."""
        return self.behaviour.decay == "l2" and self.behaviour.adaptive is True

    def removed(self, lr: float | Numbers, weight_decay: float | Numbers) -> Numbers | None:
        """Fraction of a weight without gradient that one step removes; None without a single number."""
        return removed(self.behaviour, self.settings, lr, weight_decay, self.peak_lr)

    @property
    def shrink(self) -> float | None:
        """`removed` now."""
        found = self.removed(self.lr, self.weight_decay or 0.0)
        return None if found is None else float(found)

    @property
    def peak_shrink(self) -> float | None:
        """The most that any step of the course removes, or would at the peak lr."""
        highest = self.removed(self.peak_lr, self.weight_decay or 0.0)
        over = self.removed(self.lrs, self.decays)
        if highest is None or over is None:
            return None
        return max(float(highest), float(np.max(over)))

    @property
    def matrices(self) -> tuple[Parameter, ...]:
        """Members that are meant to decay."""
        return tuple(p for p in self.members if p.of_model and p.verdict.decays)


@dataclass(frozen=True)
class Subject:
    """A model with its optimizers, its plan and its course."""

    optimizers: tuple[Any, ...]
    groups: tuple[Group, ...]
    parameters: tuple[Parameter, ...]
    schedulers: tuple[Any, ...]
    plan: Plan
    course: Course

    def kept(self, group: Group) -> float | None:
        """Factor left of a weight without gradient at the end of the plan; None without a plan or number."""
        found = group.removed(group.lrs, group.decays)
        if found is None or not self.course.known:
            return None
        return float(np.exp(np.sum(self.course.lasts * log_kept(found))))


def log_kept(shrink: Numbers) -> Numbers:
    """log(1 - shrink), finite where a step removes all or more."""
    return np.log1p(-np.minimum(shrink, 1 - 1e-15))


def subject(optimizers: Any, model: Any, plan: Plan, schedulers: Any) -> Subject:
    """All that the checks need; nothing of the user's is changed.

    Raises:
        AuditError: something that is no optimizer, model or scheduler.
    """
    used = _optimizers(optimizers)
    modules = _modules(model)
    course_makers = tuple(unwrapped(schedulers))
    plan = settled(plan, course_makers)
    raw = [(o, i, group) for o in used for i, group in enumerate(o.param_groups)]
    places = _places([group for _, _, group in raw])
    parameters = [*_of_model(modules, places), *_strays(modules, raw, places)]
    keep = (*modules.values(), *(p.tensor for p in parameters))
    mine = [s for s in course_makers if any(s.optimizer is o for o in used)]
    run = course([group for _, _, group in raw], mine, plan, Own(used, keep))
    if not course_makers and any("initial_lr" in group for _, _, group in raw):
        unseen = Words(
            "initial_lr is in the groups; if a scheduler wrote it, pass that scheduler to the audit",
            "组里有 initial_lr；如果是调度器写入的，请把那个调度器也传给检查",
        )
        run = replace(run, known=False, doubt=unseen)
    whole = not run.doubt and run.at[0] == 0
    known: dict[Any, Any] = {}
    groups = []
    for index, (optimizer, place, group) in enumerate(raw):
        lrs, decays = run.lr[index], run.weight_decay[index]
        settings = {k: v for k, v in group.items() if k not in {"params", "param_names"}}
        groups.append(
            Group(
                index=index,
                optimizer=optimizer,
                place=place,
                settings=settings,
                members=tuple(p for p in parameters if index in p.groups),
                behaviour=_behaviour(optimizer, place, settings, group["params"], known),
                peak_lr=_peak(settings, lrs, whole and any(s.optimizer is optimizer for s in mine)),
                lrs=lrs,
                decays=decays,
            )
        )
    return Subject(used, tuple(groups), tuple(parameters), course_makers, plan, run)


def _modules(model: Any) -> dict[str, nn.Module]:
    """Every module by all its names. Several models are named by their place, as in a ModuleList."""
    models = list(model) if isinstance(model, list | tuple) else [model]
    for each in models:
        if not isinstance(each, nn.Module):
            raise AuditError(
                f"Invalid model: {type(each).__name__}; pass a torch.nn.Module, or a sequence of them"
            )
    if len(models) == 1 and not isinstance(model, nn.ModuleList):
        return dict(models[0].named_modules(remove_duplicate=False))
    if isinstance(model, nn.Module):
        return dict(model.named_modules(remove_duplicate=False))
    return {
        f"{place}.{name}".rstrip("."): module
        for place, each in enumerate(models)
        for name, module in each.named_modules(remove_duplicate=False)
    }


def _optimizers(optimizers: Any) -> tuple[Any, ...]:
    used = tuple(optimizers) if isinstance(optimizers, list | tuple) else (optimizers,)
    for optimizer in used:
        groups = getattr(optimizer, "param_groups", None)
        if not isinstance(groups, list) or not all(isinstance(g, dict) and "params" in g for g in groups):
            raise AuditError(
                f"Invalid optimizer: {type(optimizer).__name__} has no param_groups; pass a "
                "torch.optim.Optimizer, or a sequence of them"
            )
    if not used:
        raise AuditError("Invalid optimizer: an empty sequence; pass one optimizer or more")
    return used


def _places(groups: Sequence[Mapping[str, Any]]) -> dict[int, list[int]]:
    """id of a tensor → indexes of its groups, one entry per occurrence."""
    found: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        for tensor in group["params"]:
            found.setdefault(id(tensor), []).append(index)
    return found


def _of_model(modules: dict[str, nn.Module], places: Mapping[int, list[int]]) -> list[Parameter]:
    uses: dict[int, tuple[Tensor, list[str]]] = {}
    for prefix, module in modules.items():
        for attribute, own in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{prefix}.{attribute}" if prefix else attribute
            _check_shape(name, own)
            uses.setdefault(id(own), (own, []))[1].append(name)
    listed = listed_by_model(modules, [name for _, names in uses.values() for name in names])
    found = []
    for tensor, (name, *aliases) in uses.values():
        module = modules[name.rpartition(".")[0]]
        verdict = judge(tensor, [name, *aliases], modules, listed, "no_decay")
        if is_flattened(name):
            verdict = Verdict(True, "flattened by FSDP1, so its shape tells nothing", "stated")
        if verdict.kind in {"matrix", "vector"} and (seen := gain(module, name.rpartition(".")[2])):
            verdict = Verdict(False, seen.reason, seen.kind)
        groups = tuple(places.get(id(tensor), ()))
        found.append(
            Parameter(name, tuple(aliases), tensor, verdict, type(module).__name__, groups, of_model=True)
        )
    return found


def is_flattened(name: str) -> bool:
    """Whether it is one of FSDP1's flat parameters, of which nobody can tell a matrix from a vector."""
    return "_flat_param" in name.split(".")


def _check_shape(name: str, tensor: Tensor) -> None:
    if isinstance(tensor, nn.parameter.UninitializedParameter):
        raise AuditError(
            f"{name} belongs to a lazy module and has no shape yet; run one forward pass before the audit"
        )


def _strays(
    modules: dict[str, nn.Module],
    raw: Sequence[tuple[Any, int, dict[str, Any]]],
    places: dict[int, list[int]],
) -> list[Parameter]:
    """What the optimizers train and the model does not have."""
    seen = {id(tensor) for module in modules.values() for tensor in module.parameters(recurse=False)}
    found = []
    for index, (_, _, group) in enumerate(raw):
        names = group.get("param_names") or [
            f"parameter {i} of group {index}" for i in range(len(group["params"]))
        ]
        for name, tensor in zip(names, group["params"], strict=False):
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            _check_shape(name, tensor)
            is_matrix = tensor.ndim >= 2
            verdict = Verdict(is_matrix, "not of this model", "matrix" if is_matrix else "vector")
            found.append(Parameter(name, (), tensor, verdict, "", tuple(places[id(tensor)]), of_model=False))
    return found


def _behaviour(
    optimizer: Any,
    place: int,
    settings: Mapping[str, Any],
    params: Sequence[Tensor],
    known: dict[Any, Any],
) -> Behaviour:
    """Found out once for equal settings and dtypes. Layer-wise groups, which differ in lr alone, are not dry-run
    again where the mode says how lr counts."""
    kind = (params[0].dtype, params[0].ndim >= 2) if params else None
    if not number(settings.get("weight_decay") or 0.0):
        kind = None
    others = {key: value for key, value in settings.items() if key not in _LRS}
    alike = (id(optimizer), kind, repr(sorted(others.items(), key=lambda item: str(item[0]))))
    lr = number(settings.get("lr", math.nan))
    if (alike, lr) in known:
        return known[alike, lr]
    first = known.get((alike, None))
    if first is not None and first[0].source == "probe" and first[0].decay in _FOLLOWS_LR and first[1] > 0:
        power = _FOLLOWS_LR[first[0].decay]
        shrink = None if first[0].shrink is None else first[0].shrink * (lr / first[1]) ** power
        found = replace(first[0], shrink=shrink, evidence=f"{first[0].evidence} (at lr={first[1]:g})")
    else:
        found = behaviour_of(optimizer, place)
        known.setdefault((alike, None), (found, lr))
    known[alike, lr] = found
    return found


#: Keys in which the groups of a layer-wise lr differ.
_LRS = frozenset({"lr", "initial_lr", "constructed_lr", "highest_lr", "max_lr", "min_lr", "lr_scale"})
#: Modes whose shrink at another lr needs no other dry run, with the power of lr.
_FOLLOWS_LR = {"none": 0, "ignored": 0, "fixed": 0, "decoupled": 1, "cautious": 1, "l2": 1}


def _peak(settings: Mapping[str, Any], lrs: Numbers, whole: bool) -> float:
    """The highest lr of the course; where it is not the ``whole`` one, or of what the group itself knows."""
    highest = float(np.max(lrs))
    if whole or settings.get("peak_lr") is not None:
        return highest
    try:
        return max(highest, peak_lr(settings))
    except (KeyError, TypeError, ValueError):
        return highest
