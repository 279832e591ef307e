"""The states of the random number generators a training script draws from."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adamantine.checkpoint.errors import CheckpointError


def collect() -> dict[str, Any]:
    """Of Python's `random`, numpy's global generator, torch's on the host and on every CUDA device."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002  # the global one is what scripts use unawares
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore(states: dict[str, Any], source: str) -> None:
    """Put back what `collect` gave.

    Raises:
        CheckpointError: something else; or generators of more CUDA devices than there are here. None has been
            set.
    """
    before = collect()
    try:
        _restore(states)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, OverflowError) as error:
        _restore(before)
        raise CheckpointError(
            f"{source}: the states of the random number generators do not fit this machine or these versions "
            f"({type(error).__name__}: {error}); load without rng=True"
        ) from None


def _restore(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(_of_bytes(states["torch"]))
    if states["cuda"]:
        torch.cuda.set_rng_state_all([_of_bytes(state) for state in states["cuda"]])


def _of_bytes(state: Any) -> Tensor:
    if not isinstance(state, Tensor) or state.dtype != torch.uint8 or state.dim() != 1:
        raise TypeError("not a generator's state")
    return state
