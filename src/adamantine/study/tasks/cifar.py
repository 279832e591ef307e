"""CIFAR-10's official files, in the binary and in the Python version, unpacked or as the official
``.tar.gz``.

The Python version is a pickle, and a pickle can run any code it likes when read. So none of it is run
here: the unpickler below knows three names, all of them of NumPy, and puts inert stand-ins in their place
that keep the bytes.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamantine.study.errors import StudyError

Bytes = NDArray[np.uint8]
Open = Callable[[str], bytes]  # the content of one file of the data set

PIXELS = 3 * 32 * 32
LARGEST = 2**26  # bytes of one batch, however much a small archive unpacks to; CIFAR-10's are below 2**25
BINARY = ("cifar-10-batches-bin", "cifar-10-binary.tar.gz", ".bin")
PYTHON = ("cifar-10-batches-py", "cifar-10-python.tar.gz", "")


def read_cifar10(folder: Path) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Train images ``[50000, 3, 32, 32]``, train labels ``[50000]``, and the same for the 10 000 of test.

    Looks for the unpacked folder of either version, for its files in ``folder`` itself, and for the archive.
    Raises :class:`StudyError` that says what is expected when there is none, or names the damaged file.
    """
    for (unpacked, archive, ending), decode in ((BINARY, _decode_binary), (PYTHON, _decode_pickle)):
        names = [f"data_batch_{index}{ending}" for index in range(1, 6)] + [f"test_batch{ending}"]
        for place in (folder / unpacked, folder):
            if (place / names[0]).is_file():
                return _read(names, _in_folder(place), decode, str(place))
        if (folder / archive).is_file():
            with _in_archive(folder / archive, unpacked) as read:
                return _read(names, read, decode, str(folder / archive))
    raise StudyError(
        f"no CIFAR-10 in {folder}: expected {BINARY[0]}/data_batch_1.bin, {PYTHON[0]}/data_batch_1, "
        f"{BINARY[1]} or {PYTHON[1]}; get it from www.cs.toronto.edu/~kriz/cifar.html"
    )


def _read(
    names: list[str], read: Open, decode: Callable[[bytes], tuple[Bytes, Bytes]], place: str
) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    images, labels = [], []
    for name in names:
        try:
            pixels, classes = decode(read(name))
        except StudyError as error:
            raise StudyError(f"{place}/{name}: {error}; fetch it again") from error
        except FileNotFoundError as error:
            raise StudyError(f"{place}: {name} is missing; expected {', '.join(names)}") from error
        except OSError as error:
            raise StudyError(f"{place}/{name}: {error.strerror or error}") from error
        if len(classes) == 0 or classes.max() > 9:
            raise StudyError(f"{place}/{name}: a label above 9 or none at all; fetch it again")
        images.append(pixels.reshape(-1, 3, 32, 32))
        labels.append(classes)
    return np.concatenate(images[:-1]), np.concatenate(labels[:-1]), images[-1], labels[-1]


def _in_folder(place: Path) -> Open:
    return lambda name: (place / name).read_bytes()


@contextmanager
def _in_archive(path: Path, folder: str) -> Iterator[Open]:
    """Reads members of a ``.tar.gz`` without unpacking anything to disk."""

    def read(name: str) -> bytes:
        try:
            member = archive.extractfile(f"{folder}/{name}")
        except KeyError:
            raise FileNotFoundError(name) from None
        if member is None:
            raise FileNotFoundError(name)
        content = member.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise StudyError(f"more than {LARGEST} bytes, which is no CIFAR-10 batch")
        return content

    try:
        with tarfile.open(path, "r:gz") as archive:
            yield read
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise StudyError(f"{path}: damaged archive ({error}); fetch it again") from error
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror or error}") from error


def _decode_binary(raw: bytes) -> tuple[Bytes, Bytes]:
    """A record is one byte of label and 3072 of pixels, red plane first."""
    if not raw or len(raw) % (1 + PIXELS):
        raise StudyError(f"{len(raw)} bytes are no whole number of {1 + PIXELS}-byte records")
    records = np.frombuffer(raw, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0]


def _decode_pickle(raw: bytes) -> tuple[Bytes, Bytes]:
    try:
        batch = _Unpickler(io.BytesIO(raw), encoding="bytes").load()
        pixels, labels = batch[b"data"].bytes(), batch[b"labels"]
        classes = np.array(labels, np.uint8)
    except StudyError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise StudyError(f"not a CIFAR-10 batch ({type(error).__name__}: {error})") from error
    if pixels.size != len(classes) * PIXELS:
        raise StudyError(f"{pixels.size} bytes of pixels for {len(classes)} labels")
    return pixels, classes


class _Array:
    """Stands in for ``numpy.ndarray``: keeps the state a pickle gives it, and checks before believing it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def bytes(self) -> Bytes:
        _, shape, dtype, fortran, content = self.state
        if not isinstance(dtype, _Dtype) or dtype.name not in (b"u1", "u1"):
            raise StudyError("its pixels are not plain unsigned bytes")
        if len(shape) != 2 or shape[1] != PIXELS or len(content) != shape[0] * PIXELS:
            raise StudyError(f"{len(content)} bytes of pixels in an array of shape {shape}")
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """Stands in for ``numpy.dtype``: its name is all that matters of an unsigned byte."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        pass


def _reconstruct(*_: object) -> _Array:
    return _Array()


class _Unpickler(pickle.Unpickler):
    STAND_INS = {  # noqa: RUF012 - a constant
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.STAND_INS[module, name]
        except KeyError:
            raise StudyError(
                f"it asks for {module}.{name}, which no CIFAR-10 file does; it is not read"
            ) from None
