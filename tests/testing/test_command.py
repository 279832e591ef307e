"""``adamantine check``."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from adamantine.cli import app
from adamantine.testing import Conformance, check_optimizer

SHORT = ["--only", "zero-lr,named-order", "--quiet"]


def run(*arguments):
    return CliRunner().invoke(app, ["check", *arguments], env={"COLUMNS": "200"})


def test_one_class():
    result = run("torch.optim:SGD", *SHORT)
    assert result.exit_code == 0, result.output
    assert "torch.optim:SGD(), compared with the formula sgd" in result.output
    assert "zero-lr" in result.output
    assert "✓ passed" in result.output
    assert "1 rules kept, 0 broken" in result.output


def test_a_violation_is_exit_code_1():
    result = run("torch.optim:AdamW", *SHORT, "--examples")
    assert result.exit_code == 1
    assert "✗ violated" in result.output
    assert "from torch.optim import AdamW" in result.output
    assert "[asked for by this kit]" in result.output
    assert "# False" in result.output


def test_a_class_of_the_folder_one_stands_in(tmp_path, monkeypatch):
    """The console script's sys.path does not have it; a single class is imported in this process."""
    (tmp_path / "of_this_folder.py").write_text("from torch.optim import SGD as Mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path not in {"", str(tmp_path)}])
    result = run("of_this_folder:Mine", "--only", "zero-lr", "--quiet")
    assert result.exit_code == 0, result.output


@pytest.fixture
def in_this_process(monkeypatch):
    """Where the form of the output is looked at and not the processes, which take seconds to start."""

    def check(target, *, timeout, **options):
        return check_optimizer(target, **options)

    monkeypatch.setattr("adamantine.testing.isolated.check_isolated", check)


def test_held_to_another_name(tmp_path, monkeypatch):
    (tmp_path / "late_decay.py").write_text(
        "import torch\n"
        "class MySGDW(torch.optim.SGD):\n"
        "    @torch.no_grad()\n"
        "    def step(self, closure=None):\n"
        "        for group in self.param_groups:\n"
        "            for p in group['params']:\n"
        "                p.sub_(group['lr'] * p.grad).mul_(1 - group['lr'] * group['weight_decay'])\n"
    )
    monkeypatch.chdir(tmp_path)
    own = run("late_decay:MySGDW", "--only", "decay-order", "--quiet")
    assert own.exit_code == 0, own.output
    result = run("late_decay:MySGDW", "--as", "SGDW", "--only", "decay-order", "--quiet", "--examples")
    assert result.exit_code == 1, result.output
    assert "the decay shrinks the weight after the step" in result.output
    assert "SGDW = late_decay.MySGDW" in result.output


def test_several_make_a_matrix_and_what_is_missing_is_exit_code_2():
    result = run("torch.optim:SGD", "no_such_package:X", "--only", "zero-lr", "--quiet")
    assert result.exit_code == 2
    assert "X no_such_package:X: there is no module 'no_such_package' here" in result.output
    assert "1 torch.optim:SGD()" in result.output
    assert "✓ kept" in result.output


@pytest.mark.usefixtures("in_this_process")
def test_json_round_trip():
    result = run("torch.optim:SGD", *SHORT, "--json", "--kwargs", '{"momentum": 0.9}')
    (data,) = json.loads(result.stdout)
    found = Conformance.of_dict(data)
    assert found.as_dict() == data
    assert found.hyper == {"momentum": 0.9}
    assert [each.check for each in found.results] == ["zero-lr", "named-order"]
    assert found["named-order"].example.output.endswith("False\n")
    assert result.exit_code == 1


@pytest.mark.usefixtures("in_this_process")
def test_markdown():
    one = run("torch.optim:AdamW", *SHORT, "--markdown", "--examples").stdout
    assert one.startswith(
        "| check | outcome | what was found |\n| --- | --- | --- |\n| `zero-lr` | ✓ passed |"
    )
    assert "```python\nimport copy\nimport torch\nfrom torch.optim import AdamW\n\n" in one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no class given; for instance: adamantine check torch.optim:AdamW"),
        (["torch.optim:Nothing"], "torch.optim:Nothing: module 'torch.optim' has no attribute 'Nothing'"),
        (["torch.optim:SGD", "--kwargs", "{lr}"], "--kwargs '{lr}'"),
        (["torch.optim:SGD", "--kwargs", "[1]"], "give an object"),
        (["torch.optim:SGD", "--only", "nosuch"], "no check or family is called nosuch"),
        (["torch.optim:SparseAdam"], "SparseAdam does not step on a small weight"),
    ],
)
def test_what_cannot_be_asked_is_one_line(arguments, message):
    result = run(*arguments, "--quiet")
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_the_list():
    result = run("--list")
    assert result.exit_code == 0
    assert "a step at lr = 0 moves nothing, whatever the decay" in result.output
