"""Layout ``deepspeed-universal``: one folder per parameter, which DeepSpeed loads for any number of ranks.

As deepspeed/checkpoint/ds_to_universal.py writes it and universal_checkpoint.py reads it, at 0.19.8.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamantine.checkpoint.convert import pickled
from adamantine.checkpoint.convert.deepspeed import MODEL_FILE, REMEDY, decay_mode, plain_hyper, shapes_of
from adamantine.checkpoint.convert.neutral import Group, OptimizerState
from adamantine.checkpoint.errors import CheckpointError

#: Ours: which parameter is in which group. DeepSpeed does not look at it.
_MEMBERS = "param_names.json"


def read(folder: Path) -> OptimizerState:
    """A universal checkpoint: ``zero/<parameter>/{fp32,exp_avg,exp_avg_sq,step}.pt``.

    Raises:
        CheckpointError: parameters without a folder, tensors that are none.
    """
    zero = folder / "zero"
    common = pickled.load(zero / "optimizer_state.pt")
    saved_groups = common.get("param_groups", []) if isinstance(common, dict) else []
    if not isinstance(saved_groups, list) or not all(isinstance(group, dict) for group in saved_groups):
        raise CheckpointError(f"{zero / 'optimizer_state.pt'} has no param_groups; {REMEDY}")
    folders = sorted(path.name for path in zero.iterdir() if path.is_dir())
    model_file = folder / MODEL_FILE
    members: list[list[str]] = [folders]
    model: Any = {}
    if (zero / _MEMBERS).is_file():
        listed = json.loads((zero / _MEMBERS).read_text(encoding="utf-8"))
        members = [[str(name) for name in names] for names in listed]
    elif model_file.is_file():
        model = pickled.load(model_file)
        members = [list(shapes) for shapes in shapes_of(model, model_file)]
    if len(members) != len(saved_groups):
        raise CheckpointError(
            f"{folder} has {len(saved_groups)} parameter groups; {MODEL_FILE}, which names their members, "
            f"{'has ' + str(len(members)) if model_file.is_file() else 'is missing'}: put it beside zero/"
        )
    groups, state, weights = [], {}, {}
    for names, saved in zip(members, saved_groups, strict=True):
        hyper = plain_hyper(saved, zero / "optimizer_state.pt")
        groups.append(Group(names, hyper, decay_mode(hyper, model)))
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


def write(folder: Path, state: OptimizerState) -> None:
    """``zero/`` of a universal checkpoint, to put beside the model's file that DeepSpeed wrote.

    Raises:
        CheckpointError: no fp32 weights; numbered parameters; names that are no names of folders.
    """
    if missing := [name for name in state.names if name not in state.weights]:
        raise CheckpointError(
            f"a universal checkpoint holds the fp32 weights too, and {missing[0]!r} has none here; "
            "give the model's file as --model"
        )
    for name in state.names:
        if not state.named or not name or Path(name).name != name or name == "..":
            raise CheckpointError(f"the parameter {name!r} cannot name a folder; give --names")
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


def _universal_value(path: Path) -> Any:
    content = pickled.load(path)
    value = content.get("param") if isinstance(content, dict) else content
    if isinstance(value, Tensor):
        return pickled.check_tensor(value, str(path))
    if path.stem == "step" and isinstance(value, int | float):
        return torch.tensor(float(value))
    raise CheckpointError(f"{path} holds no tensor")
