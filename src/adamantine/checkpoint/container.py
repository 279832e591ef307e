"""safetensors files, written in one pass and read with suspicion.

The layout is the library's (8 bytes header length, a JSON header, the tensors); tests hold these functions
against it in both directions. It is stated again here since the library wants all tensors of a file in host
memory at once, where a training state is copied from its device one tensor at a time; and since a reader that
checks a file with one parser and reads it with another has checked nothing.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from adamantine.checkpoint import dtypes, strict_json
from adamantine.checkpoint.errors import CheckpointError

#: A checksum to come. They are SHA-256 in hexadecimal, which ``sha256sum`` and its like compute anywhere.
NO_DIGEST = "0" * 64

_LENGTH = 8  # bytes of the number before the header
_SENSIBLE = 2**63  # elements; torch counts no further


@dataclass(frozen=True)
class Entry:
    """One tensor's place: safetensors' dtype code, shape, and its bytes from ``begin`` to before ``end``."""

    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself, checked against its size.

    Attributes:
        path: the file.
        entries: name → place in the file (counted from its start), in the order of the bytes.
        metadata: safetensors' ``__metadata__``.
    """

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str]


def digest(content: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    """The elements in row-major order, in host memory; copied only if they do not lie so already."""
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data


def write(
    out: BinaryIO,
    tensors: Mapping[str, Tensor],
    metadata: Callable[[dict[str, str]], dict[str, str]],
    wrote: Callable[[int], None] = lambda count: None,
) -> dict[str, str]:
    """Write a whole safetensors file, one tensor after the other, and wait until the disk has it.

    Args:
        out: an empty file, open for writing.
        tensors: of dtypes that `dtypes.stored` knows.
        metadata: gives the header's texts for {name: checksum of the tensor's bytes}. Called twice, since the
            header stands before the bytes: for its length with `NO_DIGEST` everywhere, then in earnest.
        wrote: is told the bytes after each tensor.

    Returns:
        name → checksum.
    """
    # Descending by element size: every tensor is aligned to its elements, for those who map the file.
    names = sorted(tensors, key=lambda name: (-dtypes.stored_size(tensors[name].dtype), name))
    digests = dict.fromkeys(tensors, NO_DIGEST)
    room = len(_header(tensors, names, metadata(digests)))
    out.write(bytes(room))
    for name in names:
        content = bytes_of(tensors[name])
        digests[name] = digest(content)
        out.write(content)
        wrote(content.nbytes)
    header = _header(tensors, names, metadata(digests))
    assert len(header) == room, "metadata() changed its length between its two calls"
    out.seek(0)
    out.write(header)
    out.flush()
    os.fsync(out.fileno())
    return digests


def _header(tensors: Mapping[str, Tensor], names: list[str], metadata: dict[str, str]) -> bytes:
    table: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in names:
        code, shape = dtypes.stored(tensors[name].dtype, tuple(tensors[name].shape))
        begin, end = end, end + math.prod(shape) * dtypes.CODES[code][0]
        table[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
    text = strict_json.dumps(table).encode()
    text += b" " * (-len(text) % _LENGTH)
    if len(text) > strict_json.LARGEST:
        raise CheckpointError(
            f"the header would have {len(text)} bytes, more than the {strict_json.LARGEST} that safetensors "
            "readers take; a smaller max_shard_bytes spreads it over several files"
        )
    return len(text).to_bytes(_LENGTH, "little") + text


def read_header(path: Path) -> Header:
    """The header of a safetensors file of anyone's, checked in every respect that bytes can be checked in.

    Raises:
        CheckpointError: no such file, truncated, a header that is no header, a dtype unknown here, or offsets
            that overlap, leave holes, or do not fit shapes or file.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for whoever writes into it
            raise CheckpointError(f"{path}: not a file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(_LENGTH), "little")
            if size < _LENGTH or length > size - _LENGTH:
                raise CheckpointError(
                    f"{path}: {size} bytes, but a header up to byte {length + _LENGTH}: truncated, or not a "
                    "safetensors file (.pt and other files: `adamantine checkpoint convert`)"
                )
            if length > strict_json.LARGEST:
                raise CheckpointError(
                    f"{path}: a header of {length} bytes; at most {strict_json.LARGEST} are read"
                )
            table = strict_json.loads(file.read(length), f"{path}: header (bytes 8 to {length + _LENGTH})")
    except (OSError, ValueError) as error:  # ValueError: no name of a file
        raise unreadable(path, error) from error
    if not isinstance(table, dict):
        raise CheckpointError(f"{path}: the header is a {type(table).__name__}, not an object")
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise CheckpointError(f"{path}: __metadata__ is not an object of texts")
    start = _LENGTH + length
    entries = {name: _entry(path, name, value, start) for name, value in table.items()}
    ordered = sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end))
    at = start
    for name, entry in ordered:
        if entry.begin != at:
            what = "overlap those before" if entry.begin < at else "leave a hole before them"
            raise CheckpointError(
                f"{path}: the bytes of tensor {name!r} ({entry.begin} to {entry.end}) {what}: expected to "
                f"begin at {at}"
            )
        at = entry.end
    if at != size:
        raise CheckpointError(
            f"{path}: {size} bytes, but its tensors end at byte {at}: "
            + ("truncated; copy it again" if size < at else "something was appended")
        )
    return Header(path, dict(ordered), metadata)


def unreadable(path: Path, error: OSError | ValueError) -> CheckpointError:
    """What the system said, in one sentence."""
    return CheckpointError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def _entry(path: Path, name: str, value: Any, start: int) -> Entry:
    def refuse(why: str) -> CheckpointError:
        return CheckpointError(f"{path}: tensor {name!r}: {why}")

    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise refuse("not described by dtype, shape and data_offsets")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in dtypes.CODES:
        raise refuse(f"dtype {code!r:.60}; read here are {', '.join(dtypes.CODES)}")
    if not _are_counts(shape) or math.prod(n for n in shape if n) >= _SENSIBLE or len(shape) > 64:
        raise refuse(f"shape {shape!r:.60} is no shape")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise refuse(f"data_offsets {offsets!r:.60} are not two positions in order")
    if math.prod(shape) * dtypes.CODES[code][0] != offsets[1] - offsets[0]:
        raise refuse(
            f"{code} of shape {shape} takes {math.prod(shape) * dtypes.CODES[code][0]} bytes, its "
            f"data_offsets span {offsets[1] - offsets[0]}"
        )
    return Entry(code, tuple(shape), start + offsets[0], start + offsets[1])


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < _SENSIBLE for n in values)


def read_tensor(header: Header, name: str, *, expected: str | None = None) -> Tensor:
    """One tensor in memory of its own, in the dtype and shape that the file stores.

    Args:
        header: of the file.
        name: one of its entries.
        expected: the checksum that the bytes must have, None for files that have none.

    Raises:
        CheckpointError: other bytes than the checksum says, or fewer than the header says; more than fit into
            the memory.
    """
    entry = header.entries[name]
    try:
        content = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
    except RuntimeError:
        raise CheckpointError(
            f"{header.path}: tensor {name!r} has {entry.end - entry.begin} bytes, more memory than there is"
        ) from None
    view = content.numpy().data
    try:
        with header.path.open("rb") as file:
            file.seek(entry.begin)
            got = file.readinto(view)
    except OSError as error:
        raise unreadable(header.path, error) from error
    if got != len(view):
        raise CheckpointError(
            f"{header.path}: tensor {name!r}: {got} of {len(view)} bytes; the file shrank while it was read"
        )
    if expected is not None and digest(view) != expected:
        raise CheckpointError(
            f"{header.path}: tensor {name!r}: its bytes ({entry.begin} to {entry.end}) do not have the "
            "checksum they were saved with; the file is damaged, go back to another copy or checkpoint"
        )
    if entry.code == "BOOL" and len(view) and content.max() > 1:
        raise CheckpointError(f"{header.path}: tensor {name!r}: {content.max()} is no bool")
    return content.view(dtypes.CODES[entry.code][1]).view(entry.shape)
