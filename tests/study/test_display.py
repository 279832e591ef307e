"""What the terminal shows while a comparison runs: maps and bars, or lines of text where there is none."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from adamantine.study.compare import Run, compare
from adamantine.study.folder import JOURNAL
from adamantine.study.watch import display as shown
from adamantine.study.watch.display import Display

Prepare = Callable[..., Run]


def a_display(run: Run, *, terminal: bool, width: int = 80) -> tuple[Display, io.StringIO]:
    file = io.StringIO()
    console = Console(
        width=width, height=30, file=file, force_terminal=terminal, force_interactive=terminal, no_color=True
    )
    return Display(run.plan, "error", "%", console), file


def test_without_a_terminal_a_line_comes_every_half_minute(
    tiny: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny()
    display, file = a_display(run, terminal=False)
    now = 1000.0

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now

    monkeypatch.setattr(shown, "time", Clock)
    finished = display.finished

    def ten_seconds_later(*arguments: object) -> None:
        nonlocal now
        now += 10.0
        finished(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(display, "finished", ten_seconds_later)
    with display:
        compare(run, jobs=1, watcher=display)
    lines = file.getvalue().splitlines()
    assert [line.split(";")[0] for line in lines] == [f"{n} of 16 runs" for n in (1, 4, 7, 10, 13, 16)]
    assert "best validation error" in lines[-1]
    assert "\x1b" not in file.getvalue()


def test_a_resumed_run_shows_every_method_s_best(tiny: Prepare) -> None:
    assert compare(tiny(), jobs=1).failed == 0
    journal = tiny().out / JOURNAL
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    run = tiny()
    display, _ = a_display(run, terminal=False)
    with display:
        compare(run, jobs=1, watcher=display)
    assert all("best validation error" in task.fields["best"] for task in display.methods.tasks)


def test_a_terminal_gets_maps_and_bars(tiny: Prepare) -> None:
    run = tiny()
    display, file = a_display(run, terminal=True)
    with display:
        compare(run, jobs=1, watcher=display)
    last = file.getvalue().rpartition("\x1b[2K")[2]  # what stays after the last redrawing
    assert "16/16" in file.getvalue()
    assert last.count("★") == 3  # one per method, one in the key
    assert "unfinished" in last
    assert "all runs" in last


def test_results_are_looked_at_once_a_second_and_at_the_end(
    tiny: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny()
    looks = []
    display, _ = a_display(run, terminal=True)
    monkeypatch.setattr(display.heatmaps, "update", lambda method, results: looks.append(len(results)))
    monkeypatch.setattr(shown, "SECONDS_A_LOOK", 1e9)
    with display:
        compare(run, jobs=1, watcher=display)
    assert looks[-2:] == [16, 16]  # both methods, with everything
    assert len(looks) <= 4  # and at the first drawing


def test_nothing_is_drawn_before_there_is_a_plan(tiny: Prepare) -> None:
    display, file = a_display(tiny(), terminal=True)
    with pytest.raises(ZeroDivisionError), display:
        1 / 0  # noqa: B018
    assert file.getvalue() == ""
