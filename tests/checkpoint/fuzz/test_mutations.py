"""Changed files load equal to the original or are refused; nothing else happens, and nothing takes long.

Files with checksums (ours, and zip archives of torch.save): whatever loads is equal. MessagePack has none: it
loads or is refused. Forged files, whose checksums are right: likewise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import forging
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adamantine.checkpoint import CheckpointError, foreign
from adamantine.checkpoint.convert.neutral import OptimizerState

#: Per example; a hang shows as a failure of the deadline (s → ms). Reading takes some 5 ms here.
quick = settings(
    max_examples=60,
    deadline=5000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)

#: One change of bytes: where (as a fraction), what, and with which bytes.
changes = st.tuples(
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["truncate", "flip", "overwrite", "insert", "delete", "append", "swap"]),
    st.binary(min_size=1, max_size=9),
)


def changed(content: bytes, change: tuple[float, str, bytes]) -> bytes:
    where, kind, new = change
    at = int(where * len(content))
    if kind == "truncate":
        return content[:at]
    if kind == "flip":
        return content[:at] + bytes([content[at] ^ (1 << (new[0] % 8))]) + content[at + 1 :]
    if kind == "overwrite":
        return content[:at] + new + content[at + len(new) :]
    if kind == "insert":
        return content[:at] + new + content[at:]
    if kind == "delete":
        return content[:at] + content[at + len(new) :]
    if kind == "append":
        return content + new
    return content[at:] + content[:at]


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return bool(first == second)


def equal(first: OptimizerState, second: object) -> bool:
    return (
        isinstance(second, OptimizerState)
        and first.groups == second.groups
        and same(first.state, second.state)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    forging.adamantine(tmp_path)
    forging.torch_file(tmp_path)
    forging.zero(tmp_path)
    return tmp_path


@pytest.mark.parametrize("seed", ["seed.safetensors", "seed.pt"])
def test_changed_bytes_are_noticed(seed: str, folder: Path) -> None:
    original = foreign.read(folder / seed)
    content = (folder / seed).read_bytes()
    target = (folder / seed).with_stem("changed")

    @quick
    @given(st.lists(changes, min_size=1, max_size=3))
    def check(made: list[tuple[float, str, bytes]]) -> None:
        mutated = content
        for change in made:
            mutated = changed(mutated, change) if mutated else mutated
        outcome = forging.read(forging.with_bytes(target, mutated))
        assert isinstance(outcome, CheckpointError) or equal(original, outcome)

    check()


@pytest.mark.parametrize(
    ("forge", "part", "seed"),
    [
        (forging.with_bytes, Path.read_bytes, "seed.safetensors"),
        (forging.with_bytes, Path.read_bytes, "seed.pt"),
        (forging.with_manifest, forging.manifest_of, "seed.safetensors"),
        (forging.with_header, forging.header_of, "seed.safetensors"),
        (forging.with_pickle, forging.pickle_of, "seed.pt"),
        (forging.with_rank, forging.pickle_of, "seed-zero"),
    ],
    ids=["ours", "torch", "manifest", "header", "pickle", "deepspeed"],
)
def test_unchanged_parts_load(forge: forging.Forge, part: Any, seed: str, folder: Path) -> None:
    """The control: what the other tests refuse would have been read without the change."""
    forged = forge((folder / seed).with_stem("forged"), part(folder / seed))
    assert equal(foreign.read(folder / seed), forging.read(forged))


@pytest.mark.parametrize("seed", ["seed.safetensors", "seed.pt"])
def test_truncations_are_refused(seed: str, folder: Path) -> None:
    content = (folder / seed).read_bytes()
    target = (folder / seed).with_stem("cut")
    for size in range(0, len(content), max(1, len(content) // 64)):
        assert isinstance(forging.read(forging.with_bytes(target, content[:size])), CheckpointError), size


@pytest.mark.parametrize(
    ("forge", "part", "target"),
    [
        (forging.with_manifest, forging.manifest_of, "seed.safetensors"),
        (forging.with_header, forging.header_of, "seed.safetensors"),
        (forging.with_pickle, forging.pickle_of, "seed.pt"),
        (forging.with_rank, forging.pickle_of, "seed-zero"),
    ],
    ids=["manifest", "header", "pickle", "deepspeed"],
)
def test_forged_files_raise_nothing_else(forge: forging.Forge, part: Any, target: str, folder: Path) -> None:
    content = part(folder / target)

    @quick
    @given(st.lists(changes, min_size=1, max_size=3))
    def check(made: list[tuple[float, str, bytes]]) -> None:
        mutated = content
        for change in made:
            mutated = changed(mutated, change) if mutated else mutated
        forging.read(forge((folder / target).with_stem("forged"), mutated))

    check()


#: Values that do not belong there.
strange = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "../x.safetensors", "/etc/passwd.safetensors", "F32", "\udc80"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


def edited(node: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[place[0]] = edited(node[place[0]], place[1:], value)
    return copy


@pytest.mark.parametrize(
    ("forge", "part"),
    [(forging.with_manifest, forging.manifest_of), (forging.with_header, forging.header_of)],
    ids=["manifest", "header"],
)
def test_edited_json_raises_nothing_else(forge: forging.Forge, part: Any, folder: Path) -> None:
    tree = json.loads(part(folder / "seed.safetensors"))
    everywhere = places(tree)

    @quick
    @given(st.sampled_from(everywhere), strange)
    def check(place: tuple[Any, ...], value: Any) -> None:
        text = json.dumps(edited(tree, place, value)).encode()
        forging.read(forge(folder / "forged.safetensors", text))

    check()


def test_an_edited_index_raises_nothing_else(tmp_path: Path) -> None:
    original = foreign.read(forging.adamantine(tmp_path, max_shard_bytes=40))
    index = tmp_path / "seed.safetensors.index.json"
    tree = json.loads(index.read_text())
    target = tmp_path / "forged.safetensors.index.json"

    @quick
    @given(st.sampled_from(places(tree)), strange)
    def check(place: tuple[Any, ...], value: Any) -> None:
        target.write_text(json.dumps(edited(tree, place, value)))
        outcome = forging.read(target)
        assert isinstance(outcome, CheckpointError) or equal(original, outcome)

    check()


def test_changed_messagepack_raises_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("msgpack")
    from adamantine.checkpoint.convert import flax_msgpack

    moment = {"Dense_0": {"kernel": torch.ones(3, 2), "bias": torch.ones(2, dtype=torch.bfloat16)}}
    count = torch.tensor(3, dtype=torch.int32)
    content = flax_msgpack.dumps({"0": {"count": count, "mu": moment, "nu": moment}, "1": {}, "2": {}})

    @quick
    @given(st.lists(changes, min_size=1, max_size=3))
    def check(made: list[tuple[float, str, bytes]]) -> None:
        mutated = content
        for change in made:
            mutated = changed(mutated, change) if mutated else mutated
        forging.read(forging.with_bytes(tmp_path / "changed.msgpack", mutated))

    check()


@settings(quick, max_examples=100)
@given(
    st.binary(max_size=64), st.sampled_from([".safetensors", ".pt", ".msgpack", ".safetensors.index.json"])
)
def test_bytes_of_nothing_are_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"noise{suffix}"
    assert isinstance(forging.read(forging.with_bytes(path, content)), CheckpointError)
