"""The files of ``flax.serialization.to_bytes``: MessagePack with three extension types for arrays.

Read at flax 0.12 (flax/serialization.py). The decoder is the msgpack package's; nothing in the format is
code.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamantine.checkpoint.convert.pickled import refusals
from adamantine.checkpoint.errors import CheckpointError

_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_CHUNKED = "__msgpack_chunked_array__"
_CHUNK = 2**30  # bytes; flax splits larger arrays, for MessagePack ends at 2³¹
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bfloat16,
        torch.bool,
        torch.complex64,
        torch.complex128,
        torch.float16,
        torch.float32,
        torch.float64,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
    )
}
DEEPEST = 64


def loads(path: Path) -> Any:
    """The tree in a file, arrays as tensors.

    Raises:
        CheckpointError: no msgpack package here; bytes that are no MessagePack, or no arrays.
    """
    msgpack = _package()
    with refusals(path, "read as MessagePack of flax.serialization.to_bytes"):
        tree = msgpack.unpackb(path.read_bytes(), ext_hook=_decoded, raw=False, strict_map_key=False)
        return _unchunked(tree)


def dumps(tree: Any) -> bytes:
    """The bytes that ``flax.serialization.from_bytes`` reads."""
    packed = _package().packb(_chunked(tree), default=_encoded, strict_types=True)
    return bytes(packed)


def _package() -> Any:
    try:
        import msgpack  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise CheckpointError(
            "optax states on disk are MessagePack, and the package msgpack is not installed; pip install "
            "msgpack"
        ) from None
    return msgpack


def _decoded(code: int, data: bytes) -> Any:
    if code == _COMPLEX:
        return complex(*_package().unpackb(data))
    if code not in {_ARRAY, _SCALAR}:
        raise CheckpointError(f"extension type {code} is none of flax's")
    shape, name, buffer = _package().unpackb(data, raw=True)
    name = name.decode() if isinstance(name, bytes) else name
    if name not in _DTYPES:
        raise CheckpointError(f"an array of dtype {str(name)[:40]!r}, which is not read")
    dtype = _DTYPES[name]
    if (
        not isinstance(buffer, bytes)
        or len(shape) > DEEPEST
        or not all(type(size) is int and size >= 0 for size in shape)
    ):
        raise CheckpointError("an array without a shape or without its bytes")
    if math.prod(shape) * dtype.itemsize != len(buffer):
        raise CheckpointError(f"an array of shape {tuple(shape)} and dtype {name} with {len(buffer)} bytes")
    if not buffer:
        return torch.empty(tuple(shape), dtype=dtype)
    return torch.frombuffer(bytearray(buffer), dtype=dtype).view(tuple(shape))


def _unchunked(tree: Any, depth: int = 0) -> Any:
    if depth > DEEPEST:
        raise CheckpointError(f"it is nested more than {DEEPEST} deep")
    if not isinstance(tree, dict):
        return tree
    if _CHUNKED not in tree:
        return {key: _unchunked(value, depth + 1) for key, value in tree.items()}
    shape = [tree["shape"][str(i)] for i in range(len(tree["shape"]))]
    return torch.cat([tree["chunks"][str(i)] for i in range(len(tree["chunks"]))]).view(shape)


def _chunked(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _chunked(value) for key, value in tree.items()}
    if isinstance(tree, Tensor) and tree.numel() * tree.element_size() > _CHUNK:
        pieces = torch.split(tree.flatten(), _CHUNK // tree.element_size())
        return {
            _CHUNKED: True,
            "shape": {str(i): size for i, size in enumerate(tree.shape)},
            "chunks": {str(i): piece for i, piece in enumerate(pieces)},
        }
    return tree


def _encoded(value: Any) -> Any:
    msgpack = _package()
    name = str(value.dtype).removeprefix("torch.")
    content = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return msgpack.ExtType(_ARRAY, msgpack.packb((tuple(value.shape), name, content), use_bin_type=True))
