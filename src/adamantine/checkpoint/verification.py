"""Is a checkpoint whole? Every checksum, every rule of the format."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from adamantine.checkpoint.errors import CheckpointError
from adamantine.checkpoint.reader import open_store
from adamantine.checkpoint.writer import INDEX, SUFFIX, Watch, index_of, unwatched


@dataclass
class Verification:
    """What was looked at, and what is wrong with it.

    Attributes:
        path: the file or the index.
        files: how many hold tensors.
        tensors: how many were read and compared with their checksums.
        nbytes: of these tensors.
        problems: one sentence each; none means that `read` gives exactly what was saved.
    """

    path: Path
    files: int = 0
    tensors: int = 0
    nbytes: int = 0
    problems: list[str] = field(default_factory=list)


def verify(path: str | os.PathLike[str], *, done: Watch = unwatched) -> Verification:
    """Read every byte of a checkpoint; unlike `read`, go on after a damaged tensor to find them all.

    Args:
        path: as given to `save`.
        done: is told the bytes of every tensor read.

    Raises:
        CheckpointError: there is no such file, or one of another format.
    """
    path = Path(path)
    if not path.exists() and not index_of(path).exists():
        raise CheckpointError(f"{path}: no such file")
    if path.is_file() and not path.name.endswith((SUFFIX, INDEX)):
        raise CheckpointError(
            f"{path}: no checkpoint of adamantine, and without checksums to compare with; `adamantine "
            "checkpoint inspect` looks into other formats"
        )
    found = Verification(path)
    try:
        store = open_store(path)
    except CheckpointError as error:  # without a table of tensors there is nothing further to look at
        found.problems.append(str(error))
        return found
    found.path = store.path
    found.files = len({header.path for header in store.headers.values()}) or 1
    for name in store.stored:
        try:
            store.tensor(name)
        except CheckpointError as error:
            found.problems.append(str(error))
        found.tensors += 1
        found.nbytes += store.nbytes(name)
        done(store.nbytes(name))
    if not found.problems:
        try:
            store.sketch()
        except CheckpointError as error:
            found.problems.append(str(error))
    return found
