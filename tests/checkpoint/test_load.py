"""Loading: every bit or nothing, by name, never into another decay mode."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import adamantine.torch as at
from adamantine.checkpoint import CheckpointError, load, read, save, write
from adamantine.schedules import Cosine, Warmup

HERE = Path(__file__).parent


def net(seed=0):
    torch.manual_seed(seed)
    return nn.ModuleDict({name: nn.Linear(4, 4) for name in ("first", "second", "third")})


def train(model, optimizer, steps=3):
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        for _, p in sorted(model.named_parameters()):
            p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        optimizer.step()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


def saved(path, cls=torch.optim.AdamW, model=None, named=True, **options):
    model = model or net()
    optimizer = cls(model.named_parameters() if named else model.parameters(), **options)
    train(model, optimizer)
    save(path, optimizer)
    return model, optimizer


def test_resuming_in_a_new_process_is_as_if_nothing_had_happened(tmp_path, monkeypatch):
    """Every class of ours × mode × engine, bf16, flat models, torch's classes: 5 + 5 steps are 10."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # hundreds of small files, none to outlive this
    sys.path.insert(0, str(HERE))
    try:
        import resuming
    finally:
        sys.path.remove(str(HERE))
    expected = {}
    for name, case in resuming.cases().items():
        model, optimizer, scheduler = resuming.build(*case)
        resuming.train(model, optimizer, scheduler, 0, 5)
        save(tmp_path / f"{name}.safetensors", optimizer, model=model, scheduler=scheduler)
        resuming.train(model, optimizer, scheduler, 5, 10)
        expected[name] = resuming.digest(model)
    assert len(expected) > 170
    assert len(set(expected.values())) > 60, "the cases must differ, or they show nothing"
    subprocess.run([sys.executable, HERE / "resuming.py", tmp_path], check=True)
    found = json.loads((tmp_path / "digests.json").read_text())
    assert {name for name in expected if found[name] != expected[name]} == set()


# --- names, shapes, groups ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [torch.optim.AdamW, at.AdamW])
def test_another_order_is_healed_by_name(path, cls):
    """torch itself would mix them up: the shapes agree."""
    model, optimizer = saved(path, cls)
    other = cls(list(model.named_parameters())[::-1])
    load(path, other)
    for p in model.parameters():
        assert torch.equal(other.state[p]["exp_avg"], optimizer.state[p]["exp_avg"])
    assert other.param_groups[0]["param_names"][0] == "third.bias"


def test_a_model_lends_its_names_on_both_sides(path):
    model = net()
    optimizer = torch.optim.AdamW(model.parameters())
    train(model, optimizer)
    save(path, optimizer, model=model)
    other = torch.optim.AdamW(list(model.parameters())[::-1])
    load(path, other, model=model)
    for p in model.parameters():
        assert torch.equal(other.state[p]["exp_avg"], optimizer.state[p]["exp_avg"])
    assert "param_names" not in other.param_groups[0]


def test_names_that_only_the_file_has_are_warned_about(path):
    model, optimizer = saved(path)
    other = torch.optim.AdamW(model.parameters())
    with pytest.warns(UserWarning, match=r"matched by position and shape.*model=model") as caught:
        load(path, other)
    assert caught[0].filename == __file__
    p = next(model.parameters())
    assert torch.equal(other.state[p]["exp_avg"], optimizer.state[p]["exp_avg"])


def test_without_names_shapes_must_agree_also_without_state(path):
    model = nn.Linear(4, 3)
    save(path, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(CheckpointError, match=r"parameter 0 has shape \(3, 4\), here \(3,\)"):
        load(path, torch.optim.SGD(list(model.parameters())[::-1], lr=0.1))


@pytest.mark.parametrize("cls", [torch.optim.AdamW, at.AdamW])
def test_state_of_another_shape_is_refused(path, cls):
    """(4, 1) would broadcast against the parameter's (4, 4) without a word."""
    model, optimizer = saved(path, cls)
    contents = read(path)
    contents.parameters[0].state["exp_avg_sq"] = torch.ones(4, 1)
    write(path, contents)
    with pytest.raises(CheckpointError, match=r"exp_avg_sq of 'first\.weight' has shape \(4, 1\)"):
        load(path, optimizer)
    assert optimizer.state[model["first"].weight]["exp_avg_sq"].shape == (4, 4)


def test_missing_names_are_named(path):
    model, _ = saved(path)
    fewer = [(name, p) for name, p in model.named_parameters() if "third" not in name]
    with pytest.raises(
        CheckpointError, match=r"state\.safetensors: the optimizer has no parameter 'third\.bias'"
    ):
        load(path, torch.optim.AdamW(fewer))


def test_groups_in_another_order(path):
    model = net()
    named = list(model.named_parameters())
    optimizer = torch.optim.AdamW([{"params": named[:2], "lr": 0.1}, {"params": named[2:], "lr": 0.2}])
    train(model, optimizer)
    save(path, optimizer)
    other = torch.optim.AdamW([{"params": named[2:]}, {"params": named[:2]}])
    load(path, other)
    assert [group["lr"] for group in other.param_groups] == [0.2, 0.1]
    assert [len(group["params"]) for group in other.param_groups] == [4, 2]


# --- decay modes -------------------------------------------------------------------------------------------


def test_torch_adam_never_becomes_adamw(path):
    """torch's own load_state_dict does this without a word (its AdamW is an Adam with a flag)."""
    model, optimizer = saved(path, torch.optim.AdamW, weight_decay=0.1)
    other = torch.optim.Adam(model.named_parameters(), weight_decay=0.3)
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["decoupled_weight_decay"] is True, "the negative control"

    other = torch.optim.Adam(model.named_parameters(), weight_decay=0.3)
    with pytest.raises(CheckpointError, match=r"decay 'decoupled' \(weight_decay=0\.1\).*decays 'l2'"):
        load(path, other)
    assert not other.state
    load(path, other, decay="live")
    assert other.param_groups[0]["decoupled_weight_decay"] is False
    assert other.param_groups[0]["weight_decay"] == 0.3
    load(path, other, decay="saved")
    assert other.param_groups[0]["decoupled_weight_decay"] is True
    assert other.param_groups[0]["weight_decay"] == 0.1


def test_adamw_cannot_adopt_l2(path):
    model, _ = saved(path, torch.optim.Adam, weight_decay=0.1)
    with pytest.raises(CheckpointError, match=r"torch\.optim\.AdamW can only 'decoupled'"):
        load(path, torch.optim.AdamW(model.named_parameters()), decay="saved")


def test_without_decay_there_is_nothing_to_flip(path):
    model, _ = saved(path, torch.optim.Adam)
    other = torch.optim.AdamW(model.named_parameters(), weight_decay=0.5)
    load(path, other)
    assert other.param_groups[0]["weight_decay"] == 0, "the run that was saved did not decay"
    assert other.param_groups[0]["decoupled_weight_decay"] is True


def test_ours_take_torchs_class_of_the_same_rule(path):
    model, optimizer = saved(path, torch.optim.AdamW, weight_decay=0.1)
    twin = copy.deepcopy(model)
    other = at.AdamW(twin.named_parameters())
    load(path, other)
    train(model, optimizer)
    train(twin, other)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    with pytest.raises(CheckpointError, match=r"decay='decoupled'.*decay='l2'"):
        load(path, at.Adam(model.named_parameters(), weight_decay=0.1))


def test_an_old_adamw_is_known_by_its_class(path):
    """Before torch 2.7 the groups did not say it; the class that is saved does. No warning, no guess."""
    model, optimizer = saved(path, torch.optim.AdamW, weight_decay=0.1)
    contents = read(path)
    del contents.groups[0].hyper["decoupled_weight_decay"]
    write(path, contents)
    load(path, at.AdamW(model.named_parameters()))
    with pytest.raises(CheckpointError, match="'decoupled'"):
        load(path, at.Adam(model.named_parameters(), weight_decay=0.1))
    assert optimizer.state


@pytest.mark.parametrize(
    ("saver", "loader"),
    [(torch.optim.Adam, torch.optim.NAdam), (at.Adam, at.RAdam), (at.AdamW, torch.optim.AdamW)],
)
def test_other_classes_are_refused_although_their_slots_agree(path, saver, loader):
    model, _ = saved(path, saver)
    with pytest.raises(CheckpointError, match=rf"{saver.__name__}, not of .*{loader.__name__}.*convert"):
        load(path, loader(model.named_parameters()))


# --- the state, bit for bit --------------------------------------------------------------------------------


class Casting(torch.optim.Optimizer):
    """With integer codes and wider floats in its state, which torch's load_state_dict casts (#43706)."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})

    def step(self):
        for p in self.param_groups[0]["params"]:
            self.state[p] = {
                "codes": torch.arange(4, dtype=torch.int8),
                "wide": torch.full((4, 4), 1 / 3, dtype=torch.float64),
                "nested": [
                    torch.tensor(1 / 3, dtype=torch.float64),
                    {"deep": torch.ones(1, dtype=torch.bool)},
                ],
                "step": 7,
            }


def test_the_state_keeps_its_dtypes_whatever_the_class_casts(path):
    p = nn.Parameter(torch.ones(4, 4, dtype=torch.bfloat16))
    optimizer = Casting([p])
    optimizer.step()
    save(path, optimizer)
    cast = Casting([p])
    cast.load_state_dict(optimizer.state_dict())
    assert cast.state[p]["codes"].dtype == torch.bfloat16, "the negative control"
    other = Casting([p])
    load(path, other)
    state = other.state[p]
    assert state["codes"].dtype == torch.int8
    assert torch.equal(state["wide"], optimizer.state[p]["wide"])
    assert state["nested"][0].dtype == torch.float64
    assert state["nested"][1]["deep"].dtype == torch.bool
    assert state["step"] == 7


class Renewed(nn.Module):
    """Like BatchNorm, it has changed what its state means, and tells the old by its version."""

    _version = 2

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.ones(2))

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if metadata.get("version", 1) < 2:
            state[prefix + "log_scale"] = state[prefix + "log_scale"].log()
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_a_module_that_migrates_old_state_leaves_the_new_alone(path):
    model = nn.Sequential(Renewed())
    optimizer = torch.optim.SGD(model.named_parameters())
    save(path, optimizer, model=model)
    assert read(path).model_versions == {"": {"version": 1}, "0": {"version": 2}}
    load(path, optimizer, model=model)
    assert model[0].log_scale.tolist() == [1, 1]
    contents = read(path)
    contents.model_versions["0"]["version"] = 1
    write(path, contents)
    load(path, optimizer, model=model)
    assert model[0].log_scale.tolist() == [0, 0], "the negative control"


@pytest.mark.parametrize("cls", [torch.optim.AdamW, at.AdamW])
def test_parameters_of_another_dtype(path, cls):
    """torch's next step would fail on mixed dtypes; ours would go on with second moments in bf16."""
    saved(path, cls, net().bfloat16())
    other = cls(net().named_parameters())
    with pytest.raises(CheckpointError, match=r"'first\.weight' was trained in bfloat16, here it is float32"):
        load(path, other)
    assert not other.state
    other.load_state_dict(read(path).state_dict())  # the remedy that the message names
    train(net(), other)
    save(path, cls(net().bfloat16().named_parameters()))
    load(path, other)


class Meddling(torch.optim.SGD):
    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for entry in self.state.values():
            entry["momentum_buffer"].zero_()


def test_a_class_that_changes_what_it_loads_is_told_on(path):
    model = net()
    optimizer = Meddling(model.named_parameters(), lr=0.1, momentum=0.9)
    train(model, optimizer)
    save(path, optimizer)
    other = Meddling(model.named_parameters(), lr=0.2, momentum=0.9)
    with pytest.raises(
        CheckpointError, match=r"made something else of it \(the state of first\.weight: momentum"
    ):
        load(path, other)
    assert not other.state
    assert other.param_groups[0]["lr"] == 0.2


def test_channels_last_state_stays_so(path):
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.named_parameters())
    model.weight.grad = torch.randn_like(model.weight)
    optimizer.step()
    save(path, optimizer)
    before = optimizer.state[model.weight]["exp_avg"].clone()
    load(path, optimizer)
    after = optimizer.state[model.weight]["exp_avg"]
    assert torch.equal(after, before)
    assert after.stride() == model.weight.stride() != torch.empty(after.shape).stride()


# --- all or nothing ----------------------------------------------------------------------------------------


def snapshot(*parts):
    return copy.deepcopy([part.state_dict() for part in parts])


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_what_is_refused_changes_nothing(path):
    model, optimizer = saved(path)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    save(path, optimizer, model=model, scheduler=scheduler, rng=False)

    live_model = net(seed=3)
    live = torch.optim.AdamW(live_model.named_parameters(), lr=0.5)
    train(live_model, live)
    exponential = torch.optim.lr_scheduler.ExponentialLR(live, 0.9)
    before = snapshot(live_model, live, exponential)
    with pytest.raises(CheckpointError, match=r"scheduler is a .*StepLR, not a .*ExponentialLR"):
        load(path, live, model=live_model, scheduler=exponential)
    assert same(snapshot(live_model, live, exponential), before)
    with pytest.raises(CheckpointError, match="holds no states of random"):
        load(path, live, rng=True)
    smaller = nn.ModuleDict({"first": nn.Linear(4, 4)})
    with pytest.raises(CheckpointError, match=r"has in excess 'second\.bias' of the model"):
        load(path, live, model=smaller)
    other_dtype = net().double()
    with pytest.raises(CheckpointError, match=r"'first\.weight' of the model is .*float32.*here .*float64"):
        load(path, live, model=other_dtype)
    assert same(snapshot(live_model, live, exponential), before)


def test_a_scheduler_under_another_plan_is_refused_whole(path):
    model, optimizer = saved(path, at.AdamW)
    scheduler = at.Scheduler(optimizer, Warmup(3, Cosine(10)))
    save(path, optimizer, scheduler=scheduler)
    live = at.AdamW(model.named_parameters(), lr=0.7)
    other = at.Scheduler(live, Cosine(10))
    before = snapshot(live, other)
    with pytest.raises(CheckpointError, match="saved under the schedule"):
        load(path, live, scheduler=other)
    assert same(snapshot(live, other), before)


def test_a_scheduler_gets_no_attributes_it_does_not_have(path):
    """torch writes a scheduler's saved keys among its attributes, its methods' names included."""
    model, optimizer = saved(path)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    save(path, optimizer, scheduler=scheduler)
    contents = read(path)
    contents.scheduler.state["get_lr"] = "mine"
    write(path, contents)
    with pytest.raises(CheckpointError, match="'get_lr' is no part of this scheduler's state"):
        load(path, optimizer, scheduler=scheduler)
    assert callable(scheduler.get_lr)
    assert model is not None


def test_generators_go_on(path):
    import random

    import numpy as np

    _, optimizer = saved(path)

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    save(path, optimizer, rng=True)
    first = draw()
    assert draw() != first
    load(path, optimizer, rng=True)
    assert draw() == first


def test_unknown_settlement(path):
    _, optimizer = saved(path)
    with pytest.raises(CheckpointError, match="Invalid decay: 'mine'; choose 'match', 'saved' or 'live'"):
        load(path, optimizer, decay="mine")
