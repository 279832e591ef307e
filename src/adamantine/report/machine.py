"""What a result was computed on."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The processor's model as the system names it, with the architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} ({platform.machine()})"
    except OSError:
        pass
    return platform.processor() or platform.machine()
