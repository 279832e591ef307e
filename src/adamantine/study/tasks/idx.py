"""The IDX files of MNIST and Fashion-MNIST, gzip-compressed or not.

A file is a big-endian header, two zero bytes, the type (8: unsigned byte), the number of dimensions, one
32-bit size per dimension, and then the bytes themselves (yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adamantine.study.errors import StudyError

Bytes = NDArray[np.uint8]
LARGEST = 2**28  # bytes of one file; MNIST's training images are 2**25.5


def read_idx(path: Path, dimensions: int) -> Bytes:
    """The unsigned bytes of one IDX file, in its own shape.

    Raises :class:`StudyError` naming the file and the fault: unreadable, bad gzip, wrong magic, wrong length.
    """
    header = 4 + 4 * dimensions
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            with gzip.GzipFile(fileobj=plain) if packed else nullcontext(plain) as file:
                raw = file.read(header)
                shape = _shape(path, raw, dimensions)
                content = file.read(
                    math.prod(shape) + 1
                )  # no more, however much a small gzip file unpacks to
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StudyError(f"{path}: damaged gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}") from error
    if len(content) != math.prod(shape):
        follow = "more" if len(content) > math.prod(shape) else len(content)
        raise StudyError(
            f"{path}: its header promises {' x '.join(map(str, shape))} = {math.prod(shape)} bytes, "
            f"{follow} follow; fetch it again"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _shape(path: Path, raw: bytes, dimensions: int) -> tuple[int, ...]:
    """What the first bytes of a file promise."""
    magic = bytes((0, 0, 8, dimensions))
    if raw[:4] != magic:
        raise StudyError(
            f"{path}: starts with {raw[:4].hex(' ')}, an IDX file of this kind with {magic.hex(' ')}"
        )
    header = 4 + 4 * dimensions
    if len(raw) < header:
        raise StudyError(f"{path}: ends inside its {header}-byte header; fetch it again")
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", dimensions, 4))
    if math.prod(shape) > LARGEST:
        raise StudyError(f"{path}: its header promises {math.prod(shape)} bytes, which is no MNIST file")
    return shape


def read_mnist(folders: Sequence[Path], source: str) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Train images ``[n, 1, 28, 28]``, train labels ``[n]``, and the same for test, from the first folder
    that
    has them; ``source`` is where the error tells to get missing files."""
    arrays: list[Bytes] = []
    for part in ("train", "t10k"):
        image_path = _find(folders, f"{part}-images", "idx3", source)
        label_path = _find(folders, f"{part}-labels", "idx1", source)
        images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
        if len(images) != len(labels) or len(labels) == 0:
            raise StudyError(
                f"{label_path}: {len(labels)} labels for the {len(images)} images of {image_path.name}"
            )
        if images.shape[1:] != (28, 28):
            raise StudyError(
                f"{image_path}: images of {images.shape[1]} x {images.shape[2]} pixels, not 28 x 28"
            )
        if labels.max() > 9:
            raise StudyError(f"{label_path}: label {labels.max()}; labels are 0 to 9")
        arrays += (images[:, None], labels)
    return arrays[0], arrays[1], arrays[2], arrays[3]


def _find(folders: Sequence[Path], stem: str, kind: str, source: str) -> Path:
    names = [f"{stem}{dot}{kind}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    looked = ", ".join(str(folder) for folder in folders)
    raise StudyError(f"no {names[0]} (or {names[0]}.gz) in {looked}; get it from {source}")
