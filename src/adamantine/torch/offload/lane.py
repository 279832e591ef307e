"""The way between an accelerator and the host: who copies, and who waits for the copy.

Four things can go wrong, and each has its line here: a copy that starts before the numbers are there, memory
given to others while it is still read, the host reading what has not arrived, the device reading old weights.
"""

from __future__ import annotations

from collections import deque
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor

#: Bytes that may be under way to the host before it waits, where they are to be freed on arrival. Some ten
#: milliseconds of a PCIe 4 link: enough to keep it busy, by reasoning and not by measurement.
UNDER_WAY = 2**28


class Arrival(Protocol):
    """The end of a copy."""

    def synchronize(self) -> object:
        """Let the host wait for it."""


class Lane(Protocol):
    """Copies between one device and the host.

    Attributes:
        pinned: whether the host's side is to be in page-locked memory, without which nothing overlaps.
    """

    pinned: bool

    def fetch(self, target: Tensor, source: Tensor) -> Arrival:
        """Device → host. The host may read ``target`` after `Arrival.synchronize`."""
        ...

    def send(self, target: Tensor, source: Tensor) -> Arrival:
        """Host → device. The host may write ``source`` after `Arrival.synchronize`."""
        ...

    def limit(self, arrival: Arrival, nbytes: int) -> None:
        """Let the host wait until no more than `UNDER_WAY` bytes are, or this copy alone.

        The host enqueues a whole backward pass ahead of the device. Memory that it frees before the copy is
        done cannot be used again in the rest of that pass, so nothing would be saved.
        """
        ...


class Blocking:
    """Each copy is over when it returns: the CPU as its own accelerator, and devices without streams."""

    pinned = False

    def fetch(self, target: Tensor, source: Tensor) -> Arrival:
        target.copy_(source)
        return _ARRIVED

    send = fetch

    def limit(self, arrival: Arrival, nbytes: int) -> None:
        pass


class Streamed:
    """Copies on two streams beside the one that computes, one for each direction.

    Args:
        device: the accelerator.
        module: its streams and events, as ``torch.cuda`` and ``torch.xpu`` have them.
    """

    pinned = True

    def __init__(self, device: torch.device, module: ModuleType | Any) -> None:
        self._device, self._module = device, module
        self._down, self._up = module.Stream(device=device), module.Stream(device=device)
        self._under_way: deque[tuple[Any, int]] = deque()
        self._bytes_under_way = 0

    def fetch(self, target: Tensor, source: Tensor) -> Arrival:
        arrival: Arrival = self._copy(self._down, target, source)
        self._keep(source, self._down)
        return arrival

    def send(self, target: Tensor, source: Tensor) -> Arrival:
        arrival: Arrival = self._copy(self._up, target, source)
        self._keep(target, self._up)
        self._module.current_stream(self._device).wait_event(arrival)  # the next forward pass
        return arrival

    def limit(self, arrival: Arrival, nbytes: int) -> None:
        self._under_way.append((arrival, nbytes))
        self._bytes_under_way += nbytes
        while len(self._under_way) > 1:
            first, size = self._under_way[0]
            if self._bytes_under_way > UNDER_WAY:
                first.synchronize()
            elif not first.query():
                break
            self._under_way.popleft()
            self._bytes_under_way -= size

    def _copy(self, stream: Any, target: Tensor, source: Tensor) -> Any:
        """After all that the computing stream has so far: it may write the source, or read the target."""
        stream.wait_stream(self._module.current_stream(self._device))
        with self._module.stream(stream):
            self._enqueue(target, source)
        return stream.record_event()

    def _enqueue(self, target: Tensor, source: Tensor) -> None:
        target.copy_(source, non_blocking=True)

    def _keep(self, tensor: Tensor, stream: Any) -> None:
        """Should the tensor be freed, its memory is to wait for the stream."""
        tensor.record_stream(stream)


def lane_to(device: torch.device) -> Lane:
    """The best way to this device that its backend offers."""
    if device.type == "cpu":
        return Blocking()
    module = getattr(torch, device.type, None)
    return Streamed(device, module) if hasattr(module, "Stream") else Blocking()


class _Arrived:
    def synchronize(self) -> None:
        pass


_ARRIVED = _Arrived()
