"""Whether a parameter can be stored as its group says, and whether what is there of its state is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adamantine.rules import Rule
from adamantine.torch.storage import codecs
from adamantine.torch.storage.layout import (
    RESIDUAL,
    RESIDUAL_DTYPES,
    SCALE,
    Formats,
    real,
    real_dtype,
    residual_dtype,
)


def check_storable(p: Tensor, name: str, how: Formats) -> None:
    """ValueError where a parameter cannot be stored so; the message says what else it can be."""
    if how.is_plain(p):
        return
    if type(p) not in {Tensor, torch.nn.Parameter}:
        raise ValueError(
            f"{name} is a {type(p).__name__}, of which one process holds a part and no format knows the "
            "borders; give state='bfloat16' (or another dtype) and weights='nearest'"
        )
    if how.weights in RESIDUAL_DTYPES and real_dtype(p) == torch.float16:
        raise ValueError(
            f"Invalid weights: {how.weights!r} for {name}, which is float16: split weights are bfloat16 and "
            "a residual; give weights='kahan' or 'stochastic', or convert the model to bfloat16"
        )


def check_kept(state: dict[str, Any], p: Tensor, rule: Rule, how: Formats) -> None:
    """ValueError where a slot or the residual is there in another format than the group asks for.

    A dense slot may be there where codes are asked for: see `waits`.
    """
    keys = list(rule.slots.values())
    for place, key in enumerate(keys):
        slot, headers, code = state.get(key), state.get(key + SCALE), how.code(place)
        if slot is None or (code is None and headers is None):
            continue
        if code is None or headers is None:
            fits = waits(state, keys, place, how)
        else:
            n = real(p).numel()
            fits = (slot.dtype, slot.numel()) == (torch.uint8, codecs.packed_size(n, code.bits))
            fits = fits and headers.shape == (codecs.block_count(n),)
        if not fits:
            raise ValueError(_misfit(key, slot, p, "state", how.slots[place][0]))
    if (residual := state.get(RESIDUAL)) is not None:
        dtype = residual_dtype(p, how)
        if dtype is not None and (residual.dtype, residual.shape) != (dtype, p.shape):
            raise ValueError(_misfit(RESIDUAL, residual, p, "weights", how.weights))


def waits(state: Mapping[str, Any], keys: Sequence[str], place: int, how: Formats) -> bool:
    """Whether a dense slot is there that the next step encodes, since the group's ``state`` is another now.

    Not beside codes in units of its root, whose meaning would change.
    """
    slot = state[keys[place]]
    is_number = isinstance(slot, Tensor) and (slot.is_floating_point() or slot.is_complex())
    in_its_units = [keys[other] for other, partner in enumerate(how.partners) if partner == place]
    return (
        is_number
        and how.code(place) is not None
        and keys[place] + SCALE not in state
        and not any(key + SCALE in state for key in in_its_units)
    )


def _misfit(key: str, found: Tensor, p: Tensor, option: str, asked: str) -> str:
    return (
        f"{key} is stored as {_name(found.dtype)} {tuple(found.shape)}, not as the group's "
        f"{option} asks for ({asked}) of a {_name(p.dtype)} parameter of shape {tuple(p.shape)}; set "
        f"group[{option!r}] back to the format that it was made in, and convert it by store_as({option}=…); "
        "where the parameter itself is another one now, drop its state"
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
