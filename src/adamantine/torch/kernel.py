"""The compiled kernel, where this installation has one that this CPU can run."""

from __future__ import annotations

import os
from types import ModuleType

import torch
from torch import Tensor

native: ModuleType | None
try:
    import adamantine._native as native
except ImportError as error:  # not built, built for another Python, or for other CPUs
    if os.environ.get("ADAMANTINE_TARGET"):
        raise  # a target that was asked for by name is not replaced by another engine
    native = None
    MISSING = f"this installation has no compiled kernel ({error}); pip install adamantine brings one"
else:
    MISSING = ""


def filled_like(p: Tensor, value: complex, dtype: torch.dtype) -> Tensor:
    """``torch.full_like`` in fresh memory, with large pages where that helps: state is read at every step."""
    tensor = torch.empty_like(p, dtype=dtype, memory_format=torch.preserve_format)
    if native is not None and type(tensor) is Tensor and tensor.device.type == "cpu":
        native.prefer_huge_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor.fill_(value)


#: Rule → the names of its scalars in the order of the kernel's struct. A rule that is not here has no kernel.
SCALARS: dict[str, list[str]] = (
    {} if native is None else {name: scalars.split() for name, _, scalars, _ in native.rules}
)
