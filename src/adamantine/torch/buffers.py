"""Where flat parameters, gradients and state lie: the record of it, and what an optimizer needs of it.

Places are recorded beside the parameters, by identity and weakly: a copy or a pickle of a model knows nothing
of them and is an ordinary model. The record is never trusted: every use looks where the memory really is, so
whatever moves a tensor costs speed and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary


@dataclass(frozen=True, eq=False)
class FlatBuffer:
    """Parameters of one dtype and device, and their gradients, end to end in one order.

    The tensors are the parameters' memory: what is written here is written there, and autograd does not see
    it. So write between backward and the next forward pass.

    Attributes:
        values: all parameters, 1-D.
        gradients: all gradients, 1-D, of the same length.
    """

    values: Tensor
    gradients: Tensor


@dataclass(frozen=True, eq=False)
class Place:
    """One parameter's part of a buffer, and views of it with the parameter's shape and strides."""

    buffer: FlatBuffer
    start: int
    stop: int
    values: Tensor
    gradient: Tensor

    def holds(self, p: Tensor) -> bool:
        """Whether p lies here."""
        return _is_same_memory(p, self.values)

    def holds_gradient(self, p: Tensor) -> bool:
        """Whether p.grad lies here."""
        return p.grad is not None and _is_same_memory(p.grad, self.gradient)

    def give_gradient(self, p: Tensor) -> None:
        """Make p.grad this part of the buffer, as another tensor: ``module.to()`` moves p.grad itself."""
        p.grad = self.gradient.detach()


#: Attributes on the parameters would be pickled and would keep other tensors from being collected.
_PLACES: MutableMapping[Tensor, Place] = WeakIdKeyDictionary()
_epoch = 0


def epoch() -> int:
    """A number that changes whenever parameters are made flat, or given memory of their own again."""
    return _epoch


def place_of(p: Tensor) -> Place | None:
    """Where p was made flat, whether or not it still lies there."""
    return _PLACES.get(p)


def at_home(p: Tensor) -> Place | None:
    """The place where p lies, None if it is not flat, or not any longer."""
    place = _PLACES.get(p)
    return place if place is not None and place.holds(p) else None


def lay_out(params: Sequence[Tensor]) -> None:
    """Move parameters of one dtype and device, in their order, to a new buffer, unless they fill one."""
    global _epoch
    if not _fill_a_buffer([at_home(p) for p in params]):
        _epoch += 1
        values = torch.empty(sum(p.numel() for p in params), dtype=params[0].dtype, device=params[0].device)
        buffer = FlatBuffer(values, torch.zeros_like(values))
        stop = 0
        for p in params:
            start, stop = stop, stop + p.numel()
            views = [_view(memory, start, p) for memory in (buffer.values, buffer.gradients)]
            place = _PLACES[p] = Place(buffer, start, stop, *views)
            p.data = place.values.copy_(p)
    for p in params:
        place = _PLACES[p]
        if not place.holds_gradient(p):
            if p.grad is None:
                place.gradient.zero_()
            else:
                place.gradient.copy_(p.grad if p.grad.layout is torch.strided else p.grad.to_dense())
            place.give_gradient(p)


def release(p: Tensor) -> None:
    """Memory of its own for a parameter that was flat, and for its gradient."""
    global _epoch
    place = _PLACES.pop(p, None)
    if place is None:
        return
    _epoch += 1
    if place.holds(p):
        p.data = place.values.clone()
    if place.holds_gradient(p):
        p.grad = place.gradient.clone()


def gather_slots(params: Iterable[Tensor], state: Any, keys: Iterable[str]) -> None:
    """Move the state of flat parameters into memory as flat as theirs, unless it lies so.

    For state that was just made, was loaded, or was there before its parameters became flat. The memory is
    this state's alone, so optimizers share none. One slot is moved after the other: one exists twice at most.

    Args:
        params: those of one group.
        state: parameter → its state by key, as ``optimizer.state``; entries are replaced.
        keys: of slots, which have their parameter's shape.
    """
    if not _PLACES:
        return
    homes = {place: p for p in params if (place := at_home(p)) is not None}
    for key in keys:
        found = {place: state.get(p, {}).get(key) for place, p in homes.items()}
        slots = {place: slot for place, slot in found.items() if _is_slot(place, slot)}
        for run in _runs({place: slot.dtype for place, slot in slots.items()}):
            old = [slots[place] for place in run]
            if not _lie_as(run, old):
                for place, slot, new in zip(run, old, _memory(run, old[0].dtype), strict=True):
                    state[homes[place]][key] = new.copy_(slot)


class GradientZeroing:
    """``zero_grad()`` for one optimizer's flat parameters: one memset per unbroken stretch.

    It remembers what it found, and looks each time whether that still holds for every parameter and gradient.
    """

    def __init__(self) -> None:
        self._epoch = -1
        self._params: list[Tensor] = []

    def __call__(self, params: Sequence[Tensor]) -> list[Tensor]:
        """Zero the gradients of flat parameters; the others are given back and are the caller's to zero.

        A flat parameter whose gradient is None or another tensor gets its view back. A frozen one counts as
        not flat, lest a step moves it.
        """
        if not _PLACES:
            return list(params)
        if not (self._is_current(params) and self._is_undisturbed()):
            self._look(params)
        for stretch in self._stretches:
            stretch.zero_()
        return list(self._others)

    def _is_current(self, params: Sequence[Tensor]) -> bool:
        same_length = self._epoch == _epoch and len(params) == len(self._params)
        return same_length and all(map(is_, params, self._params))

    def _is_undisturbed(self) -> bool:
        """Whether what is flat has shape, dtype and memory as before, and gradients in their memory."""
        try:
            gradients = list(map(Tensor.data_ptr, map(_GRADIENT, self._flat)))
        except (TypeError, RuntimeError):  # None, or a tensor without plain memory
            return False
        return (
            gradients == self._gradients
            and list(map(Tensor.data_ptr, self._flat)) == self._addresses
            and list(map(_FACTS, self._flat)) == self._facts
        )

    def _look(self, params: Sequence[Tensor]) -> None:
        self._epoch, self._params = _epoch, list(params)
        homes = {p: place for p in params if p.requires_grad and (place := at_home(p)) is not None}
        for p, place in homes.items():
            if not place.holds_gradient(p):
                place.give_gradient(p)
        self._flat = list(homes)
        self._others = [p for p in params if p not in homes]
        self._gradients = [place.gradient.data_ptr() for place in homes.values()]
        self._addresses = [place.values.data_ptr() for place in homes.values()]
        self._facts = list(map(_FACTS, self._flat))
        runs = _runs(dict.fromkeys(homes.values()))
        self._stretches = [run[0].buffer.gradients[run[0].start : run[-1].stop] for run in runs]


_GRADIENT = attrgetter("grad")
_FACTS = attrgetter("shape", "dtype", "requires_grad")


def _runs(kinds: dict[Place, Any]) -> list[list[Place]]:
    """The places, those of one kind that lie end to end in one list, in the order of memory."""
    runs: list[list[Place]] = []
    for place in sorted(kinds, key=lambda place: (id(place.buffer), place.start)):
        last = runs[-1][-1] if runs else None
        if last and (last.buffer, last.stop, kinds[last]) == (place.buffer, place.start, kinds[place]):
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _memory(run: Sequence[Place], dtype: torch.dtype) -> list[Tensor]:
    """One new piece of memory for a run, seen as tensors."""
    start = run[0].start
    memory = torch.empty(run[-1].stop - start, dtype=dtype, device=run[0].values.device)
    return [_view(memory, place.start - start, place.values) for place in run]


def _view(memory: Tensor, start: int, like: Tensor) -> Tensor:
    return memory.as_strided(like.shape, like.stride(), start)


def _is_slot(place: Place, slot: Any) -> bool:
    return (
        type(slot) is Tensor
        and slot.layout is torch.strided
        and (slot.shape, slot.device) == (place.values.shape, place.values.device)
    )


def _lie_as(run: Sequence[Place], slots: Sequence[Tensor]) -> bool:
    address = slots[0].data_ptr()
    for place, slot in zip(run, slots, strict=True):
        if slot.data_ptr() != address or slot.stride() != place.values.stride():
            return False
        address += slot.numel() * slot.element_size()
    return True


def _fill_a_buffer(places: Sequence[Place | None]) -> bool:
    stop = 0
    buffer = None
    for place in places:
        if place is None or place.start != stop or place.buffer is not (buffer or place.buffer):
            return False
        buffer, stop = place.buffer, place.stop
    return buffer is not None and stop == buffer.values.numel()


def _is_same_memory(x: Tensor, y: Tensor) -> bool:
    return (
        x.layout is torch.strided
        and x.data_ptr() == y.data_ptr()
        and (x.dtype, x.shape, x.stride()) == (y.dtype, y.shape, y.stride())
    )
