"""``adamantine tune`` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adamantine.cli import app

TINY = ("tune", "--task", "tiny_task:", "--trials", "4", "--batch", "4", "--seeds", "2", "--confirm", "3")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture(autouse=True)
def _here(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_search_prints_the_line_to_paste_and_goes_on(tmp_path: Path) -> None:
    result = invoke(*TINY, "--lr", "0.01:1")
    assert result.exit_code == 0, result.output
    for text in ("two blobs", "4 of 4 trials", "optimizer = AdamW(groups, lr=", "memory τ of", "test error"):
        assert text in result.output
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("tune-tiny_task")
    assert (folder / "study.db").exists()
    more = invoke(*TINY, "--lr", "0.01:1", "--trials", "6")
    assert "6 of 6 trials" in more.output
    assert len((folder / "results.csv").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("tune --task digist", "did you mean digits"),
        ("tune --lr fast", "--lr 'fast': expected LOW:HIGH"),
        ("tune --method Adam --gamma 1e-4:1e-2", "Adam has no γ"),
        ("tune --sampler cmaes2", "there are tpe"),
        ("tune --coordinates beta", "there are gamma, lambda"),
        ("tune --storage nonsense://x", "--storage nonsense"),
        ("tune --trials 0", "--trials must be"),
        ("tune --method AdamX", "unknown method 'AdamX'"),
    ],
)
def test_errors_are_one_line(arguments: str, message: str) -> None:
    result = invoke(*arguments.split())
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
