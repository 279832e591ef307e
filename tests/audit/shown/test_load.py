"""From a target to a model with its optimizers: every form that is promised, and whose errors are whose."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from adamantine.audit.errors import AuditError
from adamantine.audit.load import ScriptError, load, sorted_out

SCRIPT = '''
"""A script."""
import sys

import torch

print("hello from the script", sys.argv)


def build():
    model = torch.nn.Linear(2, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


class Nested:
    @staticmethod
    def build():
        return build()


def fails():
    return [][1]


def quits():
    raise SystemExit(3)


def nothing():
    return None


def inside_torch():
    return torch.nn.Linear(2, 2)(torch.ones(3))
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a script of a name that nobody has."""
    (tmp_path / "audited_script.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("audited_script", None)


@pytest.mark.parametrize(
    "target", ["audited_script:build", "audited_script.py:build", "audited_script:Nested.build"]
)
def test_a_function_of_a_module_or_of_a_file(folder: Path, target: str) -> None:
    loaded = load(target)
    assert isinstance(loaded.model, nn.Linear)
    assert isinstance(loaded.optimizer, torch.optim.SGD)
    assert loaded.scheduler is None


def test_a_file_may_import_its_neighbours(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "neighbour_of_it.py").write_text(SCRIPT)
    (folder / "sub" / "start.py").write_text("from neighbour_of_it import build")
    assert isinstance(load("sub/start.py:build").model, nn.Linear)


def test_the_process_is_left_as_it_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = list(sys.argv), list(sys.path)
    load("audited_script:build")
    assert (list(sys.argv), list(sys.path)) == before
    out, err = capsys.readouterr()
    assert out == ""  # the script's prints must not mix with --json -
    assert "hello from the script ['audited_script']" in err


def test_errors_of_the_script_are_shown_as_its_own(folder: Path) -> None:
    with pytest.raises(ScriptError, match="IndexError in your code") as caught:
        load("audited_script.py:fails")
    shown = caught.value.shown.splitlines()
    assert shown[0] == "Traceback (most recent call last):"
    assert shown[-1] == "IndexError: list index out of range"
    assert [line for line in shown if line.startswith("  File")] == [shown[1]]
    assert f'"{folder / "audited_script.py"}"' in shown[1]


def test_a_traceback_ends_in_the_users_file(folder: Path) -> None:
    with pytest.raises(ScriptError) as caught:
        load("audited_script.py:inside_torch")
    assert "torch/nn" not in caught.value.shown
    assert "return torch.nn.Linear(2, 2)(torch.ones(3))" in caught.value.shown


def test_a_module_that_the_script_lacks_is_the_scripts_error(folder: Path) -> None:
    (folder / "audited_script.py").write_text("import there_is_no_such_module_here")
    with pytest.raises(ScriptError) as caught:
        load("audited_script:build")
    assert "there_is_no_such_module_here" in caught.value.shown


def test_a_syntax_error_is_shown(folder: Path) -> None:
    (folder / "audited_script.py").write_text("def build(:\n")
    with pytest.raises(ScriptError) as caught:
        load("audited_script.py:build")
    assert "def build(:" in caught.value.shown


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("train", "give module:function"),
        (":build", "give module:function"),
        ("nowhere_at_all:build", "there is no module 'nowhere_at_all'"),
        ("nowhere.py:build", "there is no file nowhere.py"),
        ("audited_script:buidl", "has no buidl; there are build, Nested, fails"),
        ("audited_script:quits", "ended itself (exit code 3)"),
        ("audited_script:nothing", "gave no model but None"),
    ],
)
def test_what_is_wrong_with_a_target_is_said(folder: Path, target: str, said: str) -> None:
    with pytest.raises(AuditError) as caught:
        load(target)
    assert said in str(caught.value)


class Lit(nn.Module):
    """What Lightning's modules look like from outside."""

    def __init__(self, configured: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.configured = configured

    def configure_optimizers(self) -> Any:
        return self.configured(self)


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def _steps(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.StepLR:
    return torch.optim.lr_scheduler.StepLR(optimizer, 10)


def _dict(model: nn.Module) -> dict[str, Any]:
    optimizer = _sgd(model)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": _steps(optimizer), "interval": "step"}}


def _lists(model: nn.Module) -> tuple[list[Any], list[Any]]:
    optimizers = [_sgd(model), _sgd(model)]
    return optimizers, [{"scheduler": _steps(optimizers[0])}]


@pytest.mark.parametrize(
    ("configured", "optimizers", "schedulers"),
    [
        (_sgd, 1, 0),
        (_dict, 1, 1),
        (_lists, 2, 1),
        (lambda m: [_sgd(m)], 1, 0),
        (lambda m: (_dict(m), _dict(m)), 2, 2),
    ],
)
def test_lightnings_forms(configured: Any, optimizers: int, schedulers: int) -> None:
    module = Lit(configured)
    loaded = sorted_out(module)
    assert loaded.model is module

    def count(part: Any) -> int:
        return 0 if part is None else len(part) if isinstance(part, tuple) else 1

    assert (count(loaded.optimizer), count(loaded.scheduler)) == (optimizers, schedulers)


def test_dicts_and_objects_by_their_names() -> None:
    model = nn.Linear(2, 2)
    optimizer = _sgd(model)
    scheduler = _steps(optimizer)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "other": object()}
    for result in (
        parts,
        SimpleNamespace(**parts),
        (model, optimizer, scheduler),
        [optimizer, model, scheduler],
    ):
        loaded = sorted_out(result)
        assert (loaded.model, loaded.optimizer, loaded.scheduler) == (model, optimizer, scheduler)
    generator, critic = nn.Linear(1, 1), nn.Linear(1, 1)
    both = sorted_out(([generator, critic], [_sgd(generator), _sgd(critic)]))
    assert both.model == (generator, critic)
    assert len(both.optimizer) == 2


def test_a_module_list_is_one_model() -> None:
    layers = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    assert sorted_out((layers, _sgd(layers))).model is layers
