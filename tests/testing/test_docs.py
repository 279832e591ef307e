"""docs/conformance.md lists the checks that there are."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from adamantine.testing.registry import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_is_documented(name):
    check = CHECKS[name]
    assert f"| `{name}` | {check.family} | {check.by} | {check.question} |" in PAGE.read_text(
        encoding="utf-8"
    )
    assert inspect.getdoc(check.ask)


def test_nothing_else_is():
    table = PAGE.read_text(encoding="utf-8").partition("## The checks")[2].partition("## How it is")[0]
    assert table.count("\n| `") == len(CHECKS)
