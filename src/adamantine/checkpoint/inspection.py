"""What is in a checkpoint, and what in it looks wrong."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from adamantine.checkpoint import checks
from adamantine.checkpoint.outline import Leaf, Outline, outline
from adamantine.checkpoint.writer import Watch, unwatched

Severity = Literal["error", "warning", "note"]

#: Slots that are sums or means of squares or magnitudes, in the names that torch, optax and others give them.
NOT_NEGATIVE = frozenset(
    {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "exp_inf", "sum", "v", "nu", "vs", "acc_delta", "state2"}
)
#: Beside the slots: what 16-bit weights leave over, and the key of the rounding; all of their bits are sound.
_NO_SLOTS = frozenset({"residual", "rounding"})
#: (first moment, second moment) of one parameter, to see where the second underflowed.
_MOMENTS = (("exp_avg", "exp_avg_sq"), ("m", "v"), ("mu", "nu"), ("state1", "state2"))


@dataclass(frozen=True)
class Suspicion:
    """A value that a healthy training would not have.

    Attributes:
        severity: ``"error"`` for what no optimizer produces or survives, ``"note"`` for what may be meant.
        code: stable, for scripts.
        at: parameter and slot, or group.
        what: a sentence.
    """

    severity: Severity
    code: str
    at: str
    what: str


@dataclass(frozen=True)
class SlotRow:
    """One slot over all parameters: ``count`` tensors, or plain values where ``dtypes`` is empty.

    A slot in blocks has ``"8bit"`` or ``"4bit"`` among its dtypes; its headers are a row of their own.
    """

    slot: str
    dtypes: tuple[str, ...]
    count: int
    elements: int
    nbytes: int


@dataclass
class Inspection:
    """The answer of `inspect`, as plain data.

    Attributes:
        path, layout, optimizer, versions: of the file.
        groups: index → number of parameters, decay mode, hyperparameters.
        parameters: how many.
        steps: (lowest, highest) step count over all parameters, None if they have none.
        slots: one row per slot, the largest first.
        largest: (place, dtype, shape, bytes) of the largest tensors of the whole file.
        beside: what there is beside the optimizer, with its number of tensors and bytes.
        not_saved: what the checkpoint says it could not hold.
        unread: what a foreign file also holds, in sentences.
        suspicions: worst first.
    """

    path: str
    layout: str
    optimizer: str | None
    versions: dict[str, str]
    groups: list[dict[str, Any]] = field(default_factory=list)
    parameters: int = 0
    steps: tuple[float, float] | None = None
    slots: list[SlotRow] = field(default_factory=list)
    largest: list[tuple[str, str, tuple[int, ...], int]] = field(default_factory=list)
    beside: dict[str, tuple[int, int]] = field(default_factory=dict)
    not_saved: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    suspicions: list[Suspicion] = field(default_factory=list)


def inspect(
    path: str | os.PathLike[str], *, key: str | None = None, largest: int = 5, done: Watch = unwatched
) -> Inspection:
    """Look into a checkpoint of any layout. Every tensor of the state is read once, one at a time.

    Args:
        path: the checkpoint.
        key: where in a foreign training checkpoint the optimizer's state is.
        largest: how many of the largest tensors to list.
        done: is told the bytes of every tensor looked at.

    Raises:
        CheckpointError: nothing that can be read, or damage.
    """
    seen = outline(path, key=key)
    contents = seen.contents
    found = Inspection(
        str(seen.path),
        seen.layout,
        contents.optimizer,
        contents.versions if seen.layout == "adamantine" else {},
        parameters=len(contents.parameters),
        not_saved=contents.scheduler.not_saved if contents.scheduler else [],
        unread=seen.unread,
    )
    for group, members in zip(contents.groups, contents.members(), strict=True):
        found.groups.append({"parameters": len(members), "decay": group.decay, "hyper": group.hyper})
    _measure(seen, found, largest)
    suspicions = [*_of_groups(seen), *_of_steps(seen, found), *_of_values(seen, done)]
    found.suspicions = sorted(suspicions, key=lambda each: ("error", "warning", "note").index(each.severity))
    return found


def _measure(seen: Outline, found: Inspection, largest: int) -> None:
    tensors: list[tuple[str, Leaf]] = []
    rows: defaultdict[str, list[Any]] = defaultdict(list)
    beside: dict[str, tuple[int, int]] = {}
    for way, leaf in seen.leaves():
        if way[0] == "state" and len(way) > 2:
            rows[way[2]].append(leaf)
        elif way[0] in {"scheduler", "model", "rng", "extra", "other", "other state"}:
            count, size = beside.get(way[0], (0, 0))
            is_tensor = isinstance(leaf, Leaf)
            beside[way[0]] = (count + is_tensor, size + (leaf.nbytes if is_tensor else 0))
        if isinstance(leaf, Leaf):
            tensors.append(("/".join(way), leaf))
    for slot, values in rows.items():
        leaves = [value for value in values if isinstance(value, Leaf)]
        found.slots.append(
            SlotRow(
                slot,
                tuple(sorted({leaf.form for leaf in leaves})),
                len(values),
                sum(torch.Size(leaf.numbers_shape).numel() for leaf in leaves),
                sum(leaf.nbytes for leaf in leaves),
            )
        )
    found.slots.sort(key=lambda row: (-row.nbytes, row.slot))
    tensors.sort(key=lambda each: (-each[1].nbytes, each[0]))
    found.largest = [(at, leaf.form, leaf.shape, leaf.nbytes) for at, leaf in tensors[:largest]]
    found.beside = beside


def _of_groups(seen: Outline) -> list[Suspicion]:
    found = []
    for number, group in enumerate(seen.contents.groups):
        at = f"group {number}"
        rate = list(checks.numbers(group.hyper.get("lr")))
        if rate == [0.0]:
            found.append(
                Suspicion("note", "lr-zero", at, "lr is 0: nothing moves until a scheduler raises it")
            )
        decays = any(number != 0.0 for number in checks.numbers(group.hyper.get("weight_decay")))
        if decays and group.decay is None:
            words = (
                f"weight_decay={group.hyper['weight_decay']}, and the file does not tell in which decay mode"
            )
            found.append(Suspicion("note", "decay-unknown", at, words))
    return found


def _of_steps(seen: Outline, found: Inspection) -> list[Suspicion]:
    steps = {
        seen.label(index): count
        for index, p in enumerate(seen.contents.parameters)
        for count in checks.numbers((p.state or {}).get("step"))
    }
    suspicions = []
    if steps:
        low, high = min(steps, key=lambda name: steps[name]), max(steps, key=lambda name: steps[name])
        found.steps = (steps[low], steps[high])
        if steps[low] != steps[high]:
            words = f"{low} has made {steps[low]:g} steps, {high} has made {steps[high]:g}"
            suspicions.append(Suspicion("note", "steps-differ", "step", words))
    empty = [seen.label(i) for i, p in enumerate(seen.contents.parameters) if not p.state]
    if empty and len(empty) < len(seen.contents.parameters):
        words = f"no state: it has never had a gradient ({len(empty)} such parameters)"
        suspicions.append(Suspicion("note", "never-stepped", empty[0], words))
    return suspicions


def _of_values(seen: Outline, done: Watch) -> list[Suspicion]:
    """From the values themselves, one parameter's tensors in memory at a time."""
    found: list[Suspicion] = []
    by_parameter: defaultdict[str, dict[str, Leaf]] = defaultdict(dict)
    for way, leaf in seen.leaves():
        if way[0] == "state" and isinstance(leaf, Leaf):
            by_parameter[way[1]]["/".join(way[2:])] = leaf
    for name, leaves in by_parameter.items():
        zero: dict[str, Tensor] = {}
        wanted = {slot for pair in _MOMENTS if set(pair) <= leaves.keys() for slot in pair}
        for slot, leaf in leaves.items():
            done(leaf.nbytes)
            if leaf.is_headers or slot in _NO_SLOTS:
                leaf.read()  # for its checksum
                continue
            values = numeric(leaf.numbers())
            found += _of_slot(f"{name}: {slot}", slot, values)
            if slot in wanted:
                zero[slot] = values == 0
        for first, second in _MOMENTS:
            if first in zero and second in zero and zero[first].shape == zero[second].shape:
                count = int((zero[second] & ~zero[first]).sum())
                if count:
                    share = f"{count} of {zero[second].numel()} elements"
                    words = (
                        f"{second} is 0 where {first} is not ({share}): underflow, the step there is over ε"
                    )
                    found.append(Suspicion("warning", "underflowed", f"{name}: {second}", words))
    return found


def _of_slot(at: str, slot: str, values: Tensor) -> list[Suspicion]:
    found = []
    nan, infinite = int(values.isnan().sum()), int(values.isinf().sum())
    if nan or infinite:
        words = f"{nan} NaN and {infinite} infinite of {values.numel()} elements; every step spreads them"
        found.append(Suspicion("error", "nonfinite", at, words))
    if slot in NOT_NEGATIVE and (below := int((values < 0).sum())):
        words = (
            f"{below} of {values.numel()} elements are negative, and this slot is a mean of squares or sizes"
        )
        found.append(Suspicion("error", "negative-second-moment", at, words))
    if slot != "step" and values.numel() > 1 and not bool(values.any()):
        found.append(
            Suspicion("note", "all-zero", at, "all zero: no gradient has reached it, or it underflowed")
        )
    return found


def numeric(values: Tensor) -> Tensor:
    """In a dtype that every comparison takes."""
    if values.is_complex():
        return torch.view_as_real(values.to(torch.complex128))
    narrow = values.is_floating_point() and values.dtype.itemsize == 1 and values.element_size() == 1
    if narrow and str(values.dtype).startswith("torch.float4"):
        return values.view(torch.uint8)  # two numbers in a byte, which torch cannot widen
    return values.float() if narrow or values.dtype is torch.bool else values
