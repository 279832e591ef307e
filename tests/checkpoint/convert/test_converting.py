"""There and back equals the original, goes on training like it, and what is lost is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adamantine.torch
from adamantine import checkpoint
from adamantine.checkpoint import CheckpointError, foreign
from adamantine.checkpoint.convert.api import convert

pytest.importorskip("msgpack")

Make = Callable[..., torch.optim.Optimizer]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3))


def grouped(model: nn.Module) -> list[dict[str, Any]]:
    named = list(model.named_parameters())
    return [
        {"params": [pair for pair in named if pair[1].ndim > 1], "weight_decay": 0.1},
        {"params": [pair for pair in named if pair[1].ndim < 2], "weight_decay": 0.0},
    ]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(16, 6, generator=generator)).pow(2).mean().backward()
        optimizer.step()


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return type(first) is type(second) and len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


MAKERS: dict[str, Make] = {
    "AdamW": lambda params: torch.optim.AdamW(params, lr=1e-2),
    "AdamW, amsgrad": lambda params: torch.optim.AdamW(params, lr=1e-2, amsgrad=True),
    "Adam": lambda params: torch.optim.Adam(params, lr=1e-2),
    "SGD": lambda params: torch.optim.SGD(params, lr=1e-2, momentum=0.9),
    "RMSprop": lambda params: torch.optim.RMSprop(params, lr=1e-2, centered=True),
    "NAdam": lambda params: torch.optim.NAdam(params, lr=1e-2),
    "ours": lambda params: adamantine.torch.AdamW(params, lr=1e-2),
    "ours, independent": lambda params: adamantine.torch.AdamW(params, lr=1e-2, decay="independent"),
    "our Lion": lambda params: adamantine.torch.Lion(params, lr=1e-3),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_torch_to_adamantine_and_back(make: Make, tmp_path: Path) -> None:
    model = network()
    optimizer = make(grouped(model))
    train(model, optimizer, 3, seed=1)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    report = convert(tmp_path / "a.pt", tmp_path / "b.safetensors", to="adamantine")
    entries = sum(len(slots) for slots in optimizer.state_dict()["state"].values())
    assert report.kept == [f"{entries} of {entries} entries of the state, as read back from what was written"]
    assert report.lost == report.changed == []
    convert(tmp_path / "b.safetensors", tmp_path / "c.pt", to="torch")
    back, original = torch.load(tmp_path / "c.pt", weights_only=True), optimizer.state_dict()
    if "decay" in original["param_groups"][0] and original["param_groups"][0]["decay"] == "independent":
        assert equal(back["state"], original["state"])  # λ is converted: a test of its own, below
    else:
        assert equal(back, original)


@pytest.mark.parametrize("name", ["AdamW", "SGD", "ours"])
def test_it_trains_on_as_if_nothing_had_been(name: str, tmp_path: Path) -> None:
    """torch → adamantine → torch → 5 more steps, against the same steps uninterrupted: bit for bit."""
    model = network()
    optimizer = MAKERS[name](grouped(model))
    train(model, optimizer, 5, seed=1)
    stopped = deepcopy(model)
    torch.save({"epoch": 1, "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    train(model, optimizer, 5, seed=2)

    convert(tmp_path / "a.pt", tmp_path / "b.safetensors", to="adamantine")
    convert(tmp_path / "b.safetensors", tmp_path / "c.pt", to="torch")
    resumed = MAKERS[name](grouped(stopped))
    resumed.load_state_dict(torch.load(tmp_path / "c.pt", weights_only=True))
    train(stopped, resumed, 5, seed=2)
    assert equal(stopped.state_dict(), model.state_dict())


def test_a_converted_file_loads_into_its_class(tmp_path: Path) -> None:
    model = network()
    optimizer = MAKERS["AdamW"](grouped(model))
    train(model, optimizer, 3, seed=1)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    convert(tmp_path / "a.pt", tmp_path / "b.safetensors", to="adamantine")
    fresh = MAKERS["AdamW"](grouped(model))
    checkpoint.load(tmp_path / "b.safetensors", fresh)
    assert equal(fresh.state_dict(), optimizer.state_dict())


def test_extra_and_scheduler_travel_from_adamantine_to_adamantine(tmp_path: Path) -> None:
    model = network()
    optimizer = MAKERS["AdamW"](grouped(model))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    train(model, optimizer, 1, seed=1)
    checkpoint.save(tmp_path / "a.safetensors", optimizer, scheduler=scheduler, extra={"epoch": 7})
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", to="adamantine")
    first, second = checkpoint.read(tmp_path / "a.safetensors"), checkpoint.read(tmp_path / "b.safetensors")
    assert second.extra == {"epoch": 7}
    assert second.scheduler == first.scheduler
    assert equal(first.state_dict(), second.state_dict())
    lost = convert(tmp_path / "a.safetensors", tmp_path / "c.pt", to="torch").lost
    assert any("scheduler" in each for each in lost)
    assert any("extra" in each for each in lost)


def test_independent_decay_becomes_decoupled_by_the_peak_lr(tmp_path: Path) -> None:
    model = network()
    optimizer = adamantine.torch.AdamW(
        model.named_parameters(), lr=1e-2, weight_decay=1e-3, decay="independent"
    )
    train(model, optimizer, 3, seed=1)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    report = convert(tmp_path / "a.pt", tmp_path / "b.pt", to="torch")
    group = torch.load(tmp_path / "b.pt", weights_only=True)["param_groups"][0]
    assert (group["weight_decay"], group["decay"], group["decoupled_weight_decay"]) == (
        0.1,
        "decoupled",
        True,
    )
    assert "group 0 decays 'decoupled' with weight_decay=0.1, was 'independent' with 0.001" in report.changed

    twin = torch.optim.AdamW((model_two := deepcopy(model)).named_parameters(), lr=1e-2)
    twin.load_state_dict(torch.load(tmp_path / "b.pt", weights_only=True))
    train(model, optimizer, 1, seed=2)
    train(model_two, twin, 1, seed=2)
    for one, two in zip(model.parameters(), model_two.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)  # two kernels round a float32 step apart


@pytest.mark.parametrize(
    ("decay", "to"), [("cautious", "torch"), ("corrected", "optax"), ("l2", "bitsandbytes")]
)
def test_decay_that_the_target_has_not_is_refused(decay: str, to: str, tmp_path: Path) -> None:
    model = network()
    make = adamantine.torch.Adam if decay == "l2" else adamantine.torch.AdamW
    optimizer = make(model.named_parameters(), lr=1e-2, weight_decay=0.1, decay=decay)  # type: ignore[arg-type]
    train(model, optimizer, 1, seed=1)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=f"group 0 decays '{decay}', and .* has .*decoupled"):
        convert(tmp_path / "a.pt", tmp_path / "b", to=to)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["AdamW", "SGD", "our Lion"])
def test_to_optax_and_back(name: str, tmp_path: Path) -> None:
    model = network()
    optimizer = MAKERS[name](model.named_parameters())
    train(model, optimizer, 3, seed=1)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    report = convert(tmp_path / "a.pt", tmp_path / "b.msgpack", to="optax")
    rule = {"AdamW": "optax.adamw", "SGD": "optax.sgd", "our Lion": "optax.lion"}[name]
    assert any(f"{rule}(learning_rate=" in each for each in report.lost)
    before, after = foreign.read(tmp_path / "a.pt"), foreign.read(tmp_path / "b.msgpack")
    assert set(before.names) == set(after.names)
    for parameter in before.names:
        for slot, value in before.state[parameter].items():
            assert equal(value, after.state[parameter][slot])
    back = tmp_path / "c.pt"
    convert(
        tmp_path / "b.msgpack", back, to="torch", decay="decoupled", hyper={"lr": 0.01, "weight_decay": 0.1}
    )
    assert foreign.read(back).rule == before.rule


def test_optax_does_not_know_its_hyperparameters(written: Path, tmp_path: Path) -> None:
    source = written / "optax-adamw.msgpack"
    with pytest.raises(
        CheckpointError, match="does not say lr and weight_decay of group 0; give --set lr=… --set"
    ):
        convert(source, tmp_path / "a.pt", to="torch")
    with pytest.raises(CheckpointError, match="does not say how group 0 decays; give --decay decoupled"):
        convert(source, tmp_path / "a.pt", to="torch", hyper={"lr": 1e-2, "weight_decay": 0.1})
    report = convert(
        source, tmp_path / "a.pt", to="torch", decay="decoupled", hyper={"lr": 1e-2, "weight_decay": 0.1}
    )
    assert any(
        "gets betas=(0.9, 0.999), eps=1e-08, the defaults of torch.optim.AdamW" in c for c in report.changed
    )
    parameters = [
        ("Dense_0.bias", nn.Parameter(torch.ones(2))),
        ("Dense_0.kernel", nn.Parameter(torch.ones(3, 2))),
    ]
    optimizer = torch.optim.AdamW(parameters, lr=1.0)
    optimizer.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))
    assert optimizer.param_groups[0]["lr"] == 1e-2


def test_a_kernel_of_flax_becomes_a_weight_of_torch(written: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text(
        json.dumps({"Dense_0.kernel": {"name": "0.weight", "axes": [1, 0]}, "Dense_0.bias": "0.bias"})
    )
    settings: dict[str, Any] = {"decay": "decoupled", "hyper": {"lr": 1e-2, "weight_decay": 0.1}}
    source = written / "optax-adamw.msgpack"
    convert(source, tmp_path / "a.safetensors", to="adamantine", names=names, **settings)
    state = foreign.read(tmp_path / "a.safetensors")
    assert state.shape("0.weight") == (2, 3)
    kernel = foreign.read(source).state["Dense_0.kernel"]["exp_avg"]
    assert torch.equal(state.state["0.weight"]["exp_avg"], kernel.T)


def test_groups_that_one_optax_optimizer_cannot_have(tmp_path: Path) -> None:
    model = network()
    groups = grouped(model)
    groups[1]["lr"] = 1e-4
    optimizer = MAKERS["AdamW"](groups)
    train(model, optimizer, 1, seed=1)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"its groups differ in lr, which takes optax\.multi_transform"):
        convert(tmp_path / "a.pt", tmp_path / "b.msgpack", to="optax")


def test_eight_bits_there_and_back(written: Path, tmp_path: Path) -> None:
    """Codes pass through the neutral form untouched: bitsandbytes → bitsandbytes is the identity."""
    report = convert(written / "bitsandbytes.pt", tmp_path / "a.pt", to="bitsandbytes")
    assert report.kept == ["6 of 6 entries of the state, as read back from what was written"]
    wrapped = "__bnb_optimizer_quant_state__"
    before, after = (
        torch.load(path, weights_only=True)["state"]
        for path in (written / "bitsandbytes.pt", tmp_path / "a.pt")
    )
    assert all(equal(before[index][wrapped], after[index][wrapped]) for index in (0, 1))


def test_to_eight_bits_the_loss_is_measured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(70, 70))
    optimizer = torch.optim.AdamW([("w", weight)], lr=1e-3)
    weight.grad = torch.randn(70, 70)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    report = convert(tmp_path / "a.pt", tmp_path / "b.pt", to="bitsandbytes")
    said = {each.split(":")[0]: each for each in report.changed}
    assert set(said) == {"exp_avg", "exp_avg_sq"}
    # Between 0.1 and 1 of a block's scale the signed table has 64 equal steps, the unsigned 128: half a step
    # is 0.9 / 128 = 0.703 % and 0.352 %. Below 0.1 they are finer, and the end at -1 is half a step outside.
    largest = {slot: float(text.split(", ")[1].split(" %")[0]) for slot, text in said.items()}
    assert 0 < largest["exp_avg"] <= 0.703
    assert 0 < largest["exp_avg_sq"] <= 0.352


def test_dequantized_state_is_said_to_be(written: Path, tmp_path: Path) -> None:
    report = convert(written / "bitsandbytes.pt", tmp_path / "a.safetensors", to="adamantine")
    assert any("2 quantized tensors become float32" in each for each in report.changed)
    assert any("the codes themselves" in each for each in report.lost)
    assert any("names" in each for each in report.lost)


def test_deepspeed_to_torch_and_to_universal(written: Path, tmp_path: Path) -> None:
    source = written / "deepspeed-stage1-fp32"
    report = convert(source, tmp_path / "a.pt", to="torch")
    assert any("fp32 weights" in each for each in report.lost)
    optimizer = torch.optim.AdamW(grouped(nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3))))
    optimizer.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))

    convert(source, tmp_path / "universal", to="deepspeed-universal")
    zero = tmp_path / "universal" / "zero"
    for path in (written / "deepspeed-universal" / "zero").rglob("*.pt"):
        if path.name != "optimizer_state.pt":
            twin = zero / path.parent.name / path.name
            assert equal(torch.load(twin, weights_only=True), torch.load(path, weights_only=True)), path


def test_universal_needs_weights(tmp_path: Path) -> None:
    model = network()
    optimizer = MAKERS["AdamW"](model.named_parameters())
    train(model, optimizer, 1, seed=1)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    torch.save(model.state_dict(), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"holds the fp32 weights too, and '0\.weight' has none here"):
        convert(tmp_path / "a.pt", tmp_path / "u", to="deepspeed-universal")
    assert not (tmp_path / "u").exists()
    convert(tmp_path / "a.pt", tmp_path / "u", to="deepspeed-universal", model=tmp_path / "model.pt")
    state = foreign.read(tmp_path / "u")
    assert torch.equal(state.weights["2.bias"], model[2].bias)


@pytest.mark.parametrize("to", ["deepspeed", "torchao", "orbax"])
def test_what_is_not_written(to: str, written: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"Cannot write '{to}'"):
        convert(written / "bitsandbytes.pt", tmp_path / "a", to=to)


def test_the_source_is_not_written_over(tmp_path: Path) -> None:
    """What was lost could not be had again."""
    model = network()
    optimizer = MAKERS["AdamW"](grouped(model))
    train(model, optimizer, 1, seed=1)
    source = tmp_path / "a.safetensors"
    checkpoint.save(source, optimizer, model=model)
    torch.save({"optimizer": optimizer.state_dict(), "model": model.state_dict()}, tmp_path / "a.pt")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for name in ("a.safetensors", "new.safetensors", "new.safetensors.index.json"):
        with pytest.raises(CheckpointError, match="a file of layout torch is no safetensors file"):
            convert(source, tmp_path / name, to="torch")
    (tmp_path / "link.pt").symlink_to("a.pt")
    before[tmp_path / "link.pt"] = before[tmp_path / "a.pt"]
    for name in ("a.pt", "link.pt"):
        with pytest.raises(CheckpointError, match="is the source itself"):
            convert(tmp_path / "a.pt", tmp_path / name, to="torch")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    convert(source, source, to="adamantine", hyper={"lr": 0.5})
    assert checkpoint.read(source).model is not None


def test_hyperparameters_without_a_place_are_said(tmp_path: Path) -> None:
    """A scheduler that resumes needs initial_lr."""
    model = network()
    optimizer = torch.optim.AdamW(grouped(model), lr=1e-2, maximize=True)
    torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    train(model, optimizer, 1, seed=1)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    report = convert(tmp_path / "a.pt", tmp_path / "b.pt", to="bitsandbytes")
    assert "of the groups: maximize, initial_lr" in report.lost
    assert convert(tmp_path / "a.pt", tmp_path / "c.pt", to="torch").lost == []
