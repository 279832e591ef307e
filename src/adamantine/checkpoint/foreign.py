"""Reading an optimizer's state from a file of any layout, which is found by looking at the file."""

from __future__ import annotations

import os
from pathlib import Path

from adamantine.checkpoint.contents import Contents
from adamantine.checkpoint.convert import (
    deepspeed,
    flax_msgpack,
    optax,
    pickled,
    quantized,
    statedict,
    universal,
)
from adamantine.checkpoint.convert.neutral import OptimizerState
from adamantine.checkpoint.errors import CheckpointError
from adamantine.checkpoint.reader import read as read_contents
from adamantine.checkpoint.writer import INDEX, SUFFIX

LAYOUTS = ("adamantine", "torch", "optax", "deepspeed", "deepspeed-universal", "bitsandbytes", "torchao")


def detect(path: str | os.PathLike[str]) -> str:
    """Which kind of file or folder this is, by name and first bytes.

    Returns:
        ``"adamantine"``, ``"deepspeed"``, ``"deepspeed-universal"``, ``"optax"``, or ``"torch"`` for every
        ``.pt`` file (bitsandbytes and torchao among them; `read` tells them apart).

    Raises:
        CheckpointError: nothing there, or nothing known.
    """
    path = Path(path)
    if path.is_dir():
        folder = deepspeed.tagged(path)
        if (folder / "zero" / "optimizer_state.pt").is_file():
            return "deepspeed-universal"
        if deepspeed.rank_files(folder):
            return "deepspeed"
        raise CheckpointError(f"{path} is a folder without files of DeepSpeed; name a file in it")
    if path.name.endswith((SUFFIX, INDEX)):
        return "adamantine"
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    if start[:2] in {b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"}:
        return "torch"
    if start[:1] in {b"\xde", b"\xdf"} or b"\x81" <= start[:1] <= b"\x8f":
        return "optax"
    if start[8:9] == b"{":
        raise CheckpointError(f"{path} looks like safetensors; let its name end in {SUFFIX}")
    raise CheckpointError(
        f"{path} begins with {start[:4]!r}; read are safetensors of adamantine, .pt files of torch.save and "
        "MessagePack of flax.serialization.to_bytes"
    )


def read(path: str | os.PathLike[str], *, key: str | None = None) -> OptimizerState:
    """The optimizer's state in a file or folder; its bytes are data to this reader, never code.

    Args:
        path: what `detect` knows.
        key: where in a training checkpoint the state is, levels joined by dots; None to look for it.

    Raises:
        CheckpointError: damaged, hostile or unknown; no optimizer's state in it, or several.
    """
    path = Path(path)
    layout = detect(path)
    if layout == "adamantine":
        return of_contents(read_contents(path))
    if layout == "optax":
        return optax.read(flax_msgpack.loads(path), path, key)
    with pickled.refusals(path, f"read as a checkpoint of {layout}"):
        if layout == "deepspeed":
            return deepspeed.read_zero(deepspeed.tagged(path))
        if layout == "deepspeed-universal":
            return universal.read(deepspeed.tagged(path))
        state = statedict.read(pickled.load(path), path, key)
        if quantized.is_bitsandbytes(state):
            return quantized.from_bitsandbytes(state, str(path))
        if quantized.is_torchao(state):
            return quantized.from_torchao(state, str(path))
        return state


def contents(path: Path) -> Contents | None:
    """All that an adamantine checkpoint holds; None for other layouts, which `read` gives whole."""
    return read_contents(path) if detect(path) == "adamantine" else None


def of_contents(contents: Contents) -> OptimizerState:
    """The optimizer's part of an adamantine checkpoint."""
    state = statedict.from_state_dict(contents.state_dict(), "the checkpoint", layout="adamantine")
    state.optimizer = contents.optimizer
    beside = {"scheduler": contents.scheduler, "model": contents.model, "extra": contents.extra}
    beside["states of random number generators"] = contents.rng
    if held := [what for what, value in beside.items() if value is not None]:
        state.unread.append(f"beside the optimizer the file holds its {', '.join(held)}: not converted")
    for group, saved in zip(state.groups, contents.groups, strict=True):
        group.decay = saved.decay or group.decay
    return state
