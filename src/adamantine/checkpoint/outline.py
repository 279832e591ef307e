"""A checkpoint of any layout as a list of leaves, for who looks at it: tensors are read one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamantine.checkpoint import dtypes
from adamantine.checkpoint.codes import Coded, Fetch, coded_slots, is_ours
from adamantine.checkpoint.contents import Contents
from adamantine.checkpoint.names import tell_all
from adamantine.checkpoint.reader import open_store


@dataclass(frozen=True)
class Leaf:
    """A tensor of a checkpoint, not yet read.

    Attributes:
        dtype: torch's name of it.
        shape: its own.
        read: gives the tensor, checked against its checksum where there is one.
        code: of a slot in a block format: which, and what reads the tensors it consists of.
        is_headers: whether it is the headers of such a slot, which are compared and looked at with that.
    """

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], Tensor]
    code: tuple[Coded, Fetch] | None = None
    is_headers: bool = False

    @property
    def form(self) -> str:
        """``"8bit"`` or ``"4bit"`` of a slot in blocks, else the dtype."""
        return self.code[0].form if self.code else self.dtype

    @property
    def numbers_shape(self) -> tuple[int, ...]:
        """Of what `numbers` gives."""
        return self.code[0].shape if self.code else self.shape

    def numbers(self) -> Tensor:
        """The values: what codes stand for, else the tensor itself; complex ones as pairs where coded."""
        if self.code is None:
            return self.read()
        coded, fetch = self.code
        decoded = coded.decode(fetch)
        return torch.view_as_real(decoded) if decoded.is_complex() else decoded

    @property
    def nbytes(self) -> int:
        """As it is in memory."""
        count = dtypes.NAMED[self.dtype].itemsize if self.dtype in dtypes.NAMED else 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class Outline:
    """What is in a file.

    Attributes:
        path: of it.
        layout: ``"adamantine"``, or a foreign one.
        contents: all of it; tensors are on the meta device where they are not read yet.
        leaf: the tensor behind a tensor of ``contents``.
        unread: what a foreign file also holds, in sentences.
        positions: whether parameters go by position, names or not.
    """

    path: Path
    layout: str
    contents: Contents
    leaf: Callable[[Tensor], Leaf]
    unread: list[str]
    positions: bool = False

    @cached_property
    def has_names(self) -> bool:
        """Whether every parameter has a name of its own."""
        return tell_all([p.name for p in self.contents.parameters])

    def label(self, index: int) -> str:
        """A parameter's name, or its position."""
        return (
            (self.contents.parameters[index].name or "")
            if self.has_names and not self.positions
            else str(index)
        )

    def by_position(self) -> Outline:
        """The same, with parameters under their positions."""
        return replace(self, positions=True)

    def leaves(self) -> Iterator[tuple[tuple[str, ...], Any]]:
        """Everything in the checkpoint: (way to it, `Leaf` or plain value). Codes go by the slot's name, as
        their numbers do elsewhere."""
        members = self.contents.members()
        for number, group in enumerate(self.contents.groups):
            where = ("group", str(number))
            yield (*where, "parameters"), [self.label(index) for index in members[number]]
            yield (*where, "decay mode"), group.decay
            yield from self._walk(group.hyper, where)
        for index, parameter in enumerate(self.contents.parameters):
            yield from self._walk(parameter.state, ("state", self.label(index)))
        rest = self.contents
        yield ("optimizer",), rest.optimizer
        yield from self._walk(rest.other_state, ("other state",))
        yield from self._walk(rest.other, ("other",))
        if rest.scheduler is not None:
            yield ("scheduler", "class"), rest.scheduler.cls
            yield from self._walk(rest.scheduler.state, ("scheduler",))
        yield from self._walk(rest.model_versions, ("model versions",))
        for name in ("model", "rng", "extra"):
            yield from self._walk(getattr(rest, name), (name,))

    def _walk(self, value: Any, way: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        if isinstance(value, Tensor):
            leaf = self.leaf(value)
            yield (*way[:-1], leaf.code[0].slot) if leaf.code else way, leaf
        elif isinstance(value, dict) and value:
            for key, item in value.items():  # 1 and "1" are two keys
                yield from self._walk(item, (*way, key if isinstance(key, str) else f"[{key}]"))
        elif isinstance(value, list | tuple) and any(
            isinstance(item, Tensor | dict | list) for item in value
        ):
            for number, item in enumerate(value):
                yield from self._walk(item, (*way, str(number)))
        elif len(way) > 1 or value not in (None, {}):  # a slot may be None; no extra is none
            yield way, value


def outline(path: str | os.PathLike[str], *, key: str | None = None) -> Outline:
    """Open a checkpoint of any layout for looking at.

    Args:
        path: an adamantine checkpoint, or what `adamantine.checkpoint.foreign.read` knows.
        key: where in a foreign training checkpoint the optimizer's state is.

    Raises:
        CheckpointError: nothing that can be read.
    """
    from adamantine.checkpoint import foreign
    from adamantine.checkpoint.convert.statedict import to_state_dict

    path = Path(path)
    if foreign.detect(path) == "adamantine":
        return _own(path)
    state = foreign.read(path, key=key)
    contents = Contents.of(to_state_dict(state), state.optimizer, names=state.names if state.named else None)
    for group, found in zip(contents.groups, state.groups, strict=True):
        group.decay = found.decay
    for parameter in contents.parameters:
        parameter.state = {slot: _values(value) for slot, value in (parameter.state or {}).items()} or None
    return Outline(path, state.layout, contents, _of_memory, state.unread)


def _own(path: Path) -> Outline:
    store = open_store(path)
    contents, names = store.sketch()
    coded = {
        id(each.codes): each
        for p in (contents.parameters if is_ours(contents) else [])
        for each in coded_slots(contents.groups[p.group], p)
    }
    headers = {id(each.headers) for each in coded.values()}

    def fetch(tensor: Tensor) -> Tensor:
        return store.tensor(names[id(tensor)])

    def leaf(tensor: Tensor) -> Leaf:
        row = store.stored[names[id(tensor)]]
        each = coded.get(id(tensor))
        code = (each, fetch) if each else None
        return Leaf(row.dtype, row.shape, lambda: fetch(tensor), code, id(tensor) in headers)

    return Outline(store.path, "adamantine", contents, leaf, [])


def _of_memory(tensor: Tensor) -> Leaf:
    return Leaf(dtypes.name_of(tensor.dtype), tuple(tensor.shape), lambda: tensor)


def _values(value: Any) -> Any:
    """Quantized codes as the numbers they stand for."""
    return value.dequantize() if hasattr(value, "dequantize") and not isinstance(value, Tensor) else value
