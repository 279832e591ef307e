"""Is it whole? All damages at once, not the first."""

from __future__ import annotations

import json

import pytest
import torch

from adamantine.checkpoint import CheckpointError, Contents, container, write
from adamantine.checkpoint.verification import verify


def contents():
    return Contents(None, [], [], extra={name: torch.full((4,), 2.0) + i for i, name in enumerate("abc")})


def test_whole(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path, contents())
    seen = []
    found = verify(path, done=seen.append)
    assert (found.files, found.tensors, found.nbytes, found.problems) == (1, 3, 48, [])
    assert sum(seen) == 48
    write(path, contents(), max_shard_bytes=16)
    found = verify(path)
    assert (found.path.name, found.files, found.tensors) == ("x.safetensors.index.json", 3, 3)
    assert found.problems == []


def test_every_damaged_tensor_is_named(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path, contents())
    content = bytearray(path.read_bytes())
    entries = container.read_header(path).entries
    for name in ("extra/a", "extra/c"):
        content[entries[name].begin] ^= 1
    path.write_bytes(content)
    problems = verify(path).problems
    assert len(problems) == 2
    assert "'extra/a'" in problems[0]
    assert "'extra/c'" in problems[1]


def test_what_checksums_do_not_say(tmp_path):
    """Whole bytes of a manifest that is none: a tensor that nothing refers to."""
    path = tmp_path / "x.safetensors"
    write(path, contents())
    header = container.read_header(path)
    content = path.read_bytes()
    start = int.from_bytes(content[:8], "little") + 8
    texts = dict(header.metadata)
    manifest = json.loads(texts["adamantine.checkpoint"])
    manifest["extra"] = None
    texts["adamantine.checkpoint"] = json.dumps(manifest)
    texts["adamantine.sha256"] = container.digest(texts["adamantine.checkpoint"].encode())
    table = json.loads(content[8:start]) | {"__metadata__": texts}
    text = json.dumps(table).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[start:])
    assert [p.partition(": ")[2] for p in verify(path).problems] == ["nothing refers to the tensor 'extra/a'"]


def test_no_file_and_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        verify(tmp_path / "x.safetensors")
    torch.save({}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of adamantine, and without checksums"):
        verify(tmp_path / "x.pt")  # whole, for all that can be said
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    assert "truncated" in verify(tmp_path / "x.safetensors").problems[0]
