"""Saving: everything is in it, nothing else is, and a kill at any moment leaves the old or the new."""

from __future__ import annotations

import errno
import math
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections import Counter, OrderedDict, deque
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import adamantine.torch as at
from adamantine.checkpoint import CheckpointError, Contents, load, read, save, write
from adamantine.checkpoint.contents import Group, Parameter
from adamantine.checkpoint.dtypes import NAMED


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


def holding(extra=None, **state):
    return Contents("mine", [Group({"lr": 0.1})], [Parameter("w", 0, (2,), "float32", state)], extra=extra)


def back(path, extra):
    write(path, holding(extra))
    return read(path).extra


# --- what is kept ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("name", sorted(NAMED))
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3)])
def test_every_dtype_bit_for_bit(path, name, shape):
    dtype = NAMED[name]
    count = math.prod(shape) * dtype.itemsize
    if dtype is torch.bool:
        content = torch.arange(count, dtype=torch.uint8) % 2
    else:  # NaN payloads and all
        content = torch.randint(
            0, 256, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
        )
    value = content.view(dtype).reshape(shape)
    write(path, holding(slot=value))
    found = read(path).parameters[0].state["slot"]
    assert (found.dtype, found.shape) == (dtype, value.shape)
    assert torch.equal(found.reshape(-1).view(torch.uint8), content)


def test_values_keep_their_types(path):
    value = {
        "tuple": (1, (2.0, None)),
        "floats": [0.1, -0.0, 1e-320, math.inf, -math.inf],
        "int": 2**200,
        "bool": [True, False],
        "counter": Counter({3: 2, 7: 1}),
        "ordered": OrderedDict(b=1, a=2),
        "set": {1, "two"},
        "size": torch.Size([3, 4]),
        "complex": 1 - 2j,
        "dtype": torch.bfloat16,
        "keys": {1: "int", 1.5: "float", None: "none", ("a", 1): "tuple"},
        "$looks": {"$tensor": "like a form"},
        "text": 'quotes " and \u2028 and \ud83d\ude00'.encode("utf-16", "surrogatepass").decode("utf-16"),
        "scalar": np.float64(0.1),
    }
    found = back(path, value)
    assert found == value
    assert list(map(type, found.values())) == [*[type(v) for v in value.values()][:-1], float]
    assert math.copysign(1, found["floats"][1]) == -1
    assert list(found["ordered"]) == ["b", "a"]
    assert math.isnan(back(path, math.nan))
    array = back(path, np.arange(6, dtype=np.uint16).reshape(2, 3))
    assert array.dtype == np.uint16
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert back(path, np.broadcast_to(np.ones(1), (2,))).tolist() == [1, 1]  # which may not be written to


def test_views_of_one_memory(path):
    """Shared once, non-contiguous as their values, and neighbours in one buffer apart."""
    buffer = torch.arange(12.0)
    matrix = buffer.view(3, 4)
    write(path, holding({"a": matrix, "b": matrix, "t": matrix.t(), "left": buffer[:6], "right": buffer[4:]}))
    found = read(path).extra
    assert found["a"] is found["b"]
    assert path.stat().st_size < 12 * 4 * 3 + 3000
    assert torch.equal(found["t"], matrix.t())
    assert torch.equal(found["left"], buffer[:6])
    assert torch.equal(found["right"], buffer[4:])


def test_tensors_that_come_back_share_no_memory_with_anything(path):
    value = torch.ones(3)
    found = back(path, value)
    value.zero_()
    write(path, holding(torch.zeros(3)))
    assert found.tolist() == [1, 1, 1]


def test_conjugated_and_negated_views(path):
    value = torch.tensor([1 + 2j, 3 - 4j])
    assert torch.equal(back(path, value.conj()), value.conj().resolve_conj())
    assert torch.equal(back(path, value.conj().imag), value.conj().imag.resolve_neg())


def test_what_a_group_says_is_all_there(path):
    w = nn.Parameter(torch.ones(3))
    optimizer = at.AdamW([("w", w)], lr=torch.tensor(0.1), decay="corrected", peak_lr=0.25, weight_decay=0.01)
    w.grad = torch.ones(3)
    optimizer.step()
    save(path, optimizer)
    contents = read(path)
    group = contents.groups[0]
    assert isinstance(group.hyper["lr"], torch.Tensor)
    assert group.hyper["betas"] == (0.9, 0.999)
    assert isinstance(group.hyper["betas"], tuple)
    assert (group.decay, group.hyper["peak_lr"], group.hyper["amsgrad"]) == ("corrected", 0.25, False)
    parameter = contents.parameters[0]
    assert (parameter.name, parameter.shape, parameter.dtype) == ("w", (3,), "float32")
    assert set(contents.versions) == {"adamantine", "torch", "python"}


def test_functions_of_a_scheduler_are_declared_missing(path):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    inner = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    chained = torch.optim.lr_scheduler.ChainedScheduler(
        [inner, torch.optim.lr_scheduler.StepLR(optimizer, 3)]
    )
    save(path, optimizer, scheduler=chained)
    assert read(path).scheduler.not_saved == ["scheduler[0].lr_lambdas[0]: a function"]
    load(path, optimizer, scheduler=chained)
    assert inner.lr_lambdas[0](3) == 0.5


# --- what is refused ---------------------------------------------------------------------------------------


class Odd:
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Odd(), r"extra/it is a .*\.Odd, which only its own code could bring back"),
        (lambda: 0, r"extra/it is a builtins\.function"),
        (deque([1]), r"extra/it is a collections\.deque"),
        (b"bytes", r"extra/it is a builtins\.bytes"),
        (torch.ones(2).to_sparse(), r"extra/it is a sparse tensor .*to_dense"),
        (torch.ones(2, device="meta"), r"extra/it is on the meta device"),
        (np.array(["text"]), r"extra/it is a numpy array of <U4"),
        (np.arange(2, dtype=">f4"), r"extra/it is a numpy array of >f4"),
        (np.ma.masked_array([1.0], [True]), r"extra/it is a numpy\.ma\.(core\.)?MaskedArray"),
        ("name\udcff", r"a text that UTF-8 cannot hold, in .*name"),
        ([1 << 20000], r"extra/it/0 is a whole number of 20001 bits"),
    ],
)
def test_what_only_code_could_bring_back_is_refused_by_name(path, value, message):
    write(path, holding("the old one"))
    with pytest.raises(CheckpointError, match=message):
        write(path, holding({"it": value}))
    assert read(path).extra == "the old one"


def test_a_container_that_holds_itself_is_refused(path):
    value = []
    value.append(value)
    with pytest.raises(CheckpointError, match="nested more than 64 levels deep, or holds itself"):
        write(path, holding(value))


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"lr": math.nan}, "group 0: lr is NaN"),
        ({"lr": -1e-3}, "group 0: lr is -0.001"),
        ({"lr": torch.tensor(math.nan)}, "group 0: lr is NaN"),
        ({"peak_lr": math.inf}, "group 0: peak_lr is inf"),
        ({"betas": (0.9, math.nan)}, "group 0: betas is NaN"),
        ({"weight_decay": -0.1}, "group 0: weight_decay is -0.1"),
        ({"eps": math.inf}, "group 0: eps is inf"),
    ],
)
def test_hyperparameters_that_would_not_be_loaded_are_not_saved(path, hyper, message):
    contents = holding()
    contents.groups[0].hyper |= hyper
    with pytest.raises(CheckpointError, match=message):
        write(path, contents)
    contents.groups[0].hyper = {"lr": 0.0, "max_norm": math.inf, "momentum": -0.5}
    write(path, contents)


def test_what_could_not_be_read_is_not_written(path):
    """A checkpoint that is refused when the run has crashed comes too late."""
    for edit, message in (
        (lambda c: setattr(c.parameters[0], "name", 5), "parameter 0: expected a text or null, found 5"),
        (lambda c: setattr(c.parameters[0], "group", 1), "in group 1, but there are 1 groups"),
        (lambda c: c.groups[0].hyper.update({1: 2}), "group 0: 1 is no name of a hyperparameter"),
        (lambda c: setattr(c, "versions", None), "expected an object"),
    ):
        contents = holding()
        edit(contents)
        with pytest.raises(CheckpointError, match=message):
            write(path, contents)
    assert files(path) == []


def test_the_name_of_the_file(tmp_path):
    for name in ("state.pt", ".safetensors", "state"):
        with pytest.raises(CheckpointError, match=r"the name of a checkpoint ends in \.safetensors"):
            write(tmp_path / name, holding())
    with pytest.raises(CheckpointError, match="cannot be written: No such file"):
        write(tmp_path / "none" / "state.safetensors", holding())
    with pytest.raises(CheckpointError, match="Invalid max_shard_bytes: 0"):
        write(tmp_path / "state.safetensors", holding(), max_shard_bytes=0)
    for name in ("x" * 300, "a\0"):
        with pytest.raises(CheckpointError, match="cannot be written: "):
            write(tmp_path / f"{name}.safetensors", holding())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [4, 10**9])
def test_a_folder_in_the_way(path, limit):
    for name in (path.name, "state.safetensors.index.json"):
        path.with_name(name).mkdir()
        with pytest.raises(CheckpointError, match="cannot be written: Is a directory"):
            write(path, holding([torch.ones(2), torch.zeros(2)]), max_shard_bytes=limit)
        assert files(path) == [name]
        path.with_name(name).rmdir()


# --- on the disk -------------------------------------------------------------------------------------------


def big(seed):
    generator = torch.Generator().manual_seed(seed)
    return holding({str(i): torch.randn(100, generator=generator) for i in range(7)} | {"seed": seed})


def files(path):
    return sorted(file.name for file in path.parent.iterdir())


def test_shards_and_back(path):
    write(path, big(1), max_shard_bytes=900)
    assert len(files(path)) == 5  # 2 + 2 + 2 + 1 tensors, and the index
    assert not path.exists()
    assert read(path).extra.keys() == {"seed", *map(str, range(7))}
    first = set(files(path))
    write(path, big(1), max_shard_bytes=900)
    assert set(files(path)) == first, "the same content has the same names"
    write(path, big(2), max_shard_bytes=900)
    assert set(files(path)) & first == {"state.safetensors.index.json"}
    write(path, big(3))
    assert files(path) == ["state.safetensors"]
    write(path, big(4), max_shard_bytes=900)
    assert len(files(path)) == 5
    assert torch.equal(read(path).extra["0"], big(4).extra["0"])


def test_what_others_left_there_is_left_alone(path):
    strangers = (
        "state-00001-of-00002.safetensors",
        "other.safetensors",
        ".state.safetensors.tmp",
        "notes.txt",
    )
    for name in strangers:
        (path.parent / name).write_bytes(b"mine")
    (path.parent / ".state.safetensors.12345.tmp").write_bytes(b"of a save that was killed")
    write(path, big(1), max_shard_bytes=900)
    write(path, big(2))
    assert files(path) == sorted(["state.safetensors", *strangers])


def test_the_index_of_a_model_is_not_taken_for_ours(path):
    index = path.with_name("state.safetensors.index.json")
    index.write_text('{"metadata": {"total_size": 1}, "weight_map": {}}')
    for limit in (900, 10**9):
        with pytest.raises(CheckpointError, match="is of something else"):
            write(path, big(1), max_shard_bytes=limit)
    assert files(path) == [index.name]


def test_a_full_disk_leaves_the_old(path, monkeypatch):
    write(path, big(1))
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for limit in (900, 10**9):
        with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
            write(path, big(2), max_shard_bytes=limit)
    assert path.read_bytes() == before
    assert files(path) == [path.name]


def test_a_disk_that_fills_up_between_shards(path, monkeypatch):
    """Shards left behind would be in the way of every later save."""
    write(path, big(1), max_shard_bytes=900)
    before = files(path)
    (path.parent / ".state.safetensors.0af.tmp").write_bytes(b"of a save that was killed")
    (path.parent / "state-00001-of-00009-0123456789abcdef.safetensors").write_bytes(b"likewise")
    room = iter([None] * 3)

    def filling(descriptor):
        if next(room, "none") == "none":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", filling)
    with pytest.raises(CheckpointError, match="No space left on device"):
        write(path, big(2), max_shard_bytes=900)
    assert files(path) == before
    assert read(path).extra["seed"] == 1
    path.with_name("state.safetensors.index.json").write_text("adamantine.checkpoint, damaged")
    with pytest.raises(CheckpointError, match="No space left on device"):
        write(path, big(2), max_shard_bytes=900)
    assert files(path) == before, "which shards a damaged index names is not known"


def test_disks_that_cannot_sync_a_folder_and_files_that_cannot_be_removed(path, monkeypatch):
    """SMB and FUSE say EINVAL to the first. The checkpoint is in its place all the same."""
    sync = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    def held_open(file, missing_ok=False):
        if file.exists():
            raise PermissionError(errno.EPERM, "Operation not permitted")

    write(path, big(1), max_shard_bytes=900)
    monkeypatch.setattr("os.fsync", fsync)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", held_open)
        write(path, big(2))
    assert len(files(path)) == 6, "the negative control: all that was there before is there still"
    assert read(path).extra["seed"] == 2
    write(path, big(3))
    assert files(path) == [path.name]


SAVER = """
import sys, torch
sys.path.insert(0, {here!r})
from adamantine.checkpoint import write
from test_save import big
torch.set_num_threads(1)
print("ready", flush=True)
for number in range(10**9):
    write({path!r}, big(number), max_shard_bytes=[10**9, 900, 500][number % 3])
    if number == 0:
        print("first", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(path):
    """One file and shards in turn, so that every transition between the forms is hit."""
    script = SAVER.format(here=str(Path(__file__).parent), path=str(path))
    chance = random.Random(0)
    kinds = set()
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert process.stdout.readline() == "first\n"
        for _ in range(12):  # frozen at a random moment, what is on the disk is what a kill would leave
            time.sleep(chance.uniform(0.001, 0.03))
            process.send_signal(signal.SIGSTOP)
            kinds.add(_check_whole(path))
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        process.stdout.close()
        kinds.add(_check_whole(path))
    assert kinds == {"single", "sharded"}
    write(path, big(0))
    assert files(path) == [path.name], "the next save clears what kills have left"


def _check_whole(path):
    """Loads, and is one save's from end to end."""
    found = read(path)
    expected = big(found.extra["seed"])
    assert all(torch.equal(found.extra[str(i)], expected.extra[str(i)]) for i in range(7))
    return "single" if path.exists() else "sharded"


def test_what_is_no_optimizer(path):
    """`Stacked` has no state dict: its members are told apart by position alone."""
    stacked = at.Stacked(at.AdamW, [{"params": [torch.ones(2, 3)], "weight_decay": 0.0}], lr=[0.1, 0.2])
    with pytest.raises(CheckpointError, match=r"a adamantine\.torch\.Stacked has no state_dict"):
        save(path, stacked)
