"""The audit's page in a headless Chromium: quiet, offline, within its width, by mouse and keyboard."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adamantine.audit.model import AuditReport
from adamantine.audit.page import page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"
)

#: Latin words that a Chinese page keeps: names, notation, and reasons that the audit gives in English.
NAMES = set(
    re.findall(
        r"\w+",
        "adamantine audit Adam AdamW torch float32 weight weight_decay decay bias optim embedding table"
        " Embedding normalization LayerNorm Linear of adds to the gradient then divides by is RMS",
    )
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for all tests of this file."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def files(
    faulty: AuditReport, clean: AuditReport, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Addresses of the pages."""
    folder = tmp_path_factory.mktemp("pages")
    program = "import torch\n\noptimizer = torch.optim.AdamW(model.parameters())\n"
    pages = {
        "en": page(faulty, "en", command="adamantine audit train:build", fix=program),
        "zh": page(faulty, "zh", command="adamantine audit train:build", fix=program),
        "clean": page(clean, "en"),
    }
    for name, html in pages.items():
        (folder / f"{name}.html").write_text(html, "utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in pages}


class Opened:
    """A page with everything that it asked for or complained about."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, *error: object) -> None:
        own, rest = self.asked[:1], self.asked[1:]
        self.context.close()
        if error[0] is None:
            assert self.said == []
            assert own[0].startswith("file:")
            assert [url for url in rest if not url.startswith("data:")] == []


@pytest.mark.parametrize(("name", "scheme"), [("en", "light"), ("zh", "dark"), ("clean", "dark")])
def test_nothing_is_wider_than_the_page(browser: Any, files: dict[str, str], name: str, scheme: str) -> None:
    with Opened(browser, files[name], color_scheme=scheme) as page:
        page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
        for width in (320, 390, 768, 1081, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") == width


def test_no_words_of_a_figure_leave_it_or_cover_each_other(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["en"]) as page:
        found = page.evaluate(
            """() => [...document.querySelectorAll("figure > svg")].map((svg) => {
              const out = svg.getBoundingClientRect();
              const texts = [...svg.querySelectorAll("text")];
              const boxes = texts.map((t) => [t.textContent, t.getBoundingClientRect()]);
              const wide = boxes.filter(([, b]) => b.left < out.left - 2 || b.right > out.right + 2);
              const over = boxes.flatMap(([s, a], i) => boxes.slice(i + 1).filter(([, b]) =>
                Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
                && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3).map(([t]) => [s, t]));
              return [wide.map(([t]) => t), over];
            })"""
        )
        assert len(found) == 5
        for wide, over in found:
            assert wide == []
            assert over == []


def test_the_filter_finds_a_single_layer_inside_a_pattern(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["en"]) as page:
        rows = page.locator("#parameter-table tbody tr:visible")
        everything = rows.count()
        page.get_by_role("searchbox").fill("blocks.4.attn bias")
        assert rows.count() == 1
        assert "blocks.*.attn.qkv.bias" in rows.inner_text()
        page.get_by_text("1 rows").wait_for()
        page.get_by_role("searchbox").fill("")
        assert rows.count() == everything
        page.get_by_role("checkbox").check()
        assert 0 < rows.count() < everything
        assert rows.count() == page.locator("#parameter-table tr.wrong").count()


def test_remedies_and_the_program_are_copied(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["en"], permissions=["clipboard-read", "clipboard-write"]) as page:
        page.get_by_role("button", name="Copy the program").click()
        page.get_by_text("Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()").startswith("import torch\n\noptimizer = ")
        page.get_by_role("button", name="Copy the remedy").nth(1).click()
        page.wait_for_function("navigator.clipboard.readText().then((t) => t.startsWith('optimizer.add'))")


def test_everything_is_reached_by_keyboard(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["en"]) as page:
        wanted = page.evaluate(
            "[...document.querySelectorAll('a[href], button, summary, input:not([type=radio])')]"
            ".filter((e) => e.checkVisibility()).length + 1"
        )
        reached = 0
        for _ in range(100):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement === document.body"):
                break
            reached += 1
        assert reached == wanted > 10


def test_without_scripts_all_is_there_but_the_controls(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["en"], java_script_enabled=False) as page:
        assert page.locator(".filter").is_hidden()
        assert page.locator("button:visible").count() == 0
        assert page.locator("#parameter-table tbody tr:visible").count() == 7


def test_no_english_is_left_in_the_chinese_page(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["zh"]) as page:
        text = page.evaluate(
            """() => {
              const copy = document.body.cloneNode(true);
              for (const e of copy.querySelectorAll("script, code, pre, .run dd, svg, .panels p")) e.remove();
              const labels = [...copy.querySelectorAll("[aria-label]")].map((e) => e.ariaLabel);
              return [copy.textContent, ...labels, document.title].join(" ");
            }"""
        )
        assert set(re.findall(r"[A-Za-z]{3,}|\b(?:to|of|at|in|is)\b", text)) - NAMES == {"head", "float"}


def test_paper_is_light_and_has_no_controls(browser: Any, files: dict[str, str], tmp_path: Path) -> None:
    with Opened(browser, files["en"], color_scheme="dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 248)"
        assert page.locator(".switch:visible, button:visible").count() == 0
