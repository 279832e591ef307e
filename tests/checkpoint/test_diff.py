"""What differs between two checkpoints."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from adamantine.checkpoint import read, save, write
from adamantine.checkpoint.difference import diff


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.named_parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    save(tmp_path / "a.safetensors", optimizer, model=model, extra={"epoch": 1})
    return tmp_path / "a.safetensors"


def edited(path, edit):
    contents = read(path)
    edit(contents)
    other = path.with_name("b.safetensors")
    write(other, contents)
    return diff(path, other)


def test_bit_equal_in_one_file_or_many(path):
    other = path.with_name("b.safetensors")
    write(other, read(path), max_shard_bytes=30)
    found = diff(path, other)
    assert found.is_none
    assert found.equal == 2 + 2 * 3


def test_hyperparameters(path):
    def edit(contents):
        contents.groups[0].hyper |= {"lr": 1e-3 * (1 + 2**-50), "foreach": 1}
        del contents.groups[0].hyper["eps"]
        contents.extra["epoch"] = 1.0

    found = edited(path, edit)
    assert {at: (a, b) for at, a, b in found.values} == {
        "group/0/lr": (1e-3, 1e-3 * (1 + 2**-50)),
        "group/0/foreach": (None, 1),
        "extra/epoch": (1, 1.0),
    }
    assert found.only_first == ["group/0/eps"]
    assert not found.is_none


def test_tensors_the_most_different_first(path):
    def edit(contents):
        state = contents.parameters[0].state
        state["exp_avg"] = state["exp_avg"] * 2
        state["exp_avg_sq"][0, 0] += 1e-6
        state["step"].fill_(3)
        contents.model["bias"] = contents.model["bias"].bfloat16()
        contents.parameters[1].state["new"] = torch.ones(1)
        contents.parameters[1].state["exp_avg"][0] = math.nan

    found = edited(path, edit)
    assert [change.at for change in found.tensors] == [
        "model/bias",
        "state/bias/exp_avg",
        "state/weight/step",
        "state/weight/exp_avg",
        "state/weight/exp_avg_sq",
    ]
    form, nan, step, doubled, touched = found.tensors
    assert form.form == "float32 [3] → bfloat16 [3]"
    assert math.isnan(nan.largest)
    assert (step.largest, step.relative) == (2, 2)
    assert doubled.relative == 1
    assert touched.largest == pytest.approx(1e-6, rel=1e-2)
    assert found.only_second == ["state/bias/new"]


def test_signs_of_zero_and_nan_are_bits(path):
    found = edited(path, lambda c: c.parameters[0].state["exp_avg"].zero_())
    assert not found.is_none
    other = path.with_name("b.safetensors")
    contents = read(other)
    contents.parameters[0].state["exp_avg"].neg_()
    write(path, contents)
    (change,) = diff(other, path).tensors
    assert (change.largest, change.at) == (0, "state/weight/exp_avg")


def test_parameters_in_another_order_are_the_same_by_name(path):
    contents = read(path)
    contents.parameters.reverse()
    write(path.with_name("b.safetensors"), contents)
    found = diff(path, path.with_name("b.safetensors"))
    assert [at for at, *_ in found.values] == ["group/0/parameters"]
    assert found.tensors == []


def test_keys_that_only_look_the_same(path):
    contents = read(path)
    contents.extra = {1: "a", "1": "b"}
    write(path, contents)
    assert [at for at, *_ in edited(path, lambda c: c.extra.update({1: "c"})).values] == ["extra/[1]"]


def test_without_names_on_one_side_by_position(path):
    def nameless(contents):
        for parameter in contents.parameters:
            parameter.name = None

    assert edited(path, nameless).is_none


def test_with_a_pt_file(path):
    contents = read(path)
    torch.save(contents.state_dict(), path.with_name("b.pt"))
    found = diff(path, path.with_name("b.pt"))
    assert found.tensors == []
    assert found.equal == 6
    assert {way.partition("/")[0] for way in found.only_first} == {"model", "model versions", "extra"}
