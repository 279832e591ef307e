"""Memory: how much there is, and how much a call needs for a moment."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import Parameter

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def available() -> int | None:
    """Bytes that can be taken without swapping, within this process's own limits; None where unknown."""
    found = []
    try:
        found.append(_kibibytes(Path("/proc/meminfo"), "MemAvailable"))
    except (OSError, LookupError):
        if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
            found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:  # a container has less than its machine
        group = Path("/sys/fs/cgroup")
        most, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        if most != "max":
            cached = next(
                int(line.split()[1])
                for line in (group / "memory.stat").read_text().splitlines()
                if line.startswith("inactive_file ")
            )
            found.append(int(most) - int(used) + cached)
    except (OSError, ValueError, StopIteration):
        pass
    return max(min(found), 0) if found else None


def peak_extra(run: Callable[[], object]) -> int | None:
    """Bytes by which the process's resident memory rose above what it was before, at the worst moment.

    Counts every allocator, torch's and a native engine's alike, down to the kernel's own accounting: pages,
    and on several processors some tens of them. Freed memory that the C library keeps is given back before,
    so that its reuse counts. ``run`` has been called before: code and state are there. Linux only, else None.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return None  # not glibc: reused memory would hide
    try:
        _RESET.write_text("5")  # the high-water mark becomes what is resident now (proc(5))
        before = _kibibytes(_STATUS, "VmHWM")
        run()
        return max(_kibibytes(_STATUS, "VmHWM") - before, 0)
    except (OSError, LookupError):
        return None


def bytes_held(params: Sequence[Tensor], optimizer: Any) -> int:
    """Bytes of parameters, gradients and state, as they lie in memory: no storage is counted twice."""
    storages: dict[int, int] = {}
    for tensor in _tensors([list(params), [p.grad for p in params], list(optimizer.state.values())]):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors within; of a subclass that wraps others (a quantized one), those others."""
    if isinstance(value, Tensor):
        if hasattr(value, "__tensor_flatten__") and type(value) is not Parameter:
            for name in value.__tensor_flatten__()[0]:
                yield from _tensors(getattr(value, name))
        elif value.device.type != "meta":
            yield value.detach()
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def _kibibytes(file: Path, key: str) -> int:
    """The value of a line ``Key:  123 kB``, in bytes."""
    for line in file.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)
