"""The audit's page as HTML: whole, safe, the same on every run."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import replace

import pytest

from adamantine.audit.charts import curves, lr_chart
from adamantine.audit.console import text
from adamantine.audit.model import AuditReport, Distortion, Trajectory
from adamantine.audit.page import page
from adamantine.report.words import Words


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_same_audit_gives_the_same_page(faulty: AuditReport, language: str) -> None:
    first = page(faulty, language)  # type: ignore[arg-type]
    assert first == page(faulty, language)  # type: ignore[arg-type]
    assert first.startswith("<!DOCTYPE html>")


def test_only_its_own_script_may_run(faulty: AuditReport) -> None:
    html = page(faulty)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", html)
    assert " style=" not in html


def test_every_finding_is_a_card_with_its_remedy_to_copy(faulty: AuditReport) -> None:
    html = page(faulty)
    assert faulty.ledger is not None
    count = len(faulty.findings) + len(faulty.ledger.findings)
    assert html.count('class="card finding"') == count
    buttons = re.findall(r'data-copies="(mend-\d+)"', html)
    assert len(buttons) == count
    assert all(f'id="{name}"' in html for name in buttons)


def test_texts_of_others_are_escaped(faulty: AuditReport) -> None:
    evil = "<img src=x onerror=alert(1)>\x00"
    finding = replace(
        faulty.findings[0], title=Words(evil, evil), reason=Words(evil, evil), remedy=Words(evil, evil)
    )
    rows = tuple(replace(row, name=evil + row.name, reason=evil) for row in faulty.parameters)
    assert faulty.ledger is not None
    layers = tuple(replace(layer, name=evil + layer.name) for layer in faulty.ledger.layers)
    html = page(
        replace(
            faulty,
            optimizer=evil,
            parameters=rows,
            findings=(finding,),
            ledger=replace(faulty.ledger, layers=layers),
        ),
        command=evil,
        fix="</code><script>alert(1)</script>",
    )
    assert "<img" not in html
    assert html.count("<script>") == 1
    assert "\x00" not in html


def test_what_was_not_measured_is_left_out(clean: AuditReport) -> None:
    html = page(clean)
    assert 'id="ledger"' not in html
    assert 'id="mend"' not in html
    assert "<figure" not in html
    assert "Nothing to mend" in html


def test_a_distortion_without_positive_bins_is_left_out(faulty: AuditReport) -> None:
    assert faulty.ledger is not None
    nothing = Distortion((1e-3,), (0.0,), (0.0,), (0.0,), None)
    html = page(replace(faulty, ledger=replace(faulty.ledger, distortion=nothing)))
    assert "Decay differs" not in html


def test_the_finding_of_the_distortion_is_said_in_numbers(faulty: AuditReport) -> None:
    # by the fixture: 1e-5/(1 + 1e-7/1e-6) = 9.09e-6 to 1e-5/(1 + 1e-2/1e-6) = 1e-9: a factor of 9092
    assert "Decay differs 9,100‑fold between weights" in page(faulty)


def test_patterns_of_the_parameter_table_hold_all_names_for_the_filter(faulty: AuditReport) -> None:
    html = page(faulty)
    named = " ".join(re.findall(r'data-names="([^"]*)"', html)).split()
    assert sorted(named) == sorted(row.name for row in faulty.parameters)


def test_a_diverged_run_has_a_page(faulty: AuditReport) -> None:
    assert faulty.ledger is not None
    nan, inf = math.nan, math.inf
    layers = [
        replace(layer, decay_step=nan, gradient_step=inf, norm=inf, equilibrium=nan, update_to_weight=nan)
        for layer in faulty.ledger.layers[:-1]
    ]
    seen = Distortion((1e-3, 1e-2, inf), (1e-5, nan, inf), (nan, nan, nan), (inf, nan, inf), 1e-5)
    ledger = replace(faulty.ledger, layers=(*layers, faulty.ledger.layers[4]), distortion=seen)
    html = page(replace(faulty, ledger=ledger))
    assert not re.search(r'[ "](?:nan|inf)[ "]', html)
    assert html.count("<figure") == 5


def test_decay_that_could_not_be_told_apart_is_a_dash(faulty: AuditReport) -> None:
    assert faulty.ledger is not None
    unknown = replace(faulty.ledger.layers[0], name="odd", decay_step=math.nan, separation="unknown")
    report = replace(faulty, ledger=replace(faulty.ledger, layers=(unknown,)))
    row = page(report).partition("<code>odd<")[2].partition("</tr>")[0]
    assert 'data-label="Decay step">–<' in row
    assert 'data-label="Decay ÷ gradient">–<' in row
    (line,) = [line for line in text(report, 200).splitlines() if line.startswith("odd ")]
    assert "nan" not in line


def test_one_curve_bears_no_mark_that_looks_like_an_event(clean: AuditReport) -> None:
    line = Trajectory(0, (0, 50, 100), (0.0, 1e-3, 0.0), (0.1, 0.1, 0.1), (1.0, 0.9, 0.8))
    marks = [
        str(lr_chart(curves(replace(clean, trajectories=lines), "en"), "en")).count('class="mark"')
        for lines in ((line,), (line, replace(line, group=1, lr=(0.0, 2e-3, 0.0))))
    ]
    assert marks == [0, 2]


def test_chinese_has_no_english_where_the_mode_says_it_all(faulty: AuditReport) -> None:
    html = page(faulty, "zh")
    assert "adds" not in html
    assert "应衰减：Linear 的 weight（2 维）" in html
    assert "不应衰减：偏置" in html
