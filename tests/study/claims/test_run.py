"""Claims over worker processes: records, resumption, a kill, and claims that raise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adamantine.study.claims import record, run, work
from adamantine.study.claims.claim import Effort
from adamantine.study.errors import StudyError

FIGURES = {f"claim-01-{theme}.{kind}" for theme in ("light", "dark") for kind in ("png", "svg")}
SHORT = Effort.SHORT


def test_one_claim_is_measured_drawn_and_not_measured_again(
    toy: Callable[..., str], measured: Callable[[], list[int]], tmp_path: Path
) -> None:
    name, out = toy(1), tmp_path / "out"
    out.mkdir()
    first = work.work(name, SHORT, out, "en")
    assert (first.verdict, first.predictions[0].measured) == ("holds", "1")
    assert {file.name for file in (out / "figures").iterdir()} == FIGURES
    assert work.work(name, SHORT, out, "en") == first
    assert measured() == [1]

    english = (out / "figures" / "claim-01-light.svg").read_bytes()
    assert work.work(name, SHORT, out, "zh") == first  # another language is another drawing, not another run
    assert (out / "figures" / "claim-01-light.svg").read_bytes() != english
    assert measured() == [1]

    (out / "figures" / "claim-01-dark.png").unlink()
    work.work(name, SHORT, out, "zh")
    assert {file.name for file in (out / "figures").iterdir()} == FIGURES
    assert measured() == [1]

    assert work.work(name, Effort.THOROUGH, out, "zh").effort == "thorough"
    assert measured() == [1, 1]


def test_changed_code_is_measured_again(
    toy: Callable[..., str], measured: Callable[[], list[int]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    work.work(toy(1), SHORT, out, "en")
    name = toy(1, value="2.0")
    sys.modules.pop(name)
    assert work.work(name, SHORT, out, "en").verdict == "refuted"
    assert measured() == [1, 1]


@pytest.mark.parametrize("damage", ["", "{", '{"format": 1}', "[]"])
def test_a_damaged_record_is_measured_again(
    damage: str, toy: Callable[..., str], measured: Callable[[], list[int]], tmp_path: Path
) -> None:
    name = toy(1)
    record.path(tmp_path, 1).write_text(damage)
    assert work.work(name, SHORT, tmp_path, "en").verdict == "holds"
    assert measured() == [1]


def test_a_claim_that_raises_does_not_stop_the_others(
    toy: Callable[..., str], measured: Callable[[], list[int]], tmp_path: Path
) -> None:
    names = [toy(1), toy(2, "1 / 0", seconds=9.0), toy(3, "float('nan')"), toy(4, "[1.0]")]
    seen: list[int] = []
    results = run.run(
        names, SHORT, tmp_path / "out", jobs=2, finished=lambda result: seen.append(result.number)
    )
    assert [result.verdict for result in results] == ["holds", "error", "not decided", "error"]
    assert "ZeroDivisionError: division by zero (toy_claim_2.py" in results[1].error
    assert "rule 'value' wants one number" in results[3].error
    assert sorted(seen) == [1, 2, 3, 4]
    summary = json.loads((tmp_path / "out" / run.SUMMARY).read_text())
    assert [claim["verdict"] for claim in summary] == [result.verdict for result in results]

    run.run(names, SHORT, tmp_path / "out", jobs=1)  # what failed is tried again, and nothing else
    assert sorted(measured()) == [1, 2, 2, 3, 4, 4]
    run.run(names[:1], SHORT, tmp_path / "out", fresh=True)
    assert measured().count(1) == 2


def test_a_worker_that_dies_is_an_error_and_not_a_hang(toy: Callable[..., str], tmp_path: Path) -> None:
    (result,) = run.run([toy(1, "os._exit(3)")], SHORT, tmp_path / "out")
    assert result.verdict == "error"
    assert "the same command measures it again" in result.error


def test_killed_and_resumed(
    toy: Callable[..., str],
    measured: Callable[[], list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, out = [toy(1), toy(2)], tmp_path / "out"
    code = (
        "import sys\nfrom pathlib import Path\nfrom adamantine.study.claims import run\n"
        "from adamantine.study.claims.claim import Effort\n"
        f"if __name__ == '__main__': run.run({names!r}, Effort.SHORT, Path({str(out)!r}), jobs=2)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "TOY_PAUSE_2": "600"})
    deadline = time.monotonic() + 60
    while not (record.path(out, 1).exists() and 2 in measured()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert 2 in measured()
    workers = {int(line.split()[1]) for line in (tmp_path / "log").read_text().splitlines()}
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in workers)

    results = run.run(names, SHORT, out)
    assert [result.verdict for result in results] == ["holds", "holds"]
    assert sorted(measured()) == [1, 2, 2]
    unbroken = run.run(names, SHORT, tmp_path / "unbroken")
    assert [result.predictions for result in results] == [result.predictions for result in unbroken]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().split()[2] != "Z"


def test_a_folder_is_read_back_without_measuring(
    toy: Callable[..., str],
    measured: Callable[[], list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {1: toy(1), 2: toy(2, "5.0")}
    monkeypatch.setattr(run, "modules", lambda: names)
    out = tmp_path / "out"
    out.mkdir()
    for name in names.values():
        work.work(name, SHORT, out, "en")
    first, second = run.load(out, "zh")
    assert (first.verdict, second.verdict) == ("holds", "refuted")
    assert first.figure.startswith('<svg role="img"')
    assert "var(--" in first.figure
    assert "无" in first.figure  # the axis label in the language asked for
    assert "被否证" in second.figure  # the alt text says it
    assert measured() == [1, 2]
    with pytest.raises(StudyError, match="no claims were measured there"):
        run.load(tmp_path)


def test_what_the_user_can_mend(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"claim 99: there are 1, "):
        run.chosen([1, 99])
    with pytest.raises(StudyError, match="--jobs must be at least 1, not 0"):
        run.run([], SHORT, tmp_path, jobs=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"--out .*file: File exists"):
        run.run([], SHORT, tmp_path / "file")
