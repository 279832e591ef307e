"""How many bytes an optimizer's parameters take: weights, gradients and every part of the state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adamantine.torch.engines.explain import name_parameters
from adamantine.torch.storage import layout as storage
from adamantine.torch.storage.elements import block_count, packed_size

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer

#: Kinds of bytes beside the slots, in the order of the table.
WEIGHTS, GRADIENT, SCALES, RESIDUAL, NUMBERS = "weights", "gradient", "scales", "residual", "numbers"
#: Beside the state, what ``offload=True`` has in host memory: the weights again, and gradients on arrival.
HOST_WEIGHTS, HOST_GRADIENT = "weights on the host", "gradients on the host"
#: What ``release_gradients(accumulate=…)`` keeps of a step's micro-batches in place of the gradients.
SUMS = "sums of gradients"


@dataclass(frozen=True)
class MemoryRow:
    """One parameter's bytes.

    Attributes:
        name: of the parameter.
        shape: of the parameter, or of this process's part of it.
        predicted: kind → bytes, of weights, gradient and complete state, from shapes and options alone.
            Kinds are ``"weights"``, ``"gradient"``, each slot's key, ``"scales"`` (of block formats),
            ``"residual"`` and ``"numbers"`` (step count, rounding key); with ``offload=True`` also
            ``"weights on the host"`` and ``"gradients on the host"``. A frozen parameter has weights only.
        actual: likewise, of the tensors that are there now, but for the mirrors on the host; what does not
            exist yet, or is None, is missing.
    """

    name: str
    shape: tuple[int, ...]
    predicted: dict[str, int]
    actual: dict[str, int]

    @property
    def elements(self) -> int:
        return torch.Size(self.shape).numel()


@dataclass(frozen=True)
class MemoryReport:
    """The answer of ``optimizer.memory_report()``; ``str`` is a table.

    Attributes:
        rows: one per parameter, in the order of the groups.
        actual: kind → bytes of all parameters now, each piece of memory counted once and whole: tied
            weights one time, a flat buffer with all that lies in it. Mirrors on the host are here, and sums
            of released gradients.
    """

    rows: tuple[MemoryRow, ...]
    actual: dict[str, int]

    @property
    def predicted(self) -> dict[str, int]:
        """Kind → bytes of all parameters, after the first step."""
        total: dict[str, int] = {}
        for row in self.rows:
            for kind, size in row.predicted.items():
                total[kind] = total.get(kind, 0) + size
        return total

    @property
    def elements(self) -> int:
        """Of all parameters; a complex one is one element."""
        return sum(row.elements for row in self.rows)

    @property
    def predicted_bytes(self) -> int:
        """Weights, gradients and state together: the most that a step needs to find in memory."""
        return sum(self.predicted.values())

    @property
    def predicted_bytes_released(self) -> int:
        """Likewise where each gradient is freed before the next is made (`adamantine.torch.release`): of all
        gradients, only the largest one's bytes. The sums of several backward passes per step come on top."""
        gradients = [row.predicted.get(GRADIENT, 0) for row in self.rows]
        return self.predicted_bytes - sum(gradients) + max(gradients, default=0)

    @property
    def actual_bytes(self) -> int:
        """What is there now."""
        return sum(self.actual.values())

    def __str__(self) -> str:
        predicted = self.predicted
        kinds = sorted({*predicted, *self.actual}, key=_place)
        rows = [["parameter", "shape", *kinds, "bytes", "per element"]]
        for row in self.rows:
            shape = "×".join(map(str, row.shape)) or "scalar"
            rows.append([row.name, shape, *_cells(kinds, row.predicted, row.elements)])
        rows.append(["predicted in all", "", *_cells(kinds, predicted, self.elements)])
        rows.append(["there now", "", *_cells(kinds, self.actual, self.elements)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if place < 2 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        released = self.predicted_bytes_released
        lines.append(
            f"with gradient release, a step of one backward pass finds at most {released:,} bytes "
            f"({_per_element(released, self.elements)} per element)"
        )
        return "\n".join(lines)


def report(optimizer: Optimizer) -> MemoryReport:
    """Count; nothing is made, moved or changed. See `Optimizer.memory_report`."""
    names = name_parameters(optimizer.param_groups)
    rows = []
    counted = _Counted()
    for group in optimizer.param_groups:
        for p in group["params"]:
            actual = {kind: 0 for kind, _ in _tensors(optimizer, group, p)}
            for kind, tensor in _tensors(optimizer, group, p):
                actual[kind] += _nbytes(tensor)
                counted.add(kind, tensor)
            rows.append(MemoryRow(names[p], tuple(_local(p).shape), _predict(optimizer, group, p), actual))
    if optimizer._offloaded is not None:
        mirrors = zip((HOST_WEIGHTS, HOST_GRADIENT), optimizer._offloaded.nbytes(), strict=True)
        counted.total |= {kind: size for kind, size in mirrors if size}
    if optimizer._release is not None and (size := optimizer._release.sums_nbytes()):
        counted.total[SUMS] = size
    return MemoryReport(tuple(rows), counted.total)


def _predict(optimizer: Optimizer, group: dict[str, Any], p: Tensor) -> dict[str, int]:
    """By arithmetic on shapes and options, not by making anything."""
    part = _local(p)
    count = part.numel()
    found = {WEIGHTS: count * part.itemsize}
    if not p.requires_grad:
        return found
    found[GRADIENT] = count * part.itemsize
    if optimizer.offload:
        found |= {HOST_WEIGHTS: found[WEIGHTS], HOST_GRADIENT: found[GRADIENT]}
    rule = optimizer.rule(group)
    how = storage.formats(group, rule)
    reals = 2 * count if p.is_complex() else count
    blocks = block_count(reals)
    for key, (form, _) in zip(rule.slots.values(), how.slots, strict=True):
        if form == "dense":
            found[key] = count * storage.dense_dtype(p, storage.slot_option(group, key)).itemsize
        else:
            found[key] = packed_size(reals, storage.BLOCK_BITS[form])
            found[SCALES] = found.get(SCALES, 0) + 4 * blocks
    if size := {"kahan": p.itemsize, "split8": 1, "split16": 2}.get(how.weights_of(p)):
        found[RESIDUAL] = count * size
    numbers = 8 * len(rule.carried) + 8 * how.rounds(p)
    if rule.counts_steps:
        numbers += 8 if torch.get_default_dtype() == torch.float64 else 4
    if numbers:
        found[NUMBERS] = numbers
    return found


def _tensors(optimizer: Optimizer, group: dict[str, Any], p: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What is there of a parameter, by kind; what no rule of ours has made counts under its own key."""
    yield WEIGHTS, p
    if p.grad is not None:
        yield GRADIENT, p.grad
    kinds = dict.fromkeys(("step", "rounding", *optimizer.rule(group).carried), NUMBERS)
    for slot in optimizer.rule(group).slots.values():
        kinds |= zip(storage.coded_keys(slot), (slot, SCALES), strict=True)
    for key, value in optimizer.state.get(p, {}).items():
        if isinstance(value, Tensor):
            yield kinds.get(key, key), value


class _Counted:
    """Bytes by kind, each storage once, under the kind that is seen first."""

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self._seen: set[tuple[torch.device, int]] = set()

    def add(self, kind: str, tensor: Tensor) -> None:
        part = _local(tensor)
        self.total.setdefault(kind, 0)
        if part.layout is not torch.strided or part.device.type == "meta":
            self.total[kind] += _nbytes(part)
            return
        memory = part.untyped_storage()
        place = (part.device, memory.data_ptr())
        if memory.nbytes() and place not in self._seen:
            self._seen.add(place)
            self.total[kind] += memory.nbytes()


def _nbytes(tensor: Tensor) -> int:
    part = _local(tensor)
    if part.layout is torch.strided:
        return part.nbytes
    if part.layout is torch.sparse_coo:
        return part._values().nbytes + part._indices().nbytes
    return part.numel() * part.itemsize


def _local(tensor: Tensor) -> Tensor:
    """What of a distributed tensor (DTensor) lies in this process."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def _cells(kinds: list[str], found: dict[str, int], elements: int) -> list[str]:
    total = sum(found.values())
    cells = [f"{found[kind]:,}" if kind in found else "" for kind in kinds]
    return [*cells, f"{total:,}", _per_element(total, elements)]


def _per_element(size: int, elements: int) -> str:
    return f"{size / elements:.3f}" if elements else ""


def _place(kind: str) -> tuple[int, str]:
    """Weights, gradients, the slots, the rest."""
    fixed = {
        WEIGHTS: 0,
        GRADIENT: 1,
        SCALES: 3,
        RESIDUAL: 4,
        NUMBERS: 5,
        HOST_WEIGHTS: 6,
        HOST_GRADIENT: 7,
        SUMS: 8,
    }
    return fixed.get(kind, 2), kind
