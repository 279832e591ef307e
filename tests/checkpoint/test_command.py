"""``adamantine checkpoint``: what it prints, and its exit codes."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from adamantine.checkpoint import read, save, write
from adamantine.checkpoint.container import digest
from adamantine.cli import app


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=torch.tensor(1e-3))
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    target = tmp_path / "a.safetensors"
    save(target, optimizer, model=model, scheduler=scheduler, extra={"best": float("inf")}, rng=True)
    return target


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["checkpoint", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def test_inspect(path):
    text = run("inspect", path)
    for words in (
        "torch.optim.AdamW",
        "decoupled",
        "exp_avg_sq",
        "0.001",
        "2 parameters, at step 1",
        "also holds model",
    ):
        assert words in text
    assert "not in the file: scheduler.lr_lambdas[0]: a function" in text
    assert "no suspicious values" in text
    found = json.loads(run("inspect", path, "--json", "--largest", "1"))
    assert found["groups"][0]["hyper"]["lr"] == pytest.approx(1e-3)
    assert len(found["largest"]) == 1


def test_inspect_says_what_is_wrong(path):
    contents = read(path)
    contents.parameters[0].state["exp_avg_sq"][0] = -1
    write(path, contents)
    assert "negative-second-moment" in run("inspect", path)


def test_verify(path):
    assert "whole" in run("verify", path)
    assert json.loads(run("verify", path, "--json"))["problems"] == []
    content = path.read_bytes()
    path.write_bytes(content[:-2] + b"\x11\x22")
    assert "damaged" in run("verify", path, code=1)
    assert len(json.loads(run("verify", path, "--json", code=1))["problems"]) == 1
    assert "no such file" in run("verify", path.with_name("none.safetensors"), code=2)


def test_diff(path):
    other = path.with_name("b.safetensors")
    write(other, read(path))
    assert "bit-equal" in run("diff", path, other)
    assert json.loads(run("diff", path, other, "--json"))["bit_equal"] is True
    contents = read(path)
    contents.groups[0].hyper["weight_decay"] = 0.5
    for parameter in contents.parameters:
        parameter.state["exp_avg"] += 1
    contents.model = None
    write(other, contents)
    text = run("diff", path, other, code=1)
    for words in (
        "group/0/weight_decay",
        "0.01",
        "0.5",
        "state/bias/exp_avg",
        "only in the first: model (2 entries)",
    ):
        assert words in text
    assert len(json.loads(run("diff", path, other, "--json", code=1))["tensors"]) == 2
    other.write_bytes(b"damaged")
    assert "error:" in run("diff", path, other, code=2)


def test_long_lists_are_cut_and_said_to_be(path):
    contents = read(path)
    contents.extra = {str(i): i for i in range(30)}
    write(path, contents)
    contents.extra = {str(i): -i - 1 for i in range(30)}
    write(path.with_name("b.safetensors"), contents)
    assert "10 more; --all shows them" in run("diff", path, path.with_name("b.safetensors"), code=1)
    assert "extra/29" in run("diff", path, path.with_name("b.safetensors"), "--all", code=1)


def test_convert(path):
    target = path.with_name("c.pt")
    text = run("convert", path, target, "--to", "torch")
    assert "adamantine → torch" in text
    assert torch.load(target, weights_only=True)["param_groups"][0]["param_names"] == ["weight", "bias"]
    assert "Cannot write 'nothing'" in run("convert", path, target, "--to", "nothing", code=2)
    assert "give NAME=VALUE" in run("convert", path, target, "--to", "torch", "--set", "lr", code=2)
    run("convert", path, target, "--to", "torch", "--set", "lr=0.5", "--set", "betas=[0.8, 0.9]", "--json")
    group = torch.load(target, weights_only=True)["param_groups"][0]
    assert (group["lr"], group["betas"]) == (0.5, (0.8, 0.9))


def test_names_of_a_hostile_file_do_not_reach_the_terminal(path):
    contents = read(path)
    contents.parameters[0].name = "w\x1b[2J[bold]"
    contents.optimizer = "x\x1b]0;title\x07"
    write(path, contents)
    for arguments in (["inspect", path], ["verify", path]):
        assert "\x1b" not in run(*arguments)
    assert "[bold]" in run("inspect", path)
    content = path.read_bytes()  # now a NaN hyperparameter, with a name that clears the screen
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    manifest = json.loads(header["__metadata__"]["adamantine.checkpoint"])
    manifest["optimizer"]["groups"][0]["hyper"]["x\x1b[2J"] = {"$float": "nan"}
    text = json.dumps(manifest)
    header["__metadata__"] |= {"adamantine.checkpoint": text, "adamantine.sha256": digest(text.encode())}
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])
    said = run("inspect", path, code=2)
    assert "is NaN" in said
    assert "\x1b" not in said


def test_every_command_explains_itself():
    for command in ("inspect", "verify", "diff", "convert"):
        text = run(command, "--help")
        assert len(text) > 200
    assert "inspect" in run("--help")
