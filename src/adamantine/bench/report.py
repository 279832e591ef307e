"""What a benchmark leaves in its folder."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from adamantine.bench import figure
from adamantine.bench.console import show
from adamantine.bench.errors import BenchError
from adamantine.bench.results import FILE, Results
from adamantine.report.files import write_atomic

WIDTH = 100


def claim(folder: Path) -> None:
    """Makes the folder, before minutes of work rather than after.

    Raises:
        BenchError: another benchmark, or somebody else, has its results there.
        OSError: it cannot be made.
    """
    if (folder / FILE).exists():
        raise BenchError(
            f"--out {folder}: has a {FILE} already, which is not overwritten; give another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)


def write(results: Results, folder: Path) -> None:
    """Writes ``results.json``, ``summary.txt`` (the tables of the terminal) and ``figures/``."""
    results.write(folder)
    text = io.StringIO(f"{results.manifest['command']} ({results.manifest['time']})\n")
    text.seek(0, io.SEEK_END)
    show(results, Console(file=text, width=WIDTH))
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    write_atomic(folder / "summary.txt", ("\n".join(lines).strip() + "\n").encode())
    figure.write(results, folder)
