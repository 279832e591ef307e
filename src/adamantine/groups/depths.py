"""Depth of every parameter, for layer-wise learning rates (ELECTRA; BEiT's numbering).

Read from the model: the children of a ``Sequential`` or ``ModuleList`` are successive layers in order of
registration; what comes before the first is depth 0 (the stem), what comes after the last is deepest (the
head), what stands between goes with the layer before it. Or stated by the user, as for parallel towers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from numbers import Integral
from typing import Any

Depth = Callable[[str], int] | Mapping[str, int]


def model_depths(modules: Mapping[str, Any], named: Sequence[tuple[str, Any]]) -> dict[str, int]:
    """Depth of every parameter from the model's containers of layers.

    Args:
        modules: every module by name.
        named: every parameter with its name, in order of registration.

    Raises:
        ValueError: the model has no such container.
    """
    layers = _layers(modules, [name for name, parameter in named if parameter.ndim >= 2])
    if not layers:
        raise ValueError(
            "layer_decay found no Sequential or ModuleList with two or more layers to read depths from; "
            "pass depth= as a function of the parameter's name or as {pattern: depth}"
        )
    order = {layer: index for index, layer in enumerate(layers, start=1)}
    owners = [next((order[a] for a in _ancestors(name) if a in order), None) for name, _ in named]
    last = max(i for i, owner in enumerate(owners) if owner is not None)
    depths, current = {}, 0
    for i, ((name, _), owner) in enumerate(zip(named, owners, strict=True)):
        if owner is not None:
            current = owner
        elif i > last:
            current = len(layers) + 1
        depths[name] = current
    return depths


def stated_depths(depth: Depth, names: Sequence[str]) -> dict[str, int]:
    """Depth of every parameter by the user's function, or by the first pattern that matches.

    Raises:
        ValueError: a parameter without a depth, or one that is not a whole number >= 0.
    """
    found = {}
    for name in names:
        value: Any
        if isinstance(depth, Mapping):
            value = next((d for pattern, d in depth.items() if fnmatchcase(name, pattern)), None)
        else:
            value = depth(name)
        if not isinstance(value, Integral) or value < 0:
            raise ValueError(f"depth gives {value!r} for {name}; every parameter needs a whole number >= 0")
        found[name] = int(value)
    return found


def _layers(modules: Mapping[str, Any], matrices: Sequence[str]) -> list[str]:
    """Names of the successive layers: children of containers that hold at least one matrix.

    A container whose children are all of one class is a stack of layers, and containers inside them do not
    count. One with mixed children (stem, stage, pooling, stage, ...) is opened where a child holds a stack of
    composite layers; any other child of it is a layer.
    """
    with_matrix = {ancestor for matrix in matrices for ancestor in _ancestors(matrix)}
    children: dict[str, list[str]] = {name: [] for name in modules}
    for name in modules:
        if name in with_matrix:
            children[name.rpartition(".")[0]].append(name)

    def is_container(name: str) -> bool:
        bases = {cls.__name__ for cls in type(modules[name]).__mro__}
        return len(children[name]) >= 2 and not bases.isdisjoint({"Sequential", "ModuleList"})

    def is_stack(name: str) -> bool:
        return is_container(name) and len({type(modules[child]) for child in children[name]}) == 1

    def holds_blocks(name: str) -> bool:
        inside = is_stack(name) and all(children[child] for child in children[name])
        return inside or any(holds_blocks(child) for child in children[name])

    def search(name: str) -> Iterator[str]:
        if is_stack(name):
            yield from children[name]
            return
        for child in children[name]:
            if is_container(name) and not holds_blocks(child):
                yield child
            else:
                yield from search(child)

    return list(search(""))


def _ancestors(name: str) -> Iterator[str]:
    """Names of the modules around a parameter, innermost first, the root left out."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name
