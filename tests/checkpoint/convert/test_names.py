"""Names for numbered parameters: from a model's file where it can tell, from a list where it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from adamantine.checkpoint import CheckpointError, foreign
from adamantine.checkpoint.convert import names
from adamantine.checkpoint.convert.neutral import OptimizerState


def stepped(model: nn.Module, folder: Path, groups: list[Any] | None = None) -> OptimizerState:
    """The state of an optimizer that was made without names."""
    optimizer = torch.optim.AdamW(groups or list(model.parameters()), lr=1e-2)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    torch.save(optimizer.state_dict(), folder / "numbered.pt")
    state = foreign.read(folder / "numbered.pt")
    assert not state.named
    return state


def test_from_a_model_saved_by_torch(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    torch.save({"model": model.state_dict(), "epoch": 1}, tmp_path / "model.pt")
    named = names.apply(stepped(model, tmp_path), model=tmp_path / "model.pt")
    assert named.names == [name for name, _ in model.named_parameters()]  # and no running_mean among them
    assert named.named


def test_shapes_tell_where_the_order_cannot(tmp_path: Path) -> None:
    """safetensors sorts its tensors, and groups are numbered one after the other; all shapes differ here."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim < 2]
    state = stepped(model, tmp_path, [{"params": biases}, {"params": weights}])
    named = names.apply(state, model=tmp_path / "model.safetensors")
    assert named.names == ["0.bias", "1.bias", "0.weight", "1.weight"]


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_no_guess_is_made(suffix: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    path = tmp_path / f"model.{suffix}"
    save = save_file if suffix == "safetensors" else torch.save
    save(model.state_dict(), path)  # type: ignore[operator]
    groups = [{"params": [model[0].weight, model[1].weight]}, {"params": [model[0].bias, model[1].bias]}]
    with pytest.raises(CheckpointError, match="the shapes do not tell them apart; list the names"):
        names.apply(stepped(model, tmp_path, groups), model=path)


def test_another_model(tmp_path: Path) -> None:
    torch.save(nn.Linear(5, 5).state_dict(), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"weight has shape \(5, 5\), parameter 0 \(4, 3\)"):
        names.apply(stepped(nn.Linear(3, 4), tmp_path), model=tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="2 parameters there, 4 in the checkpoint"):
        names.apply(
            stepped(nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)), tmp_path), model=tmp_path / "model.pt"
        )


def test_a_list_of_names(tmp_path: Path) -> None:
    state = stepped(nn.Linear(3, 4), tmp_path)
    listed = tmp_path / "names.json"
    listed.write_text(json.dumps(["kernel", "offset"]))
    assert names.apply(state, names=listed).shape("kernel") == (4, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["kernel"], "lists 1 names, the checkpoint has 2 parameters"),
        (["kernel", "kernel"], "names the parameter 'kernel' twice"),
        ({"7": "kernel"}, "renames '7', which the checkpoint has not"),
        ({"0": {"name": "kernel", "axes": [0, 0]}}, r"axes \[0, 0\] of '0' are no order of its 2 axes"),
        ({"0": 3}, "'0' is to become 3; give a name, or an object with name and axes"),
        ("kernel", "neither a JSON list of names nor an object of renames"),
    ],
)
def test_names_that_do_not_fit(given: Any, said: str, tmp_path: Path) -> None:
    state = stepped(nn.Linear(3, 4), tmp_path)
    path = tmp_path / "names.json"
    path.write_text(json.dumps(given))
    with pytest.raises(CheckpointError, match=said):
        names.apply(state, names=path)
