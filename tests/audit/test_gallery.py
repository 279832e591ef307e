"""Every mistake of the gallery is found, on the parameters concerned; in correct scripts there is nothing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from adamantine.audit import Finding, audit
from adamantine.audit.checks import CATALOGUE as CODES
from adamantine.audit.fix import fixed

GALLERY = Path(__file__).parent / "gallery"


def _catalogue() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery_catalogue", GALLERY / "catalogue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


CATALOGUE = _catalogue()
MISTAKES = CATALOGUE.scripts("mistakes")
CORRECT = CATALOGUE.scripts("correct")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The nets are so small that threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def findings_of(script: Any) -> tuple[torch.nn.Module, list[Finding]]:
    """What the audit says before the first step, and after training where the script trains."""
    torch.manual_seed(0)
    model, optimizer, *scheduler = script.build()
    audited = audit(optimizer, model, scheduler=scheduler[0] if scheduler else None, every=1, **script.plan)
    found = list(audited.findings)
    if script.train is not None:
        with audited:
            script.train(model, optimizer)
        assert audited.report.ledger is not None
        found += audited.report.ledger.findings
    return model, found


def by_code(found: Iterable[Finding], model: torch.nn.Module) -> dict[str, set[str]]:
    """Names of the parameters concerned, tied ones by their first name."""
    named = list(model.named_parameters(remove_duplicate=False))
    first: dict[int, str] = {}
    for name, parameter in named:
        first.setdefault(id(parameter), name)
    same = {name: first[id(parameter)] for name, parameter in named}
    codes: dict[str, set[str]] = {}
    for finding in found:
        codes.setdefault(finding.code, set()).update(same.get(name, name) for name in finding.parameters)
    return codes


@pytest.mark.parametrize("script", MISTAKES, ids=lambda script: script.name)
def test_the_mistake_is_found_and_nothing_else(script: Any) -> None:
    model, found = findings_of(script)
    names = [name for name, _ in model.named_parameters()]
    expected = {
        code: {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}
        for code, patterns in script.findings.items()
        if patterns is not None
    }
    seen = by_code((finding for finding in found if finding.code not in script.notes), model)
    assert set(seen) == set(script.findings), [finding.title.en for finding in found]
    assert {f.severity for f in found if f.code in script.notes} <= {"note"}
    assert {code: seen[code] for code in expected} == expected


@pytest.mark.parametrize("style", ["adamantine", "torch"])
@pytest.mark.parametrize("script", MISTAKES, ids=lambda script: script.name)
def test_the_fix_mends_what_it_says_and_breaks_nothing(script: Any, style: Any) -> None:
    torch.manual_seed(0)
    model, optimizer, *scheduler = script.build()
    audited = audit(optimizer, model, scheduler=scheduler[0] if scheduler else None, **script.plan)
    fix = fixed(audited.report, optimizer, model, style=style)
    names: dict[str, Any] = {"model": model}
    exec(fix.program, names)
    if not fix.mended:
        return
    before = {finding.code for finding in audited.findings}
    made = [value for value in names.values() if isinstance(value, torch.optim.Optimizer)]
    after = {f.code for f in audit(made, model, **script.plan).findings if f.severity != "note"}
    assert after & set(fix.mended) == set()
    assert after <= before


@pytest.mark.parametrize("script", CORRECT, ids=lambda script: script.name)
def test_nothing_to_warn_of_in_a_correct_script(script: Any) -> None:
    _, found = findings_of(script)
    assert [(f.code, f.parameters, f.reason.en) for f in found if f.severity != "note"] == []
    assert {f.code for f in found} == set(script.notes)


def test_every_code_has_its_script() -> None:
    shown = {code for script in MISTAKES for code in script.findings}
    shown |= {code for script in CORRECT for code in script.notes}
    assert set(CODES) - shown == {"not-measured"}  # the ledger's own failure: no script's mistake
    assert shown - set(CODES) == set()


def test_the_gallery_is_as_large_as_promised() -> None:
    assert len(MISTAKES) >= 28
    assert len(CORRECT) >= 12


def test_every_script_names_a_thread() -> None:
    assert [script.name for script in MISTAKES if not script.source.startswith("https://github.com/")] == []


def test_the_page_is_made_of_the_headers() -> None:
    page = Path(__file__).parents[2] / "docs" / "gallery.md"
    assert page.read_text(encoding="utf-8") == CATALOGUE.page(), (
        "run: python tests/audit/gallery/catalogue.py > docs/gallery.md"
    )
