"""Layouts ``deepspeed`` (ZeRO stage 1 and 2 as saved) and ``deepspeed-universal`` (one folder per parameter).

ZeRO flattens each parameter group into one vector and gives every rank a piece. A rank's file says under
``param_slice_mappings`` which parameter lies where in its piece; concatenated in the order of the ranks, the
fragments of a parameter are the parameter (deepspeed/checkpoint/ds_to_universal.py, read at 0.19.8).
"""

from __future__ import annotations

import json
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
_MODEL_FILE = "mp_rank_00_model_states.pt"
_MEMBERS = "param_names.json"  # ours: which parameter is in which group; DeepSpeed does not look at it
_REMEDY = "let DeepSpeed's own ds_to_universal.py merge it and convert the universal folder"


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
    first, model = ranks[0], pickled.load(folder / _MODEL_FILE)
    if len({_RANK_FILE.match(path.name)[2] for path in rank_files(folder)}) > 1:  # type: ignore[index]
        raise CheckpointError(f"{folder} is split over model-parallel ranks; {_REMEDY}")
    if int(first.get("zero_stage", 1)) > 2 or "param_slice_mappings" not in first:
        raise CheckpointError(f"{folder} is of ZeRO stage {first.get('zero_stage')}, or too old; {_REMEDY}")
    count = first.get("partition_count", len(ranks))
    if max(count if isinstance(count, list) else [count]) != len(ranks):
        raise CheckpointError(
            f"{folder} has the files of {len(ranks)} ranks, it was saved by {count}; copy them all"
        )
    shapes = _shapes(model, folder / _MODEL_FILE)
    groups, state, weights = [], {}, {}
    for number, group_shapes in enumerate(shapes):
        hyper = _hyper(first, number, folder)
        groups.append(Group(list(group_shapes), hyper, _decay(hyper, model)))
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


def read_universal(folder: Path) -> OptimizerState:
    """A universal checkpoint: ``zero/<parameter>/{fp32,exp_avg,exp_avg_sq,step}.pt``.

    Raises:
        CheckpointError: parameters without a folder, tensors that are none.
    """
    zero = folder / "zero"
    common = pickled.load(zero / "optimizer_state.pt")
    saved_groups = common.get("param_groups", []) if isinstance(common, dict) else []
    if not isinstance(saved_groups, list) or not all(isinstance(group, dict) for group in saved_groups):
        raise CheckpointError(f"{zero / 'optimizer_state.pt'} has no param_groups; {_REMEDY}")
    folders = sorted(path.name for path in zero.iterdir() if path.is_dir())
    model_file = folder / _MODEL_FILE
    members: list[list[str]] = [folders]
    model: Any = {}
    if (zero / _MEMBERS).is_file():
        listed = json.loads((zero / _MEMBERS).read_text(encoding="utf-8"))
        members = [[str(name) for name in names] for names in listed]
    elif model_file.is_file():
        model = pickled.load(model_file)
        members = [list(shapes) for shapes in _shapes(model, model_file)]
    if len(members) != len(saved_groups):
        raise CheckpointError(
            f"{folder} has {len(saved_groups)} parameter groups; {_MODEL_FILE}, which names their members, "
            f"{'has ' + str(len(members)) if model_file.is_file() else 'is missing'}: put it beside zero/"
        )
    groups, state, weights = [], {}, {}
    for names, saved in zip(members, saved_groups, strict=True):
        hyper = _plain(saved, zero / "optimizer_state.pt")
        groups.append(Group(names, hyper, _decay(hyper, model)))
        for name in names:
            if name not in folders:
                raise CheckpointError(f"{zero} has no folder for the parameter {name!r}")
            slots = {path.stem: _universal_value(path) for path in sorted((zero / name).glob("*.pt"))}
            if "fp32" in slots:
                weights[name] = slots.pop("fp32")
            state[name] = slots
    result = OptimizerState("deepspeed-universal", groups, state, weights=weights)
    result.check()
    return result


def write_universal(folder: Path, state: OptimizerState) -> None:
    """``zero/`` of a universal checkpoint, to put beside the model's file that DeepSpeed wrote.

    Raises:
        CheckpointError: no fp32 weights; numbered parameters; names that are no names of folders.
    """
    if missing := [name for name in state.names if name not in state.weights]:
        raise CheckpointError(
            f"a universal checkpoint holds the fp32 weights too, and {missing[0]!r} has none here; "
            "give the model's file as model="
        )
    for name in state.names:
        if not state.named or not name or Path(name).name != name or name == "..":
            raise CheckpointError(f"the parameter {name!r} cannot name a folder; give names as names=")
        place = folder / "zero" / name
        place.mkdir(parents=True)
        slots = {**state.state.get(name, {}), "fp32": state.weights[name].float()}
        step = slots.pop("step", None)
        if step is not None:
            torch.save(torch.as_tensor(float(step)), place / "step.pt")
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                torch.save({"cat_dim": 0, "param": value.contiguous().clone()}, place / f"{slot}.pt")
    # DeepSpeed asks for a version before it reads on; this is the one whose layout it is
    groups = [{**group.hyper, "params": [number]} for number, group in enumerate(state.groups)]
    (folder / "zero" / _MEMBERS).write_text(json.dumps([group.names for group in state.groups]))
    torch.save({"ds_version": "0.19.8", "param_groups": groups}, folder / "zero" / "optimizer_state.pt")


def _optimizer_part(path: Path) -> dict[str, Any]:
    content = pickled.load(path)
    part = content.get("optimizer_state_dict") if isinstance(content, dict) else None
    if not isinstance(part, dict) or "base_optimizer_state" not in part:
        raise CheckpointError(f"{path} has no base_optimizer_state; it is no ZeRO checkpoint of stage 1 or 2")
    return part


def _shapes(model: Any, path: Path) -> list[Mapping[str, tuple[int, ...]]]:
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
    return _plain(groups[number], folder)


def _plain(saved: Mapping[str, Any], path: Path) -> dict[str, Any]:
    kept = {key: value for key, value in saved.items() if key not in {"params", "param_names"}}
    return {str(key): plain(value, f"{path}: {key}") for key, value in kept.items()}


def _decay(hyper: Mapping[str, Any], model: Any) -> str | None:
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


def _universal_value(path: Path) -> Any:
    content = pickled.load(path)
    value = content.get("param") if isinstance(content, dict) else content
    if isinstance(value, Tensor):
        return pickled.check_tensor(value, str(path))
    if path.stem == "step" and isinstance(value, int | float):
        return torch.tensor(float(value))
    raise CheckpointError(f"{path} holds no tensor")
