"""The generic engine: the Python rule itself, bound to torch's operations. Any device, any dtype.

Half-precision parameters and states are decoded to float32, updated there, and rounded once on the way back;
torch.optim rounds after every operation. Float32 and float64 are computed as they are, with no multiply-add
contracted, so on a CPU the bits equal those of `adamantine.reference`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adamantine.rules import Rule, apply, bind
from adamantine.rules.arctan2 import arctan2
from adamantine.torch.engines import exact
from adamantine.torch.engines.contract import Update
from adamantine.torch.storage.elements import put_back
from adamantine.torch.storage.layout import advance_key, real, widen
from adamantine.torch.storage.stored import Stored

#: Elements per call: a rule makes a dozen temporaries of this size. On a CPU they are to fit in the cache and
#: to feed every thread (torch gives each 32768 elements); elsewhere they must not exhaust memory.
ROOM_PER_THREAD = 32_768
ROOM_ELSEWHERE = 2**24

#: Tensors up to this size are joined, since a call on them costs more than its arithmetic. No result depends
#: on these numbers; they were chosen by measurement on a CPU, and by reasoning elsewhere.
SMALL = 8192
SMALL_ELSEWHERE = 2**20

_PLAIN = {Tensor, torch.nn.Parameter}

Row = tuple[Tensor, ...]  # θ, g and the slots (codes as they are) of one parameter, complex ones seen as real


class Member(NamedTuple):
    """One parameter of a lot."""

    row: Row
    state: dict[str, Any]


def _maximum(x: Tensor, y: Tensor | float) -> Tensor:
    return torch.maximum(x, y) if isinstance(y, Tensor) else torch.clamp_min(x, y)


def _sign(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), x, torch.sign(x))  # torch.sign(nan) is 0: a broken gradient would look flat


#: What rule texts may call; NaN goes through all of them, as through NumPy's.
NAMES: dict[str, Callable[..., Tensor]] = {
    "absolute": torch.absolute,
    "arctan2": bind(arctan2, where=torch.where),
    "maximum": _maximum,
    "sign": _sign,
    "sqrt": exact.sqrt,
    "where": torch.where,
}


class GenericEngine:
    """Runs every update with torch operations; refuses none."""

    def run(self, updates: Sequence[Update]) -> None:
        for update in updates:
            if update.differentiable:
                _run_differentiable(update)
            else:
                _run(update)


GENERIC = GenericEngine()


@cache
def _advance_with(rule: Rule, cautious: bool) -> Callable[..., tuple[Tensor, list[Tensor]]]:
    """θ, g, slots → new θ, new slots: the whole step of one rule."""
    direction = bind(rule.direction, **NAMES)
    step = bind(apply.cautious_step if cautious else apply.step, **NAMES)
    scale, penalize = bind(apply.scale), bind(apply.penalize)

    def advance(
        theta: Tensor, g: Tensor, slots: Iterable[Tensor], update: Update
    ) -> tuple[Tensor, list[Tensor]]:
        if update.grad_scale != 1.0:
            g = scale(g, update.grad_scale)
        couple = update.decay.couple
        if isinstance(couple, Tensor) or couple != 0.0:
            g = penalize(g, theta, couple)
        u, *new_slots = direction(g, *slots, **update.scalars)
        return step(theta, u, update.decay.shrink, update.eta), new_slots

    return advance


def _run(update: Update) -> None:
    keys = [update.formats.key(place, key) for place, key in enumerate(update.rule.slots.values())]
    foreach = False if _overlap(update) else update.foreach
    joined: dict[Any, list[Member]] = {}
    for theta, g, state in zip(update.thetas, update.grads, update.states, strict=True):
        if theta.numel() == 0:
            advance_key(state)
            continue
        if g.is_sparse:
            _run_sparse(theta, g, [state[key] for key in keys], update)
            continue
        row: Row = tuple(map(real, (theta, g, *(state[key] for key in keys))))
        if update.rule.elementwise and _is_plain(row) and _joins(theta, foreach):
            joined.setdefault((theta.device, *(tensor.dtype for tensor in row)), []).append(
                Member(row, state)
            )
        else:
            _run_together([Member(row, state)], update)
    for members in joined.values():
        for lot in _lots(members):
            _run_together(lot, update)


def _run_together(lot: Sequence[Member], update: Update) -> None:
    theta = lot[0].row[0]
    if not update.formats.is_plain(theta):
        _run_stored(lot, update)
    elif len(lot) == 1:
        _run_row(lot[0].row, update)
    else:
        _run_joined([member.row for member in lot], update)


def _run_row(row: Row, update: Update) -> None:
    advance = _advance_with(update.rule, update.decay.cautious)
    for piece in _pieces(row) if update.rule.elementwise and _is_plain(row) else [row]:
        theta, g, *slots = map(widen, piece)
        new_theta, new_slots = advance(theta, g, slots, update)
        for tensor, new in zip((piece[0], *piece[2:]), (new_theta, *new_slots), strict=True):
            tensor.copy_(new)


def _run_stored(lot: Sequence[Member], update: Update) -> None:
    """Parameters in formats: decoded, stepped and encoded, as much at a time as there is room for."""
    advance = _advance_with(update.rule, update.decay.cautious)
    thetas, grads = ([member.row[column] for member in lot] for column in (0, 1))
    keys = list(update.rule.slots.values())
    stored = Stored(thetas, [member.state for member in lot], keys, update.formats)
    g = grads[0].reshape(-1) if len(lot) == 1 else torch.cat([each.reshape(-1) for each in grads])
    room = _room(g.device) if update.rule.elementwise else g.numel()
    shape = (-1,) if update.rule.elementwise else thetas[0].shape
    for elements in stored.pieces(room):
        old_theta, old_slots = stored.read(elements)
        new_theta, new_slots = advance(
            old_theta.view(shape),
            widen(g[elements.here]).view(shape),
            [slot.view(shape) for slot in old_slots],
            update,
        )
        stored.write(elements, new_theta.reshape(-1), [slot.reshape(-1) for slot in new_slots])
    stored.close()


def _run_joined(rows: Sequence[Row], update: Update) -> None:
    """Many small tensors laid end to end: one call per line of the rule for all of them."""
    columns = list(zip(*rows, strict=True))
    theta, g, *slots = (torch.cat([widen(x).reshape(-1) for x in column]) for column in columns)
    new_theta, new_slots = _advance_with(update.rule, update.decay.cautious)(theta, g, slots, update)
    for column, new in zip((columns[0], *columns[2:]), (new_theta, *new_slots), strict=True):
        put_back(new, column)


def run_members(update: Update) -> None:
    """θ, gradients and slots with a leading member axis; couple, shrink and η broadcast along it:
    numbers, or tensors ``[members, 1, …]``."""
    advance = _advance_with(update.rule, update.decay.cautious)
    for theta, g, state in zip(update.thetas, update.grads, update.states, strict=True):
        stored = [state[key] for key in update.rule.slots.values()]
        new_theta, new_slots = advance(widen(theta), widen(g), map(widen, stored), update)
        for tensor, new in zip((theta, *stored), (new_theta, *new_slots), strict=True):
            tensor.copy_(new)


def _run_sparse(theta: Tensor, g: Tensor, slots: list[Tensor], update: Update) -> None:
    """Only the rows that have a gradient take the rule, which leaves all else alone at g = 0; all shrink."""
    g = g.coalesce()
    rows = tuple(g.indices())
    piece = (theta[rows], g.values(), *(slot[rows] for slot in slots))
    theta_rows, g_rows, *slot_rows = map(widen, map(real, piece))
    advance = _advance_with(update.rule, update.decay.cautious)
    new_theta, new_slots = advance(theta_rows, g_rows, slot_rows, update)
    if update.decay.shrink != 1.0:
        real(theta).mul_(update.decay.shrink)
    for tensor, new in zip((theta, *slots), (new_theta, *new_slots), strict=True):
        tensor[rows] = (torch.view_as_complex(new) if tensor.is_complex() else new).to(tensor.dtype)


def _run_differentiable(update: Update) -> None:
    """θ is written in place so that the caller's tensor carries the graph; the slots become new tensors."""
    advance = _advance_with(update.rule, update.decay.cautious)
    for theta, g, state in zip(update.thetas, update.grads, update.states, strict=True):
        keys = update.rule.slots.values()
        slots = [widen(real(state[key])) for key in keys]
        old_theta = widen(real(theta)).clone()  # the graph keeps it, and θ itself is overwritten below
        new_theta, new_slots = advance(old_theta, widen(real(g)), slots, update)
        for key, new in zip(keys, new_slots, strict=True):
            old = state[key]
            state[key] = torch.view_as_complex(new) if old.is_complex() else new.to(old.dtype)
        real(theta).copy_(new_theta)


def _room(device: torch.device) -> int:
    return ROOM_PER_THREAD * torch.get_num_threads() if device.type == "cpu" else ROOM_ELSEWHERE


def _joins(theta: Tensor, foreach: bool | None) -> bool:
    if foreach is not None:
        return foreach
    return theta.numel() <= (SMALL if theta.device.type == "cpu" else SMALL_ELSEWHERE)


def _overlap(update: Update) -> bool:
    """Whether one parameter lies where another, or a gradient, does: joined, an update could be lost."""
    ranges = sorted(
        (tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes, tensors is update.thetas)
        for tensors in (update.thetas, update.grads)
        for tensor in tensors
        if type(tensor) in _PLAIN and tensor.layout is torch.strided
    )
    last_theta = last_grad = 0  # how far those before reach
    for start, stop, is_theta in ranges:
        if start < last_theta or (is_theta and start < last_grad):
            return True
        last_theta, last_grad = (
            (max(stop, last_theta), last_grad) if is_theta else (last_theta, max(stop, last_grad))
        )
    return False


def _is_plain(row: Row) -> bool:
    """Whether the tensors may be cut and joined: a subclass (DTensor) need not lay its elements out so."""
    return all(type(tensor) in _PLAIN for tensor in row)


def _lots(members: list[Member]) -> Iterator[list[Member]]:
    """As many together as there is room for."""
    room = _room(members[0].row[0].device)
    lot: list[Member] = []
    total = 0
    for member in members:
        size = member.row[0].numel()
        if lot and total + size > room:
            yield lot
            lot, total = [], 0
        lot.append(member)
        total += size
    yield lot


def _pieces(row: Row) -> Iterator[Row]:
    """The row, cut into as much as there is room for, where it lies in one piece."""
    room = _room(row[0].device)
    if row[0].numel() > room and all(tensor.is_contiguous() for tensor in row):
        yield from zip(*(torch.split(tensor.view(-1), room) for tensor in row), strict=True)
    else:
        yield row
