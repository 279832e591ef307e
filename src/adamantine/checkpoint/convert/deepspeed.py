"""Layout ``deepspeed``: the files of ZeRO stage 1 and 2 as they are saved.

ZeRO flattens each parameter group into one vector and gives every rank a piece. A rank's file says under
``param_slice_mappings`` which parameter lies where in its piece; concatenated in the order of the ranks, the
fragments of a parameter are the parameter (deepspeed/checkpoint/ds_to_universal.py, read at 0.19.8).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamantine.checkpoint.convert import pickled
from adamantine.checkpoint.convert.neutral import Group, OptimizerState
from adamantine.checkpoint.convert.standins import Fragment
from adamantine.checkpoint.convert.statedict import decay_of, plain
from adamantine.checkpoint.errors import CheckpointError

_RANK_FILE = re.compile(r"^(?:bf16_|fp16_)?zero_pp_rank_(\d+)_mp_rank_(\d+)(?:_\d+)?_optim_states\.pt$")
MODEL_FILE = "mp_rank_00_model_states.pt"
REMEDY = "let DeepSpeed's own ds_to_universal.py merge it and convert the universal folder"


def rank_files(folder: Path) -> list[Path]:
    """The optimizer's files in a checkpoint's folder, by rank."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _RANK_FILE.match(path.name))]
    return [path for _, path in sorted(found)]


def tagged(folder: Path) -> Path:
    """The folder that ``latest`` or ``latest_universal`` names, where there is one; else the folder itself.

    Raises:
        CheckpointError: a tag that is no plain name.
    """
    for pointer in ("latest_universal", "latest"):
        if (folder / pointer).is_file():
            with pickled.refusals(folder / pointer, "read as the name of a checkpoint"):
                tag = (folder / pointer).read_text(encoding="utf-8")[:256].strip()
            if not tag or Path(tag).name != tag or tag == "..":
                raise CheckpointError(f"{folder / pointer} names {tag!r}, which is no folder beside it")
            if (folder / tag).is_dir():
                return folder / tag
    return folder


def read_zero(folder: Path) -> OptimizerState:
    """A ZeRO stage 1 or 2 checkpoint, its ranks merged; the fp32 weights come along.

    Raises:
        CheckpointError: stage 3, tensor or pipeline parallelism; a rank's file missing; fragments that do not
            make up their parameter.
    """
    ranks = [_optimizer_part(path) for path in rank_files(folder)]
    first, model = ranks[0], pickled.load(folder / MODEL_FILE)
    if len({_RANK_FILE.match(path.name)[2] for path in rank_files(folder)}) > 1:  # type: ignore[index]
        raise CheckpointError(f"{folder} is split over model-parallel ranks; {REMEDY}")
    if int(first.get("zero_stage", 1)) > 2 or "param_slice_mappings" not in first:
        raise CheckpointError(f"{folder} is of ZeRO stage {first.get('zero_stage')}, or too old; {REMEDY}")
    count = first.get("partition_count", len(ranks))
    if max(count if isinstance(count, list) else [count]) != len(ranks):
        raise CheckpointError(
            f"{folder} has the files of {len(ranks)} ranks, it was saved by {count}; copy them all"
        )
    shapes = shapes_of(model, folder / MODEL_FILE)
    groups, state, weights = [], {}, {}
    for number, group_shapes in enumerate(shapes):
        hyper = _hyper(first, number, folder)
        groups.append(Group(list(group_shapes), hyper, decay_mode(hyper, model)))
        flat = [_flat(rank, number, folder) for rank in ranks]
        for name, shape in group_shapes.items():
            slots: dict[str, Any] = {}
            for slot, value in flat[0].items():
                pieces = [_piece(rank, flat[i], number, name, slot) for i, rank in enumerate(ranks)]
                slots[slot] = (
                    value if not _is_flat(value) else _joined(pieces, shape, f"{folder}: {slot} of {name}")
                )
            weights[name] = slots.pop("fp32")
            if "step" not in slots and "step" in hyper:
                slots["step"] = torch.tensor(float(hyper["step"]))
            state[name] = slots
    result = OptimizerState("deepspeed", groups, state, weights=weights)
    result.unread.append("the loss scaler, gradient clipping and DeepSpeed's configuration are not converted")
    result.check()
    return result


def _optimizer_part(path: Path) -> dict[str, Any]:
    content = pickled.load(path)
    part = content.get("optimizer_state_dict") if isinstance(content, dict) else None
    if not isinstance(part, dict) or "base_optimizer_state" not in part:
        raise CheckpointError(f"{path} has no base_optimizer_state; it is no ZeRO checkpoint of stage 1 or 2")
    return part


def shapes_of(model: Any, path: Path) -> list[Mapping[str, tuple[int, ...]]]:
    """Per parameter group, name → shape, from the model's file."""
    shapes = model.get("param_shapes") if isinstance(model, dict) else None
    if isinstance(shapes, dict):
        shapes = [shapes]
    if not isinstance(shapes, list) or not all(isinstance(group, dict) for group in shapes):
        raise CheckpointError(f"{path} has no param_shapes, which name the parameters of each group")
    return [{str(name): tuple(shape) for name, shape in group.items()} for group in shapes]


def _hyper(part: Mapping[str, Any], number: int, folder: Path) -> dict[str, Any]:
    base = part["base_optimizer_state"]
    if isinstance(base, list):  # "elastic_checkpoint": states only
        return {}
    groups = base.get("param_groups", []) if isinstance(base, dict) else []
    if number >= len(groups) or not isinstance(groups[number], dict):
        raise CheckpointError(f"{folder}: its model's file has more parameter groups than its optimizer")
    return plain_hyper(groups[number], folder)


def plain_hyper(saved: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A saved group without its parameters, checked."""
    kept = {key: value for key, value in saved.items() if key not in {"params", "param_names"}}
    return {str(key): plain(value, f"{path}: {key}") for key, value in kept.items()}


def decay_mode(hyper: Mapping[str, Any], model: Any) -> str | None:
    """DeepSpeed's "Adam" is AdamW unless adam_w_mode is False (its issue 668); only the config says so."""
    config = model.get("ds_config") if isinstance(model, dict) else None
    optimizer = config.get("optimizer") if isinstance(config, dict) else None
    if isinstance(optimizer, dict) and optimizer.get("type") in {"Adam", "AdamW"}:
        params = optimizer.get("params")
        plain = isinstance(params, dict) and params.get("adam_w_mode", True) is False
        return "l2" if plain and optimizer["type"] == "Adam" else "decoupled"
    return decay_of(hyper)


def _flat(part: Mapping[str, Any], number: int, folder: Path) -> dict[str, Any]:
    base = part["base_optimizer_state"]
    states = base if isinstance(base, list) else base.get("state", {}) if isinstance(base, dict) else {}
    weights = part.get("single_partition_of_fp32_groups", [])
    try:
        slots, fp32 = dict(states[number]), weights[number]
    except (KeyError, IndexError, TypeError, ValueError):
        raise CheckpointError(f"{folder}: a rank's file lacks the state of group {number}") from None
    found = {str(slot): value for slot, value in slots.items()} | {"fp32": fp32}
    return {
        slot: pickled.check_tensor(value, f"{folder}: {slot}") if isinstance(value, Tensor) else value
        for slot, value in found.items()
    }


def _is_flat(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 1


def _piece(
    part: Mapping[str, Any], flat: Mapping[str, Any], number: int, name: str, slot: str
) -> Tensor | None:
    mappings = part.get("param_slice_mappings")
    group = mappings[number] if isinstance(mappings, list) and number < len(mappings) else {}
    fragment = group.get(name) if isinstance(group, dict) else None
    value = flat.get(slot)
    if fragment is None or not isinstance(value, Tensor) or value.dim() != 1:
        return None
    start, length = getattr(fragment, "start", None), getattr(fragment, "numel", None)
    if not isinstance(fragment, Fragment) or not isinstance(start, int) or not isinstance(length, int):
        raise CheckpointError(f"the place of {name!r} in its rank's partition is not given")
    if not 0 <= start <= start + length <= value.numel():
        raise CheckpointError(
            f"{slot} of {name!r} is said to lie at {start} to {start + length} of {value.numel()} elements"
        )
    return value[start : start + length]


def _joined(pieces: list[Tensor | None], shape: tuple[int, ...], where: str) -> Tensor:
    given = [piece for piece in pieces if piece is not None]
    elements = sum(piece.numel() for piece in given)
    if elements != math.prod(shape):
        raise CheckpointError(
            f"{where}: the ranks hold {elements} elements of {math.prod(shape)}; the file is damaged"
        )
    return torch.cat(given).view(shape)
