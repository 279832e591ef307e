"""A checkpoint's state in the order, and under the decay mode, of the optimizer that is to have it."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adamantine.checkpoint.checks import numbers
from adamantine.checkpoint.contents import Contents, Group, Parameter
from adamantine.checkpoint.decay import class_name, mode_of
from adamantine.checkpoint.dtypes import name_of
from adamantine.checkpoint.errors import CheckpointError
from adamantine.checkpoint.names import names_of, tell_all
from adamantine.torch.checkpoint import match as match_groups  # of groups by name, with its messages
from adamantine.torch.optimizer import Optimizer

#: Slots of torch's classes that have the parameter's shape.
_LIKE_PARAMETER = frozenset(
    {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg", "sum"}
    | {"acc_delta", "ax", "prev"}
)

Settlement = Literal["match", "saved", "live"]


def fitted(
    contents: Contents,
    optimizer: torch.optim.Optimizer,
    *,
    model: nn.Module | None,
    decay: Settlement,
    source: str,
    recast: bool = False,
) -> Contents:
    """``contents`` with groups and parameters in the optimizer's order, fit for its ``load_state_dict``.

    Args:
        recast: parameters may have another dtype than those that were saved.

    Raises:
        CheckpointError: another class, other parameters, other shapes or dtypes, another decay mode.
    """
    _check_class(contents.optimizer, optimizer, source)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    sources, order = _order(contents, optimizer, model, source)
    groups = [
        _settled(contents, number, contents.groups[index], optimizer, decay, source)
        for number, index in enumerate(sources)
    ]
    parameters = []
    for p, index in zip(params, order, strict=True):
        saved = contents.parameters[index]
        if saved.shape is not None and saved.shape != tuple(p.shape):
            raise CheckpointError(
                f"{source}: {_label(saved.name, index)} has shape {saved.shape}, here {tuple(p.shape)}: "
                "another model, or another order of parameters; build the optimizer from "
                "model.named_parameters()"
            )
        if saved.state and not recast and saved.dtype not in {None, name_of(p.dtype)}:
            raise CheckpointError(
                f"{source}: {_label(saved.name, index)} was trained in {saved.dtype}, here it is "
                f"{name_of(p.dtype)}, and its state would stay so: torch's steps then fail, ours keep "
                f"it in {saved.dtype}. Convert the model (model.to(torch.{saved.dtype})) to go on as "
                "before; load(..., state='live') has an optimizer of ours keep it as it was constructed to; "
                "or leave it to the class: optimizer.load_state_dict(adamantine.checkpoint.read(path)"
                ".state_dict())"
            )
        if class_name(optimizer).startswith("torch.optim."):
            _check_slots(saved, p.shape, _label(saved.name, index), source)
        parameters.append(saved)
    return Contents(
        contents.optimizer,
        groups,
        parameters,
        contents.other_state,
        contents.other,
        versions=contents.versions,
    )


def _check_slots(saved: Parameter, shape: torch.Size, label: str, source: str) -> None:
    """torch itself would notice in the next step, and perhaps broadcast."""
    for slot, value in (saved.state or {}).items():
        if slot in _LIKE_PARAMETER and isinstance(value, Tensor) and value.shape != shape:
            raise CheckpointError(
                f"{source}: {slot} of {label} has shape {tuple(value.shape)}, the parameter {tuple(shape)}: "
                "the state of another model"
            )


def state_dict_of(contents: Contents, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """torch's form, positions as the optimizer has them."""
    at = 0
    groups: list[dict[str, Any]] = []
    for live, group in zip(optimizer.param_groups, contents.groups, strict=True):
        ids = list(range(at, at + len(live["params"])))
        at += len(ids)
        named = {"param_names": live["param_names"]} if "param_names" in live else {}
        groups.append({**group.hyper, **named, "params": ids})
    state = {i: p.state for i, p in enumerate(contents.parameters) if p.state is not None}
    return {**contents.other, "state": {**state, **contents.other_state}, "param_groups": groups}


def _check_class(saved: str | None, optimizer: torch.optim.Optimizer, source: str) -> None:
    """The same class; or torch's or ours of the same rule, for our classes; or torch's, for torch's."""
    live = class_name(optimizer)
    if saved is None or saved == live:
        return
    (saved_package, saved_rule), (live_package, live_rule) = _rule(saved), _rule(live)
    from_torch = saved_package == "torch.optim"
    if saved_rule == live_rule and (
        (live_package == "torch.optim" and from_torch)
        or (isinstance(optimizer, Optimizer) and (from_torch or saved_package == "adamantine.torch"))
    ):
        return
    raise CheckpointError(
        f"{source}: the state of {saved}, not of {live}; make the optimizer that was saved, translate the "
        "file with `adamantine checkpoint convert`, or answer for it yourself: optimizer.load_state_dict("
        "adamantine.checkpoint.read(path).state_dict())"
    )


def _rule(cls: str) -> tuple[str, str]:
    """Package and update rule; AdamW and SGDW are Adam and SGD in another decay mode."""
    package, _, name = cls.rpartition(".")
    return package, {"AdamW": "Adam", "SGDW": "SGD"}.get(name, name)


def _order(
    contents: Contents, optimizer: torch.optim.Optimizer, model: nn.Module | None, source: str
) -> tuple[list[int], list[int]]:
    """For each live group its saved group, for each live parameter its saved index."""
    live_names, saved_names = names_of(optimizer, model), [p.name for p in contents.parameters]
    by_name = tell_all(live_names) and tell_all(saved_names)
    if tell_all(saved_names) and not by_name:
        warnings.warn(
            f"{source} has the parameters' names, but the optimizer was made without: matched by position "
            "and shape. Make it from model.named_parameters(), or give load(..., model=model)",
            UserWarning,
            stacklevel=4,
        )
    names = iter(live_names)
    live: list[dict[str, Any]] = [
        {"params": group["params"], "param_names": [next(names) for _ in group["params"]]}
        for group in optimizer.param_groups
    ]
    saved: list[dict[str, Any]] = [
        {"params": ids, "param_names": [saved_names[i] for i in ids], "number": number}
        for number, ids in enumerate(contents.members())
    ]
    if not by_name:
        for each in (*live, *saved):
            del each["param_names"]
    try:
        matched = match_groups(live, saved)
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}") from None
    return [found["number"] for _, found, _ in matched], [i for _, _, ids in matched for i in ids]


def _settled(
    contents: Contents,
    number: int,
    saved: Group,
    optimizer: torch.optim.Optimizer,
    decay: Settlement,
    source: str,
) -> Group:
    """The saved hyperparameters over the live ones, with the decay mode that ``decay`` asks for."""
    live = optimizer.param_groups[number]
    cls = class_name(optimizer)
    mode = mode_of(cls, live)
    decays = any(number != 0.0 for number in numbers(saved.hyper.get("weight_decay")))
    if decays and saved.decay is None and contents.optimizer not in (None, cls):
        raise CheckpointError(
            f"{source}: how {contents.optimizer} decayed group {number} is not known, so neither is what its "
            f"weight_decay={saved.hyper['weight_decay']} means to {cls}"
        )
    if isinstance(optimizer, Optimizer):  # it settles the mode itself, once it is told the saved one
        told = {} if saved.decay is None else {"decay": saved.decay}
        return Group({**saved.hyper, **told}, saved.decay)
    hyper = {key: value for key, value in live.items() if key not in {"params", "param_names"}} | saved.hyper
    if mode is None or saved.decay is None or mode == saved.decay:
        return Group(hyper, saved.decay)
    if decays and decay == "match":
        raise CheckpointError(
            f"{source}: group {number} was trained with decay {saved.decay!r} (weight_decay="
            f"{saved.hyper['weight_decay']}), this {cls} decays {mode!r}. Make the optimizer that was saved "
            f"({contents.optimizer}); or load(..., decay='saved') to adopt the checkpoint's mode, "
            f"decay='live' to keep this one with weight_decay={live['weight_decay']}"
        )
    if decay == "live" or not decays:
        kept = ("decoupled_weight_decay", *(["weight_decay"] if decays else []))
        return Group(hyper | {key: live[key] for key in kept if key in live}, mode)
    if "decoupled_weight_decay" not in live or cls == "torch.optim.AdamW":  # AdamW sets it back
        raise CheckpointError(
            f"{source}: group {number} was trained with decay {saved.decay!r}, and {cls} can only {mode!r}; "
            f"make a {contents.optimizer}, or load(..., decay='live')"
        )
    return Group(hyper | {"decoupled_weight_decay": saved.decay == "decoupled"}, saved.decay)


def _label(name: str | None, index: int) -> str:
    return repr(name) if name else f"parameter {index}"
