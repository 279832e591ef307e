"""The format: as documented, readable without us, and refused when it is not what it says."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from adamantine.checkpoint import CheckpointError, Contents, container, load, manifest, read, write
from adamantine.checkpoint.contents import Group, Parameter
from adamantine.checkpoint.save import save

DOCS = Path(__file__).parents[2] / "docs"


def contents():
    state = {
        "exp_avg": torch.arange(6.0).reshape(2, 3),
        "exp_avg_sq": torch.ones(2, 3),
        "step": torch.tensor(4.0),
    }
    groups = [Group({"lr": 0.1, "betas": (0.9, 0.999)}, "l2")]
    return Contents("torch.optim.Adam", groups, [Parameter("w", 0, (2, 3), "float32", state)], extra=[1])


@pytest.fixture
def path(tmp_path):
    target = tmp_path / "state.safetensors"
    write(target, contents())
    return target


@pytest.fixture
def index(tmp_path):
    write(tmp_path / "state.safetensors", contents(), max_shard_bytes=30)
    return tmp_path / "state.safetensors.index.json"


def split(path):
    """The header as an object, and the bytes of the tensors."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def resign(path, change):
    """Edit the manifest as somebody would who knows the format: with a new checksum."""
    header, data = split(path)
    texts = header["__metadata__"]
    found = json.loads(texts[manifest.KEY])
    change(found)
    texts[manifest.KEY] = json.dumps(found)
    texts[manifest.DIGEST_KEY] = hashlib.sha256(texts[manifest.KEY].encode()).hexdigest()
    join(path, header, data)


# --- as documented -----------------------------------------------------------------------------------------


def test_the_documented_reader_reads_it(path):
    block = next(
        b
        for b in re.findall(r"```python\n(.*?)```", (DOCS / "checkpoint.md").read_text(), re.S)
        if "def read" in b
    )
    names = {}
    exec(block, names)
    groups, states = names["read"](path)
    assert groups == [{"lr": 0.1, "betas": (0.9, 0.999)}]
    assert torch.equal(states["w"]["exp_avg"], contents().parameters[0].state["exp_avg"])
    assert states["w"]["step"] == 4
    damaged = path.read_bytes()
    path.write_bytes(damaged[:-1] + bytes([damaged[-1] ^ 1]))
    with pytest.raises(AssertionError):
        names["read"](path)


def test_the_manifest_is_of_the_schema(tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((DOCS / "checkpoint.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(
        [{"params": [model.weight]}, {"params": [model.bias], "lr": torch.tensor(0.1)}]
    )
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3])
    target = tmp_path / "x.safetensors"
    extra = {"a": (1, None), 3: [float("inf")], "b": 1j, "c": {1}}
    save(target, optimizer, model=model, scheduler=scheduler, extra=extra, rng=True)
    with safe_open(target, "pt") as file:
        found = json.loads(file.metadata()[manifest.KEY])
    validator.validate(found)
    for damage in (
        {"version": 2},
        {"extra": {"$nonsense": 1}},
        {"extra": {"$tuple": 1}},
        {"tensors": {"t": {}}},
    ):
        assert not validator.is_valid({**found, **damage})


# --- the library's files and ours --------------------------------------------------------------------------


def test_the_library_reads_what_we_write(path, index):
    write(path, contents())
    found = load_file(path)
    assert torch.equal(found["optimizer/w/exp_avg"], contents().parameters[0].state["exp_avg"])
    places = json.loads(index.read_text())["weight_map"] if index.exists() else {}
    assert set(places) <= set(found)


def test_every_shard_is_a_safetensors_file(index):
    places = json.loads(index.read_text())["weight_map"]
    assert len(set(places.values())) == 2
    for name, file in places.items():
        assert name in load_file(index.with_name(file))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int8, torch.bool, torch.float8_e4m3fn]
)
def test_we_read_what_the_library_writes(tmp_path, dtype):
    value = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    save_file({"a": value, "empty": torch.zeros(0, 4), "scalar": torch.tensor(3)}, tmp_path / "x.safetensors")
    header = container.read_header(tmp_path / "x.safetensors")
    assert torch.equal(container.read_tensor(header, "a").float(), value.float())
    assert container.read_tensor(header, "empty").shape == (0, 4)
    assert container.read_tensor(header, "scalar").item() == 3


def test_tensors_are_aligned_for_who_maps_the_file(tmp_path):
    values = {
        f"{i}": torch.ones(i, dtype=d)
        for i, d in enumerate([torch.int8, torch.float64, torch.bool, torch.float32])
    }
    write(tmp_path / "x.safetensors", Contents(None, [], [], extra=values))
    header = container.read_header(tmp_path / "x.safetensors")
    for entry in header.entries.values():
        assert entry.begin % {"F64": 8, "F32": 4}.get(entry.code, 1) == 0


# --- damaged and hostile -----------------------------------------------------------------------------------


def test_every_truncation_is_refused(path):
    whole = path.read_bytes()
    for length in [*range(64), *range(64, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"state\.safetensors: "):
            read(path)


def test_every_flipped_bit_is_found(path):
    """But for those in safetensors' own "format": "pt", which says nothing about the checkpoint."""
    whole = path.read_bytes()
    harmless = whole.index(b'"format":"pt"')
    for at in range(0, len(whole), 2):
        if not 0 <= at - harmless < len(b'"format":"pt"'):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at // 2 % 8)]) + whole[at + 1 :])
            with pytest.raises(CheckpointError):
                read(path)


def test_a_flipped_bit_is_placed(path):
    whole = bytearray(path.read_bytes())
    entry = container.read_header(path).entries["optimizer/w/exp_avg"]
    whole[entry.begin + 5] ^= 16
    path.write_bytes(whole)
    message = (
        rf"tensor 'optimizer/w/exp_avg': its bytes \({entry.begin} to {entry.end}\) do not have the checksum"
    )
    with pytest.raises(CheckpointError, match=message):
        read(path)


def test_headers_that_lie(path):
    header, data = split(path)
    whole = path.read_bytes()
    name = "optimizer/w/exp_avg"
    begin, end = header[name]["data_offsets"]

    def damaged(**entry):
        return {**header, name: {**header[name], **entry}}

    hostile = [
        ((1 << 62).to_bytes(8, "little") + whole[8:], "truncated, or not a safetensors file"),
        (b"\xff" * 8, "truncated, or not a safetensors"),
        (b"", "truncated"),
        (b"PK\x03\x04" + bytes(100), "truncated, or not"),
        ({}, "tensors end at byte"),
        ([], "not an object"),
        (b"{" * 5000, "nested too deeply|not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a":{},"a":{}}', "the key 'a' stands twice"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":1e999}', "beyond a double"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'{"a', "not JSON"),
        (damaged(data_offsets=[begin, end - 4]), "takes 24 bytes, its data_offsets span 20"),
        (damaged(data_offsets=[end, begin]), "are not two positions in order"),
        (damaged(data_offsets=[-4, 20]), "are not two positions in order"),
        (damaged(data_offsets=[begin + 4, end + 4]), "overlap|hole"),
        (damaged(data_offsets=[begin + 10**9, end + 10**9]), "hole|end at byte"),
        (damaged(data_offsets=[0.0, 24.0]), "are not two positions"),
        (damaged(data_offsets=[True, 24]), "are not two positions"),
        (damaged(shape=[3, 2]), r"is F32 of shape \[3, 2\], saved was float32 of shape \[2, 3\]"),
        (damaged(shape=[-2, -3]), "is no shape"),
        (damaged(shape=[2**40, 2**40, 0], data_offsets=[begin, begin]), "is no shape"),
        (damaged(dtype="I32"), "is I32 of shape"),
        (damaged(dtype="OBJ"), "dtype 'OBJ'; read here are"),
        (damaged(extra=1), "not described by dtype, shape and data_offsets"),
        ({**header, "__metadata__": {"a": 1}}, "__metadata__ is not an object of texts"),
        ({**header, "__metadata__": {}}, "no checkpoint of adamantine"),
        (
            {**header, "more": {"dtype": "U8", "shape": [0], "data_offsets": [len(data)] * 2}},
            "not in the checkpoint's table",
        ),
    ]
    for content, message in hostile:
        if isinstance(content, bytes) and content[:1] in b"{[" and content:
            join(path, content, data)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            join(path, content, data)
        with pytest.raises(CheckpointError, match=message):
            read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(version=2), "version 2 of the format; this adamantine reads version 1"),
        (lambda m: m.update(format="other"), "format 'other'"),
        (lambda m: m["tensors"].pop("optimizer/w/step"), "not in the checkpoint's table"),
        (lambda m: m["optimizer"]["parameters"][0].update(group=1), "in group 1, but there are 1 groups"),
        (lambda m: m["optimizer"]["parameters"][0].update(group=-1), "in group -1"),
        (lambda m: m["optimizer"]["parameters"][0].update(group=True), "in group True"),
        (lambda m: m["optimizer"]["parameters"][0].update(state=[1]), "its state is a list"),
        (lambda m: m["optimizer"]["parameters"][0].update(shape=[-1]), "expected an array of counts"),
        (lambda m: m["optimizer"]["parameters"].clear(), "nothing refers to the tensor"),
        (lambda m: m["optimizer"]["groups"][0]["hyper"].update(lr={"$float": "nan"}), "group 0: lr is NaN"),
        (lambda m: m["optimizer"]["groups"][0]["hyper"].update(lr=-1.0), "lr is -1.0"),
        (lambda m: m["optimizer"]["groups"][0]["hyper"].update(lr={"$float": "inf"}), "lr is inf"),
        (lambda m: m["optimizer"]["groups"][0].update(decay=3), "expected a text or null"),
        (lambda m: m["optimizer"].update(groups={}), "expected an array"),
        (lambda m: m["optimizer"]["parameters"][0]["state"].update(steps=-3), "steps of w is -3"),
        (lambda m: m.update(extra={"$tensor": "none"}), "there is no tensor 'none'"),
        (lambda m: m.update(extra={"$tensor": ["a"]}), "there is no tensor"),
        (lambda m: m.update(extra={"$code": "print()"}), "is no form of version 1"),
        (lambda m: m.update(extra={"$tuple": [], "$set": []}), "is no form of version 1"),
        (lambda m: m.update(extra={"$set": [[1]]}), "is no form of version 1"),
        (lambda m: m.update(extra={"$dict": [[1, 2], [1, 3]]}), "is no form of version 1"),
        (lambda m: m.update(extra={"$size": [10**30]}), "is no form of version 1"),
        (lambda m: m.update(extra={"$complex": ["1j"]}), "is no form of version 1"),
        (lambda m: m.update(extra="\ud800"), "half of a surrogate pair"),
        (lambda m: m["optimizer"]["groups"][0]["hyper"].update(lr=10**400), "lr is inf"),
        (lambda m: m["optimizer"]["parameters"][0]["state"].update(steps=10**400), "steps of w is inf"),
        (lambda m: m.update(extra=json.loads("[" * 90 + "]" * 90)), "nested more than 64"),
        (lambda m: m["tensors"]["optimizer/w/exp_avg"].update(order=[0, 0]), "does not order 2 dimensions"),
        (lambda m: m["tensors"]["optimizer/w/exp_avg"].update(dtype="object"), "dtype 'object' is none of"),
        (lambda m: m["tensors"]["optimizer/w/exp_avg"].update(dtype="int32"), "the header is damaged"),
    ],
)  # fmt: skip
def test_manifests_that_lie(path, change, message):
    resign(path, change)
    with pytest.raises(CheckpointError, match=message):
        read(path)


def test_what_would_take_hours_is_refused_at_once(path):
    """Numbers of the same hash in a set, and places spelled out below keys of a million letters."""
    members = [number * (2**61 - 1) for number in range(100_000)]
    resign(path, lambda m: m.update(extra={"$set": members}))
    with pytest.raises(CheckpointError, match="keys with the same hash"):
        read(path)
    resign(path, lambda m: m.update(extra={"k" * 1_000_000: [0] * 500_000}))
    assert len(read(path).extra) == 1


def test_more_bytes_than_there_is_memory(tmp_path):
    """A file with a hole takes no room on the disk."""
    path, size = tmp_path / "x.safetensors", 2**42
    join(path, {"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}, b"")
    try:
        os.truncate(path, path.stat().st_size + size)
    except OSError:
        pytest.skip("a file system without holes")
    with pytest.raises(CheckpointError, match="more memory than there is"):
        container.read_tensor(container.read_header(path), "a")


def test_an_edited_manifest_is_found(path):
    header, data = split(path)
    header["__metadata__"][manifest.KEY] = header["__metadata__"][manifest.KEY].replace(
        '"lr":0.1', '"lr":0.2'
    )
    join(path, header, data)
    with pytest.raises(CheckpointError, match=r"the JSON under .* does not have the checksum"):
        read(path)


def test_a_bool_of_two_is_no_bool(tmp_path):
    path = tmp_path / "x.safetensors"
    join(path, {"a": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}, b"\x01\x02")
    with pytest.raises(CheckpointError, match="2 is no bool"):
        container.read_tensor(container.read_header(path), "a")


# --- shards ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../state.safetensors",
        "/etc/passwd",
        "/tmp/x.safetensors",
        "a\\b.safetensors",
        "C:x.safetensors",
        "",
        3,
    ],
)
def test_shards_lie_beside_the_index(index, name):
    found = json.loads(index.read_text())
    found["weight_map"]["optimizer/w/step"] = name
    index.write_text(json.dumps(found))
    with pytest.raises(CheckpointError, match="shards lie beside the index"):
        read(index)


def test_shards_that_are_missing_swapped_or_links(index):
    found = json.loads(index.read_text())
    first, second = (index.with_name(name) for name in sorted(set(found["weight_map"].values())))
    content = first.read_bytes()
    first.unlink()
    with pytest.raises(CheckpointError, match=rf"{first.name}: cannot be read: No such file"):
        read(index)
    first.write_bytes(second.read_bytes())
    with pytest.raises(CheckpointError, match=r"does not have the tensor|does not place there"):
        read(index)
    first.unlink()
    elsewhere = index.with_name("elsewhere")
    elsewhere.write_bytes(content)
    first.symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match="a link"):
        read(index)
    first.unlink()
    first.write_bytes(content)
    assert read(index).extra == [1]
    found["weight_map"].pop("optimizer/w/step")
    index.write_text(json.dumps(found))
    with pytest.raises(CheckpointError, match="does not place there"):
        read(index)


def test_an_index_that_is_none(index):
    hostile = '{"metadata": {}, "weight_map": {"a": "\\ud800.safetensors"}}'
    for content in ("[]", "{}", '{"metadata": {}, "weight_map": []}', "{", "null", hostile):
        index.write_text(content)
        with pytest.raises(CheckpointError):
            read(index)


def test_the_index_may_be_linked_to_from_elsewhere(index, tmp_path):
    folder = tmp_path / "latest"
    folder.mkdir()
    link = folder / "latest.safetensors.index.json"
    link.symlink_to(index)
    assert read(link).extra == [1]


def test_things_that_are_no_files(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read(tmp_path / "none.safetensors")
    for name in ("x" * 300, "a\0"):
        with pytest.raises(CheckpointError, match="cannot be read: "):
            read(tmp_path / f"{name}.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="not a file"):
        read(tmp_path / "folder.safetensors")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.safetensors")
        with pytest.raises(CheckpointError, match="not a file"):
            read(tmp_path / "pipe.safetensors")


def test_a_refused_file_leaves_the_optimizer_alone(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    optimizer = torch.optim.Adam([("w", nn.Parameter(torch.ones(2, 3)))], lr=0.5)
    with pytest.raises(CheckpointError):
        load(path, optimizer)
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.5
