"""Checkpoints from the disk, from whomever: every byte checked before it is used, and nothing executed."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamantine.checkpoint import container, dtypes, manifest, strict_json
from adamantine.checkpoint.container import Header
from adamantine.checkpoint.contents import Contents
from adamantine.checkpoint.errors import CheckpointError
from adamantine.checkpoint.manifest import Stored
from adamantine.checkpoint.writer import INDEX, SUFFIX, Watch, index_of, unwatched


@dataclass(frozen=True)
class Store:
    """An open checkpoint: its JSON is read and checked, its tensors are read when asked for.

    Attributes:
        path: the file, or the index.
        manifest: the JSON (docs/checkpoint.md).
        stored: tensor name → dtype, shape, checksum.
        headers: tensor name → header of the file that has it.
    """

    path: Path
    manifest: dict[str, Any]
    stored: dict[str, Stored]
    headers: dict[str, Header]

    def tensor(self, name: Any) -> Tensor:
        """A tensor in memory of its own, as it was saved.

        Raises:
            CheckpointError: no such tensor, or its bytes do not have the checksum.
        """
        if not isinstance(name, str) or name not in self.stored:
            raise CheckpointError(f"{self.path}: there is no tensor {name!r:.80}")
        stored, header = self.stored[name], self.headers[name]
        raw = container.read_tensor(header, name, expected=stored.sha256)
        flat = raw.reshape(-1).view(torch.uint8).view(dtypes.NAMED[stored.dtype])
        value = flat.reshape(stored.shape)
        if stored.order is not None:
            value = _laid_out(value, stored.order)
        return value

    def nbytes(self, name: str) -> int:
        """Of one tensor in the file."""
        entry = self.headers[name].entries[name]
        return entry.end - entry.begin

    def contents(self, done: Watch = unwatched) -> tuple[Contents, dict[int, str]]:
        """Everything, with every tensor in memory; what was one tensor when saved is one again.

        Returns:
            The contents, and the name of each tensor in them by its ``id``.

        Raises:
            CheckpointError: damage anywhere, or a value that no optimizer can have.
        """

        def tensor(name: Any) -> Tensor:
            value = self.tensor(name)
            done(self.nbytes(name))
            return value

        return self._contents(tensor)

    def sketch(self) -> tuple[Contents, dict[int, str]]:
        """Everything but the values of tensors with more than one element, which are on the meta device.

        Returns:
            As `contents`.

        Raises:
            CheckpointError: as `contents`, but for the bytes of those tensors.
        """

        def tensor(name: Any) -> Tensor:
            row = self.stored.get(name) if isinstance(name, str) else None
            if row is None or math.prod(row.shape) == 1:  # a step count, a learning rate
                return self.tensor(name)
            return torch.empty(row.shape, dtype=dtypes.NAMED[row.dtype], device="meta")

        return self._contents(tensor)

    def _contents(self, tensor: Callable[[Any], Tensor]) -> tuple[Contents, dict[int, str]]:
        known: dict[str, Tensor] = {}

        def once(name: Any) -> Tensor:
            if not isinstance(name, str) or name not in known:
                value = tensor(name)
                known[name] = value
            return known[name]

        found = manifest.contents(self.manifest, str(self.path), once)
        if unused := self.stored.keys() - known.keys():
            raise CheckpointError(f"{self.path}: nothing refers to the tensor {min(unused)!r}")
        return found, {id(value): name for name, value in known.items()}


def read(path: str | os.PathLike[str], *, done: Watch = unwatched) -> Contents:
    """Everything in a checkpoint, without an optimizer to load it into.

    Args:
        path: as given to `write`, or the index beside shards.
        done: for a progress bar.

    Raises:
        CheckpointError: no checkpoint there, or a damaged one: which file, which tensor, which bytes.
    """
    return open_store(path).contents(done)[0]


def open_store(path: str | os.PathLike[str]) -> Store:
    """The checkpoint at ``path``, its tensors not yet read.

    Raises:
        CheckpointError: as `read`, but for the bytes of the tensors.
    """
    path = Path(path)
    try:
        if path.name.endswith(SUFFIX) and not path.exists() and index_of(path).exists():
            path = index_of(path)
    except OSError as error:
        raise container.unreadable(path, error) from error
    if path.name.endswith(INDEX):
        texts, headers = _read_index(path)
    else:
        header = container.read_header(path)
        texts, headers = header.metadata, dict.fromkeys(header.entries, header)
    described, stored = manifest.parse(texts, str(path))
    for name in stored.keys() | headers.keys():
        if name not in headers:
            raise CheckpointError(f"{path}: the tensor {name!r} is missing; the checkpoint is not whole")
        if name not in stored:
            raise CheckpointError(
                f"{headers[name].path}: the tensor {name!r} is not in the checkpoint's table"
            )
        entry, row = headers[name].entries[name], stored[name]
        if (entry.code, entry.shape) != dtypes.stored(dtypes.NAMED[row.dtype], row.shape):
            raise CheckpointError(
                f"{headers[name].path}: tensor {name!r} is {entry.code} of shape {list(entry.shape)}, saved "
                f"was {row.dtype} of shape {list(row.shape)}; the header is damaged"
            )
    return Store(path, described, stored, headers)


def _read_index(path: Path) -> tuple[dict[str, Any], dict[str, Header]]:
    """The texts of an index, and each tensor's header."""
    try:
        size = path.stat().st_size
        if not path.is_file() or size > strict_json.LARGEST:
            raise CheckpointError(f"{path}: no file, or an index of {size} bytes: not a checkpoint's")
        index = strict_json.loads(path.read_bytes(), str(path))
    except OSError as error:
        raise container.unreadable(path, error) from error
    index = index if isinstance(index, dict) else {}
    texts, places = index.get("metadata"), index.get("weight_map")
    if not isinstance(texts, dict) or not isinstance(places, dict):
        raise CheckpointError(
            f"{path}: no index of a sharded checkpoint: 'metadata' and 'weight_map' are objects"
        )
    folder = path.resolve().parent
    files: dict[str, Header] = {}
    for name, file in places.items():
        if not isinstance(file, str) or not re.fullmatch(r"[^/\\:\0]+\.safetensors", file):
            raise CheckpointError(
                f"{path}: the tensor {name!r} is said to be in {file!r:.80}; shards lie beside the index, "
                "and a name that leads elsewhere is refused"
            )
        if file not in files:
            shard = folder / file
            if shard.is_symlink():
                raise CheckpointError(f"{shard}: a link; a shard lies itself beside its index")
            files[file] = container.read_header(shard)
        if name not in files[file].entries:
            raise CheckpointError(
                f"{path}: {file} does not have the tensor {name!r} that is said to be in it"
            )
    for file, header in files.items():
        if strangers := [name for name in header.entries if places.get(name) != file]:
            raise CheckpointError(
                f"{path}: {file} has a tensor {strangers[0]!r} that the index does not place there"
            )
    return texts, {name: files[file] for name, file in places.items()}


def _laid_out(value: Tensor, order: tuple[int, ...]) -> Tensor:
    """The same values with the dimensions ``order`` from slowest to fastest in memory."""
    back = [order.index(axis) for axis in range(len(order))]
    return value.permute(order).contiguous().permute(back)
