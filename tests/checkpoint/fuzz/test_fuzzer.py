"""The coverage-guided fuzzer starts, runs, and finds nothing in a few seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris")
pytest.importorskip("msgpack")


def test_a_few_seconds_of_it(tmp_path: Path) -> None:
    run = subprocess.run(
        [
            *[sys.executable, str(Path(__file__).parent / "fuzz_reader.py"), str(tmp_path / "corpus")],
            *["-max_total_time=4", "-timeout=20", "-rss_limit_mb=4096", "-seed=1"],
        ],
        cwd=tmp_path,  # where a crash would be written
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "Done " in run.stderr
    assert not list(tmp_path.glob("crash-*"))
