"""Checkpoints onto the disk: one file, or an index with shards, replaced whole.

`x.safetensors` alone, or, above ``max_shard_bytes``, `x.safetensors.index.json` beside shards
`x-00001-of-00003-<digest>.safetensors`. What makes a save count is one rename (of the file, or of the index),
or one removal (of `x.safetensors`, where an index takes its place). So whatever ends the process, the path
leads to the old checkpoint whole or to the new one.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from adamantine.checkpoint import container, manifest, strict_json
from adamantine.checkpoint.contents import Contents
from adamantine.checkpoint.errors import CheckpointError
from adamantine.checkpoint.tree import Tensors

SUFFIX, INDEX = ".safetensors", ".safetensors.index.json"

#: Is told how many more bytes of tensors are done.
Watch = Callable[[int], None]


def unwatched(count: int) -> None:
    """Nobody wants to know."""


def write(
    path: str | os.PathLike[str],
    contents: Contents,
    *,
    max_shard_bytes: int = 5_000_000_000,
    done: Watch = unwatched,
) -> None:
    """Write a checkpoint; what is at ``path`` is replaced at once, when the new one is safely on the disk.

    One process at a time may write to a path. Who reads shards meanwhile may find them replaced, is told so
    by a `CheckpointError`, and reads again. Memory: one tensor is copied at a time, where it must be moved
    from its device or into row-major order; else none.

    Args:
        path: a name that ends in ``.safetensors``.
        contents: what `read` will give again.
        max_shard_bytes: above so many bytes of tensors, an index beside shards of at most this size (a larger
            tensor has a shard of its own).
        done: for a progress bar.

    Raises:
        CheckpointError: something that cannot be stored, by its name; a hyperparameter that reading would
            refuse; a folder that cannot be written to. What was at ``path`` is still there.
    """
    path = Path(path)
    if not path.name.endswith(SUFFIX) or path.name == SUFFIX:
        raise CheckpointError(f"{path}: the name of a checkpoint ends in {SUFFIX}, as in state{SUFFIX}")
    if max_shard_bytes < 1:
        raise CheckpointError(f"Invalid max_shard_bytes: {max_shard_bytes}; it must be >= 1")
    tensors = Tensors()
    described = manifest.describe(contents, tensors)
    manifest.contents(described, "not saved", tensors.named.__getitem__)  # what reading would refuse
    shards = _shards(tensors.named, max_shard_bytes)
    try:
        index = index_of(path)
        if index.exists() and manifest.KEY.encode() not in index.read_bytes():
            raise CheckpointError(
                f"{index} is of something else (a model?), and would hide or be hidden by a "
                f"checkpoint at {path}; choose another name"
            )
        if path.is_dir():  # found here, and not when the index is in its place already
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _remove_old(path, keep=_in_use(path))  # a save that was killed may have left no room for this one
        if len(shards) == 1:
            _write_single(path, described, shards[0], done)
        else:
            _write_sharded(path, described, shards, done)
    except (OSError, ValueError) as error:  # ValueError: no name of a file
        said = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be written: {said}") from error


def _write_single(path: Path, described: dict[str, Any], tensors: dict[str, Tensor], done: Watch) -> None:
    def metadata(digests: dict[str, str]) -> dict[str, str]:
        return {"format": "pt", **manifest.metadata(described, tensors, digests)}

    with _temporary(path) as (beside, out):
        container.write(out, tensors, metadata, done)
        out.close()
        beside.replace(path)
    _sync_folder(path.parent)
    _remove_old(path, keep={path.name})


def _write_sharded(
    path: Path, described: dict[str, Any], shards: list[dict[str, Tensor]], done: Watch
) -> None:
    places: dict[str, str] = {}
    digests: dict[str, str] = {}
    made: list[Path] = []
    try:
        for number, shard in enumerate(shards, 1):
            with _temporary(path) as (beside, out):
                found = container.write(out, shard, lambda _: {"format": "pt"}, done)
                out.close()
                file = path.with_name(_shard_name(path, f"{number:05}-of-{len(shards):05}", shard, found))
                if not file.exists():
                    made.append(file)
                beside.replace(file)
            digests |= found
            places |= dict.fromkeys(shard, file.name)
        _sync_folder(path.parent)  # the index must not be on the disk before what it names
        _write_index(path, described, shards, places, digests, made)
    except BaseException:
        for file in made:  # on a full disk they would be in the way of every later save
            file.unlink(missing_ok=True)
        raise
    path.unlink(missing_ok=True)  # a single file here is what the path led to until now
    _remove_old(path, keep={index_of(path).name, *places.values()})


def _shard_name(path: Path, number: str, shard: dict[str, Tensor], digests: dict[str, str]) -> str:
    """Named by content: no shard that an index on the disk names is ever overwritten by another."""
    listed = sorted((name, str(t.dtype), tuple(t.shape), digests[name]) for name, t in shard.items())
    return f"{path.stem}-{number}-{container.digest(repr(listed).encode())[:16]}{SUFFIX}"


def _write_index(
    path: Path,
    described: dict[str, Any],
    shards: list[dict[str, Tensor]],
    places: dict[str, str],
    digests: dict[str, str],
    made: list[Path],
) -> None:
    """What makes the save count; from then on ``made`` is no longer to be taken back."""
    tensors = {name: tensor for shard in shards for name, tensor in shard.items()}
    size = sum(tensor.numel() * tensor.dtype.itemsize for tensor in tensors.values())
    texts: dict[str, Any] = manifest.metadata(described, tensors, digests)
    content = strict_json.dumps({"metadata": {"total_size": size, **texts}, "weight_map": places}).encode()
    if len(content) > strict_json.LARGEST:
        raise CheckpointError(
            f"{path}: an index of {len(content)} bytes; at most {strict_json.LARGEST} are read"
        )
    index = index_of(path)
    with _temporary(index) as (beside, out):
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
        out.close()
        made.clear()
        beside.replace(index)
    _sync_folder(path.parent)


def index_of(path: Path) -> Path:
    """Where the index stands of a checkpoint with shards.

    >>> index_of(Path("run/x.safetensors")).name
    'x.safetensors.index.json'
    """
    return path.with_name(path.name.removesuffix(SUFFIX) + INDEX)


def _in_use(path: Path) -> set[str]:
    """The files of the checkpoint that is there; where its index is damaged, all that might be."""
    index = index_of(path)
    used = {path.name, index.name}
    if index.exists():
        try:
            used |= set(strict_json.loads(index.read_bytes(), str(index))["weight_map"].values())
        except (CheckpointError, KeyError, TypeError, AttributeError):
            used |= {file.name for file in path.parent.iterdir()}
    return used


def _shards(tensors: dict[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    """In order, each filled until the next tensor would exceed the limit."""
    shards: list[dict[str, Tensor]] = [{}]
    room = limit
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.dtype.itemsize
        if shards[-1] and size > room:
            shards.append({})
            room = limit
        shards[-1][name] = tensor
        room -= size
    return shards


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file in the same folder, gone afterwards unless it was renamed."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with beside.open("xb") as out:  # never through a link that somebody put there
            yield beside, out
    finally:
        beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's names; Windows and some network disks have no such thing."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}:
                raise
        finally:
            os.close(descriptor)


def _remove_old(path: Path, keep: set[str]) -> None:
    """What earlier saves to this path left, finished or killed; only names that they alone make.

    The index goes before its shards, so that no index ever names a shard that is gone.
    """
    name, stem = re.escape(path.name), re.escape(path.stem)
    made = re.compile(
        rf"{stem}\.safetensors\.index\.json|{stem}-\d{{5}}-of-\d{{5}}-[0-9a-f]{{16}}\.safetensors"
        rf"|\.{name}(\.index\.json)?\.[0-9a-f]+\.tmp"
    )
    old = [file for file in path.parent.iterdir() if made.fullmatch(file.name) and file.name not in keep]
    for file in sorted(old, key=lambda file: not file.name.endswith(INDEX)):
        with suppress(OSError):  # the new checkpoint is in its place already; the next save tries again
            file.unlink()
