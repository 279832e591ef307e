"""What the terminal shows in the end: nothing that steers it, and tables in a narrow one."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from adamantine.report import Comparison
from adamantine.report.words import Words
from adamantine.study.compare import Run, compare
from adamantine.study.console import show

LONG = "SGD + momentum + L2"


@pytest.fixture
def comparison(tiny: Callable[..., Run]) -> Comparison:
    """Of four runs a method, with a long and a short name."""
    made = compare(tiny()).comparison
    methods = (replace(made.methods[0], name=LONG), *made.methods[1:])
    return replace(made, methods=methods)


def _printed(comparison: Comparison, width: int = 80) -> str:
    file = io.StringIO()
    show(comparison, Console(width=width, file=file))
    return file.getvalue()


def test_no_text_of_a_task_or_a_method_steers_the_terminal(comparison: Comparison) -> None:
    evil = "a\x1b]0;title\x07\x9b2J\r[bold]b"
    method = replace(comparison.methods[0], name=evil)
    (difference,) = comparison.differences
    text = _printed(
        replace(
            comparison,
            task_title=evil,
            score_name=evil,
            answer=Words(evil, evil),
            advice=(Words(evil, evil),),
            basin_rule=Words(evil, evil),
            methods=(method, *comparison.methods[1:]),
            differences=(replace(difference, a=evil, verdict=evil),),
        ),
        width=200,
    )
    assert not {c for c in text if ord(c) < 32 or 127 <= ord(c) < 160} - {"\n"}
    assert text.count("[bold]b") >= 7


@pytest.mark.parametrize("width", [60, 80])
def test_names_wrap_and_nothing_is_cut_off(width: int, comparison: Comparison) -> None:
    text = _printed(comparison, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for word in ("SGD", "momentum", "L2", "AdamW", "not", "decided"):
        assert word in text


def test_a_grid_to_paste_keeps_its_end(comparison: Comparison) -> None:
    grid = ",".join(f"{value:.4g}" for value in range(1000, 1060))
    printed = _printed(replace(comparison, advice=(Words(f"--lr '{grid}'", ""),)))
    assert grid in "".join(printed.split())
