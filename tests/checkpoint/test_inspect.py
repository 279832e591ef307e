"""Looking into a checkpoint: what is in it, and every kind of suspicious value."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import adamantine.torch as at
from adamantine.checkpoint import CheckpointError, read, save, write
from adamantine.checkpoint.inspection import inspect


@pytest.fixture
def path(tmp_path):
    """Healthy: every parameter has made three steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 2))
    optimizer = at.AdamW(
        [
            {"params": [(n, p) for n, p in model.named_parameters() if "weight" in n], "weight_decay": 0.1},
            {"params": [(n, p) for n, p in model.named_parameters() if "bias" in n], "weight_decay": 0.0},
        ],
        lr=1e-3,
    )
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 8)).square().mean().backward()
        optimizer.step()
    target = tmp_path / "state.safetensors"
    save(target, optimizer, model=model, extra={"epoch": 3})
    return target


def change(path, edit):
    contents = read(path)
    edit(contents)
    write(path, contents)
    return {each.code: each for each in inspect(path).suspicions}


def state(contents, name):
    return next(p.state for p in contents.parameters if p.name == name)


def test_what_is_in_it(path):
    found = inspect(path, largest=2)
    assert (found.layout, found.optimizer, found.parameters) == ("adamantine", "adamantine.torch.AdamW", 4)
    assert found.steps == (3, 3)
    assert [(g["parameters"], g["decay"], g["hyper"]["weight_decay"]) for g in found.groups] == [
        (2, "decoupled", 0.1),
        (2, "decoupled", 0.0),
    ]
    elements = 8 * 6 + 6 + 6 * 2 + 2
    assert [dataclasses.astuple(row) for row in found.slots] == [
        ("exp_avg", ("float32",), 4, elements, 4 * elements),
        ("exp_avg_sq", ("float32",), 4, elements, 4 * elements),
        ("step", ("float32",), 4, 4, 16),
    ]
    assert [(at, size) for at, _, _, size in found.largest] == [
        ("model/0.weight", 192),
        ("state/0.weight/exp_avg", 192),
    ]
    assert found.beside == {"model": (4, 4 * elements), "extra": (0, 0)}
    assert found.suspicions == []


def test_shards_say_the_same(path, tmp_path):
    other = tmp_path / "sharded.safetensors"
    write(other, read(path), max_shard_bytes=200)
    one, two = (dataclasses.asdict(inspect(each)) for each in (path, other))
    assert one.pop("path") != two.pop("path")
    assert one == two


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite(path, value):
    found = change(path, lambda c: state(c, "0.bias")["exp_avg"].__setitem__(2, value))
    assert found["nonfinite"].severity == "error"
    assert found["nonfinite"].at == "0.bias: exp_avg"


def test_negative_second_moment(path):
    found = change(path, lambda c: state(c, "0.weight")["exp_avg_sq"].view(-1).__setitem__(7, -1e-9))
    assert found["negative-second-moment"].at == "0.weight: exp_avg_sq"
    assert "1 of 48 elements" in found["negative-second-moment"].what
    assert "underflowed" not in found


def test_underflow(path):
    found = change(path, lambda c: state(c, "0.weight")["exp_avg_sq"].view(-1)[:5].zero_())
    assert found["underflowed"].severity == "warning"
    assert "5 of 48 elements" in found["underflowed"].what


def test_all_zero_is_not_underflow(path):
    def zero(contents):
        for slot in ("exp_avg", "exp_avg_sq"):
            state(contents, "1.weight")[slot].zero_()

    assert set(change(path, zero)) == {"all-zero"}


def test_steps_that_differ(path):
    found = change(path, lambda c: state(c, "1.bias")["step"].fill_(9))
    assert found["steps-differ"].what == "0.weight has made 3 steps, 1.bias has made 9"
    assert inspect(path).steps == (3, 9)


def test_a_parameter_that_never_had_a_gradient(path):
    found = change(path, lambda c: setattr(c.parameters[0], "state", None))
    assert found["never-stepped"].at == "0.weight"


def test_settings_worth_a_look(path):
    def edit(contents):
        contents.groups[0].hyper["lr"] = 0.0
        contents.optimizer, contents.groups[0].decay = "elsewhere.AdamW", None

    found = change(path, edit)
    assert found["lr-zero"].at == found["decay-unknown"].at == "group 0"


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_every_dtype_can_be_looked_at(path):
    from adamantine.checkpoint.dtypes import NAMED

    def edit(contents):
        contents.parameters[0].state |= {
            name: torch.zeros(4, dtype=torch.uint8).view(dtype)
            if dtype.itemsize <= 4
            else torch.zeros(2, dtype=dtype)
            for name, dtype in NAMED.items()
        }

    assert set(change(path, edit)) <= {"all-zero"}


def test_a_pt_file(path, tmp_path):
    other = tmp_path / "state.pt"
    torch.save({"optimizer": read(path).state_dict(), "epoch": 3}, other)
    found = inspect(other)
    assert (found.layout, found.parameters, found.steps) == ("torch", 4, (3, 3))
    assert found.not_saved == []
    assert found.unread == ["beside the optimizer the file holds epoch: not converted"]
    assert [row.slot for row in found.slots] == ["exp_avg", "exp_avg_sq", "step"]


def test_damage_is_not_looked_at(path):
    content = path.read_bytes()
    path.write_bytes(content[:-3] + b"\x01\x02\x03")
    with pytest.raises(CheckpointError, match="checksum"):
        inspect(path)


def test_only_one_tensor_at_a_time_is_in_memory(path, monkeypatch):
    """Of a state larger than the memory, that is."""
    import gc
    import weakref

    from adamantine.checkpoint.reader import Store

    alive = weakref.WeakSet()
    most = 0
    original = Store.tensor

    def counted(self, name):
        nonlocal most
        value = original(self, name)
        if value.numel() > 1:
            alive.add(value)
            gc.collect()
            most = max(most, len(alive))
        return value

    monkeypatch.setattr(Store, "tensor", counted)
    inspect(path)
    assert 1 <= most <= 2
