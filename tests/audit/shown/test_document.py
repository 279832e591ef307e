"""docs/audit.md quotes what the command prints now, and every finding that there is."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


def test_the_document_is_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path.cwd())  # the command moves to the root; back afterwards
    made = runpy.run_path(str(Path(__file__).with_name("document.py")))
    document = made["DOCUMENT"].read_text(encoding="utf-8")
    for name, content in made["quoted"]().items():
        assert made["place"](name, content, document) == document, "run: python tests/audit/shown/document.py"
