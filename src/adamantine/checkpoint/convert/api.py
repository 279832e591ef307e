"""`convert`: one layout in, another out, and a statement of what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamantine.checkpoint import foreign
from adamantine.checkpoint.checks import check
from adamantine.checkpoint.codes import coded_slots, decoded, is_ours
from adamantine.checkpoint.contents import Contents
from adamantine.checkpoint.convert import flax_msgpack, optax, quantized, settings, universal
from adamantine.checkpoint.convert.account import compare
from adamantine.checkpoint.convert.blockwise import Blockwise
from adamantine.checkpoint.convert.files import whole_file, whole_folder
from adamantine.checkpoint.convert.names import apply as apply_names
from adamantine.checkpoint.convert.names import model_weights
from adamantine.checkpoint.convert.neutral import OptimizerState
from adamantine.checkpoint.convert.report import ConversionReport
from adamantine.checkpoint.convert.statedict import to_state_dict
from adamantine.checkpoint.errors import CheckpointError
from adamantine.checkpoint.writer import INDEX, SUFFIX, write

#: Layouts that `convert` writes. It also reads ``deepspeed`` and ``torchao``; docs/convert.md says why not
#: more.
TARGETS = ("adamantine", "torch", "optax", "deepspeed-universal", "bitsandbytes")
_WHY_NOT = {
    "deepspeed": "ZeRO's own files are pickles of DeepSpeed's classes, cut for a number of ranks; write "
    "deepspeed-universal, which it loads for any",
    "torchao": "its files are pickles of torchao's classes; write torch, whose values its optimizers load",
}


def convert(
    source: Path,
    target: Path,
    *,
    to: str,
    key: str | None = None,
    model: Path | None = None,
    names: Path | None = None,
    optimizer: str | None = None,
    decay: str | None = None,
    hyper: Mapping[str, Any] | None = None,
) -> ConversionReport:
    """Translate a checkpoint of an optimizer into another layout.

    Args:
        source: a file or folder in any layout that `adamantine.checkpoint.foreign.read` detects.
        target: the file (folder for ``deepspeed-universal``) to write; it appears when it is whole.
        to: one of `TARGETS`.
        key: where in a training checkpoint the optimizer's state is, levels joined by dots.
        model: the model's weights; names for numbered parameters, fp32 weights for ``deepspeed-universal``.
        names: JSON with names or renames (`adamantine.checkpoint.convert.names.apply`).
        optimizer: the class to write for, as in ``torch.optim.AdamW``, where the source does not tell.
        decay: the mode to write; the source's λ is converted exactly or refused.
        hyper: hyperparameters for all groups, for sources that have none (optax).

    Returns:
        What was kept, changed and lost.

    Raises:
        CheckpointError: a file that cannot be read or does not say enough; a target that has no place for it.
    """
    if to not in TARGETS:
        remedy = _WHY_NOT.get(to, "choose one of " + ", ".join(TARGETS))
        raise CheckpointError(f"Cannot write {to!r}: {remedy}")
    _check_target(source, target, to)
    contents = foreign.contents(source)
    changed: list[str] = []
    lost: list[str] = []
    if contents is not None and is_ours(contents) and to != "adamantine":
        contents, changed, lost = decoded(contents)
    state = foreign.read(source, key=key) if contents is None else foreign.of_contents(contents)
    report = ConversionReport(state.layout, to, len(state.names), changed=changed, lost=lost)
    if to != "adamantine" or contents is None:  # there, all of the source goes along
        report.lost += state.unread
    state = apply_names(state, model=model, names=names)
    settings.override(state, hyper or {}, decay, report)
    optimizer = optimizer or settings.class_of(state)
    check(_contents(state, optimizer, contents), str(source))
    before = {name: dict(slots) for name, slots in state.state.items()}
    if to == "adamantine":
        _plain(state, report, optimizer)
        write(target, _contents(state, optimizer, contents))
    elif to == "torch":
        _for_torch(state, report, optimizer)
        _save(target, to_state_dict(state))
    elif to == "bitsandbytes":
        _settle_decay(state, report, modes={"decoupled"}, library=to)
        _save(target, quantized.to_bitsandbytes(state))
        if state.rule == "lion":
            report.lost.append(
                "one meaning of decay: bitsandbytes' Lion decays coupled on some backends (its issue 1992)"
            )
    elif to == "optax":
        _settle_decay(state, report, modes={"decoupled", "l2"}, library=to)
        packed = flax_msgpack.dumps(optax.to_tree(state, report))
        with whole_file(target) as temporary:
            temporary.write_bytes(packed)
    else:
        _plain(state, report, optimizer)
        _add_weights(state, model, report)
        with whole_folder(target) as temporary:
            universal.write(temporary, state)
    if state.weights and to != "deepspeed-universal":
        report.lost.append("the fp32 weights, which lie beside the optimizer's state in the source")
    compare(before, state, foreign.read(target), report)
    return report


def _check_target(source: Path, target: Path, to: str) -> None:
    """No layout that holds less is written over the source, nor under the name of another layout."""
    if to != "adamantine" and target.name.endswith((SUFFIX, INDEX)):
        raise CheckpointError(f"{target}: a file of layout {to} is no safetensors file; choose another name")
    if to == "adamantine":
        return
    try:
        same = target.exists() and source.exists() and target.samefile(source)
    except (OSError, ValueError):  # reading or writing will say it better
        return
    if same:
        raise CheckpointError(f"{target} is the source itself; choose another name, and remove it afterwards")


def _plain(state: OptimizerState, report: ConversionReport, optimizer: str | None) -> None:
    """Numbers instead of codes, and groups as the class has them."""
    settings.complete(state, optimizer, report)
    codes = 0
    for slots in state.state.values():
        for slot, value in slots.items():
            if isinstance(value, Blockwise):
                slots[slot] = value.dequantize()
                codes += 1
    if codes:
        report.changed.append(
            f"{codes} quantized tensors become float32, with the values that {state.layout} computed with"
        )
        report.lost.append("the codes themselves: quantizing again gives others where a block's scale moves")
    if not state.named:
        report.lost.append("the names: the source numbers its parameters (give --model or --names)")
    decays = [float(group.hyper.get("weight_decay") or 0.0) != 0 for group in state.groups]
    if unsaid := [n for n, group in enumerate(state.groups) if group.decay is None and decays[n]]:
        report.lost.append(f"the decay mode of group {unsaid[0]}: the source does not tell (give --decay)")


def _for_torch(state: OptimizerState, report: ConversionReport, optimizer: str | None) -> None:
    _settle_decay(state, report, modes={"decoupled", "l2"}, library="torch.optim")
    _plain(state, report, optimizer)
    ours = {"decay", "peak_lr", "constructed_lr", "highest_lr"} & {
        key for g in state.groups for key in g.hyper
    }
    if ours:
        report.changed.append(
            f"{', '.join(sorted(ours))} stay in the groups; torch carries them along without looking at them"
        )


def _settle_decay(state: OptimizerState, report: ConversionReport, *, modes: set[str], library: str) -> None:
    """Only decay modes that the target has; λ of "independent" is converted, since that is exact."""
    for number, group in enumerate(state.groups):
        if float(group.hyper.get("weight_decay") or 0.0) == 0:
            continue
        if group.decay == "independent":
            settings.as_mode(group, number, "decoupled", report)
        if group.decay is None and library in {"bitsandbytes", "optax"}:
            raise CheckpointError(f"the source does not say how group {number} decays; give --decay")
        if group.decay is not None and group.decay not in modes:
            raise CheckpointError(
                f"group {number} decays {group.decay!r}, and {library} has {' and '.join(sorted(modes))}; "
                "--decay decoupled writes that, where weight_decay can be converted"
            )


def _add_weights(state: OptimizerState, model: Path | None, report: ConversionReport) -> None:
    if model is not None and not state.weights:
        weights = model_weights(model)
        for name in state.names:
            shape = state.shape(name)
            if name in weights and (shape is None or tuple(weights[name].shape) == shape):
                state.weights[name] = weights[name].float()
        report.changed.append("the fp32 weights are those of the model's file")
    report.lost.append(
        "the model, schedule and data position: put DeepSpeed's own mp_rank_00_model_states.pt beside zero/"
    )


def _contents(state: OptimizerState, optimizer: str | None, source: Contents | None) -> Contents:
    """For the adamantine layout; what came in it (scheduler, extra, generators) goes out in it."""
    contents = Contents.of(to_state_dict(state), optimizer)
    for group, neutral in zip(contents.groups, state.groups, strict=True):
        group.decay = neutral.decay
    for parameter, name in zip(contents.parameters, state.names, strict=True):
        parameter.shape = state.shape(name)
    if source is None:
        return contents
    for parameter, saved in zip(contents.parameters, source.parameters, strict=True):
        parameter.dtype = saved.dtype
        if any(coded_slots(source.groups[saved.group], saved)):  # whose own shape may be of packed bytes
            parameter.shape = saved.shape
    return replace(source, optimizer=optimizer, groups=contents.groups, parameters=contents.parameters)


def _save(target: Path, state_dict: dict[str, Any]) -> None:
    with whole_file(target) as temporary:
        torch.save(_own_memory(state_dict), temporary)


def _own_memory(value: Any) -> Any:
    """Tensors without the file they are a window of: torch.save writes the whole storage of each."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _own_memory(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_own_memory(each) for each in value)
    return value
