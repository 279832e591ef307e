"""Layout ``torch``: ``optimizer.state_dict()``, alone or in a training checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from adamantine.checkpoint.convert import pickled
from adamantine.checkpoint.convert.neutral import Group, OptimizerState
from adamantine.checkpoint.convert.standins import QuantizedState
from adamantine.checkpoint.errors import CheckpointError

#: Where training scripts keep the optimizer's state dict; Lightning keeps a list of them.
USUAL_KEYS = ("optimizer", "optimizer_state_dict", "optimizer_states", "optim", "opt", "state")

#: Of one hyperparameter or slot; LBFGS, which nests deepest, has lists of 100 tensors.
_DEEPEST, _MOST = 8, 1_000_000


def is_state_dict(value: Any) -> bool:
    """Whether this has the shape of ``optimizer.state_dict()``."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("param_groups"), list)
        and isinstance(value.get("state"), dict)
        and all(
            isinstance(group, dict) and isinstance(group.get("params"), list)
            for group in value["param_groups"]
        )
    )


def find(content: Any, path: Path, key: str | None) -> tuple[dict[str, Any], list[str]]:
    """The state dict in what a file holds, and the other keys beside it.

    Args:
        key: where it is, levels joined by dots (``optimizer_states.0``); None to look for it.

    Raises:
        CheckpointError: there is none, or more than one and no key.
    """
    if key is not None:
        found = content
        for part in key.split("."):
            found = _child(found, part)
            if found is None:
                raise CheckpointError(f"{path} has no {key!r}; its keys are {_keys(content)}")
        if not is_state_dict(found):
            raise CheckpointError(f"{key!r} of {path} is no optimizer.state_dict(): it has {_keys(found)}")
        return found, [other for other in _keys(content) if other != key.split(".")[0]]
    if is_state_dict(content):
        return content, [name for name in _keys(content) if name not in {"state", "param_groups"}]
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, no optimizer.state_dict()")
    held: dict[str, dict[str, Any]] = {}
    for name, value in content.items():
        if is_state_dict(value):
            held[str(name)] = value
        elif isinstance(value, list):
            held |= {f"{name}.{i}": one for i, one in enumerate(value) if is_state_dict(one)}
    if not held:
        raise CheckpointError(
            f"{path} holds no optimizer.state_dict(); its keys are {_keys(content)}. Name the place with "
            "key= "
            f"(usual: {', '.join(USUAL_KEYS)})"
        )
    if len(held) > 1:
        raise CheckpointError(f"{path} holds several optimizers: {sorted(held)}; choose one with key=")
    place = next(iter(held))
    return held[place], [other for other in _keys(content) if other != place.split(".")[0]]


def read(content: Any, path: Path, key: str | None = None) -> OptimizerState:
    """A torch state dict in the neutral form; nothing in it is changed.

    Raises:
        CheckpointError: not a state dict, or one that contradicts itself.
    """
    state_dict, beside = find(content, path, key)
    state = from_state_dict(state_dict, str(path))
    if beside:
        state.unread.append(f"beside the optimizer the file holds {', '.join(beside[:8])}: not converted")
    return state


def from_state_dict(state_dict: Mapping[str, Any], where: str, *, layout: str = "torch") -> OptimizerState:
    """See `read`; ``where`` begins the errors."""
    saved_groups = state_dict["param_groups"]
    named, name_of = _names(saved_groups, where)
    groups, unread = [], []
    for number, saved in enumerate(saved_groups):
        names = [name_of[index] for index in saved["params"]]
        hyper = {key: plain(value, f"{where}: group {number}, {key}") for key, value in saved.items()}
        hyper = {str(key): value for key, value in hyper.items() if key not in {"params", "param_names"}}
        groups.append(Group(list(names), hyper, decay_of(hyper)))
    state: dict[str, dict[str, Any]] = {}
    for index, slots in state_dict["state"].items():
        if index in name_of and isinstance(slots, dict):
            name = name_of[index]
            state[name] = {
                str(slot): plain(value, f"{where}: {slot} of {name}") for slot, value in slots.items()
            }
        elif isinstance(index, str):  # some classes keep state of their own beside that of the parameters
            unread.append(f"the state under {index!r} belongs to no parameter: not converted")
        else:
            raise CheckpointError(f"{where}: its state of {index!r} belongs to no parameter of its groups")
    neutral = OptimizerState(layout, groups, state, named=named, unread=unread)
    neutral.check()
    return neutral


def to_state_dict(state: OptimizerState) -> dict[str, Any]:
    """The state dict of the neutral form; names travel in ``param_names``, as in torch since 2.6."""
    index_of = {name: index for index, name in enumerate(state.names)}
    groups = []
    for group in state.groups:
        names = {"param_names": list(group.names)} if state.named else {}
        groups.append({**names, **group.hyper, "params": [index_of[name] for name in group.names]})
    entries = {index_of[name]: dict(slots) for name, slots in state.state.items()}
    return {"state": entries, "param_groups": groups}


def decay_of(hyper: Mapping[str, Any]) -> str | None:
    """The decay mode a torch group states: adamantine's ``decay``, torch's flag, or a class known by its
    keys.

    >>> decay_of({"lr": 0.1, "momentum": 0.9, "dampening": 0, "nesterov": False})
    'l2'
    """
    if isinstance(mode := hyper.get("decay"), str):
        return mode
    if "decoupled_weight_decay" in hyper:
        return "decoupled" if hyper["decoupled_weight_decay"] else "l2"
    # Adam before torch 2.7 has the keys of AdamW and may be either; these classes have keys of their own
    if {"dampening", "nesterov"} <= set(hyper) or {"centered", "alpha"} <= set(hyper) or "lr_decay" in hyper:
        return "l2"
    return None


def _names(saved_groups: list[dict[str, Any]], where: str) -> tuple[bool, dict[Any, str]]:
    """Whether there are names, and the name (else the number) of every parameter the groups list."""
    indices, told = [], []
    for number, saved in enumerate(saved_groups):
        names = saved.get("param_names", [None] * len(saved["params"]))
        if not isinstance(names, list) or len(names) != len(saved["params"]):
            raise CheckpointError(
                f"{where}: group {number} has {len(saved['params'])} parameters and other names"
            )
        indices += saved["params"]
        told += names
    if not all(isinstance(index, int | str) for index in indices) or len(set(indices)) != len(indices):
        raise CheckpointError(f"{where}: its groups do not number each parameter once")
    if indices and all(isinstance(index, str) for index in indices):  # FSDP's full state dicts
        return True, {index: index for index in indices}
    named = bool(told) and all(isinstance(name, str) for name in told) and len(set(told)) == len(told)
    return named, dict(zip(indices, told if named else map(str, indices), strict=True))


def plain(value: Any, where: str) -> Any:
    """A copy of the containers in ``value``, if it is made of tensors and plain values alone.

    Raises:
        CheckpointError: anything else; nesting or sharing that no optimizer has. A pickle of a hundred bytes
            can hold a list of lists of lists … that stands for 10¹² elements.
    """
    return _plain(value, where, 0, [_MOST])


def _plain(value: Any, where: str, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if depth > _DEEPEST or left[0] < 0:
        raise CheckpointError(
            f"{where} is nested too deeply or holds more than {_MOST} values; no optimizer does"
        )
    if isinstance(
        value, QuantizedState
    ):  # a wrapper without memory of its own; its layout checks what it holds
        return value
    if isinstance(value, Tensor):
        return pickled.check_tensor(value, where)
    if isinstance(value, dict):
        return {key: _plain(each, where, depth + 1, left) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(each, where, depth + 1, left) for each in value)
    if value is None or isinstance(value, bool | int | float | complex | str):
        return value
    raise CheckpointError(f"{where} is a {type(value).__name__}; only tensors and plain values are read")


def _child(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    return None


def _keys(value: Any) -> list[str]:
    return [str(key) for key in value][:12] if isinstance(value, dict) else []
