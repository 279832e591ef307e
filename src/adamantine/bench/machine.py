"""What a benchmark ran on, as far as the system tells."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from adamantine.bench.memory import available
from adamantine.bench.peers import Peer
from adamantine.report.machine import processor
from adamantine.torch import kernel

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_TIMES = Path("/proc/stat")


class Others:
    """How much of the processors other programs take, from the moment this is made."""

    def __init__(self) -> None:
        self._began = perf_counter()
        self._others = _others()

    def share(self) -> float | None:
        """Their part of all processors' time, 0 to 1; None where the system does not tell."""
        now, seconds = _others(), (perf_counter() - self._began) * (os.cpu_count() or 1)
        if now is None or self._others is None or seconds <= 0:
            return None
        return min(max((now - self._others) / seconds, 0.0), 1.0)


def _others() -> float | None:
    """Seconds that all processors have worked for others than this process and its children (proc(5))."""
    try:
        ticks = [int(word) for word in _TIMES.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    worked = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return worked - sum(os.times()[:4])


def machine() -> dict[str, Any]:
    """Processor, cores, caches, memory."""
    memory = available()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "caches": _caches(),
        "memory available (GiB)": None if memory is None else round(memory / 2**30, 1),
    }


def versions(peers: Sequence[Peer]) -> dict[str, str]:
    """Of Python, of adamantine, and of every peer that is installed."""
    found = {"python": platform.python_version(), "adamantine": version("adamantine")}
    return (
        found | {peer.distribution: peer.version for peer in peers if peer.installed} | {"native": native()}
    )


def native() -> str:
    """The instruction set that the native engine was dispatched to, or that there is none."""
    return "none" if kernel.native is None else str(kernel.native.target)


def _caches() -> dict[str, str]:
    """Of the first core: ``{"L1 data": "32K", "L2": "1024K", …}``; empty where the system does not tell."""
    found = {}
    try:
        for folder in sorted(_CACHES.glob("index*")):
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
            if kind != "Instruction":
                found[f"L{level}{' data' if kind == 'Data' else ''}"] = size
    except OSError:
        pass
    return found
