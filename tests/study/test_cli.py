"""The command line: what it prints, and how it says what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import adamantine
from adamantine.cli import app

TINY = (
    "--task",
    "tiny_task:",
    "--lr",
    "0.01,0.1",
    "--wd",
    "0,0.1",
    "--seeds",
    "2",
    "--grow",
    "0",
    "--jobs",
    "1",
)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture(autouse=True)
def _here(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_prints_its_table_and_writes_its_folder(tmp_path: Path) -> None:
    result = invoke("compare", *TINY, "--out", "run")
    assert result.exit_code == 0, result.output
    for text in ("two blobs", "AdamW", "SGD + momentum + L2", "± ", "not decided", "basin", "report.html"):
        assert text in result.output
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["seeds"] == [0, 1]
    assert manifest["data"]["train"] == 40
    assert {"torch", "numpy", "python", "adamantine"} <= manifest["versions"].keys()
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000
    assert list((tmp_path / "run" / "figures").iterdir())

    (tmp_path / "run" / "report.html").unlink()
    again = invoke("report", "run")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "run" / "report.html").exists()
    assert "not decided" in again.output


def test_failed_cells_show_in_table_and_exit_code() -> None:
    result = invoke("compare", *TINY, "--method", "tiny_optimizers:Raises", "--method", "AdamW")
    assert result.exit_code == 1
    assert "8 failed" in result.output
    assert "no step today" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("compare --task digist", "did you mean digits"),
        ("compare --task mnist", "--data-dir"),
        ("compare --task mnist --data-dir none", "--data-dir none: no such folder"),
        ("compare --task text --text none.txt", "--text none.txt: No such file"),
        ("compare --lr fast", "--lr 'fast': 'fast' is not a number"),
        ("compare --lr AdamW=1e-3 --lr AdamW=1e-4", "given twice for AdamW"),
        ("compare --lr 0", "--lr '0': 0 is not positive"),
        ("compare --weight-decay=-0.1", "--weight-decay '-0.1': -0.1 is not 0 or more"),
        ("compare --weight-decay nan", "--weight-decay 'nan': 'nan' is not finite"),
        ("compare --method AdamX", "unknown method 'AdamX'"),
        ("compare --method AdamW(betas=(0.9,2))", "beta"),
        ("compare --method AdamW(decay='coupled')", "coupled"),
        ("compare --method AdamW(", "expected Class"),
        ("compare --method tiny_optimizers:NotAnOptimizer", "not a torch.optim.Optimizer"),
        ("compare --seeds none", "--seeds 'none'"),
        ("compare --seeds 0", "at least one seed"),
        ("compare --seeds 1000000000000", "--seeds: 1001 given; give 1 to 1000"),
        ("compare --seeds 4294967296,", "seeds must stay below"),
        ("compare --lr 1e-3:1:1e12", "--lr '1e-3:1:1e12': at most 1000 values"),
        ("compare --task text --text .", "--text .: not a regular file"),
        ("compare --out=", "--out '': give a folder"),
        ("compare --jobs 0 --task tiny_task:", "--jobs must be at least 1"),
        ("compare --schedule triangle", "--schedule 'triangle': there are cosine"),
        ("compare --epochs 0", "--epochs must be at least 1"),
        ("report nowhere", "nowhere is no run folder"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments: str, message: str) -> None:
    result = invoke(*arguments.split())
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_what_the_system_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device", "runs/x/cells.jsonl")

    monkeypatch.setattr("adamantine.study.compare.compare", full)
    result = invoke("compare", *TINY)
    assert result.exit_code == 2
    assert result.stderr == "error: runs/x/cells.jsonl: No space left on device\n"


def test_fresh_leaves_the_folder_of_somebody_else_alone(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("years of work")
    result = invoke("compare", *TINY, "--out", ".", "--fresh")
    assert result.exit_code == 2
    assert "has results.csv, but is no run folder" in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_version() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.output) == (0, f"adamantine {adamantine.__version__}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", ["--version", "tasks"])
def test_a_full_disk_is_one_line(command: str) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "adamantine", command], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert result.returncode != 0
    assert result.stderr.startswith(b"error: No space left on device\n")
    assert b"Traceback" not in result.stderr


def test_a_report_needs_neither_torch_nor_scikit_learn(tmp_path: Path) -> None:
    assert invoke("compare", *TINY, "--out", "run").exit_code == 0
    (tmp_path / "run" / "report.html").unlink()
    code = (
        "import importlib.util as u, sys; find = u.find_spec; lacks = ('torch', 'sklearn')\n"
        "u.find_spec = lambda name: None if name in lacks else find(name)\n"
        "sys.modules.update(dict.fromkeys(lacks))\n"
        "sys.argv = ['adamantine', 'report', 'run']\n"
        "from adamantine.__main__ import main; main()"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}  # and its tables are full of other letters
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "report.html").exists()
    assert b"?" in result.stdout


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("adamantine.study.compare.compare", interrupted)
    result = invoke("compare", *TINY)
    assert result.exit_code == 130
    assert "Resume with the same command" in result.stderr


def test_help_shows_groups_and_examples() -> None:
    output = invoke("compare", "--help").output
    for text in ("─ What ─", "─ Grid ─", "─ Training ─", "─ Run ─", "Examples", "torch.optim:AdamW"):
        assert text in output


def test_help_breaks_its_lines_by_the_terminal_alone() -> None:
    (told,) = [line for line in invoke("compare", "--help").output.splitlines() if "Trains the same" in line]
    assert len(told.rstrip()) > 150  # of 200 columns; a line of the source has 110 at most


def test_tasks_lists_all_and_the_protocol() -> None:
    output = invoke("tasks").output
    for text in ("digits-resnet", "modular", "cifar10", "--data-dir", "def metric(outputs, targets)"):
        assert text in output


def test_without_the_extra_one_line_says_what_to_install() -> None:
    code = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name: None if name in ('sklearn', 'typer') else find(name)\n"
        "sys.argv = ['adamantine', 'compare']\n"
        "from adamantine.__main__ import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == (
        'adamantine: sklearn, typer not installed; run: pip install "adamantine[study]"\n'
    )
    assert result.stdout == ""


def test_help_imports_no_framework() -> None:
    code = (
        "import sys\nsys.argv = ['adamantine', 'compare', '--help']\n"
        "from adamantine.__main__ import main\ntry: main()\nexcept SystemExit: pass\n"
        "sys.exit(int('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
