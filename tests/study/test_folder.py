"""The run folder under kills, mix-ups and damage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adamantine.study.cell import Cell, Result
from adamantine.study.errors import StudyError
from adamantine.study.folder import FORMAT, JOURNAL, MANIFEST, opened, read_manifest, read_results

MANIFEST_DATA: dict[str, Any] = {
    "format": FORMAT,
    "command": "a",
    "configuration": {
        "seeds": [0, 1],
        "methods": [
            {"name": "SGD", "spec": "SGD(momentum=0.9)", "lrs": [0.1]},
            {"name": "SGD", "spec": "SGD(momentum=0.99)", "lrs": [0.1]},
        ],
    },
    "task": {"epochs": 3},
    "data": {"sha256": "00"},
    "versions": {"torch": "2"},
}


def result(seed: int, status: str = "ok") -> Result:
    return Result(Cell("AdamW", 0.1, 0.0, seed), status, 0.5, 0.25)


def test_results_come_back(tmp_path: Path) -> None:
    with opened(tmp_path, MANIFEST_DATA, fresh=False) as folder:
        folder.add([result(0)])
        folder.add([result(1)])
    with opened(tmp_path, MANIFEST_DATA, fresh=False) as folder:
        assert list(folder.results.values()) == [result(0), result(1)]


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_last_line_is_dropped_and_written_anew(tmp_path: Path, cut: int) -> None:
    with opened(tmp_path, MANIFEST_DATA, fresh=False) as folder:
        folder.add([result(0)])
        folder.add([result(1)])
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole[:-cut])
    with opened(tmp_path, MANIFEST_DATA, fresh=False) as folder:
        assert list(folder.results) == [result(0).cell]
        folder.add([result(1)])
    assert (tmp_path / JOURNAL).read_bytes() == whole


def test_failed_cells_are_tried_again(tmp_path: Path) -> None:
    with opened(tmp_path, MANIFEST_DATA, fresh=False) as folder:
        folder.add([result(0, "failed")])
        folder.add([result(1, "diverged")])
    with opened(tmp_path, MANIFEST_DATA, fresh=False) as folder:
        assert list(folder.results) == [result(1).cell]
        folder.add([result(0)])
    assert read_results(tmp_path)[result(0).cell].status == "ok"


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    with opened(tmp_path, MANIFEST_DATA, fresh=False):
        pass
    other = json.loads(json.dumps(MANIFEST_DATA))
    other["configuration"]["methods"][0]["lrs"] = [0.2]
    other["command"] = "b"  # how it was asked for does not matter
    with (
        pytest.raises(
            StudyError, match=r"SGD\(momentum=0\.9\)\.lrs: \[0\.1\] there, \[0\.2\] here.*--out.*--fresh"
        ) as caught,
        opened(tmp_path, other, fresh=False),
    ):
        pass
    assert "command" not in str(caught.value)
    with opened(tmp_path, other, fresh=True) as folder:
        assert folder.results == {}
    assert read_manifest(tmp_path)["command"] == "b"


def test_fresh_removes_only_what_a_run_wrote(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with opened(tmp_path, MANIFEST_DATA, fresh=False) as folder:
        folder.add([result(0)])
        folder.write_table([result(0).cell])
    (tmp_path / "figures").mkdir()
    for name in ("heatmap-light.png", "heatmap-dark.svg", "mine.png"):
        (tmp_path / "figures" / name).write_text("")
    with opened(tmp_path, MANIFEST_DATA, fresh=True) as folder:
        assert folder.results == {}
        assert not (tmp_path / "results.csv").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert [file.name for file in (tmp_path / "figures").iterdir()] == ["mine.png"]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    code = (
        "import sys, json; from pathlib import Path; from adamantine.study.folder import opened\n"
        "with opened(Path(sys.argv[1]), json.loads(sys.argv[2]), fresh=False):\n"
        "    print('open', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), json.dumps(MANIFEST_DATA)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == b"open\n"
        with (
            pytest.raises(StudyError, match="another process works in this folder"),
            opened(tmp_path, MANIFEST_DATA, fresh=False),
        ):
            pass
        process.kill()
    with opened(tmp_path, MANIFEST_DATA, fresh=False):
        pass  # the lock went with the process


def test_damage_is_named(tmp_path: Path) -> None:
    with opened(tmp_path, MANIFEST_DATA, fresh=False) as folder:
        folder.add([result(0)])
        folder.add([result(1)])
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(b"{]\n" + lines[1])
    with pytest.raises(StudyError, match="line 1 is damaged"):
        read_results(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(StudyError, match="cannot be read"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_text('{"format": 99}')
    with pytest.raises(StudyError, match="not written by this version"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(StudyError, match="no run folder"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    "name", ["results.csv", "report.html", "manifest.json", "cells.jsonl", "figures/a-light.png"]
)
def test_a_folder_of_somebody_else_is_never_touched(tmp_path: Path, name: str, fresh: bool) -> None:
    theirs = tmp_path / "theirs"
    (theirs / name).parent.mkdir(parents=True)
    (theirs / name).write_text('{"format": 1}')
    with (
        pytest.raises(StudyError, match="is no run folder of adamantine's") as caught,
        opened(theirs, MANIFEST_DATA, fresh=fresh),
    ):
        pass
    assert "--fresh" not in str(caught.value)
    assert [str(p.relative_to(theirs)) for p in theirs.rglob("*") if p.is_file()] == [name]
    assert (theirs / name).read_text() == '{"format": 1}'


def test_the_order_of_methods_is_part_of_a_run(tmp_path: Path) -> None:
    with opened(tmp_path, MANIFEST_DATA, fresh=False):
        pass
    other = json.loads(json.dumps(MANIFEST_DATA))
    other["configuration"]["methods"].reverse()
    with (
        pytest.raises(
            StudyError,
            match=r"methods: SGD\(momentum=0\.9\), .* there, SGD\(momentum=0\.99\), .* here\)",
        ),
        opened(tmp_path, other, fresh=False),
    ):
        pass


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StudyError, match=r"--out .*file"),
        opened(tmp_path / "file", MANIFEST_DATA, fresh=False),
    ):
        pass
