"""``adamantine claims`` and what it shows."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from adamantine.cli import app
from adamantine.report.claimmodel import CheckedPrediction, ClaimResult
from adamantine.report.claimtable import ClaimView
from adamantine.report.words import Words
from adamantine.study.claims import load_claim, modules
from adamantine.study.claims.console import Display, show

RESULTS = [
    ClaimResult(
        number=number,
        title=Words(f"claim {number}", f"论断 {number}"),
        says=Words("–", "–"),
        formula="x = 1",
        sources=(),
        predictions=(CheckedPrediction(Words("how large x is", "x 多大"), "[0.9, 1.1]", "1", verdict),),  # type: ignore[arg-type]
        verdict=verdict,
    )
    for number, verdict in enumerate(("holds", "refuted", "not decided"), 1)
]


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["claims", *arguments], env={"COLUMNS": "100"})
    return result.exit_code, result.output


def test_one_claim_end_to_end(tmp_path: Path) -> None:
    code, output = invoke("1", "--out", str(tmp_path / "out"), "--jobs", "1")
    assert code == 0, output
    for text in ("L2 and weight decay", "≤ 1e−13", "✓ holds", "Written:"):
        assert text in output
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"claim-01.json", "claims.json", "figures"}


def test_list_measures_nothing_and_imports_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['adamantine', 'claims', '--list', '--lang', 'zh']\n"
        "from adamantine.cli import app\n"
        "try: app()\nexcept SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "在普通 SGD 中" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["99"], "claim 99: there are 1, 2"),
        (["1", "--lang", "de"], "--lang 'de'"),
        (["1", "--jobs", "0"], "--jobs must be at least 1"),
        (["1", "--out="], "--out ''"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["claims", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_table_says_every_verdict() -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        show(RESULTS, "en", console)
    text = console.export_text()
    for part in ("✓ holds", "✗ refuted", "? not decided", "[0.9, 1.1]", "1 ✓ holds · 1 ✗ refuted"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


def test_what_was_changed_after_a_first_look_stands_where_the_verdict_does() -> None:
    said = Words("the first run said 4.07", "初次运行的结果是 4.07")
    results = [replace(RESULTS[0], revised=said), RESULTS[1]]
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        show(results, "zh", console)
    assert console.export_text().count("初次测量后的改动：初次运行的结果是 4.07") == 1
    assert [ClaimView.of(result, "en").revised for result in results] == [said.en, ""]


def test_the_bar_leaves_a_line_per_claim() -> None:
    claims = [load_claim(modules()[1])]
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file, Display(claims, "zh", console) as display:
        display.finished(RESULTS[1])
    assert "论断 2  ✗ 被否证" in console.export_text()


@pytest.mark.parametrize("number", modules())
def test_every_claim_is_stated_in_both_languages(number: int) -> None:
    claim = load_claim(modules()[number])
    assert claim.number == number
    assert claim.predictions
    assert len({p.name for p in claim.predictions}) == len(claim.predictions)
    for words in (claim.title, claim.says, *(p.text for p in claim.predictions)):
        assert words.en
        assert words.zh
    assert bool(claim.revised.en) == bool(claim.revised.zh)
    assert all(p.low > -float("inf") or p.high < float("inf") for p in claim.predictions)
