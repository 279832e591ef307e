"""Valid checkpoints of every layout to start from, and forgeries whose checksums are right.

A random change never gets past a checksum, so half of what is fuzzed is forged: the change is made first, the
checksum after it.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from adamantine import checkpoint
from adamantine.checkpoint import CheckpointError, container, foreign, manifest
from adamantine.checkpoint.verification import verify

FIXTURES = Path(__file__).parent.parent / "convert" / "fixtures.tar.xz"

Forge = Callable[[Path, bytes], Path]


def adamantine(folder: Path, *, max_shard_bytes: int = 10**9) -> Path:
    """A checkpoint with tensors of several dtypes, two groups, a scheduler and extra data."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    named = list(model.named_parameters())
    optimizer = torch.optim.AdamW(
        [{"params": named[:1]}, {"params": named[1:], "weight_decay": 0.0}], lr=1e-2
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    model(torch.randn(4, 3)).pow(2).sum().backward()
    optimizer.step()
    path = folder / "seed.safetensors"
    extra = {"epoch": 3, "best": float("inf"), "seen": torch.tensor([True, False])}
    checkpoint.save(path, optimizer, scheduler=scheduler, extra=extra, max_shard_bytes=max_shard_bytes)
    return path


def torch_file(folder: Path) -> Path:
    """A training checkpoint of torch.save."""
    weight = nn.Parameter(torch.ones(3, 2))
    optimizer = torch.optim.AdamW([("w", weight)], lr=1e-2)
    weight.grad = torch.ones(3, 2)
    optimizer.step()
    path = folder / "seed.pt"
    torch.save({"epoch": 1, "optimizer": optimizer.state_dict()}, path)
    return path


def read(path: Path) -> object:
    """What any reader of the package makes of a file: a value, or a CheckpointError."""
    try:
        if path.name.endswith((".safetensors", ".index.json")):
            verify(path)
        return foreign.read(path)
    except CheckpointError as error:
        return error


def with_bytes(path: Path, content: bytes) -> Path:
    """The file is these bytes."""
    path.write_bytes(content)
    return path


def with_manifest(path: Path, text: bytes) -> Path:
    """A checkpoint whose JSON is ``text``, under its right checksum; header and tensors are the seed's."""
    seed = path.with_name("seed.safetensors").read_bytes()
    length = int.from_bytes(seed[:8], "little")
    header = json.loads(seed[8 : 8 + length])
    header["__metadata__"][manifest.KEY] = text.decode("utf-8", "replace")
    header["__metadata__"][manifest.DIGEST_KEY] = container.digest(text.decode("utf-8", "replace").encode())
    packed = json.dumps(header).encode()
    path.write_bytes(len(packed).to_bytes(8, "little") + packed + seed[8 + length :])
    return path


def with_header(path: Path, text: bytes) -> Path:
    """A safetensors file whose header is ``text``; the tensors are the seed's."""
    seed = path.with_name("seed.safetensors").read_bytes()
    start = 8 + int.from_bytes(seed[:8], "little")
    path.write_bytes(len(text).to_bytes(8, "little") + text + seed[start:])
    return path


def with_pickle(path: Path, pickled: bytes) -> Path:
    """A file of torch.save whose pickle is ``pickled``, checksums right; the storages are the seed's."""
    return _repacked(path.with_name("seed.pt"), path, pickled)


def with_rank(path: Path, pickled: bytes) -> Path:
    """A ZeRO checkpoint of one rank whose pickle is ``pickled``; the model's file is the seed's."""
    seed = path.with_name("seed-zero")
    path.mkdir(exist_ok=True)
    for file in seed.iterdir():
        if file.name.endswith("_optim_states.pt"):
            _repacked(file, path / file.name, pickled)
        else:
            (path / file.name).write_bytes(file.read_bytes())
    return path


def _repacked(seed: Path, path: Path, pickled: bytes) -> Path:
    packed = io.BytesIO()
    with zipfile.ZipFile(seed) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for entry in source.infolist():
            is_pickle = entry.filename.endswith("/data.pkl")
            archive.writestr(entry.filename, pickled if is_pickle else source.read(entry))
    path.write_bytes(packed.getvalue())
    return path


def zero(folder: Path) -> Path:
    """DeepSpeed's own checkpoint of one rank, from the fixtures."""
    with tarfile.open(FIXTURES) as archive:
        archive.extractall(folder / "fixtures", filter="data")
    (folder / "fixtures" / "deepspeed-stage2-fp32" / "at3").rename(folder / "seed-zero")
    return folder / "seed-zero"


def pickle_of(path: Path) -> bytes:
    """The pickle in a file of torch.save, or in the one rank's file of a folder."""
    if path.is_dir():
        path = next(path.glob("*_optim_states.pt"))
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))


def manifest_of(path: Path) -> bytes:
    """The JSON in a checkpoint of ours."""
    return container.read_header(path).metadata[manifest.KEY].encode()


def header_of(path: Path) -> bytes:
    """The JSON header of a safetensors file."""
    content = path.read_bytes()
    return content[8 : 8 + int.from_bytes(content[:8], "little")]
