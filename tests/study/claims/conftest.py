"""Made-up claims, as a module each, that a worker process can import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CLAIM = """
import os, time
from pathlib import Path
from adamantine.report.words import Words
from adamantine.study.claims import Claim, Measurement, Prediction

def measure(effort):
    with Path(os.environ["TOY_LOG"]).open("a") as log:
        log.write(f"{number} {{os.getpid()}}\\n")
    time.sleep(float(os.environ.get("TOY_PAUSE_{number}", "0")))
    value = {value}
    return Measurement({{"x": value}}, {{"x": value, "effort": effort}})

def draw(measurement, sheet):
    (ax,) = sheet.axes()
    sheet.points(ax, [0], [measurement.data["x"]], sheet_look())
    ax.set_xlabel(sheet.say("nothing", "无"))

def sheet_look():
    from adamantine.report.theme import stroke
    return stroke(0)

CLAIM = Claim(
    number={number}, title=Words("toy {number}", "玩具 {number}"), says=Words("–", "–"), formula="x = 1",
    predictions=(Prediction("x", Words("x", "x"), 0.9, 1.1),), sources=(),
    finding=Words("x is 1", "x 为 1"), measure=measure, draw=draw, seconds={seconds},
)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Writes a claim into a module and returns its name; ``value`` is Python for what it measures."""
    folder = tmp_path / "toys"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    made = []

    def make(number: int, value: str = "1.0", seconds: float = 1.0) -> str:
        name = f"toy_claim_{number}"
        (folder / f"{name}.py").write_text(CLAIM.format(number=number, value=value, seconds=seconds))
        made.append(name)
        return name

    yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.fixture
def measured(tmp_path: Path) -> Callable[[], list[int]]:
    """The numbers of the toys measured so far, in order."""

    def read() -> list[int]:
        log = tmp_path / "log"
        return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []

    return read
