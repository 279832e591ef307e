"""Layouts ``bitsandbytes`` and ``torchao``: state dicts whose tensors are codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adamantine.checkpoint.convert import pickled
from adamantine.checkpoint.convert.blockwise import Blockwise, blocks, dynamic_table, quantize
from adamantine.checkpoint.convert.neutral import OptimizerState
from adamantine.checkpoint.convert.standins import QuantizedState, StateFp8
from adamantine.checkpoint.convert.statedict import to_state_dict
from adamantine.checkpoint.errors import CheckpointError

#: bitsandbytes puts codes, tables and scales here, so that FSDP leaves them alone.
WRAPPED = "__bnb_optimizer_quant_state__"
#: Elements per scale: 256 since bitsandbytes 0.44, 2048 before.
BLOCKS = (256, 2048)
#: bitsandbytes keeps smaller tensors in float32 (``min_8bit_size``).
SMALLEST = 4096
_DEFAULTS = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
_SLOTS = {"state1": "exp_avg", "state2": "exp_avg_sq"}
_SIDE = {
    "qmap1",
    "qmap2",
    "absmax1",
    "absmax2",
    "unorm_vec",
    "max1",
    "max2",
    "new_max1",
    "new_max2",
    "gnorm_vec",
}


def is_bitsandbytes(state: OptimizerState) -> bool:
    """Whether a state dict is of bitsandbytes: its slots are called state1 and state2."""
    return any(WRAPPED in slots or "state1" in slots for slots in state.state.values())


def is_torchao(state: OptimizerState) -> bool:
    """Whether a state dict holds torchao's tensor subclasses."""
    return any(
        isinstance(value, QuantizedState) for slots in state.state.values() for value in slots.values()
    )


def from_bitsandbytes(state: OptimizerState, where: str) -> OptimizerState:
    """Blockwise codes and 32-bit states under torch's names.

    The class is not in the file. Two states are Adam's or AdamW's, which in bitsandbytes both decay
    decoupled; one is Lion's, RMSprop's or SGD's, told apart by nothing, so its decay is unknown.

    Raises:
        CheckpointError: codes that do not fit their scales; AdEMAMix; states with one scale for all.
    """
    state.layout = "bitsandbytes"
    two = False
    for name, slots in state.state.items():
        wrapped = slots.get(WRAPPED, {})
        if not isinstance(wrapped, dict):
            raise CheckpointError(f"{where}: {WRAPPED} of {name} is no table of tensors; the file is damaged")
        flat = {key: value for key, value in {**slots, **wrapped}.items() if key != WRAPPED}
        if "max1" in flat and "absmax1" not in flat:
            raise CheckpointError(
                f"{where}: {name} has one scale for all its elements (block_wise=False); not read"
            )
        entry: dict[str, Any] = {}
        for key, value in flat.items():
            if key in _SLOTS and isinstance(value, Tensor):
                entry[_SLOTS[key]] = _codes(flat, key, f"{where}: {key} of {name}")
            elif key not in _SIDE:
                entry[key] = torch.tensor(float(value)) if key == "step" else value
        two |= "exp_avg_sq" in entry
        first, second = entry.get("exp_avg"), entry.get("exp_avg_sq")
        if first is not None and second is not None and tuple(first.shape) != tuple(second.shape):
            raise CheckpointError(f"{where}: {name} has three moments (AdEMAMix), which no other layout has")
        state.state[name] = entry
    for group in state.groups:
        group.decay = "decoupled" if two else None
        if isinstance(betas := group.hyper.get("betas"), list):
            group.hyper["betas"] = tuple(betas)
        for key in ("alpha", "t_alpha", "t_beta3"):  # AdEMAMix's, which all groups have
            group.hyper.pop(key, None)
    state.optimizer = "bitsandbytes.optim.AdamW" if two else None
    return state


def to_bitsandbytes(state: OptimizerState) -> dict[str, Any]:
    """A state dict that bitsandbytes' AdamW8bit (two moments) or Lion8bit (one) loads.

    Tensors below 4096 elements stay float32, as there; codes of blocks of 256 pass as they are.

    Raises:
        CheckpointError: a rule bitsandbytes has not.
    """
    if state.rule not in {"adam", "lion"}:
        raise CheckpointError(f"bitsandbytes has no optimizer with the slots of rule {state.rule!r}")
    coded: dict[str, dict[str, Any]] = {}
    for name, slots in state.state.items():
        wrapped: dict[str, Any] = {}
        for number, slot in enumerate(("exp_avg", "exp_avg_sq"), start=1):
            if (value := slots.get(slot)) is not None:
                wrapped |= _coded(value, number)
        coded[name] = {"step": int(float(slots.get("step") or 0)), WRAPPED: wrapped}
    groups = []
    for group in state.groups:
        kept = {key: group.hyper.get(key, default) for key, default in _DEFAULTS.items()}
        groups.append(replace(group, hyper={**kept, "alpha": 0.0, "t_alpha": None, "t_beta3": None}))
    return to_state_dict(replace(state, groups=groups, state=coded))


def from_torchao(state: OptimizerState, where: str) -> OptimizerState:
    """The codes of 8-bit, 4-bit and fp8 states; tensors torchao left in full precision pass as they are.

    Raises:
        CheckpointError: codes that do not fit their scales.
    """
    state.layout = "torchao"
    for name, slots in state.state.items():
        for slot, value in slots.items():
            if isinstance(value, QuantizedState):
                slots[slot] = _unwrapped(value, f"{where}: {slot} of {name}")
    return state


def _codes(slots: dict[str, Any], key: str, where: str) -> Tensor | Blockwise:
    value, number = slots[key], key[-1]
    if value.dtype != torch.uint8:
        return pickled.check_tensor(value, where)
    parts = [value, slots.get(f"absmax{number}"), slots.get(f"qmap{number}")]
    if not all(isinstance(part, Tensor) for part in parts):
        raise CheckpointError(
            f"{where} has codes without absmax{number} or qmap{number}; the file is damaged"
        )
    codes, scale, table = (pickled.check_tensor(part, where) for part in parts)
    block = next((size for size in BLOCKS if blocks(codes.numel(), size) == scale.numel()), None)
    if block is None:
        raise CheckpointError(
            f"{where} has {codes.numel()} codes and {scale.numel()} scales; blocks of 256 and 2048 are read"
        )
    return Blockwise(codes, scale, table, block, tuple(codes.shape))


def _coded(value: Tensor | Blockwise, number: int) -> dict[str, Tensor]:
    signed = number == 1
    full = value.dequantize() if isinstance(value, Blockwise) else value.float()
    if full.numel() < SMALLEST:
        return {f"state{number}": full.contiguous()}
    table = dynamic_table(signed)
    as_it_is = (
        isinstance(value, Blockwise)
        and value.block == BLOCKS[0]
        and value.table is not None
        and torch.equal(value.table, table)
    )
    coded = (
        value if isinstance(value, Blockwise) and as_it_is else quantize(full, signed=signed, block=BLOCKS[0])
    )
    return {
        f"state{number}": coded.codes.view(coded.shape),
        f"absmax{number}": coded.scale,
        f"qmap{number}": table.clone(),
    }


def _unwrapped(value: QuantizedState, where: str) -> Blockwise:
    held = vars(value)
    shape = tuple(held.get("_shape", value.shape))
    codes, scale, table = (held.get(part) for part in ("codes", "scale", "qmap"))
    if not isinstance(codes, Tensor) or not isinstance(scale, Tensor) or type(value) is QuantizedState:
        raise CheckpointError(f"{where} has no codes or no scales; the file is damaged")
    codes, scale = pickled.check_tensor(codes, where), pickled.check_tensor(scale, where)
    table = pickled.check_tensor(table, where) if isinstance(table, Tensor) else None
    if (table is None) != isinstance(value, StateFp8):
        raise CheckpointError(f"{where} has codes and no table of what they mean; the file is damaged")
    if value.bits == 4:
        codes = torch.stack([codes >> 4, codes & 0b1111], dim=-1).flatten()  # high nibble first
    if not scale.numel() or codes.numel() % scale.numel():
        raise CheckpointError(
            f"{where} has {codes.numel()} codes and {scale.numel()} scales; the file is damaged"
        )
    return Blockwise(codes, scale, table, codes.numel() // scale.numel(), shape)
