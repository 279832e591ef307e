"""English and Chinese: the same facts, no half-translated page; Markdown; claims; which files are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from adamantine.cli import app
from adamantine.report import Comparison, MethodGrid, render, render_claims
from adamantine.report.article import OPTIMIZERS, adam_l2, adamw
from adamantine.report.claimmodel import ClaimResult
from adamantine.report.claimtable import answer_of
from adamantine.report.markdown import document
from adamantine.report.page import claims_page, page
from adamantine.report.tables import ArticleTable, MethodView, not_measured

NUMBER = re.compile(r"\d+\.\d+|\d+e-?\d+")


def test_both_languages_show_the_same_numbers(complete: Comparison) -> None:
    english, chinese = (
        sorted(NUMBER.findall(page(complete, language).split("</style>")[1])) for language in ("en", "zh")
    )
    assert english == chinese
    assert len(english) > 500


def test_the_page_says_its_language(complete: Comparison) -> None:
    assert '<html lang="en">' in page(complete)
    chinese = page(complete, "zh")
    assert '<html lang="zh-Hans">' in chinese
    assert complete.answer.zh in chinese
    assert complete.answer.en not in chinese


@pytest.mark.parametrize(
    ("spec", "decay", "name"),
    [
        ("SGD", "l2", "SGD"),
        ("SGD(momentum=0.9)", "l2", "Momentum"),
        ("Adagrad", "l2", "AdaGrad"),
        ("RMSprop(alpha=0.9)", "l2", "RMSprop"),
        ("Adam", "l2", "Adam + L2"),
        ("torch.optim:Adam", "", "Adam + L2"),
        ("Adam", "none", "Adam"),
        ("AdamW", "decoupled", "AdamW"),
        ("torch.optim:AdamW(eps=1e-6)", "", "AdamW"),
        ("AdamW(decay='cautious')", "cautious", None),
        ("Lion", "decoupled", None),
        ("mine:Adam", "", None),
    ],
)
def test_which_method_is_the_article_s(
    spec: str, decay: str, name: str | None, make_grid: Callable[..., MethodGrid]
) -> None:
    method = replace(make_grid("any", decay=decay), spec=spec)
    if decay == "none":
        method = replace(method, weight_decays=(0.0,))
    assert [one.name for one in OPTIMIZERS if one.is_meant(method)] == ([name] if name else [])


def test_the_article_s_table_has_this_run_s_numbers_and_dashes(complete: Comparison) -> None:
    views = [MethodView.of(complete, i, "en") for i in range(3)]
    table = ArticleTable.of(complete, views, "en")
    assert table is not None
    numbers = {row.name: (row.adam_l2, row.adamw) for row in table.numbers}
    assert numbers["Test error"] == (views[1].score, views[2].score)
    assert numbers["Timescale τ = 1/γ"] == ("–", f"{views[2].timescale} = {views[2].epochs}")
    assert table.verdict is not None
    assert {table.verdict.a, table.verdict.b} == {"Adam + L2", "AdamW"}

    only = replace(complete, methods=complete.methods[2:])
    table = ArticleTable.of(only, [MethodView.of(only, 0, "en")], "en")
    assert table is not None
    assert {row.adam_l2 for row in table.numbers} == {"–"}
    assert table.verdict is None
    assert "Adam + L2" in [one.name for one in not_measured(only)]
    assert not any(map(adamw, complete.methods[:2]))
    assert adam_l2(complete.methods[1])


def test_without_the_two_there_is_no_table_of_them(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    html = page(make(make_grid("Lion")))
    assert 'id="article"' not in html
    assert "this run has not got them" not in html


def test_claims_stand_in_the_page_and_alone(complete: Comparison, claims: list[ClaimResult]) -> None:
    assert 'id="claims"' not in page(complete)
    for html in (page(complete, "en", claims), claims_page(claims, command="adamantine claims")):
        assert html.count('<article class="card claim"') == 4
        for text in ("Claim number 7", "RuntimeError: broken", "0.5 ± 0.05", "0.47", "r = √(ησ/2λ)"):
            assert text in html
        badges = re.findall(
            r'class="badge (\w+)"><span aria-hidden="true">(.)</span>(\w+(?: \w+)?)</span></header>', html
        )
        assert badges == [
            ("decided", "✓", "holds"),
            ("refuted", "✗", "refuted"),
            ("open", "?", "not decided"),
            ("refuted", "!", "error"),
        ]
    assert "第 7 条论断" in claims_page(claims, "zh")


def test_the_answer_counts_claims(claims: list[ClaimResult]) -> None:
    assert answer_of(claims).en == "Of 4 claims: 1 holds, 1 is refuted, 1 is not decided, 1 failed to run."
    assert answer_of(claims[:1] * 3).en == "Of 3 claims: 3 hold."
    assert answer_of(claims[:1]).en == "Of 1 claim: 1 holds."
    assert answer_of([]).en == "No claim has been run."


def test_hostile_claims_stay_text(claims: list[ClaimResult]) -> None:
    hostile = replace(claims[3], formula="<img src=x>", error="</article><script>alert(1)</script>")
    html = claims_page([hostile])
    assert "<img" not in html
    assert html.count("<script>") == 1


def test_formats_are_what_is_written(tmp_path: Path, small: Comparison) -> None:
    render(small, tmp_path / "md", formats=["md"])
    assert [f.name for f in (tmp_path / "md").iterdir()] == ["report.md"]
    render(small, tmp_path / "both", formats=["svg", "md"])
    text = (tmp_path / "both" / "report.md").read_text("utf-8")
    sources = re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert len(sources) == 10
    assert all((tmp_path / "both" / source).exists() for source in sources)
    assert not list((tmp_path / "both" / "figures").glob("*.png"))
    with pytest.raises(ValueError, match=r"unknown format 'pdf'; there are html, md, png, svg"):
        render(small, tmp_path, formats=["pdf"])


def test_chinese_figures_are_text_for_the_reader_s_fonts(tmp_path: Path, small: Comparison) -> None:
    render(small, tmp_path, formats=["svg"], language="zh")
    files = list((tmp_path / "figures").glob("*.svg"))
    assert len(files) == 10
    for file in files:
        words = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", file.read_text("utf-8")))
        assert re.search(r"[\u4e00-\u9fff]", words), file
        assert set(re.findall(r"[A-Za-z]{3,}", words)) <= {"Adam", "AdamW"}, file


def test_claims_are_written(tmp_path: Path, claims: list[ClaimResult]) -> None:
    render_claims(claims, tmp_path, formats=["html", "md"], language="zh")
    assert {f.name for f in tmp_path.iterdir()} == {"report.html", "report.md"}
    assert "被否证" in (tmp_path / "report.md").read_text("utf-8")


def test_markdown_has_every_table_and_stays_text(complete: Comparison, claims: list[ClaimResult]) -> None:
    evil = replace(complete.methods[0], name="a|b <script> `c` *d*")
    made = replace(complete, methods=(evil, *complete.methods[1:]))
    text = document(made, "en", claims, figures=())
    assert "a\\|b \\<script\\> \\`c\\` \\*d\\*" in text
    assert "<script>" not in text
    for heading in (
        "Best settings",
        "Differences",
        "The article’s table",
        "Separability",
        "claims",
        "reproduce",
    ):
        assert re.search(f"^## .*{heading}", text, re.MULTILINE), heading
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_the_weight_norm_starts_where_its_data_does(complete: Comparison) -> None:
    """At epoch 0, before the first step, when the run recorded it."""
    from adamantine.report.curves import quantities
    from adamantine.report.phrases import Written
    from adamantine.report.svgchart import curves_chart

    *_, norm = quantities(Written.of(complete))

    def with_start(method: MethodGrid) -> MethodGrid:
        assert method.curves is not None
        column = np.full((3, 1), 7.0)
        return replace(
            method,
            curves=replace(
                method.curves,
                epoch=np.concatenate([[0.0], method.curves.epoch]),
                train_loss=np.concatenate([column * np.nan, method.curves.train_loss], axis=1),
                validation=np.concatenate([column * np.nan, method.curves.validation], axis=1),
                norm=np.concatenate([column, method.curves.norm], axis=1),
            ),
        )

    started = replace(complete, methods=tuple(map(with_start, complete.methods)))
    before, after = (str(curves_chart(made, norm, "en")) for made in (complete, started))
    assert ">0</text>" not in before
    assert ">0</text>" in after


def test_the_command_speaks_both_languages(
    complete: Comparison, claims: list[ClaimResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adamantine.study.analysis.read", lambda folder: complete)
    monkeypatch.setattr("adamantine.study.claims.run.load", lambda folder, language: claims)
    options = ["--lang", "zh", "--format", "md", "--format", "html", "--claims", str(tmp_path)]
    result = CliRunner().invoke(app, ["report", str(tmp_path), *options], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert complete.answer.zh in result.output
    assert {f.name for f in tmp_path.iterdir()} == {"report.html", "report.md"}
    assert "第 7 条论断" in (tmp_path / "report.html").read_text("utf-8")
    wrong = CliRunner().invoke(app, ["report", str(tmp_path), "--lang", "fr"])
    assert wrong.exit_code == 2
    assert "--lang 'fr': there are en, zh" in wrong.stderr


def test_a_folder_of_claims_is_told_apart(
    claims: list[ClaimResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adamantine.study.claims.run.load", lambda folder, language: claims)
    (tmp_path / "claim-01.json").write_text("{}")
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 0, result.output
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "Of 4 claims" in html
    assert f"adamantine claims {' '.join(str(claim.number) for claim in claims)}" in html
