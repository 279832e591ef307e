"""Whether a parameter can be stored as its group says, and whether what is there of its state is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adamantine.rules import Rule
from adamantine.torch.storage.elements import block_count, packed_size
from adamantine.torch.storage.layout import (
    RESIDUAL,
    RESIDUAL_DTYPES,
    Formats,
    coded_keys,
    dtype_name,
    real,
    real_dtype,
    residual_dtype,
    slot_keys,
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
    check_once(state, keys)
    for place, key in enumerate(keys):
        dense, stored, headers = map(state.get, slot_keys(key))
        code = how.code(place)
        if dense is not None:
            fits = _is_number(dense) if code is None else waits(state, keys, place, how)
        elif stored is None:
            continue
        elif code is None or headers is None:
            fits = False
        else:
            n = real(p).numel()
            fits = (stored.dtype, stored.numel()) == (torch.uint8, packed_size(n, code.bits))
            fits = fits and headers.shape == (block_count(n),)
        if not fits:
            found: Any = stored if dense is None else dense
            raise ValueError(_misfit(key, found, p, "state", how.slots[place][0]))
    residual = state.get(RESIDUAL)
    if residual is None or how.weights_of(p) == "exact":  # what was left over of 16 bits is nothing to 32
        return
    if (residual.dtype, residual.shape) != (residual_dtype(p, how), p.shape):
        raise ValueError(_misfit(RESIDUAL, residual, p, "weights", how.weights))


def check_once(state: Mapping[str, Any], keys: Iterable[str], whose: str = "optimizer.state[p]") -> None:
    """ValueError where a slot is there twice, as numbers and as codes: one of them is not meant."""
    for key in keys:
        codes, _ = coded_keys(key)
        if state.get(key) is not None and state.get(codes) is not None:
            raise ValueError(
                f"{whose} has {key!r} and {codes!r}, numbers and codes of one slot: remove the one that is "
                "not meant, codes together with their headers"
            )


def waits(state: Mapping[str, Any], keys: Sequence[str], place: int, how: Formats) -> bool:
    """Whether a dense slot is there that the next step encodes, since the group's ``state`` is another now.

    Not beside codes in units of its root, whose meaning would change.
    """
    in_its_units = [keys[other] for other, partner in enumerate(how.partners) if partner == place]
    return (
        _is_number(state.get(keys[place]))
        and how.code(place) is not None
        and all(state.get(coded_keys(key)[0]) is None for key in in_its_units)
    )


def _is_number(slot: Any) -> bool:
    return isinstance(slot, Tensor) and (slot.is_floating_point() or slot.is_complex())


def _misfit(key: str, found: Tensor, p: Tensor, option: str, asked: str) -> str:
    return (
        f"{key} is stored as {dtype_name(found.dtype)} {tuple(found.shape)}, not as the group's "
        f"{option} asks for ({asked}) of a {dtype_name(p.dtype)} parameter of shape {tuple(p.shape)}; set "
        f"group[{option!r}] back to the format that it was made in, and convert it by store_as({option}=…); "
        "where the parameter itself is another one now, drop its state"
    )
