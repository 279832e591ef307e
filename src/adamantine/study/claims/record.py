"""A claim's measurement on disk: written whole or not at all, and valid for one code and one effort."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import adamantine
from adamantine.report.files import write_atomic
from adamantine.study.claims.claim import Claim, Effort, Measurement

FORMAT = 1
#: Parts of the package that cannot change what a claim measures. Of the claims' files, those that several of
#: them share (``_x.py``) can.
_NO_PART = ("report/", "cli/", "bench/", "study/tune/", "study/claims/")
_SHARED = "study/claims/_"
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch")


def fingerprint(claim_file: Path) -> str:
    """What decides a measurement beside the effort: the claim's file, the package's code, the libraries."""
    own = hashlib.sha256(claim_file.read_bytes()).hexdigest()
    return hashlib.sha256(f"{own}{_package()}".encode()).hexdigest()[:16]


@cache
def _package() -> str:
    digest = hashlib.sha256()
    root = Path(adamantine.__file__).parent
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root).as_posix()
        if name.startswith(_SHARED) or not name.startswith(_NO_PART):
            digest.update(name.encode() + file.read_bytes())
    kernel = importlib.util.find_spec("adamantine._native")
    if kernel is not None and kernel.origin is not None:
        digest.update(Path(kernel.origin).read_bytes())
    for library in _LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}".encode())
    return digest.hexdigest()


def path(folder: Path, number: int) -> Path:
    """The claim's file in a folder of results."""
    return folder / f"claim-{number:02d}.json"


def write(folder: Path, claim: Claim, record: dict[str, Any]) -> None:
    """Replaces the claim's file in one step."""
    text = json.dumps(
        {"format": FORMAT, "number": claim.number, **record}, ensure_ascii=False, allow_nan=False
    )
    write_atomic(path(folder, claim.number), (text + "\n").encode())


def read(folder: Path, number: int) -> dict[str, Any] | None:
    """The claim's record; None where there is none that this version can read."""
    try:
        record: dict[str, Any] = json.loads(path(folder, number).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and record.get("format") == FORMAT and "measurement" in record
    return record if whole else None


def valid(record: dict[str, Any] | None, effort: Effort, code: str) -> bool:
    """Was it measured with this effort by this code?"""
    return record is not None and (record.get("effort"), record.get("code")) == (effort.value, code)


def plain(thing: Any) -> Any:
    """As JSON knows it: NumPy's numbers and arrays as Python's, what is not finite as None.

    >>> import numpy as np
    >>> plain({"a": np.array([1.0, np.nan]), "b": (np.float32(0.5), True)})
    {'a': [1.0, None], 'b': [0.5, True]}
    """
    if hasattr(thing, "tolist"):  # NumPy's and torch's
        thing = thing.tolist()
    if isinstance(thing, dict):
        return {str(key): plain(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [plain(value) for value in thing]
    if isinstance(thing, float) and not math.isfinite(thing):
        return None
    return thing


def to_record(measurement: Measurement) -> dict[str, Any]:
    return {"values": plain(dict(measurement.values)), "data": plain(dict(measurement.data))}


def from_record(record: dict[str, Any]) -> Measurement:
    """The measurement of a record that `read` gave."""
    found = record["measurement"]
    return Measurement(found["values"], found["data"])
