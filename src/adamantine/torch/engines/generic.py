"""The generic engine: the Python rule itself, bound to torch's operations. Any device, any dtype.

Half-precision parameters and states are decoded to float32, updated there, and rounded once on the way back;
torch.optim rounds after every operation. Float32 and float64 are computed as they are, with no multiply-add
contracted, so on a CPU the bits equal those of `adamantine.reference` (`arctan2` aside).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from adamantine.rules import Rule, apply, bind
from adamantine.torch.engines import ieee, tensor_list
from adamantine.torch.engines.contract import Update
from adamantine.torch.engines.tensor_list import TensorList

#: On a CPU, tensors up to SMALL elements are updated as lists of LIST elements, longer ones in pieces of
#: PIECE, so that a rule's temporaries stay in the cache. Chosen by measurement; no result depends on them.
SMALL = 8192
LIST = 131_072
PIECE = 131_072


def _maximum(x: Tensor, y: Tensor | float) -> Tensor:
    return torch.maximum(x, y) if isinstance(y, Tensor) else torch.clamp_min(x, y)


#: What rule texts may call, for tensors.
NAMES: dict[str, Callable[..., Tensor]] = {
    "absolute": torch.absolute,
    "arctan2": torch.arctan2,
    "maximum": _maximum,
    "sign": torch.sign,
    "sqrt": ieee.sqrt,
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
def _advance_with(rule: Rule, lists: bool, cautious: bool) -> Callable[..., tuple[Any, list[Any]]]:
    """θ, g, slots → new θ, new slots: the whole step of one rule, for tensors or lists of them."""
    names = tensor_list.NAMES if lists else NAMES
    direction = bind(rule.direction, **names)
    step = bind(apply.cautious_step if cautious else apply.step, **names)
    scale, penalize = bind(apply.scale), bind(apply.penalize)

    def advance(theta: Any, g: Any, slots: Sequence[Any], update: Update) -> tuple[Any, list[Any]]:
        if update.grad_scale != 1.0:
            g = scale(g, update.grad_scale)
        couple = update.decay.couple
        if isinstance(couple, Tensor) or couple != 0.0:
            g = penalize(g, theta, couple)
        u, *new_slots = direction(g, *slots, **update.scalars)
        return step(theta, u, update.decay.shrink, update.eta), new_slots

    return advance


def _run(update: Update) -> None:
    rule, keys = update.rule, list(update.rule.slots.values())
    lists: dict[Any, list[tuple[Tensor, ...]]] = {}
    advance = _advance_with(rule, False, update.decay.cautious)
    for theta, g, state in zip(update.thetas, update.grads, update.states, strict=True):
        if theta.numel() == 0:
            continue
        if g.is_sparse:
            _run_sparse(theta, g, [state[key] for key in keys], update)
            continue
        row = tuple(map(_real, (theta, g, *(state[key] for key in keys))))
        if _joins_list(row, update.foreach):
            lists.setdefault((row[0].device, *(tensor.dtype for tensor in row)), []).append(row)
            continue
        for piece in _pieces(row, rule):
            theta_piece, g_piece, *slots = map(_decode, piece)
            _encode(piece, advance(theta_piece, g_piece, slots, update))
    for rows in lists.values():
        for chunk in _chunks(rows):
            _run_list(chunk, update)


def _run_list(rows: Sequence[tuple[Tensor, ...]], update: Update) -> None:
    columns = list(zip(*rows, strict=True))
    theta, g, *slots = (TensorList([_decode(tensor) for tensor in column]) for column in columns)
    new_theta, new_slots = _advance_with(update.rule, True, update.decay.cautious)(theta, g, slots, update)
    for column, new in zip((columns[0], *columns[2:]), (new_theta, *new_slots), strict=True):
        torch._foreach_copy_(column, new.tensors)


def _run_sparse(theta: Tensor, g: Tensor, slots: list[Tensor], update: Update) -> None:
    """Only the rows that have a gradient take the rule, which leaves all else alone at g = 0; all shrink."""
    g = g.coalesce()
    rows = tuple(g.indices())
    piece = (theta[rows], g.values(), *(slot[rows] for slot in slots))
    advance = _advance_with(update.rule, False, update.decay.cautious)
    theta_rows, g_rows, *slot_rows = map(_decode, map(_real, piece))
    new_theta, new_slots = advance(theta_rows, g_rows, slot_rows, update)
    if update.decay.shrink != 1.0:
        _real(theta).mul_(update.decay.shrink)
    for tensor, new in zip((theta, *slots), (new_theta, *new_slots), strict=True):
        tensor[rows] = (torch.view_as_complex(new) if tensor.is_complex() else new).to(tensor.dtype)


def _run_differentiable(update: Update) -> None:
    """θ is written in place so that the caller's tensor carries the graph; the slots become new tensors."""
    advance = _advance_with(update.rule, False, update.decay.cautious)
    for theta, g, state in zip(update.thetas, update.grads, update.states, strict=True):
        keys = update.rule.slots.values()
        slots = [_decode(_real(state[key])) for key in keys]
        old_theta = _decode(_real(theta)).clone()  # the graph keeps it, and θ itself is overwritten below
        new_theta, new_slots = advance(old_theta, _decode(_real(g)), slots, update)
        for key, new in zip(keys, new_slots, strict=True):
            old = state[key]
            state[key] = torch.view_as_complex(new) if old.is_complex() else new.to(old.dtype)
        _real(theta).copy_(new_theta)


def _joins_list(row: tuple[Tensor, ...], foreach: bool | None) -> bool:
    if foreach is not None:
        return foreach
    return row[0].device.type != "cpu" or row[0].numel() <= SMALL


def _chunks(rows: list[tuple[Tensor, ...]]) -> Iterator[list[tuple[Tensor, ...]]]:
    """Lists whose temporaries fit in the cache; on an accelerator, the whole list at once."""
    chunk: list[tuple[Tensor, ...]] = []
    total = 0
    for row in rows:
        if chunk and row[0].device.type == "cpu" and total + row[0].numel() > LIST:
            yield chunk
            chunk, total = [], 0
        chunk.append(row)
        total += row[0].numel()
    if chunk:
        yield chunk


def _pieces(row: tuple[Tensor, ...], rule: Rule) -> Iterator[tuple[Tensor, ...]]:
    theta = row[0]
    cut = rule.elementwise and theta.device.type == "cpu" and theta.numel() > PIECE
    if cut and all(tensor.is_contiguous() for tensor in row):
        yield from zip(*(torch.split(tensor.view(-1), PIECE) for tensor in row), strict=True)
    else:
        yield row


def _encode(old: tuple[Tensor, ...], new: tuple[Tensor, Sequence[Tensor]]) -> None:
    """Write θ and the slots back in place, rounding to their dtype; ``old`` is (θ, g, *slots)."""
    theta, slots = new
    for tensor, value in zip((old[0], *old[2:]), (theta, *slots), strict=True):
        tensor.copy_(value)


def _real(tensor: Tensor) -> Tensor:
    """A complex number is two real ones to every rule here, as in torch.optim."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _decode(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor
