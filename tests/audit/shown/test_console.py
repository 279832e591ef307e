"""The audit in the terminal: complete, in every width, without a torn word."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from adamantine.audit.console import rendered, text
from adamantine.audit.model import AuditReport


def words_of(report: AuditReport) -> set[str]:
    """What must stand unbroken wherever it stands: names and numbers of the findings and the tables."""
    return {
        "l2-in-adaptive",
        "not-in-optimizer",
        "blocks.{0–2}.attn.qkv.bias",
        "100,000",
        "torch.optim.AdamW",
    }


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_line_fits_and_no_word_is_torn(faulty: AuditReport, width: int, language: str) -> None:
    shown = text(faulty, width, language)  # type: ignore[arg-type]
    assert max(map(cell_len, shown.splitlines())) <= width
    for word in words_of(faulty):
        assert word in shown


def test_findings_come_first_and_the_worst_before_the_others(faulty: AuditReport) -> None:
    shown = text(faulty)
    codes = re.findall(r"^[✗▲·] \w+ .*  ([a-z0-9-]+)$", shown, re.MULTILINE)
    assert codes == [
        "l2-in-adaptive", "not-in-optimizer", "distorted-decay", "decays-bias", "decays-norm", "decays-table",
    ]  # fmt: skip
    assert shown.index("decays-table") < shown.index("Param groups") < shown.index("\nParameters")
    assert "3 errors, 2 warnings, 1 note" in shown


def test_parameters_are_patterns_with_counts(faulty: AuditReport) -> None:
    shown = text(faulty, 140)
    assert "where   blocks.*.ln.* ×12" in shown
    assert "where   blocks.{0–2}.attn.qkv.bias ×3" in shown
    table = shown[shown.index("\nParameters") : shown.index("While training")]
    assert table.count("blocks.*.ln.weight ×6") == 1
    assert len(table.splitlines()) < 15


def test_one_by_one_lists_every_parameter(faulty: AuditReport) -> None:
    from rich.console import Console

    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(rendered(faulty, 160, "en", grouped="one by one"))
    shown = console.export_text()
    for row in faulty.parameters:
        assert row.name in shown
    console.file.close()


def test_what_has_no_room_is_said(faulty: AuditReport) -> None:
    assert "Not shown, for want of room" in text(faulty, 60)
    assert "Not shown" not in text(faulty, 220)


def test_a_clean_audit_says_so(clean: AuditReport) -> None:
    shown = text(clean)
    assert "✓ no findings" in shown
    assert "length of the run unknown" in shown
    assert "left at end" not in shown  # there is no plan to reckon with


def test_text_has_no_escape_codes(faulty: AuditReport) -> None:
    assert "\x1b" not in text(faulty)


def test_hostile_names_stay_text(clean: AuditReport) -> None:
    row = replace(clean.parameters[0], name="[red]a\x1b[31m:smile:", reason="[/]")
    shown = text(replace(clean, parameters=(row,)), 120)
    assert "[red]a\ufffd[31m:smile:" in shown
    assert "[/]" in shown


def test_an_empty_audit_is_no_error() -> None:
    from adamantine.audit.model import Plan

    assert "no findings" in text(AuditReport("x.Y", Plan(), (), (), ()))
