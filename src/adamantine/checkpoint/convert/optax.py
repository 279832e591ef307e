"""Layout ``optax``: the state of adam, adamw, lion and sgd, as ``flax.serialization.to_bytes`` puts it on
disk.

An optax state is a tree of named tuples, and the file keeps their fields, not their names: what has ``mu``
and ``nu`` is ScaleByAdamState, ``mu`` alone ScaleByLionState, ``trace`` TraceState (optax/_src/transform.py,
read at 0.2.8). Hyperparameters live in the code that builds the optimizer; the file has them only under
``optax.inject_hyperparams``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamantine.checkpoint.convert import flax_msgpack
from adamantine.checkpoint.convert.blockwise import Blockwise
from adamantine.checkpoint.convert.neutral import Group, OptimizerState
from adamantine.checkpoint.convert.report import ConversionReport
from adamantine.checkpoint.errors import CheckpointError

_SLOTS = {"mu": "exp_avg", "nu": "exp_avg_sq", "trace": "momentum_buffer"}
_FIELDS = {"mu", "nu", "trace", "count", "nu_max"}
_HYPER = {"learning_rate": "lr", "eps": "eps", "weight_decay": "weight_decay", "momentum": "momentum"}


@dataclass(frozen=True)
class _Moments:
    """One ScaleBy…State in the tree, and the injected hyperparameters around it."""

    fields: Mapping[str, Any]
    hyper: dict[str, Any]


def read(tree: Any, path: Path, key: str | None = None) -> OptimizerState:
    """The state in a tree: an optimizer's state, or a TrainState that has one under ``opt_state``.

    Every ScaleBy…State becomes a group; chains, masks, MultiSteps and multi_transform are looked through.

    Raises:
        CheckpointError: no such state in it, or one that contradicts itself.
    """
    root = tree
    for part in (key or "").split("."):
        root = root.get(part) if isinstance(root, dict) and part else root
    if key is None and isinstance(tree, dict) and "opt_state" in tree:
        root = tree["opt_state"]
    found: list[_Moments] = []
    others: set[str] = set()
    _search(root, {}, found, others)
    if not found:
        keys = [str(each) for each in tree][:12] if isinstance(tree, dict) else type(tree).__name__
        raise CheckpointError(
            f"{path} holds no optax state with moments (mu, nu or trace); its keys are {keys}. Name the "
            "place with key="
        )
    groups: list[Group] = []
    state: dict[str, dict[str, Any]] = {}
    for moments in found:
        entries = _entries(moments, path)
        if clash := set(entries) & set(state):
            raise CheckpointError(f"{path} holds two states of {sorted(clash)[0]!r}; choose one with key=")
        state |= entries
        groups.append(Group(list(entries), moments.hyper, None))
    result = OptimizerState("optax", groups, state)
    if result.rule == "adam":
        result.unread.append(
            "which rule it is: adam, nadamw and adabelief have the same fields; taken for adam's"
        )
    if others:
        result.unread.append(f"not converted: {', '.join(sorted(others))}")
    result.check()
    return result


def to_tree(state: OptimizerState, report: ConversionReport) -> dict[str, Any]:
    """The state of the optax optimizer that steps like ``state``; the report says which call builds it.

    Raises:
        CheckpointError: a rule, or hyperparameters, that no single optax optimizer has.
    """
    slots_of = {"adam": ("mu", "nu"), "lion": ("mu",), "sgd": ("trace",)}.get(state.rule)
    if slots_of is None:
        why = (
            "optax.amsgrad keeps the maximum of bias-corrected second moments, torch of uncorrected ones"
            if state.rule == "amsgrad"
            else f"optax has no counterpart of its rule, {state.rule!r}"
        )
        raise CheckpointError(f"this state cannot become one of optax: {why}")
    moments: dict[str, Any] = {}
    if state.rule != "sgd":
        moments["count"] = torch.tensor(_count(state), dtype=torch.int32)
    for field in slots_of:
        moments[field] = {}
        for name in state.names:
            value = state.state.get(name, {}).get(_SLOTS[field])
            if value is None:
                raise CheckpointError(
                    f"{name!r} has never stepped, and optax keeps moments of every parameter"
                )
            value = value.dequantize() if isinstance(value, Blockwise) else value
            _plant(moments[field], name.split("."), value, name)
    return _chain(moments, state, report)


def _search(
    node: Any, hyper: dict[str, Any], found: list[_Moments], others: set[str], depth: int = 0
) -> None:
    if not isinstance(node, dict) or depth > flax_msgpack.DEEPEST:
        return
    if isinstance(injected := node.get("hyperparams"), dict):
        hyper = _hyper(injected)
    if ("mu" in node or "trace" in node) and set(node) <= _FIELDS:
        found.append(_Moments(node, hyper))
        return
    for key, value in node.items():
        if isinstance(value, Tensor) or key == "acc_grads":
            others.add(str(key))
        elif key not in {"params", "hyperparams"}:
            _search(value, hyper, found, others, depth + 1)


def _hyper(injected: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {
        key: float(value)
        for key, value in injected.items()
        if isinstance(value, Tensor) and value.numel() == 1
    }
    hyper: dict[str, Any] = {_HYPER[key]: value for key, value in numbers.items() if key in _HYPER}
    if {"b1", "b2"} <= set(numbers):
        hyper["betas"] = (numbers["b1"], numbers["b2"])
    return hyper


def _entries(moments: _Moments, path: Path) -> dict[str, dict[str, Any]]:
    fields = moments.fields
    if "nu_max" in fields:
        raise CheckpointError(
            f"{path} is of optax.amsgrad, which keeps the maximum of bias-corrected second moments where "
            "torch keeps that of uncorrected ones; neither gives the other"
        )
    count = fields.get("count")
    if count is not None and not (
        isinstance(count, int) or (isinstance(count, Tensor) and count.numel() == 1)
    ):
        raise CheckpointError(f"{path}: its count is no number")
    entries: dict[str, dict[str, Any]] = {}
    for field in ("mu", "nu", "trace"):
        for name, value in _leaves(fields.get(field, {}), ()):
            entries.setdefault(name, {})[_SLOTS[field]] = value
    for name, slots in entries.items():
        if len({tuple(value.shape) for value in slots.values()}) > 1 or ("nu" in fields and len(slots) < 2):
            raise CheckpointError(f"{path}: the moments of {name!r} do not agree")
        if count is not None:
            slots["step"] = torch.tensor(float(count))
    return entries


def _leaves(node: Any, at: tuple[str, ...]) -> list[tuple[str, Tensor]]:
    if isinstance(node, Tensor):
        return [(".".join(at), node)]
    if isinstance(node, dict) and len(at) < flax_msgpack.DEEPEST:
        return [leaf for key, value in node.items() for leaf in _leaves(value, (*at, str(key)))]
    return []  # {} is a masked leaf, None an absent one


def _count(state: OptimizerState) -> int:
    counts = {int(float(slots["step"])) for slots in state.state.values() if slots.get("step") is not None}
    if len(counts) > 1:
        raise CheckpointError(
            f"its parameters have stepped {sorted(counts)} times, and optax counts once for all"
        )
    return counts.pop() if counts else 0


def _plant(tree: dict[str, Any], at: list[str], value: Any, name: str) -> None:
    for part in at[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise CheckpointError(f"{name!r} lies inside another parameter; rename one of them with --names")
    if at[-1] in tree:
        raise CheckpointError(f"{name!r} lies inside another parameter; rename one of them with --names")
    tree[at[-1]] = value


def _chain(moments: dict[str, Any], state: OptimizerState, report: ConversionReport) -> dict[str, Any]:
    """The tuple of states that the optimizer's chain has, and the sentence that says how to build it."""
    modes = {group.decay for group in state.groups if float(group.hyper.get("weight_decay", 0.0)) != 0}
    strengths = {float(group.hyper.get("weight_decay", 0.0)) for group in state.groups}
    shared = {
        key: {repr(group.hyper.get(key)) for group in state.groups}
        for key in ("lr", "betas", "eps", "momentum")
    }
    differing = [key for key, values in shared.items() if len(values) > 1]
    if differing or len(strengths - {0.0}) > 1 or len(modes) > 1:
        raise CheckpointError(
            f"its groups differ in {', '.join(differing) or 'weight decay'}, which takes "
            "optax.multi_transform; one optax optimizer has one value of each, and a mask for those without "
            "decay"
        )
    mode = modes.pop() if modes else "none"
    if mode not in {"decoupled", "l2", "none"}:
        raise CheckpointError(
            f"its decay mode is {mode!r}; optax has decoupled (adamw, lion) and l2 (add_decayed_weights "
            "before the rule). Say which it is with decay=, or convert λ first"
        )
    empty: dict[str, Any] = {}
    masked = 0.0 in strengths and len(strengths) > 1
    decay = {"inner_state": empty} if masked else empty
    call, own = {
        "adam": ("optax.adam", {"0": moments, "1": empty}),
        "lion": ("optax.lion", {"0": moments, "1": decay, "2": empty}),
        "sgd": ("optax.sgd", {"0": moments, "1": empty}),
    }[state.rule]
    first = state.groups[0].hyper
    strength = max(strengths)
    arguments = _arguments(first, state.rule)
    mask = ", mask=<True where weight_decay is not 0>" if masked else ""
    if mode == "decoupled" and state.rule == "adam":
        call, own = "optax.adamw", {"0": moments, "1": decay, "2": empty}
    if state.rule == "lion" or call == "optax.adamw":
        built = f"{call}({arguments}, weight_decay={strength!r}{mask})"
    else:
        built = f"{call}({arguments})"
    if (mode == "l2" and state.rule == "lion") or (mode == "decoupled" and state.rule == "sgd"):
        raise CheckpointError(f"decay={mode!r} of {call} is no optimizer of optax; give the mode with decay=")
    if mode == "l2":
        built = f"optax.chain(optax.add_decayed_weights({strength!r}{mask}), {built})"
        own = {"0": decay, "1": own}
    report.lost.append(
        f"all hyperparameters, which optax keeps in code; this is the state of {built} with a constant "
        "learning rate (with a schedule, set its count to the same step)"
    )
    return own


def _arguments(hyper: Mapping[str, Any], rule: str) -> str:
    given = [("learning_rate", hyper.get("lr"))]
    if rule == "sgd":
        given += [("momentum", hyper.get("momentum")), ("nesterov", hyper.get("nesterov", False))]
    else:
        first, second = hyper.get("betas") or (None, None)
        given += [("b1", first), ("b2", second)]
        given += [("eps", hyper.get("eps"))] if rule == "adam" else []
    return ", ".join(f"{key}={value!r}" for key, value in given if value is not None)
