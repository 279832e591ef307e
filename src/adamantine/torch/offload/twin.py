"""An optimizer of the same class over the mirrors: the one that steps."""

from __future__ import annotations

from collections import defaultdict
from operator import is_
from typing import TYPE_CHECKING, Any, TypeVar, cast

from torch import Tensor

from adamantine.torch import buffers

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer

AnyOptimizer = TypeVar("AnyOptimizer", bound="Optimizer")

#: What a step leaves on the optimizer beside groups and state.
_RESULTS = ("skipped_steps", "last_norm")


def arrange(optimizer: AnyOptimizer, twin: Optimizer | None, mirrors: dict[Tensor, Tensor]) -> AnyOptimizer:
    """The twin, with the optimizer's settings and groups as they are now, and with its very state.

    Args:
        optimizer: the one that offloads.
        twin: the one that was arranged before, which is brought up to date.
        mirrors: parameter → its weights on the host, of all parameters in their order.
    """
    if twin is None:
        twin = object.__new__(type(optimizer))
        own = _belongings()
    else:
        own = {name: twin.__dict__[name] for name in _belongings()}
    twin.__dict__.update(optimizer.__dict__)
    twin.__dict__.update(own)
    _arrange_groups(optimizer, twin, mirrors)
    _arrange_state(optimizer, twin, mirrors)
    return cast("AnyOptimizer", twin)


def hand_back(optimizer: Optimizer, twin: Optimizer, owners: dict[Tensor, Tensor]) -> None:
    """What has become of groups, state and settings; ``owners``: weights on the host → their parameter."""
    for group, own in zip(optimizer.param_groups, twin.param_groups, strict=True):
        _make_alike(group, own)
    for name in _RESULTS:
        setattr(optimizer, name, getattr(twin, name))
    measured = twin._measured
    optimizer._measured = (
        None if measured is None else lambda: [(owners[weights], each) for weights, each in measured()]
    )
    for weights, entry in twin.state.items():
        optimizer.state[owners[weights]] = entry


def _belongings() -> dict[str, Any]:
    """What the twin has of its own; all other attributes are the optimizer's of the moment."""
    return {
        "param_groups": [],
        "state": defaultdict(dict),
        "offload": False,
        "_offloaded": None,
        "_native": None,
        "_zeroing": buffers.GradientZeroing(),
        "_laid_out": None,
        "_measured": None,
        "_release": None,
    }


def _arrange_groups(optimizer: Optimizer, twin: Optimizer, mirrors: dict[Tensor, Tensor]) -> None:
    del twin.param_groups[len(optimizer.param_groups) :]
    while len(twin.param_groups) < len(optimizer.param_groups):
        twin.param_groups.append({"params": []})
    for group, own in zip(optimizer.param_groups, twin.param_groups, strict=True):
        mirrored = [mirrors[p] for p in group["params"]]
        if len(mirrored) != len(own["params"]) or not all(map(is_, mirrored, own["params"])):
            own["params"] = mirrored  # the same list otherwise: the engine looks at it
        _make_alike(own, group)


def _arrange_state(optimizer: Optimizer, twin: Optimizer, mirrors: dict[Tensor, Tensor]) -> None:
    """Each entry is one dictionary under two keys, in host memory; what the optimizer lacks, both lack."""
    kept: set[Tensor] = set()
    for p, weights in mirrors.items():
        entry = optimizer.state.get(p)
        if entry is not None:
            kept.add(weights)
            _move_to_host(entry)
            if twin.state.get(weights) is not entry:
                twin.state[weights] = entry
    for gone in set(twin.state) - kept:
        del twin.state[gone]


def _make_alike(group: dict[str, Any], other: dict[str, Any]) -> None:
    for name in set(group) - set(other):
        del group[name]
    group.update((name, value) for name, value in other.items() if name != "params")


def _move_to_host(entry: dict[str, Any]) -> None:
    for key, value in entry.items():
        if isinstance(value, Tensor) and value.device.type != "cpu":
            entry[key] = value.to("cpu")
