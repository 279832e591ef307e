"""Names for parameters that a state dict only numbers, and new names for those that have others elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamantine.checkpoint.container import read_header, read_tensor
from adamantine.checkpoint.convert import pickled
from adamantine.checkpoint.convert.blockwise import Blockwise
from adamantine.checkpoint.convert.neutral import OptimizerState
from adamantine.checkpoint.errors import CheckpointError

#: Entries of a model's state dict that are no parameters.
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def apply(state: OptimizerState, *, model: Path | None = None, names: Path | None = None) -> OptimizerState:
    """The state under the names of the model's file, then under those that ``names`` gives.

    Args:
        model: the model's weights, ``.pt`` or ``.safetensors``; gives names to numbered parameters.
        names: JSON. A list: all names in the optimizer's order. An object: old name → new name, or →
            ``{"name": …, "axes": […]}`` where the other framework has the tensor's axes in another order
            (``[1, 0]`` for the kernel of a flax Dense, ``[3, 2, 0, 1]`` for that of a flax Conv).

    Raises:
        CheckpointError: names that do not fit.
    """
    if model is not None and not state.named:
        state = _rename(state, _from_model(state, model), named=True)
    if names is not None:
        given = _read_json(names)
        if isinstance(given, list):
            if len(given) != len(state.names) or not all(isinstance(name, str) for name in given):
                raise CheckpointError(
                    f"{names} lists {len(given)} names, the checkpoint has {len(state.names)} parameters; "
                    "list each name as a string, in the optimizer's order"
                )
            state = _rename(state, dict(zip(state.names, given, strict=True)), named=True)
        elif isinstance(given, dict):
            state = _rename_some(state, given, names)
        else:
            raise CheckpointError(f"{names} holds neither a JSON list of names nor an object of renames")
    return state


def model_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter in a model's file, in its order; known buffers left out."""
    shapes: dict[str, tuple[int, ...]] = {}
    if path.suffix == ".safetensors":
        shapes = {name: entry.shape for name, entry in read_header(path).entries.items()}
    else:
        weights = model_weights(path)
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
    return {name: shape for name, shape in shapes.items() if not name.endswith(_BUFFERS)}


def model_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a model's file, from a state dict or a training checkpoint that holds one.

    Raises:
        CheckpointError: no such file, or no state dict in it.
    """
    if path.suffix == ".safetensors":
        header = read_header(path)
        return {name: read_tensor(header, name) for name in header.entries}
    content = pickled.load(path)
    for key in (None, "model", "model_state_dict", "state_dict", "module"):
        weights = content if key is None else content.get(key) if isinstance(content, dict) else None
        if (
            isinstance(weights, dict)
            and weights
            and all(isinstance(value, Tensor) for value in weights.values())
        ):
            return {
                str(name): pickled.check_tensor(value, f"{path}: {name}") for name, value in weights.items()
            }
    raise CheckpointError(
        f"{path} holds no model.state_dict() (looked under model, model_state_dict, state_dict)"
    )


def _from_model(state: OptimizerState, model: Path) -> dict[str, str]:
    shapes = model_shapes(model)
    numbered = {name: state.shape(name) for name in state.names}
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, shape in shapes.items():
        by_shape.setdefault(shape, []).append(name)
    unique = all(len(alike) == 1 for alike in by_shape.values())
    if len(shapes) == len(numbered) and unique and set(numbered.values()) == set(by_shape):
        return {number: by_shape[shape][0] for number, shape in numbered.items() if shape is not None}
    if model.suffix == ".safetensors" or len(state.groups) > 1:
        why = (
            "safetensors stores tensors in its own order"
            if model.suffix == ".safetensors"
            else f"the optimizer numbers its {len(state.groups)} groups one after the other"
        )
        raise CheckpointError(
            f"{model} cannot name the parameters: {why}, and the shapes do not tell them apart; list the "
            "names in the optimizer's order in a JSON file and give it as names"
        )
    pairs = list(zip(shapes.items(), numbered.items(), strict=False))
    wrong = next((pair for pair in pairs if pair[1][1] not in {None, pair[0][1]}), None)
    if len(shapes) != len(numbered) or wrong is not None:
        detail = (
            f"{len(shapes)} parameters there, {len(numbered)} in the checkpoint"
            if wrong is None
            else f"{wrong[0][0]} has shape {wrong[0][1]}, parameter {wrong[1][0]} {wrong[1][1]}"
        )
        raise CheckpointError(f"{model} does not fit the checkpoint: {detail}; list the names in a JSON file")
    return {number: name for (name, _), (number, _) in pairs}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON: {error}") from None


def _rename_some(state: OptimizerState, given: Mapping[str, Any], source: Path) -> OptimizerState:
    if strangers := set(given) - set(state.names):
        raise CheckpointError(
            f"{source} renames {sorted(strangers)[0]!r}, which the checkpoint has not; it has "
            f"{state.names[:5]}"
        )
    new: dict[str, str] = {}
    axes: dict[str, list[int]] = {}
    for old, wanted in given.items():
        if isinstance(wanted, str):
            new[old] = wanted
        elif isinstance(wanted, dict) and set(wanted) <= {"name", "axes"}:
            new[old] = str(wanted.get("name", old))
            axes[old] = wanted.get("axes", [])
        else:
            raise CheckpointError(
                f"{source}: {old!r} is to become {wanted!r}; give a name, or an object with name and axes"
            )
    for name, order in axes.items():
        state.state[name] = {
            slot: _permuted(value, order, name) for slot, value in state.state.get(name, {}).items()
        }
        if name in state.weights:
            state.weights[name] = _permuted(state.weights[name], order, name)
    return _rename(state, {name: new.get(name, name) for name in state.names}, named=state.named or bool(new))


def _permuted(value: Any, axes: Sequence[int], name: str) -> Any:
    if isinstance(value, Blockwise):
        value = value.dequantize()
    if not isinstance(value, Tensor) or value.dim() == 0 or not axes:
        return value
    if value.dtype == torch.uint8:
        raise CheckpointError(
            f"{name!r} keeps its state in 8 or 4 bits, in blocks along its elements' order, which other axes "
            "change: load it, optimizer.store_as(state='float32'), and save it again"
        )
    if sorted(axes) != list(range(value.dim())):
        raise CheckpointError(f"axes {axes} of {name!r} are no order of its {value.dim()} axes")
    return value.permute(*axes).contiguous()


def _rename(state: OptimizerState, new: Mapping[str, str], *, named: bool) -> OptimizerState:
    groups = [replace(group, names=[new[name] for name in group.names]) for group in state.groups]
    renamed = replace(
        state,
        groups=groups,
        state={new[name]: slots for name, slots in state.state.items()},
        weights={new.get(name, name): value for name, value in state.weights.items()},
        named=named,
    )
    renamed.check()
    return renamed
