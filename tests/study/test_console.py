"""What the terminal shows in the end: nothing that steers it, and tables in a narrow one."""

import io
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from adamantine.report import Comparison
from adamantine.report.words import Language, Words
from adamantine.study.compare import Run, compare
from adamantine.study.console import show

LONG = "SGD + momentum + L2"


@pytest.fixture
def comparison(tiny: Callable[..., Run]) -> Comparison:
    """Of four runs a method, with a long and a short name."""
    made = compare(tiny()).comparison
    methods = (replace(made.methods[0], name=LONG), *made.methods[1:])
    return replace(made, methods=methods)


def _printed(comparison: Comparison, width: int = 80, language: Language = "en") -> str:
    file = io.StringIO()
    show(comparison, Console(width=width, file=file), language)
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


def test_tables_speak_the_language_of_the_sentences(comparison: Comparison) -> None:
    shown = replace(comparison, methods=tuple(replace(m, edges=("lr high",)) for m in comparison.methods))
    printed = _printed(shown, width=120, language="zh")
    for word in ("权重", "置信区间", "边缘", "盆地", "判定"):
        assert word in printed
    left = re.sub(r"SGD|momentum|L2|AdamW|Adam|lr|weight_decay|Holm|--[a-z-]+|'[^']*'", "", printed)
    assert not re.search("[A-Za-z]{3,}", left.replace(shown.task_title, "")), left


def test_of_a_run_without_any_result_no_basin_is_told(comparison: Comparison) -> None:
    undone = [
        replace(m, best=None, finest=None, at_best=None, basin=np.zeros_like(m.basin))
        for m in comparison.methods
    ]
    assert "is in the basin when" in "".join(_printed(comparison, width=300))
    assert "basin when" not in _printed(replace(comparison, methods=tuple(undone)), width=300)
