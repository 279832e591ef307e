"""``adamantine audit`` from the outside: outputs, files, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adamantine.audit.checks import CATALOGUE
from adamantine.cli import app

SCRIPT = """
import torch

def build():
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)

def clean():
    model = torch.nn.Linear(4, 8)
    return model, torch.optim.SGD(model.parameters(), lr=1e-3)

def noted():
    model = torch.nn.Linear(4, 8)
    spared = {"params": [model.bias], "weight_decay": 0.0}
    return model, torch.optim.AdamW([{"params": [model.weight]}, spared])

def fails():
    raise RuntimeError("my own [bold]mistake[/bold] :x:")
"""


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mytrain.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


def audit(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", *arguments])


def test_findings_are_shown_and_fail() -> None:
    result = audit("mytrain.py:build", "--steps", "10000")
    assert result.exit_code == 1
    for text in ("decays-bias", "decays-norm", "a run of 10,000 steps", "Param groups", "36.8 %", "--fix"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("mytrain.py:clean",), 0),
        (("mytrain.py:noted",), 0),
        (("mytrain.py:noted", "--fail-on", "note"), 1),
        (("mytrain.py:build", "--fail-on", "error"), 0),
        (("mytrain.py:build", "--fail-on", "never"), 0),
        (("mytrain.py:build", "--ignore", "decays-norm"), 1),
        (("mytrain.py:build", "--ignore", "decays-norm", "--ignore", "decays-bias"), 0),
        (("mytrain.py:build", "--ignore", "decays-norm", "--ignore", "decays-bias:*.bias"), 0),
        (("mytrain.py:fails",), 2),
        (("mytrain.py:missing",), 2),
        (("mytrain.py:build", "--ignore", "no-such-code"), 2),
        (("mytrain.py:build", "--fail-on", "sometimes"), 2),
        (("mytrain.py:build", "--steps", "0"), 2),
        (("mytrain.py:build", "--interval", "week"), 2),
        (("mytrain.py:build", "--lang", "fr"), 2),
        ((), 2),
    ],
)
def test_exit_codes(arguments: tuple[str, ...], code: int) -> None:
    result = audit(*arguments)
    assert result.exit_code == code, result.output


def test_the_users_exception_is_shown_as_theirs() -> None:
    result = audit("mytrain.py:fails")
    assert "RuntimeError: my own [bold]mistake[/bold] :x:" in result.stderr
    assert "mytrain.py" in result.stderr
    assert "adamantine/" not in result.stderr
    assert "error:" in result.stderr


def test_json_alone_is_on_the_output() -> None:
    result = audit("mytrain.py:build", "--json", "-")
    found = json.loads(result.stdout)
    assert {finding["code"] for finding in found["findings"]} == {"decays-bias", "decays-norm"}
    assert "decays-norm" in result.stderr  # the table


def test_files_are_written(tmp_path: Path) -> None:
    result = audit("mytrain.py:build", "-q", "--json", "a.json", "--html", "a.html", "--lang", "zh")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert json.loads((tmp_path / "a.json").read_text())["findings"]
    html = (tmp_path / "a.html").read_text()
    assert '<html lang="zh-Hans">' in html
    assert "param_groups(model" in html  # the program
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["a.html", "a.json", "mytrain.py"]


def test_a_folder_that_is_not_there_is_named() -> None:
    result = audit("mytrain:build", "--html", "nowhere/audit.html", "-q")
    assert result.exit_code == 2
    assert "nowhere/audit.html: there is no folder nowhere" in result.stderr


def test_fix_prints_the_program_alone() -> None:
    result = audit("mytrain.py:build", "--fix")
    compile(result.stdout, "fixed", "exec")
    assert "param_groups(model, lr=0.001, weight_decay=0.1)" in result.stdout
    other = audit("mytrain.py:build", "--fix-torch", "-q")
    compile(other.stdout, "fixed", "exec")
    assert "adamantine" not in other.stdout
    assert other.stderr == ""


@pytest.mark.parametrize("code", sorted(CATALOGUE))
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_finding_is_explained(code: str, language: str) -> None:
    result = audit("--explain", code, "--lang", language)
    assert result.exit_code == 0
    assert code in result.stdout
    assert CATALOGUE[code].source.split()[0] in result.stdout


def test_explain_lists_them_and_knows_near_misses() -> None:
    assert all(code in audit("--explain", "all").stdout for code in CATALOGUE)
    result = audit("--explain", "decay-bias")
    assert result.exit_code == 2
    assert "did you mean decays-bias?" in result.stderr


def test_as_a_process_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "adamantine", "audit", "mytrain:clean"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "✓ no findings" in done.stdout
