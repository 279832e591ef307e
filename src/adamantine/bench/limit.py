"""The memory limit: how long the machine takes to move an optimizer's bytes, with next to no arithmetic.

The one seam to the native function that moves them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from adamantine.torch import kernel

#: ``(addresses read, addresses read and written, bytes of each array, threads)``
Traffic = Callable[[list[int], list[int], int, int], None]


def native_traffic() -> Traffic | None:
    """The native function, or None where there is no native module with one."""
    return None if kernel.native is None else kernel.native.traffic


def traffic(theta: Tensor, grads: Tensor, slots: Sequence[Tensor], threads: int) -> None:
    """Move what a step moves: read θ, g and the slots, write θ and the slots. All are contiguous.

    Raises:
        RuntimeError: there is no native function.
    """
    native = native_traffic()
    if native is None:
        raise RuntimeError("adamantine._native has no traffic(): build the native engine")
    written: dict[int, list[int]] = {}  # arrays that are wider than θ have a call of their own
    for array in (theta, *slots):
        written.setdefault(array.numel() * array.element_size(), []).append(array.data_ptr())
    for size, addresses in written.items():
        is_grads_size = size == grads.numel() * grads.element_size()
        native([grads.data_ptr()] if is_grads_size else [], addresses, size, threads)
