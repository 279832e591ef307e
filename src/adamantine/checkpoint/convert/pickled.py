"""Reading ``.pt`` files: tensors and plain containers, never code.

Two locks: the pickle's opcodes are scanned for the globals they ask for, against the list below, before
anything is built; and torch.load runs with ``weights_only=True``. Classes of other libraries become the
inert stand-ins of `adamantine.checkpoint.convert.standins`, so none of those libraries is imported.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamantine.checkpoint.convert.standins import STAND_INS
from adamantine.checkpoint.errors import CheckpointError

_DTYPES = {f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_STORAGES = {f"torch.{name}" for name in vars(torch) if name.endswith("Storage")}

#: All that the pickle of a state dict needs. Narrower than torch's own list for weights_only.
ALLOWED = frozenset(
    {
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch._tensor._rebuild_from_type_v2",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch._utils._rebuild_wrapper_subclass",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch.storage.TypedStorage",
        "torch.storage.UntypedStorage",
        "__builtin__.set",
        "builtins.set",
        *_DTYPES,
        *_STORAGES,
        *STAND_INS,
    }
)


def load(path: Path) -> Any:
    """What ``torch.save`` wrote, with tensors mapped from the file.

    Raises:
        CheckpointError: not a zip archive of torch.save (1.6 and later); damaged; or its pickle asks for
            code.
    """
    with refusals(path, "read as a file of torch.save"):
        _check_archive(path)
        safe: list[Any] = [(stand_in, name) for name, stand_in in STAND_INS.items()]
        with torch.serialization.safe_globals(safe):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


@contextmanager
def refusals(path: Path, what: str) -> Iterator[None]:
    """Whatever a parser raises on a hostile file becomes a CheckpointError that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise CheckpointError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    except Exception as error:  # parsers of untrusted bytes raise anything
        said = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} cannot be {what}: {type(error).__name__}: {said}. It is damaged, or something else; "
            "take another copy"
        ) from None


def check_tensor(value: Tensor, where: str) -> Tensor:
    """The tensor, if it is a plain one on the CPU with memory for each of its elements.

    A pickle may describe a tensor of 2⁴⁰ elements over four bytes (stride 0); any copy of it would take the
    machine's memory.
    """
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_nested:
        raise CheckpointError(
            f"{where} is a {value.layout} tensor on {value.device}; only dense CPU tensors are read"
        )
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(
            f"{where} claims {value.numel()} elements of {value.element_size()} bytes, the file holds "
            f"{value.untyped_storage().nbytes()} bytes of it"
        )
    return value


def _check_archive(path: Path) -> None:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"PK\x03\x04":
        old = magic[:1] == b"\x80"
        raise CheckpointError(
            f"{path} is "
            + ("a bare pickle, as torch.save wrote before 1.6" if old else "no zip archive of torch.save")
            + "; load it where you trust it and save it again with torch.save, or take another file"
        )
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename.lower() for entry in entries]  # torch's own reader looks without their case
        if len(set(names)) != len(names):
            raise CheckpointError(f"{path} holds two entries of one name; torch.save writes no such file")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError(
                f"{path} is compressed, which torch.save never does; refused as a possible bomb"
            )
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise CheckpointError(f"{path} claims more bytes than it has")
        pickles = [entry.filename for entry in entries if entry.filename.lower().endswith("/data.pkl")]
        if len(pickles) != 1 or any(name.endswith("/constants.pkl") for name in names):
            raise CheckpointError(f"{path} is no file of torch.save (TorchScript, or another zip archive)")
        if damaged := archive.testzip():
            raise CheckpointError(
                f"{path}: the checksum of its entry {damaged!r} does not match: bytes changed after saving "
                "(or it was saved under torch.serialization.set_crc32_options(False)); take another copy"
            )
        _check_globals(path, archive.read(pickles[0]))


def _check_globals(path: Path, pickled: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            name = str(argument).replace(" ", ".")
        elif opcode.name in {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"}:
            name = f"the opcode {opcode.name}"  # torch.save writes protocol 2, which has none of them
        else:
            continue
        if name not in ALLOWED:
            raise CheckpointError(
                f"{path}: its pickle asks for {name}, which is no part of an optimizer's state; nothing was "
                "executed. Save optimizer.state_dict() alone, or load the file where you trust it"
            )
