"""Optimizer state in an open format: safetensors and JSON, nothing executable, bit-exact on resume.

    save("state.safetensors", optimizer, model=model, scheduler=scheduler, extra={"epoch": 3})
    extra = load("state.safetensors", optimizer, model=model, scheduler=scheduler)

docs/checkpoint.md specifies the files. `write` and `read` are the same without an optimizer.
"""

from adamantine.checkpoint.contents import Contents, Group, Parameter, SchedulerState
from adamantine.checkpoint.errors import CheckpointError
from adamantine.checkpoint.load import load
from adamantine.checkpoint.reader import read
from adamantine.checkpoint.save import save
from adamantine.checkpoint.writer import write

__all__ = [
    "CheckpointError",
    "Contents",
    "Group",
    "Parameter",
    "SchedulerState",
    "load",
    "read",
    "save",
    "write",
]
