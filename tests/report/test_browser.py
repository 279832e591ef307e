"""The page in a headless Chromium: quiet, offline, within its width, by mouse, touch and keyboard."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adamantine.report import Comparison
from adamantine.report.claimmodel import ClaimResult
from adamantine.report.page import claims_page, page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"
)
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

#: Latin words that a Chinese page keeps: names, notation, and what the article itself writes in English.
NAMES = set(
    re.findall(
        r"\w+",
        "adamantine compare claims digits Adam AdamW AdaGrad RMSprop Adagrad SGD momentum MLP CNN Transformer"
        " Holm Coupled Decoupled weight decay arXiv RuntimeError broken",
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
    complete: Comparison, claims: list[ClaimResult], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Addresses of the pages: in both languages, and the claims alone."""
    folder = tmp_path_factory.mktemp("pages")
    pages = {
        "en": page(complete, "en", claims),
        "zh": page(complete, "zh", claims),
        "claims": claims_page(claims, "en", "adamantine claims"),
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


def tip(page: Any) -> str:
    """What the tooltip says; "" while there is none."""
    return str(page.locator("#tip").inner_text()) if page.locator("#tip").is_visible() else ""


def focused(page: Any) -> str | None:
    """Which cell has the keyboard."""
    cell: str | None = page.evaluate("document.activeElement.dataset.cell ?? null")
    return cell


@pytest.mark.parametrize("name", ["en", "zh", "claims"])
def test_nothing_is_wider_than_the_page(browser: Any, files: dict[str, str], name: str) -> None:
    with Opened(browser, files[name]) as page:
        page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
        for width in (320, 390, 768, 1081, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_switch_overrides_the_system(browser: Any, files: dict[str, str], scheme: str) -> None:
    light, dark = "rgb(246, 247, 248)", "rgb(16, 19, 23)"
    with Opened(browser, files["en"], color_scheme=scheme) as page:

        def background() -> str:
            return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

        assert background() == (light if scheme == "light" else dark)
        page.get_by_text("Dark", exact=True).click()
        assert background() == dark
        page.keyboard.press("ArrowLeft")  # radio buttons: arrows move the choice
        assert background() == light


def test_the_coordinates_switch(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["en"]) as page:
        count = len(page.query_selector_all(".map.lambda"))

        def shown() -> tuple[int, int]:
            found = [page.locator(f".map.{kind}:visible").count() for kind in ("lambda", "gamma")]
            return found[0], found[1]

        assert shown() == (count, count)  # side by side
        page.locator("#see-lambda").check()
        assert shown() == (count, 0)
        page.locator("#see-gamma").check()
        assert shown() == (0, count)


def test_pointing_at_a_cell_tells_about_it_in_both_maps(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["en"]) as page:
        cell = page.locator(".lambda [data-cell='2-3-4']")
        words = cell.get_attribute("aria-label")
        cell.hover()
        said = tip(page)
        assert said.startswith("Validation error")
        for name in (
            "±",
            "learning rate η",
            "weight decay λ",
            "per step γ = ηλ",
            "timescale τ",
            "steps = ",
            "seeds",
        ):
            assert name in said
        assert re.sub(r"\W+", "", words) == re.sub(r"\W+", "", said)
        assert page.locator(".ring:visible").count() == 2  # around the cell and around its twin
        page.mouse.move(2, 2)
        assert tip(page) == ""
        assert page.locator(".ring:visible").count() == 0


def test_the_tooltip_stays_within_the_window(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["en"], **PHONE) as page:
        for cell in ("0-0-0", "0-5-7"):
            page.locator(f".gamma [data-cell='{cell}']").tap()
            box = page.locator("#tip").bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390


def test_a_map_is_one_tab_stop_and_arrows_move_in_it(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["en"]) as page:
        for grid in page.locator("svg[role=grid]").all():
            assert grid.locator("[tabindex='0']").count() == 1
        page.locator(".lambda [data-cell='2-3-4']").focus()
        for key, expected in {
            "ArrowRight": "2-3-5",
            "ArrowUp": "2-4-5",  # a larger learning rate
            "ArrowLeft": "2-4-4",
            "ArrowDown": "2-3-4",
            "Home": "2-3-0",
            "End": "2-3-8",
        }.items():
            page.keyboard.press(key)
            assert focused(page) == expected
            assert tip(page)
        page.keyboard.press("ArrowRight")  # at the rim nothing happens
        assert focused(page) == "2-3-8"
        page.keyboard.press("Escape")
        assert tip(page) == ""
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        assert focused(page) == "2-3-8"  # where one left it
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('.gamma') !== null")


def test_everything_is_reached_by_keyboard(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["en"]) as page:
        wanted = page.evaluate(
            "[...document.querySelectorAll('a[href], button, summary, [tabindex=\"0\"]')]"
            ".filter((e) => e.checkVisibility()).length"
        ) + page.evaluate("new Set([...document.querySelectorAll('input')].map((e) => e.name)).size")
        reached = 0
        for _ in range(300):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement === document.body"):
                break
            reached += 1
            ring = page.evaluate(
                "(() => { const e = document.activeElement; const box = e.closest('label') ?? e;"
                " return getComputedStyle(box).outlineStyle !== 'none' || 'cell' in e.dataset; })()"
            )
            assert ring, page.evaluate("document.activeElement.outerHTML")
        assert reached == wanted > 10


def test_touching_a_cell_shows_it_and_touching_elsewhere_hides_it(
    browser: Any, files: dict[str, str]
) -> None:
    with Opened(browser, files["en"], **PHONE) as page:
        page.locator(".lambda [data-cell='0-2-2']").tap()
        assert tip(page).startswith("Validation error")
        page.locator("#heatmaps").tap()
        assert tip(page) == ""


def test_the_command_is_copied(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["en"], permissions=["clipboard-read", "clipboard-write"]) as page:
        page.get_by_role("button", name="Copy the command").click()
        page.get_by_text("Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == page.locator("#command").inner_text()


def test_without_scripts_a_cell_still_has_its_words(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["en"], java_script_enabled=False) as page:
        assert page.locator(".lambda [data-cell='2-3-4'] title").text_content().startswith("Validation error")
        assert page.locator("button").is_hidden()
        assert page.locator(".scripted").is_hidden()


def test_no_english_is_left_in_the_chinese_page(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["zh"]) as page:
        text = page.evaluate(
            """() => {
              const copy = document.body.cloneNode(true);
              const foreign = "script, code, pre, .run dd, .formula, .claim figure, .claim .note";
              for (const e of copy.querySelectorAll(foreign)) e.remove();
              const labelled = [...copy.querySelectorAll("[aria-label]")];
              const labels = labelled.map((e) => e.getAttribute("aria-label"));
              return [copy.textContent, ...labels, document.title].join(" ");
            }"""
        )
        left = set(re.findall(r"[A-Za-z]{3,}|\b(?:to|of|at|in|is)\b", text)) - NAMES
        assert left == set()
        page.locator(".lambda [data-cell='2-3-4']").hover()
        assert "学习率 η" in tip(page)
        assert not re.search(r"[A-Za-z]{3,}", tip(page))


def test_chinese_has_fonts_of_every_system(browser: Any, files: dict[str, str]) -> None:
    with Opened(browser, files["zh"]) as page:
        family = page.evaluate("getComputedStyle(document.body).fontFamily")
        label = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fontFamily")
    for font in ("PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "WenQuanYi"):
        assert font in family
    assert label == family


def test_paper_is_light_and_has_no_controls(browser: Any, files: dict[str, str], tmp_path: Path) -> None:
    with Opened(browser, files["en"], color_scheme="dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 248)"
        assert page.locator(".switch:visible, button:visible").count() == 0
