"""The page: whole, safe, the same on every run, and sensible where something is missing."""

import base64
import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from adamantine.report import Comparison, Curves, Difference, Estimate, MethodGrid, render
from adamantine.report.figures import figure_files
from adamantine.report.model import Setting
from adamantine.report.page import page
from adamantine.report.words import Words

_VOID = {"meta", "link", "input", "br", "hr", "img"}


class Parsed(HTMLParser):
    """The page's elements, its visible text, and whether every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, self.open
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"<{tag}> has an attribute twice: {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_page_is_whole(comparison: Comparison, html: str) -> None:
    parsed = Parsed(html)
    assert html.startswith("<!DOCTYPE html>")
    assert len(parsed.named("h1")) == len(parsed.named("main")) == 1
    ids = Counter(a["id"] for _, a in parsed.elements if "id" in a)
    assert set(ids.values()) == {1}, ids.most_common(3)
    referenced = set(re.findall(r"url\(#([^)]+)\)", html)) | set(re.findall(r'href="#([^"]+)"', html))
    referenced |= {a["aria-labelledby"] for _, a in parsed.elements if "aria-labelledby" in a}
    assert referenced <= set(ids)
    assert comparison.answer.en in parsed.text
    for method in comparison.methods:
        assert method.name in parsed.text
    for line in (*comparison.advice, comparison.basin_rule):
        assert line.en in parsed.text
    for difference in comparison.differences:
        assert difference.verdict in parsed.text


def test_page_fetches_nothing(html: str) -> None:
    parsed = Parsed(html)
    for _, attributes in parsed.elements:
        for name in ("src", "href", "srcset", "xlink:href", "action", "poster", "data", "background"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    assert "@import" not in html
    assert "http" not in html.replace("http-equiv", "")
    (policy,) = [m["content"] for m in parsed.named("meta") if m.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_the_only_script_is_the_one_that_the_policy_allows(usual_html: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", usual_html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in usual_html


def test_every_drawing_has_words(comparison: Comparison, html: str) -> None:
    drawings = Parsed(html).named("svg")
    pictures = [d for d in drawings if d.get("role") == "img"]
    maps = [d for d in drawings if d.get("role") == "grid"]
    assert len(pictures) == 5  # the key of the heat maps, test scores, three curves
    assert len(maps) == 2 * len(comparison.methods)  # in λ and in γ
    assert all(len(d["aria-label"] or "") > 40 for d in pictures + maps)
    assert all(d.get("aria-hidden") == "true" for d in drawings if d not in pictures + maps)


HOSTILE = (
    """</svg></title></script><script>alert(1)</script><img src=x onerror=alert(2)> "'`{{7*7}}&amp; url(#a)"""
)


def test_hostile_text_stays_text(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    methods = (replace(make_grid(HOSTILE), spec=HOSTILE + "spec", decay=HOSTILE), make_grid("AdamW"))
    estimate = Estimate(-0.01, 0.001, -0.02, -0.005, 3)
    hostile = make(
        *methods,
        differences=(Difference(HOSTILE, "AdamW", estimate, f"{HOSTILE} is better"),),
        task=HOSTILE,
        task_title=HOSTILE,
        score_name=HOSTILE,
        answer=Words(HOSTILE, HOSTILE),
        advice=(Words(HOSTILE, HOSTILE),),
        basin_rule=Words(HOSTILE, HOSTILE),
        manifest={"command": HOSTILE, "versions": {HOSTILE: HOSTILE}, HOSTILE: [HOSTILE]},
    )
    parsed = Parsed(page(hostile))
    assert len(parsed.named("script")) == 1
    assert not parsed.named("img")
    assert not [name for _, a in parsed.elements for name in a if name.startswith("on")]
    assert parsed.text.count(HOSTILE) >= 10


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, small: Comparison) -> None:
    formats = ("html", "md", "svg")
    render(small, tmp_path / "a", formats=formats)
    first = next(iter(figure_files(small, ["png"])))
    with mpl.rc_context({"lines.linewidth": 9.0, "font.size": 20.0}):  # as a user's own settings would
        render(small, tmp_path / "b", formats=formats)
        assert next(iter(figure_files(small, ["png"]))) == first
    files = [f.relative_to(tmp_path / "a") for f in sorted((tmp_path / "a").rglob("*")) if f.is_file()]
    assert len(files) == 12
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_another_process_gives_the_same_page(usual_html: str) -> None:
    code = (
        "import importlib.util, hashlib, sys\n"
        "spec = importlib.util.spec_from_file_location('conftest', sys.argv[1])\n"
        "made = importlib.util.module_from_spec(spec); spec.loader.exec_module(made)\n"
        "from adamantine.report.page import page\n"
        "print(hashlib.sha256(page(made.typical()).encode()).hexdigest())\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "TZ": "Asia/Shanghai"}
    source = str(Path(__file__).with_name("conftest.py"))
    run = subprocess.run(
        [sys.executable, "-c", code, source], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == hashlib.sha256(usual_html.encode()).hexdigest()


def test_a_large_run_stays_small(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    points, rng = 5000, np.random.default_rng(0)
    rows = np.exp(rng.standard_normal((5, points)))
    curves = Curves(np.arange(1.0, points + 1), rows, rows, rows)
    size = {"lrs": np.logspace(-5, -1, 13), "weight_decays": np.logspace(-5, 1, 13), "seeds": 5}
    methods = [replace(make_grid(f"method {i}", **size, rng_seed=i), curves=curves) for i in range(4)]
    assert len(page(make(*methods)).encode()) < 750_000


def test_what_is_missing_is_said(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    bare = make(
        replace(make_grid("Lion", max_lr=0.0)),
        differences=(),
        advice=(),
        manifest={},
        basin_rule=Words("", ""),
        task_title="",
    )
    text = Parsed(page(bare)).text
    assert "no setting converged" in text
    assert "63 of 63" in text
    assert "No pair of methods to compare." in text
    assert "The command was not recorded." in text
    for heading in ("What to do", "Training at each", "What the basin is", "Everything in the manifest"):
        assert heading not in text


def test_what_has_not_been_trained_is_not_called_diverged(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    grid = replace(make_grid("Lion", max_lr=0.0))
    waiting = replace(grid, diverged=np.zeros_like(grid.diverged))
    text = Parsed(page(make(waiting, differences=()))).text
    assert "no setting finished" in text
    assert "Circles: seeds." not in text  # nor an axis without any
    assert "No pair of methods to compare." in text
    two = Parsed(page(make(waiting, replace(waiting, name="Adam"), differences=()))).text
    assert "No two methods have finished" in two
    assert "no setting converged" not in text
    judged_later = replace(make_grid("Adam"), at_best=None)
    assert "no seed finished at its best setting" in Parsed(page(make(judged_later, differences=()))).text


def test_finer_settings_are_in_the_key(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    grid = make_grid("AdamW")
    finer = Setting(grid.lrs[1] * 1.5, grid.weight_decays[1], grid.validation[1, 1], grid.test[1, 1])
    assert "between the grid's settings" in Parsed(page(make(replace(grid, finer=(finer,))))).text
    assert "between the grid's settings" not in Parsed(page(make(grid))).text


def test_a_comparison_without_methods_still_has_its_answer(make: Callable[..., Comparison]) -> None:
    parsed = Parsed(page(make(answer=Words("Nothing was compared.", "什么都没有比较。"), advice=())))
    assert "Nothing was compared." in parsed.text
    assert not parsed.named("svg")
    assert "No answer yet." in Parsed(page(make(answer=Words("", "")))).text


def test_options_in_advice_stay_whole_and_advice_stays_text(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    hostile = "grow: --lr 'A(x=\"<b>\")=1e-4,1e-3', or --weight-decay <i> & a--b"
    html = page(make(make_grid(), advice=(Words(hostile, hostile),)))
    (line,) = re.findall(r"<li>(grow:.*?)</li>", html, re.DOTALL)
    assert re.findall(r'<code class="nowrap">(.*?)</code>', line) == [
        "--lr &#39;A(x=&#34;&lt;b&gt;&#34;)=1e-4,<wbr>1e-3&#39;",
        "--weight-decay",
    ]
    assert line.endswith(" &lt;i&gt; &amp; a--b")


def test_the_basin_is_measured_through_the_best_setting(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    method = make_grid(lrs=np.array([0.1, 0.2, 0.8]), weight_decays=np.array([0.0, 1.0, 2.0, 4.0]))
    basin = np.array([[0, 0, 0, 1], [0, 1, 0, 1], [0, 1, 1, 1]], bool)
    text = Parsed(page(make(replace(method, best=(1, 1), basin=basin)))).text
    assert "7 of 12" not in text
    assert "6 of 12 settings" in text
    assert "η ≥ 2.0 octaves λ < 1 step" in text


def test_unfinished_runs_are_counted(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    method = make_grid(max_lr=1.0)
    validation = method.validation.copy()
    validation[0, :4, 1] = np.nan
    assert "4 runs not done yet" in Parsed(page(make(replace(method, validation=validation)))).text
    assert "not done yet" not in Parsed(page(make(make_grid()))).text


def test_one_seed_has_no_interval(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    text = Parsed(page(make(make_grid("A", seeds=1), make_grid("B", seeds=1, rng_seed=4)))).text
    assert "1 seed: no spread" in text
    assert "1 seed: no interval" in text
    assert "not decided" in text
    assert "nan" not in text.lower()


def test_pairs_without_the_best_method_are_folded_away(usual_html: str) -> None:
    before, after = usual_html.split("<summary>1 more pair</summary>")
    assert before.count('class="pair"') == 2
    assert after.count('class="pair"') == 1


@pytest.mark.parametrize(
    "command", ["adamantine compare --out 'a b'", ["adamantine", "compare", "--out", "a b"]]
)
def test_the_command_can_be_pasted_into_a_shell(command: object, small: Comparison) -> None:
    html = page(replace(small, manifest={"command": command}))
    assert '<code id="command">adamantine compare --out &#39;a b&#39;</code>' in html
    (button,) = [b for b in Parsed(html).named("button") if "data-copies" in b]
    assert button["data-copies"] == "command"
    assert "hidden" in button  # until the script runs


def test_a_failure_leaves_the_old_files_whole(
    tmp_path: Path, small: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "report.html"
    old.write_text("the old page")

    def fail(source: object, target: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        render(small, tmp_path)
    assert old.read_text() == "the old page"
    assert [f.name for f in tmp_path.rglob("*") if f.is_file()] == ["report.html"]


def test_the_data_classes_load_without_the_drawing_libraries() -> None:
    code = (
        "import sys, adamantine.report, adamantine.report.numbers\n"
        "sys.exit(bool({'matplotlib', 'jinja2', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
