"""What differs between two checkpoints, of whatever layouts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adamantine.checkpoint.container import bytes_of
from adamantine.checkpoint.inspection import numeric
from adamantine.checkpoint.outline import Leaf, outline
from adamantine.checkpoint.writer import Watch, unwatched
from adamantine.torch.storage.layout import ROUNDING


@dataclass(frozen=True)
class TensorChange:
    """A tensor of both checkpoints with other bits.

    Attributes:
        at: the way to it.
        form: ``"float32 [3, 4]"``, or both forms where they differ; then there are no numbers, but where one
            side has codes (``"8bit [3, 4]"``) for the numbers of the other.
        largest: max|a - b|; NaN where one side has a NaN and the other has not, or infinities differ.
        relative: ``largest`` over max|a|; infinite where a is zero all over.
    """

    at: str
    form: str
    largest: float | None = None
    relative: float | None = None


@dataclass
class Difference:
    """Nothing in the lists: the same bits throughout.

    Attributes:
        first, second: the paths.
        equal: how many tensors have the same bits on both sides.
        only_first, only_second: ways that only one has.
        values: (way, first, second) of numbers, texts, … that differ.
        tensors: those that differ, by relative difference.
    """

    first: Path
    second: Path
    equal: int = 0
    only_first: list[str] = field(default_factory=list)
    only_second: list[str] = field(default_factory=list)
    values: list[tuple[str, Any, Any]] = field(default_factory=list)
    tensors: list[TensorChange] = field(default_factory=list)

    @property
    def is_none(self) -> bool:
        """Whether both hold the same, bit for bit."""
        return not (self.only_first or self.only_second or self.values or self.tensors)


def diff(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    key: str | None = None,
    done: Watch = unwatched,
) -> Difference:
    """Compare two checkpoints: hyperparameters, state, scheduler, model, extra. Versions are not compared.

    Parameters are taken for the same by name, where both sides have names; else by position.

    Args:
        first: a checkpoint.
        second: another.
        key: where in foreign training checkpoints the optimizer's state is.
        done: is told the bytes of every pair of tensors compared.

    Raises:
        CheckpointError: one of them cannot be read, or is damaged.
    """
    one, other = outline(first, key=key), outline(second, key=key)
    if (by_name := one.has_names and other.has_names) is False:
        one, other = one.by_position(), other.by_position()
    here, there = dict(one.leaves()), dict(other.leaves())
    found = Difference(one.path, other.path)
    found.only_first = ["/".join(way) for way in here if way not in there]
    found.only_second = ["/".join(way) for way in there if way not in here]
    for way, leaf in here.items():
        if way not in there or (not by_name and way[0] == "group" and way[-1] == "parameters"):
            continue
        at, match = "/".join(way), there[way]
        if isinstance(leaf, Leaf) and isinstance(match, Leaf):
            if leaf.is_headers and match.is_headers:  # compared with their codes
                continue
            if way[-1] == ROUNDING and leaf.shape == match.shape == ():  # a key: its size means nothing
                keys = int(leaf.read()), int(match.read())
                if keys[0] == keys[1]:
                    found.equal += 1
                else:
                    found.values.append((at, *keys))
                continue
            change = _compare(at, leaf, match)
            done(leaf.nbytes)
            if change is None:
                found.equal += 1
            else:
                found.tensors.append(change)
        elif isinstance(leaf, Leaf) or isinstance(match, Leaf) or not _same_value(leaf, match):
            found.values.append((at, _shown(leaf), _shown(match)))
    found.tensors.sort(key=lambda change: (-_rank(change), change.at))
    return found


def _compare(at: str, one: Leaf, other: Leaf) -> TensorChange | None:
    alike = (one.form, one.shape) == (other.form, other.shape)
    form = _shown(one) if alike else f"{_shown(one)} → {_shown(other)}"
    if not alike and ((one.code or other.code) is None or one.numbers_shape != other.numbers_shape):
        return TensorChange(at, form)
    if alike and _bits(one) == _bits(other):
        return None
    a, b = one.numbers(), other.numbers()
    x, y = numeric(a).double(), numeric(b).double()
    unlike = (x != y) & ~(x.isnan() & y.isnan())
    largest = float((x - y)[unlike].abs().max()) if bool(unlike.any()) else 0.0
    size = float(x.abs().max())
    return TensorChange(at, form, largest, largest / size if size else float("inf"))


def _bits(leaf: Leaf) -> list[memoryview]:
    """The tensor's, and those of its headers."""
    parts = [leaf.read()]
    if leaf.code is not None:
        coded, fetch = leaf.code
        parts.append(fetch(coded.headers))
    return [bytes_of(part) for part in parts]


def _same_value(one: Any, other: Any) -> bool:
    """Equal in type and bits: 1 is not 1.0, NaN is NaN, and 0.0 is not -0.0."""
    return type(one) is type(other) and (one == other or one != one) and repr(one) == repr(other)


def _shown(value: Any) -> Any:
    return f"{value.form} {list(value.numbers_shape)}" if isinstance(value, Leaf) else value


def _rank(change: TensorChange) -> float:
    """Other forms first, then NaN, then by relative difference."""
    if change.relative is None:
        return float("inf")
    return 1e300 if change.relative != change.relative else min(change.relative, 1e299)
