"""The published table of other libraries' optimizers says what the published results say."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conformance-results.md"
FOUND = json.loads((ROOT / "benchmarks" / "results" / "conformance.json").read_text(encoding="utf-8"))


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "benchmarks_conformance", ROOT / "benchmarks" / "conformance.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_on_the_page_is_that_of_the_results(script: ModuleType) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for marker, table in {"front": script.front, "modes": script.modes}.items():
        shown = page.split(f"<!-- {marker} -->")[1].split("<!-- end -->")[0].strip()
        assert shown == table(FOUND)


def test_versions_on_the_page_are_those_that_ran() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for library, of in FOUND["libraries"].items():
        for version in re.findall(rf"^\| {re.escape(library)} ([\d.]+\d)(?:\+cpu)?,", page, re.M):
            assert of["version"] == version, library


def test_the_results_say_that_they_are_not_verified() -> None:
    assert "Not verified by hand" in FOUND["note"]


def test_every_class_is_listed_in_the_script(script: ModuleType) -> None:
    listed = {f"{m}:{n}" for of in script.PEERS.values() for m, names in of.items() for n in names.split()}
    ran = {target for of in FOUND["libraries"].values() for target in of["classes"]}
    assert ran <= listed
