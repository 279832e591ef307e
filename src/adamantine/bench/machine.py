"""What a benchmark ran on, as far as the system tells."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adamantine.bench.memory import available
from adamantine.bench.peers import Peer
from adamantine.report.machine import processor

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
BUSY = 0.5  # load per core from which other work is likely to blur the result


def machine() -> dict[str, Any]:
    """Processor, cores, caches, memory and how busy it all was at the start."""
    memory = available()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "caches": _caches(),
        "memory available (GiB)": None if memory is None else round(memory / 2**30, 1),
        "load at the start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def versions(peers: Sequence[Peer]) -> dict[str, str]:
    """Of Python, of adamantine, and of every peer that is installed."""
    found = {"python": platform.python_version(), "adamantine": version("adamantine")}
    return (
        found | {peer.distribution: peer.version for peer in peers if peer.installed} | {"native": native()}
    )


def native() -> str:
    """The instruction set that the native engine was dispatched to, or that there is none."""
    try:
        module: Any = importlib.import_module("adamantine._native")
    except ImportError:
        return "none"
    target = getattr(module, "target", "unknown")
    return str(target() if callable(target) else target)


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
