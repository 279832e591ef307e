"""Pickles with code, bombs and old formats: refused with a message, and never executed."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from adamantine.checkpoint import CheckpointError, foreign


class Hostile:
    """Unpickling this creates a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.victim), "w"))


def archive(path: Path, pickled: bytes, **entries: bytes) -> Path:
    """A zip archive in the layout of torch.save."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
        out.writestr("archive/data.pkl", pickled)
        out.writestr("archive/version", b"3\n")
        out.writestr("archive/byteorder", b"little")
        for name, content in entries.items():
            out.writestr(f"archive/{name.replace('__', '/')}", content)
    return path


def test_code_is_named_and_not_run(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "hostile.pt"
    torch.save({"optimizer": {"state": {}, "param_groups": []}, "x": Hostile(victim)}, path)
    with pytest.raises(
        CheckpointError, match=r"its pickle asks for (io|_io|builtins|__builtin__)\.open, .* nothing was"
    ):
        foreign.read(path)
    assert not victim.exists()
    torch.load(path, weights_only=False)["x"].close()  # the negative control: it does what it is feared for
    assert victim.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_bare_pickles_are_refused_unread(protocol: int, tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "hostile.pt"
    path.write_bytes(pickle.dumps(Hostile(victim), protocol=protocol))
    with pytest.raises(CheckpointError):
        foreign.read(path)
    assert not victim.exists()


def test_the_format_before_torch_1_6(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"state": {}, "param_groups": []}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(
        CheckpointError, match=r"a bare pickle, as torch\.save wrote before 1\.6; load it where you"
    ):
        foreign.read(path)


@pytest.mark.parametrize(
    "name", ["posix system", "builtins eval", "torch.hub load", "torch._tensor _rebuild_from_type"]
)
def test_other_globals(name: str, tmp_path: Path) -> None:
    module, attribute = name.split()
    pickled = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b"(X\x04\x00\x00\x00trueq\x00tR."
    path = archive(tmp_path / "a.pt", pickled)
    with pytest.raises(CheckpointError, match=f"its pickle asks for {module}.{attribute}"):
        foreign.read(path)


def test_a_stack_global_hides_nothing(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", pickle.dumps({"x": print}, protocol=4))
    with pytest.raises(CheckpointError, match="its pickle asks for the opcode STACK_GLOBAL"):
        foreign.read(path)


def test_two_entries_that_differ_in_case(tmp_path: Path) -> None:
    """torch's reader of archives takes the first; the scan must not look at the other."""
    path = archive(tmp_path / "a.pt", pickle.dumps({}, protocol=2), DATA=b"", **{"DATA.PKL": b"hostile"})
    with pytest.raises(CheckpointError, match="two entries of one name"):
        foreign.read(path)


def test_a_compressed_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("archive/data.pkl", b"\x80\x02}." + bytes(10**7))
    with pytest.raises(CheckpointError, match="refused as a possible bomb"):
        foreign.read(path)


def test_a_tensor_larger_than_its_memory(tmp_path: Path) -> None:
    """2⁴⁰ elements over four bytes: valid for torch (stride 0), and fatal to whoever copies it."""
    path = tmp_path / "a.pt"
    huge = torch.ones(1).expand(2**40)
    state = {"state": {0: {"exp_avg": huge}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    torch.save(state, path)
    with pytest.raises(
        CheckpointError, match="claims 1099511627776 elements of 4 bytes, the file holds 4 bytes"
    ):
        foreign.read(path)


def test_a_list_of_lists_of_lists(tmp_path: Path) -> None:
    """A pickle stores a list once however often it is referred to: 8 levels of 100 are 10¹⁶ elements."""
    bomb: list[Any] = [0] * 100
    for _ in range(7):
        bomb = [bomb] * 100
    path = tmp_path / "a.pt"
    torch.save({"state": {}, "param_groups": [{"lr": 0.1, "betas": bomb, "params": [0]}]}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="group 0, betas is nested too deeply or holds more than"):
        foreign.read(path)


def test_an_array_larger_than_its_bytes(tmp_path: Path) -> None:
    msgpack = pytest.importorskip("msgpack")
    array = msgpack.ExtType(1, msgpack.packb(((2**40,), "float32", b"\0\0\0\0")))
    path = tmp_path / "a.msgpack"
    path.write_bytes(msgpack.packb({"mu": {"w": array}}))
    with pytest.raises(CheckpointError, match=r"shape \(1099511627776,\) and dtype float32 with 4 bytes"):
        foreign.read(path)


def test_a_list_larger_than_the_file(tmp_path: Path) -> None:
    pytest.importorskip("msgpack")
    path = tmp_path / "a.msgpack"
    path.write_bytes(b"\x81\xa2mu\xdd" + struct.pack(">I", 2**32 - 1))
    with pytest.raises(CheckpointError, match="cannot be read as MessagePack"):
        foreign.read(path)


def test_a_flipped_bit_in_a_tensor(tmp_path: Path) -> None:
    """torch.load does not look at the archive's checksums; this reader does."""
    path = tmp_path / "a.pt"
    value = torch.arange(100.0)
    torch.save({"state": {0: {"exp_avg": value}}, "param_groups": [{"lr": 0.1, "params": [0]}]}, path)
    content = bytearray(path.read_bytes())
    at = content.index(value.numpy().tobytes())
    content[at + 40] ^= 1
    path.write_bytes(bytes(content))
    silently = torch.load(io.BytesIO(bytes(content)), weights_only=True)["state"][0]["exp_avg"]
    assert not torch.equal(silently, value)
    with pytest.raises(CheckpointError, match=r"the checksum of its entry 'a/data/0' does not match"):
        foreign.read(path)


def test_a_latest_that_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "latest").write_text("../elsewhere")
    with pytest.raises(CheckpointError, match=r"names '\.\./elsewhere', which is no folder beside it"):
        foreign.read(tmp_path / "inside")


def test_several_optimizers_ask_for_a_key(tmp_path: Path) -> None:
    path = tmp_path / "gan.pt"
    one = torch.optim.SGD([torch.ones(1)], lr=0.1).state_dict()
    torch.save({"generator": one, "discriminators": [one, one]}, path)
    with pytest.raises(
        CheckpointError, match=r"several optimizers: \['discriminators\.0', 'discriminators\.1', 'gen"
    ):
        foreign.read(path)
    assert foreign.read(path, key="discriminators.1").names == ["0"]
    with pytest.raises(CheckpointError, match=r"has no 'discriminators\.2'"):
        foreign.read(path, key="discriminators.2")
