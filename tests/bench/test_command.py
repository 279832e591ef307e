"""``adamantine bench`` on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adamantine.cli import app


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments], env={"COLUMNS": "100", "TERM": "dumb"})


def test_a_quick_run_prints_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("--quick", "--case", "one", "--peers", "fused, default", "--threads", "1")
    assert result.exit_code == 0, result.output
    for text in ("One tensor of 256", "torch fused", "torch default", "1 thread", "judge no goal"):
        assert text in result.output
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("bench-")
    assert f"runs/{folder.name}" in result.output
    found = json.loads((folder / "results.json").read_text("utf-8"))
    assert len(found["rows"]) >= 3 * 5
    assert found["threads"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--case gpt3", "--case 'gpt3': there are tensor"),
        ("--peers torch", "--peers 'torch': there are fused"),
        ("--threads 0", "--threads 0: at least 1"),
        ("--out=", "--out '': give a folder"),
        ("--quick --case one --out taken", "taken: File exists"),
        ("--quick --case one --out old", "--out old: has a results.json already"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "results.json").write_text("years of work")
    result = invoke(*arguments.split())
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_ctrl_c_says_that_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("adamantine.bench.run.run", interrupted)
    result = invoke("--quick")
    assert result.exit_code == 130
    assert "nothing was written" in result.stderr


def test_without_torch_one_line_says_what_to_install() -> None:
    code = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name: None if name == 'torch' else find(name)\n"
        "sys.argv = ['adamantine', 'bench']\n"
        "from adamantine.__main__ import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == 'adamantine: torch not installed; run: pip install "adamantine[study]"\n'


def test_help_names_every_case_and_peer() -> None:
    from adamantine.bench.cases import CASES
    from adamantine.bench.peers import PEERS

    words = " ".join(invoke("--help").output.replace("│", " ").split())
    for family in {case.family for case in CASES.values()}:
        assert f"{family}," in words
    for key in PEERS:
        assert f"{key}," in words or f"{key} (" in words
