"""What docs/audit.md quotes, made anew:

python tests/audit/shown/document.py
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from typer.testing import CliRunner

from adamantine.audit.checks import CATALOGUE
from adamantine.cli import app

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "audit.md"
EXAMPLE = "docs/examples/train_lm.py:build"


def quoted() -> dict[str, str]:
    """Contents of the marked places."""
    plain, fix = ["adamantine", "audit", EXAMPLE], ["adamantine", "audit", EXAMPLE, "--fix", "-q"]
    return {"output": _session(plain), "fix": _session(fix), "table": table()}


def table() -> str:
    """The catalogue."""
    rows = []
    for kind in sorted(CATALOGUE.values(), key=lambda kind: kind.code):
        words = [_cell(text.en) for text in (kind.title, kind.why, kind.remedy)]
        rows.append(f"| `{kind.code}` | {kind.severity} | {' | '.join(words)} |")
    return "\n".join(["| code | at worst | what | why | remedy |", "|---|---|---|---|---|", *rows])


def place(name: str, text: str, document: str) -> str:
    """The document with this text between its marks."""
    pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}{text}\n{found[2]}", document)


def _session(command: list[str]) -> str:
    environment = {"COLUMNS": "96", "TERM": "dumb"}
    os.chdir(ROOT)
    result = CliRunner().invoke(app, command[1:], env=environment)
    lines = [f"$ {' '.join(command)}", *result.stdout.rstrip().splitlines()]
    return "\n".join(f"    {line}".rstrip() for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, content in quoted().items():
        text = place(name, content, text)
    DOCUMENT.write_text(text, encoding="utf-8")
