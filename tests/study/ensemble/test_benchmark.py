"""The benchmark of batched training runs, in its short form, on the real path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "ensemble.py"


def test_the_benchmark_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--quick", "--task", "digits", "--out", str(tmp_path)]
    quiet = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # beside other tests, waiting threads must not spin
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=quiet)
    assert done.returncode == 0, done.stderr
    assert "digits" in done.stdout
    assert "side by side" in done.stdout
    assert not list(tmp_path.iterdir())  # short numbers mean nothing, and are not kept
