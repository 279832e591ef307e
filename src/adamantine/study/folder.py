"""A run folder: what is known survives a kill at any moment, and nothing is written twice.

manifest.json   the plan, versions, data, machine; written once, before the first cell
cells.jsonl     one line per finished cell, appended and synced; a torn last line is dropped
results.csv     every cell in canonical order, without timings
figures/, report.html
lock            held while a process works here
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adamantine.report.files import write_atomic
from adamantine.study.cell import Cell, Result, from_json, to_json
from adamantine.study.errors import StudyError

MANIFEST, JOURNAL, TABLE, PAGE, FIGURES, LOCK = (
    "manifest.json",
    "cells.jsonl",
    "results.csv",
    "report.html",
    "figures",
    "lock",
)
FORMAT = 1
DRAWN = ("*-light.png", "*-dark.png", "*-light.svg", "*-dark.svg")  # what a report puts into FIGURES
#: What two runs must share to share a folder.
IDENTITY = ("configuration", "task", "data", "code", "versions")


class Folder:
    """A run folder opened for work; use :func:`opened`."""

    def __init__(self, path: Path, results: dict[Cell, Result]) -> None:
        self.path = path
        self.results = results

    def add(self, results: Sequence[Result]) -> None:
        """Appends cells to the journal and waits until the disk has them."""
        with (self.path / JOURNAL).open("ab") as journal:
            journal.write(b"".join(to_json(result).encode() + b"\n" for result in results))
            journal.flush()
            os.fsync(journal.fileno())
        self.results.update((result.cell, result) for result in results)

    def write_table(self, order: Iterable[Cell]) -> None:
        """Writes ``results.csv`` with the cells that are done, in this order."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            "method lr weight_decay seed status validation test train_loss norm message".split()  # noqa: SIM905
        )
        for cell in order:
            if cell in self.results:
                writer.writerow(_row(self.results[cell]))
        write_atomic(self.path / TABLE, text.getvalue().encode())


@contextmanager
def opened(path: Path, manifest: Mapping[str, Any], *, fresh: bool) -> Iterator[Folder]:
    """Opens or makes the run folder for the run that ``manifest`` describes, and locks it meanwhile.

    A folder of the same run is resumed (failed cells are tried again). ``fresh`` removes what an earlier
    run left, and nothing else. Raises :class:`StudyError` when the folder holds another run, files of these
    names that are no run's, or damage, or when another process works in it.
    """
    _refuse_foreign(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"--out {path}: {error.strerror}") from error
    with _locked(path):
        if fresh:
            _remove_run(path)
        if (path / MANIFEST).exists():
            _check_same(path, read_manifest(path), manifest)
        else:
            write_atomic(
                path / MANIFEST, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
            )
        _drop_torn_line(path / JOURNAL)
        results = {cell: result for cell, result in read_results(path).items() if result.status != "failed"}
        yield Folder(path, results)


def identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a manifest that decides the results, as plain JSON data."""
    data: dict[str, Any] = json.loads(
        json.dumps({key: manifest[key] for key in IDENTITY if manifest.get(key)})
    )
    return data


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run folder; raises :class:`StudyError` when there is none that can be read."""
    file = path / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path} is no run folder: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{file}: cannot be read ({error}); use another --out") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise StudyError(f"{file}: not written by this version of adamantine; use another --out")
    if not isinstance(manifest.get("configuration"), dict):
        raise StudyError(f"{file}: not a manifest of adamantine; use another --out")
    return manifest


def read_results(path: Path) -> dict[Cell, Result]:
    """The journal's results; of a cell that was run again, the last. A torn last line is left out."""
    file = path / JOURNAL
    if not file.exists():
        return {}
    lines = file.read_bytes().split(b"\n")
    results = {}
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is empty, or torn
        try:
            result = from_json(line.decode("utf-8"))
        except (StudyError, UnicodeDecodeError) as error:
            raise StudyError(
                f"{file}: line {number} is damaged; remove it to run its cell again ({error})"
            ) from error
        results[result.cell] = result
    return results


def _row(result: Result) -> list[str]:
    cell = result.cell
    last = [
        repr(result.curves[name][-1]) if result.curves.get(name) else "" for name in ("train_loss", "norm")
    ]
    scores = [repr(score) if result.status == "ok" else "" for score in (result.validation, result.test)]
    setting = [cell.method, repr(cell.lr), repr(cell.weight_decay), str(cell.seed)]
    return [*setting, result.status, *scores, *last, result.message]


def _drop_torn_line(file: Path) -> None:
    if not file.exists():
        return
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(file, whole)


def _refuse_foreign(path: Path) -> None:
    """A folder with files of our names but without a manifest of ours is somebody else's work."""
    ours = [name for name in (MANIFEST, JOURNAL, TABLE, PAGE, FIGURES) if (path / name).exists()]
    if not ours:
        return
    try:
        read_manifest(path)
    except StudyError as error:
        raise StudyError(
            f"--out {path}: has {', '.join(ours)}, but is no run folder of adamantine's ({error}); "
            "nothing there is touched"
        ) from error


def _remove_run(path: Path) -> None:
    """Removes what a run wrote; the manifest last, so that a kill in between leaves a folder of ours."""
    figures = path / FIGURES
    if not figures.is_symlink():
        for pattern in DRAWN:
            for file in figures.glob(pattern):
                file.unlink()
        with contextlib.suppress(OSError):  # not there, or something else is in it
            figures.rmdir()
    for name in (PAGE, TABLE, JOURNAL, MANIFEST):
        (path / name).unlink(missing_ok=True)


def _check_same(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    if identity(there) == identity(here):
        return
    old, new = _flat(identity(there)), _flat(identity(here))
    shared = old.keys() & new.keys()
    changes = [
        f"{key}: {old.get(key, 'none')} there, {new.get(key, 'none')} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
        and (key in shared or not key.startswith("configuration.methods."))  # the list of methods says that
    ]
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    raise StudyError(
        f"{path} holds another run ({'; '.join(changes[:3])}{more}); "
        "use another --out, or --fresh to start over"
    )


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """Every value under its path, for words only; a method goes by its spec."""
    flat: dict[str, Any] = {}
    if isinstance(data, Mapping):
        pairs = [(str(key), value) for key, value in data.items()]
    elif isinstance(data, list) and any(isinstance(value, Mapping) for value in data):
        pairs = [(str(value.get("spec", index)), value) for index, value in enumerate(data)]
        flat[prefix] = ", ".join(key for key, _ in pairs)
    else:
        return {prefix: data}
    for key, value in pairs:
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """An advisory lock that the system itself drops when the process ends, however it ends."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context((path / LOCK).open("a+b"))
        except OSError as error:
            raise StudyError(f"--out {path}: {error.strerror}") from error
        try:
            _lock(file.fileno())
        except OSError as error:
            raise StudyError(
                f"{path}: another process works in this folder; wait for it or use another --out"
            ) from error
        yield


try:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

except ImportError:  # Windows
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
