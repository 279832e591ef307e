"""Curves and final scores for TensorBoard: a run, that is a folder with an event file, per finished cell.

A file is written when its cell is done, and its name holds a digest of what is in it. So a resumed comparison
writes what is missing and nothing twice, and one that was begun without ``--tensorboard`` gets all its files.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from adamantine.report.numbers import printable
from adamantine.study.cell import Cell, Result, to_json
from adamantine.study.compare import Run
from adamantine.study.folder import identity
from adamantine.study.plan import Method, fingerprint
from adamantine.study.watch import events
from adamantine.study.watch.events import PATTERN, PREFIX, SUFFIX, Event

FOLDER = "tensorboard"  # in the run folder
NUMBERS = {  # hyperparameters besides the method, and what is shown of them
    "lr": "learning rate η",
    "weight_decay": "weight decay λ",
    "gamma": "γ = ηλ",
    "seed": "seed",
}
FINAL = "final/validation"  # tag of the score that the HPARAMS tab shows


class TensorBoard:
    """A :class:`~adamantine.study.compare.Watcher` that writes event files below ``folder``.

    Runs are called ``AdamW/lr=0.001,wd=0.1,seed=0``. Scalars by epoch: ``train/loss``, ``weights/norm``, and
    ``validation/error`` or whatever the task's score is; besides, ``final/validation``, which a run that
    diverged does not have. Scores in % are written as such, not as fractions. Test scores are not written:
    this is a place to choose settings, and a setting chosen by its test score has none left to judge it.

    Raises :class:`StudyError` where TensorBoard is not installed. Event files that another plan left in the
    folder are removed, others than our own never.
    """

    def __init__(self, run: Run, folder: Path | None = None) -> None:
        events.part("summary.writer.record_writer")  # is it installed?
        self.task = run.task
        self.folder = folder or run.out / FOLDER
        self.percent = 100.0 if run.task.score_unit == "%" else 1.0
        self.curves = {
            "train_loss": ("train/loss", 1.0),
            "norm": ("weights/norm", 1.0),
            "validation": (f"validation/{printable(run.task.score_name)}", self.percent),
        }
        self.names = _names(run.plan.methods)
        self.file = f"{PREFIX}{fingerprint(identity(run.manifest))}{SUFFIX}"
        self.begun = False
        self.done: set[Cell] = set()

    def planned(self, method: Method, done: int, total: int, results: Mapping[Cell, Result]) -> None:
        self._begin()
        for cell, result in results.items():
            if cell.method == method.spec:
                self._write(result)

    def finished(self, result: Result, results: Mapping[Cell, Result]) -> None:
        self._write(result)

    def _begin(self) -> None:
        """Describes the comparison, once; only now, so that a refused one leaves nothing behind."""
        if self.begun:
            return
        self.begun = True
        if any(file.name != self.file for file in self.folder.glob(PATTERN)):
            for file in self.folder.rglob(PATTERN):
                file.unlink()
        if not (self.folder / self.file).exists():
            score, unit = printable(self.task.score_name), printable(self.task.score_unit)
            shown = f"{score} ({unit})" if unit else score
            about = events.experiment(
                f"adamantine compare: {printable(self.task.title)}",
                [printable(spec) for spec in self.names],
                NUMBERS,
                {FINAL: f"validation {shown}"},
            )
            events.write(self.folder / self.file, [Event(0, time.time(), about)])

    def _write(self, result: Result) -> None:
        cell = result.cell
        if cell in self.done or cell.method not in self.names or result.status == "failed":
            return  # a cell that failed is run again by the next comparison, and may fare better
        self.done.add(cell)
        place = self.folder / self.names[cell.method] / _name(cell)
        file = place / f"{PREFIX}{_digest(result)}{SUFFIX}"
        if not file.exists():
            for other in place.glob(PATTERN):
                other.unlink()
            events.write(file, self._events(result))

    def _events(self, result: Result) -> Iterator[Event]:
        """All of a run, which is taken to end now."""
        cell, last, end = result.cell, self.task.epochs, time.time()
        begin = end - result.seconds
        values: dict[str, str | float] = {
            "method": printable(cell.method),
            "lr": cell.lr,
            "weight_decay": cell.weight_decay,
            "gamma": cell.lr * cell.weight_decay,
            "seed": cell.seed,
        }
        group = f"{self.names[cell.method]}/{_name(cell)}"
        yield Event(0, begin, events.session_start(group, values, begin))
        for name, (tag, factor) in self.curves.items():
            points = zip(result.curves.get("epoch", []), result.curves.get(name, []), strict=False)
            for epoch, value in points:
                if math.isfinite(value):
                    moment = begin + result.seconds * epoch / last
                    yield Event(int(epoch), moment, events.scalar(tag, value * factor))
        if result.status == "ok":
            yield Event(last, end, events.scalar(FINAL, result.validation * self.percent))
        yield Event(last, end, events.session_end(status=result.status, end=end))


def _names(methods: tuple[Method, ...]) -> dict[str, str]:
    """A folder's name for each method's spec: what every file system takes, and each its own."""
    names: dict[str, str] = {}
    for method in methods:
        spec = method.spec.replace('"', "").replace("'", "").replace(" ", "").replace(":", ".")
        name = "".join(c if c.isascii() and (c.isalnum() or c in "-_.=+,()") else "-" for c in spec)
        while name in names.values():
            name += "-"
        names[method.spec] = name
    return names


def _name(cell: Cell) -> str:
    """The setting and the seed, in as many digits as tell values apart.

    >>> _name(Cell("AdamW", 0.00031622776601683794, 0.1, 0))
    'lr=0.000316228,wd=0.1,seed=0'
    """
    return f"lr={cell.lr:.6g},wd={cell.weight_decay:.6g},seed={cell.seed}"


def _digest(result: Result) -> str:
    """Of everything but the time it took, which another machine would change."""
    record = json.loads(to_json(result))
    del record["seconds"]
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:8]
