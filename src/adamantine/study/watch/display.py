"""What the terminal shows while a comparison runs: heatmaps that fill, bars, and the time left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from adamantine.report.numbers import setting
from adamantine.report.terminal import plain
from adamantine.study.cell import Cell, Result
from adamantine.study.plan import Method, Plan
from adamantine.study.watch.heatmap import Heatmaps

SECONDS_A_LINE = 30.0  # where there is no terminal to draw in
SECONDS_A_LOOK = 1.0  # between looks at the results: each takes milliseconds that training could have


class Display:
    """A heatmap and a line per method with its best setting so far, and a bar for all runs.

    Where the output is no terminal (a log file, a pipe), a line of text now and then.
    """

    def __init__(self, plan: Plan, score: str, unit: str, console: Console) -> None:
        self.plan = plan
        self.score, self.unit = score, unit
        self.overall = Progress(
            TextColumn("[bold]all runs"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.methods = Progress(
            TextColumn("{task.description}", table_column=Column(overflow="fold")),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}", table_column=Column(overflow="fold")),
            console=console,
        )
        self.all_runs = self.overall.add_task("", total=None)
        self.tasks = {
            method.spec: self.methods.add_task(plain(method.name), total=None, best="")
            for method in plan.methods
        }
        self.totals: dict[str, tuple[int, int]] = {}
        self.console = console
        self.last_line = -SECONDS_A_LINE  # the first result gets one
        bars = 2 * len(plan.methods) + 2  # lines, with room for names that wrap
        self.heatmaps = Heatmaps(plan, score, unit, reserved=bars)
        self.group = Group(self.heatmaps, self.methods, self.overall)
        self.results: Mapping[Cell, Result] = {}
        self.stale: set[str] = set()  # specs of methods with results that are not shown yet
        self.last_look = -SECONDS_A_LOOK
        self.live = Live(get_renderable=self._drawn, console=console, refresh_per_second=4)

    def __enter__(self) -> Display:
        return self  # drawn from the first plan on: an error before it is not framed by empty bars

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._look()
        self.heatmaps.turning = False
        self.live.stop()

    def planned(self, method: Method, done: int, total: int, results: Mapping[Cell, Result]) -> None:
        self.results = results
        self.stale.add(method.spec)
        self.totals[method.spec] = (done, total)
        self.methods.update(self.tasks[method.spec], completed=done, total=total)
        self._count()
        if self.console.is_interactive:
            self.live.start(refresh=True)

    def finished(self, result: Result, results: Mapping[Cell, Result]) -> None:
        spec = result.cell.method
        self.results = results
        self.stale.add(spec)
        done, total = self.totals[spec]
        self.totals[spec] = (done + 1, total)
        self.methods.advance(self.tasks[spec])
        self._count()
        if not self.console.is_interactive:
            self._print_line(spec)

    def _drawn(self) -> Group:
        """What the terminal shows now; asked for by the thread of ``live``, a few times a second."""
        if time.monotonic() - self.last_look >= SECONDS_A_LOOK:
            self._look()
        return self.group

    def _look(self) -> None:
        """Takes in what is new of every method."""
        self.last_look = time.monotonic()
        for method in self.plan.methods:
            if method.spec in self.stale:
                self.stale.discard(method.spec)  # first, so that what comes meanwhile is looked at again
                self.heatmaps.update(method, self.results)
                self.methods.update(self.tasks[method.spec], best=self._best(method))

    def _count(self) -> None:
        done, total = (sum(counts) for counts in zip(*self.totals.values(), strict=True))
        self.overall.update(self.all_runs, completed=done, total=total)

    def _print_line(self, spec: str) -> None:
        now = time.monotonic()
        runs, method = self.overall.tasks[self.all_runs], self.methods.tasks[self.tasks[spec]]
        if now - self.last_line < SECONDS_A_LINE and not runs.finished:
            return
        self.last_line = now
        self._look()
        best = f"; {method.description}: {method.fields['best']}" if method.fields["best"] else ""
        self.console.print(
            f"{runs.completed:.0f} of {runs.total:.0f} runs{best}", highlight=False, soft_wrap=True
        )

    def _best(self, method: Method) -> str:
        found = self.heatmaps.maps[method.spec]
        if found.best is None:
            return ""
        i, j = found.best
        shown = float(found.scores[i, j]) * (100 if self.unit == "%" else 1)
        where = f"lr {setting(found.lrs[i])}, λ {setting(found.weight_decays[j])}"
        return plain(f"best validation {self.score} {shown:.3g} {self.unit} at {where}")
