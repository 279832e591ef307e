"""The JSON of a checkpoint: everything but the bytes of the tensors. docs/checkpoint.md has its schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from adamantine.checkpoint import container, dtypes, strict_json
from adamantine.checkpoint.checks import check
from adamantine.checkpoint.contents import Contents, Group, Parameter, SchedulerState
from adamantine.checkpoint.errors import CheckpointError
from adamantine.checkpoint.names import tell_all
from adamantine.checkpoint.tree import Tensors, decode, encode

FORMAT = "adamantine-checkpoint"
VERSION = 1

#: Keys of safetensors' ``__metadata__``, and of an index's ``metadata``: the JSON, and its checksum.
KEY, DIGEST_KEY = "adamantine.checkpoint", "adamantine.sha256"


@dataclass(frozen=True)
class Stored:
    """A tensor as the manifest describes it.

    Attributes:
        dtype: its own, by torch's name; the file may hold it under a plainer one (`dtypes.stored`).
        shape: its own.
        sha256: of its bytes in row-major order.
        order: its dimensions from the slowest to the fastest in memory, None for row-major. Only a hint for
            where to put the values: channels-last states stay so.
    """

    dtype: str
    shape: tuple[int, ...]
    sha256: str
    order: tuple[int, ...] | None = None


def describe(contents: Contents, tensors: Tensors) -> dict[str, Any]:
    """The manifest but for its ``"tensors"``; the tensors themselves go to ``tensors``."""
    unique = tell_all([p.name for p in contents.parameters])
    parameters = []
    for number, p in enumerate(contents.parameters):
        at = f"optimizer/{p.name if unique else number}"
        parameters.append(
            {
                "name": p.name,
                "group": p.group,
                "shape": None if p.shape is None else list(p.shape),
                "dtype": p.dtype,
                "state": encode(p.state, at, tensors),
            }
        )
    groups = []
    for number, group in enumerate(contents.groups):
        if strangers := [key for key in group.hyper if type(key) is not str]:
            raise CheckpointError(f"group {number}: {strangers[0]!r} is no name of a hyperparameter")
        hyper = {key: encode(value, f"group {number}/{key}", tensors) for key, value in group.hyper.items()}
        groups.append({"hyper": hyper, "decay": group.decay})
    scheduler = contents.scheduler
    return {
        "format": FORMAT,
        "version": VERSION,
        "versions": contents.versions,
        "optimizer": {
            "class": contents.optimizer,
            "groups": groups,
            "parameters": parameters,
            "other_state": encode(contents.other_state, "optimizer/other state", tensors),
            "other": encode(contents.other, "optimizer/other", tensors),
        },
        "scheduler": None
        if scheduler is None
        else {
            "class": scheduler.cls,
            "state": encode(scheduler.state, "scheduler", tensors),
            "not_saved": scheduler.not_saved,
        },
        "model": encode(contents.model, "model", tensors),
        "model_versions": encode(contents.model_versions, "model versions", tensors),
        "rng": encode(contents.rng, "rng", tensors),
        "extra": encode(contents.extra, "extra", tensors),
    }


def metadata(
    manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], digests: Mapping[str, str]
) -> dict[str, str]:
    """The texts under `KEY` and `DIGEST_KEY`, once the tensors' checksums are known."""
    table = {name: _row(tensor, digests[name]) for name, tensor in tensors.items()}
    text = strict_json.dumps({**manifest, "tensors": table})
    return {KEY: text, DIGEST_KEY: container.digest(text.encode())}


def _row(tensor: Tensor, sha256: str) -> dict[str, Any]:
    row = {"dtype": dtypes.name_of(tensor.dtype), "shape": list(tensor.shape), "sha256": sha256}
    if not tensor.is_contiguous() and tensor.numel():
        strides = tensor.stride()
        order = sorted(range(tensor.dim()), key=lambda axis: (-strides[axis], axis))
        if tensor.permute(order).is_contiguous():  # otherwise it has holes, and comes back without
            row["order"] = order
    return row


def parse(texts: Mapping[str, Any], source: str) -> tuple[dict[str, Any], dict[str, Stored]]:
    """The manifest and its table of tensors, from the texts that `metadata` gave.

    Raises:
        CheckpointError: none there, another version's, damaged, or not of the schema.
    """
    text, expected = texts.get(KEY), texts.get(DIGEST_KEY)
    if not isinstance(text, str) or not isinstance(expected, str):
        raise CheckpointError(
            f"{source}: a safetensors file, but no checkpoint of adamantine: it has no {KEY!r} among its "
            "metadata. `adamantine checkpoint convert` reads other formats"
        )
    try:
        content = text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        raise CheckpointError(f"{source}: {KEY!r} is not UTF-8; the file is damaged") from None
    if container.digest(content) != expected:
        raise CheckpointError(
            f"{source}: the JSON under {KEY!r} does not have the checksum it was saved with; the file is "
            "damaged, go back to another copy or checkpoint"
        )
    manifest = _object(strict_json.loads(content, source), source)
    if manifest.get("format") != FORMAT or type(manifest.get("version")) is not int:
        raise CheckpointError(f"{source}: format {manifest.get('format')!r:.60}, expected {FORMAT!r}")
    if manifest["version"] != VERSION:
        raise CheckpointError(
            f"{source}: version {manifest['version']!r:.60} of the format; this adamantine reads version "
            f"{VERSION}: update adamantine, or save again with the one that wrote it"
        )
    table = _object(manifest.get("tensors"), f"{source}: tensors")
    return manifest, {name: _stored(row, f"{source}: tensors/{name}") for name, row in table.items()}


def _stored(row: Any, at: str) -> Stored:
    row = _object(row, at)
    dtype, shape, sha256 = row.get("dtype"), _counts(row.get("shape"), at), row.get("sha256")
    if not isinstance(dtype, str) or dtype not in dtypes.NAMED:
        raise CheckpointError(f"{at}: dtype {dtype!r:.60} is none of {', '.join(dtypes.NAMED)}")
    if not isinstance(sha256, str):
        raise CheckpointError(f"{at}: no checksum")
    order = None if row.get("order") is None else _counts(row["order"], at)
    if order is not None and sorted(order) != list(range(len(shape))):
        raise CheckpointError(f"{at}: order {order} does not order {len(shape)} dimensions")
    return Stored(dtype, shape, sha256, order)


def contents(manifest: Mapping[str, Any], source: str, tensor: Callable[[Any], Tensor]) -> Contents:
    """What the manifest describes.

    Args:
        manifest: of `parse`.
        source: the file, for messages.
        tensor: gives a tensor by name, the same for the same name.

    Raises:
        CheckpointError: not of the schema; values that no optimizer can have.
    """
    optimizer = _object(manifest.get("optimizer"), f"{source}: optimizer")
    groups = []
    for number, row in enumerate(_array(optimizer.get("groups"), f"{source}: groups")):
        at = f"{source}: group {number}"
        hyper = _object(_object(row, at).get("hyper"), at)
        groups.append(
            Group({k: decode(v, f"{at}/{k}", tensor) for k, v in hyper.items()}, _text(row.get("decay"), at))
        )
    parameters = []
    for number, row in enumerate(_array(optimizer.get("parameters"), f"{source}: parameters")):
        at = f"{source}: parameter {number}"
        row = _object(row, at)
        group, state = row.get("group"), decode(row.get("state"), f"{at}: state", tensor)
        if type(group) is not int or not 0 <= group < len(groups):
            raise CheckpointError(f"{at}: in group {group!r:.60}, but there are {len(groups)} groups")
        shape = None if row.get("shape") is None else _counts(row["shape"], at)
        if state is not None and not isinstance(state, dict):
            raise CheckpointError(f"{at}: its state is a {type(state).__name__}, not an object")
        parameters.append(
            Parameter(_text(row.get("name"), at), group, shape, _text(row.get("dtype"), at), state)
        )
    if [p.group for p in parameters] != sorted(p.group for p in parameters):
        raise CheckpointError(f"{source}: parameters do not stand in the order of their groups")
    scheduler = manifest.get("scheduler")
    if scheduler is not None:
        at = f"{source}: scheduler"
        row = _object(scheduler, at)
        unsaved = [_text(words, at) or "" for words in _array(row.get("not_saved"), at)]
        state = _object(decode(row.get("state"), at, tensor), at)
        scheduler = SchedulerState(_text(row.get("class"), at) or "", state, unsaved)

    def mapping(node: Any, what: str) -> dict[Any, Any]:
        return _object(decode(node, f"{source}: {what}", tensor), f"{source}: {what}")

    model_versions = manifest.get("model_versions")
    if model_versions is not None:
        model_versions = mapping(model_versions, "model versions")
        for name, each in model_versions.items():
            _object(each, f"{source}: model versions/{name}")
    found = Contents(
        optimizer=_text(optimizer.get("class"), f"{source}: optimizer"),
        groups=groups,
        parameters=parameters,
        other_state=mapping(optimizer.get("other_state"), "other state"),
        other=mapping(optimizer.get("other"), "other"),
        scheduler=scheduler,
        model=None if manifest.get("model") is None else mapping(manifest["model"], "model"),
        model_versions=model_versions,
        rng=None if manifest.get("rng") is None else mapping(manifest["rng"], "rng"),
        extra=decode(manifest.get("extra"), f"{source}: extra", tensor),
        versions=mapping(manifest.get("versions"), "versions"),
    )
    check(found, source)
    return found


def _object(value: Any, at: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise CheckpointError(f"{at}: expected an object, found {value!s:.60}")
    return value


def _array(value: Any, at: str) -> list[Any]:
    if not isinstance(value, list):
        raise CheckpointError(f"{at}: expected an array, found {value!s:.60}")
    return value


def _text(value: Any, at: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise CheckpointError(f"{at}: expected a text or null, found {value!s:.60}")
    return value


def _counts(value: Any, at: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(n) is int and n >= 0 for n in value):
        raise CheckpointError(f"{at}: expected an array of counts, found {value!s:.60}")
    return tuple(value)
