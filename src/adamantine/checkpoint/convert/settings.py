"""Hyperparameters across layouts: what the user adds, whose they are, and λ in the unit of the target."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_args

from adamantine.checkpoint.convert.neutral import Group, OptimizerState
from adamantine.checkpoint.convert.report import ConversionReport
from adamantine.checkpoint.errors import CheckpointError
from adamantine.rules import decay as units
from adamantine.rules.decay import Mode

_PEAKS = ("peak_lr", "max_lr", "initial_lr", "highest_lr", "constructed_lr")
#: Modes that only adamantine's classes have.
_OURS = ("independent", "corrected", "cautious")
#: What a group cannot do without, and nothing can be guessed for.
_NEEDED = ("lr", "weight_decay")


def override(
    state: OptimizerState, hyper: Mapping[str, Any], decay: str | None, report: ConversionReport
) -> None:
    """Put the user's hyperparameters into every group, and translate λ if they ask for another decay mode.

    Raises:
        CheckpointError: an unknown mode; a translation that needs a peak lr and has none, or that does not
            exist.
    """
    if decay is not None and decay not in get_args(Mode):
        raise CheckpointError(f"Invalid decay: {decay!r}; choose one of {', '.join(get_args(Mode))}")
    for number, group in enumerate(state.groups):
        for key, value in hyper.items():
            before = group.hyper.get(key)
            group.hyper[key] = value
            if before is not None and before != value:
                report.changed.append(
                    f"{key} of group {number} is {value!r} as you say, no longer {before!r}"
                )
        if decay is not None:
            as_mode(group, number, decay, report)


def as_mode(group: Group, number: int, mode: str, report: ConversionReport) -> None:
    """The group in another decay mode: λ in its unit, exactly, or not at all.

    Raises:
        CheckpointError: no factor converts it, or the peak lr is not known.
    """
    before, strength = group.decay, float(group.hyper.get("weight_decay") or 0.0)
    if before is None or before == mode or strength == 0.0:
        if before is None and mode != "none":
            report.changed.append(f"group {number} decays {mode!r} as you say; the source does not tell")
    else:
        peak = _peak(group)
        if "independent" in {before, mode} and peak is None:
            raise CheckpointError(
                f"group {number} decays {before!r}; its weight_decay={strength} becomes {mode!r} by the peak "
                "lr, which it does not have: give --set peak_lr=…"
            )
        try:
            converted = units.convert(strength, source=before, target=mode, peak_lr=peak or 1.0)
        except ValueError as error:
            raise CheckpointError(f"group {number}: {error}") from None
        group.hyper["weight_decay"] = converted
        exact = (
            ""
            if {before, mode} == {"independent", "decoupled"}
            else f"; {before} and {mode} agree at the peak lr"
        )
        report.changed.append(
            f"group {number} decays {mode!r} with weight_decay={converted:.6g}, was {before!r} with "
            f"{strength:.6g}{exact}"
        )
    group.decay = mode
    if "decay" in group.hyper or mode in _OURS:
        group.hyper["decay"] = mode
    if "decoupled_weight_decay" in group.hyper:
        group.hyper["decoupled_weight_decay"] = mode != "l2"


def class_of(state: OptimizerState) -> str | None:
    """The class whose state dict this is, told by slots, keys and decay mode; None if several may be.

    >>> from adamantine.checkpoint.convert.neutral import Group
    >>> adam = {"exp_avg": 0, "exp_avg_sq": 0}
    >>> class_of(OptimizerState("optax", [Group(["w"], {}, "decoupled")], {"w": adam}))
    'torch.optim.AdamW'
    """
    foreign_mode = any(g.decay in _OURS for g in state.groups) and "torch.optim" in (state.optimizer or "")
    if state.optimizer is not None and state.layout == "adamantine" and not foreign_mode:
        return state.optimizer
    modes = {group.decay for group in state.groups if float(group.hyper.get("weight_decay") or 0.0) != 0}
    modes = modes or {group.decay for group in state.groups}
    ours = all("constructed_lr" in g.hyper for g in state.groups) or any(
        g.decay in _OURS for g in state.groups
    )
    adams = {"decoupled": "AdamW", "l2": "Adam"}
    if ours:
        names = {"lion": "Lion", "adam": adams.get(str(next(iter(modes))), "AdamW"), "amsgrad": "AdamW"}
        name = names.get(state.rule)
        return f"adamantine.torch.{name}" if name and len(modes) == 1 else None
    if len(modes) != 1:
        return None
    mode = modes.pop()
    if state.rule in {"adam", "amsgrad"} and mode in adams and _is_plain_adam(state):
        return f"torch.optim.{adams[mode]}"
    if state.rule == "lion" and state.layout != "torch" and mode == "decoupled":
        return "adamantine.torch.Lion"
    if state.rule == "sgd" and mode in {"l2", "none"}:
        return "torch.optim.SGD"
    return None


def complete(state: OptimizerState, optimizer: str | None, report: ConversionReport) -> None:
    """Give groups of another library the keys that the class in torch's vocabulary has, with its defaults.

    Raises:
        CheckpointError: lr, weight_decay or the decay mode is known to nobody.
    """
    if state.layout in {"torch", "adamantine"}:
        return
    for number, group in enumerate(state.groups):
        missing = [key for key in _NEEDED if key not in group.hyper]
        if missing:
            raise CheckpointError(
                f"the {state.layout} state does not say {' and '.join(missing)} of group {number}; "
                f"give {' '.join(f'--set {key}=…' for key in missing)}"
            )
        if group.decay is None and float(group.hyper["weight_decay"]) != 0:
            raise CheckpointError(
                f"the {state.layout} state does not say how group {number} decays; give --decay decoupled "
                "(AdamW, optax.adamw, Lion) or --decay l2 (L2 in the gradient: Adam, SGD)"
            )
        defaults = _defaults(optimizer)
        assumed = {key: value for key, value in defaults.items() if key not in group.hyper}
        group.hyper = {**assumed, **group.hyper}
        if "decoupled_weight_decay" in defaults:
            group.hyper["decoupled_weight_decay"] = group.decay != "l2"
        telling = {
            key: value for key, value in assumed.items() if key in {"betas", "eps", "momentum", "dampening"}
        }
        if telling:
            said = ", ".join(f"{key}={value!r}" for key, value in telling.items())
            report.changed.append(
                f"group {number} gets {said}, the defaults of {optimizer}: the source has none"
            )


def _peak(group: Group) -> float | None:
    known = [float(group.hyper[key]) for key in _PEAKS if group.hyper.get(key) is not None]
    stated = group.hyper.get("peak_lr")
    peak = float(stated) if stated is not None else max(known, default=0.0)
    return peak if peak > 0 else None


def _is_plain_adam(state: OptimizerState) -> bool:
    """NAdam, RAdam, Adamax and others share Adam's slots, not its keys."""
    strange = {"momentum_decay", "alpha", "d_coef", "d", "nesterov"}
    return not any(strange & set(group.hyper) for group in state.groups)


def _defaults(optimizer: str | None) -> dict[str, Any]:
    package, _, name = (optimizer or "").rpartition(".")
    if package == "torch.optim":
        import torch.optim as library
    elif package == "adamantine.torch":
        import adamantine.torch as library  # type: ignore[no-redef]
    else:
        return {}
    cls = getattr(library, name, None)
    if cls is None:
        raise CheckpointError(f"{package} has no optimizer {name!r}; see its documentation for the names")
    parameters = inspect.signature(cls).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return defaults | (
        {"decoupled_weight_decay": True} if optimizer in {"torch.optim.Adam", "torch.optim.AdamW"} else {}
    )
