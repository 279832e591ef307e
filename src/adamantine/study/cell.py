"""The unit of work: one training run at one setting with one seed, and what came of it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from adamantine.study.errors import StudyError

STATUSES = ("ok", "diverged", "failed", "pruned")


@dataclass(frozen=True)
class Cell:
    """One training run: a method by its spec, a setting, a seed."""

    method: str
    lr: float
    weight_decay: float
    seed: int


@dataclass(frozen=True)
class Result:
    """What came of a cell. Scores are NaN unless ``status`` is ``"ok"``.

    ``"diverged"``: the loss or the outputs left the finite (or absurdity) range, which is a result like
    any other. ``"failed"``: something raised; ``message`` says what. ``"pruned"``: stopped on request.
    Curves are per recorded epoch from 0 (the start) on, all of one length.
    """

    cell: Cell
    status: str
    validation: float = math.nan
    test: float = math.nan
    message: str = ""
    curves: dict[str, list[float]] = field(default_factory=dict)  # epoch, train_loss, validation, norm
    seconds: float = 0.0


def to_json(result: Result) -> str:
    """One line of strict JSON; NaN becomes ``null``. Floats survive the round trip exactly."""
    record = {
        **vars(result.cell),
        "status": result.status,
        "validation": _null(result.validation),
        "test": _null(result.test),
        "message": result.message,
        "curves": {name: [_null(value) for value in values] for name, values in result.curves.items()},
        "seconds": round(result.seconds, 3),
    }
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def from_json(line: str) -> Result:
    """The inverse of :func:`to_json`; raises :class:`StudyError` on anything else."""
    try:
        record: dict[str, Any] = json.loads(line)
        cell = Cell(record["method"], float(record["lr"]), float(record["weight_decay"]), int(record["seed"]))
        if record["status"] not in STATUSES:
            raise ValueError(record["status"])
        curves = {str(name): [_nan(value) for value in values] for name, values in record["curves"].items()}
        scores = _nan(record["validation"]), _nan(record["test"])
        return Result(cell, record["status"], *scores, record["message"], curves, float(record["seconds"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"not a result of a cell: {line[:80]!r} ({type(error).__name__}: {error})"
        ) from error


def _null(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
