"""What the terminal shows: nothing that steers it, tables in a narrow one, progress without one."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from adamantine.report import Comparison
from adamantine.report.words import Words
from adamantine.study import console as shown
from adamantine.study.compare import Run, compare
from adamantine.study.console import Display, show

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


def _display(run: Run, *, terminal: bool) -> tuple[Display, io.StringIO]:
    file = io.StringIO()
    console = Console(width=100, file=file, force_terminal=terminal, force_interactive=terminal)
    return Display(run.plan, "error", "%", console), file


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


def test_without_a_terminal_a_line_comes_every_half_minute(
    tiny: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny()
    now = 1000.0

    def passes() -> float:
        nonlocal now
        now += 10.0
        return now

    monkeypatch.setattr(shown.time, "monotonic", passes)
    display, file = _display(run, terminal=False)
    with display:
        compare(run, watcher=display)
    lines = file.getvalue().splitlines()
    assert [line.split(";")[0] for line in lines] == [f"{n} of 16 runs" for n in (1, 4, 7, 10, 13, 16)]
    assert "best validation error" in lines[-1]
    assert "\x1b" not in file.getvalue()


def test_a_resumed_run_shows_every_method_s_best_with_its_first_result(tiny: Callable[..., Run]) -> None:
    done = compare(tiny())
    assert done.failed == 0
    folder = tiny().out / "cells.jsonl"
    lines = folder.read_text().splitlines(keepends=True)
    folder.write_text("".join(lines[:-1]))
    run = tiny()
    display, _ = _display(run, terminal=False)
    with display:
        compare(run, watcher=display)
    assert [bool(task.fields["best"]) for task in display.methods.tasks] == [True, True]


def test_a_terminal_gets_bars(tiny: Callable[..., Run]) -> None:
    run = tiny()
    display, file = _display(run, terminal=True)
    with display:
        compare(run, watcher=display)
    assert "all runs" in file.getvalue()
    assert "16/16" in file.getvalue()


def test_a_grid_to_paste_keeps_its_end(comparison: Comparison) -> None:
    grid = ",".join(f"{value:.4g}" for value in range(1000, 1060))
    printed = _printed(replace(comparison, advice=(Words(f"--lr '{grid}'", ""),)))
    assert grid in "".join(printed.split())
