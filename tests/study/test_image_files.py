"""MNIST's, Fashion-MNIST's and CIFAR-10's files: read, refused when damaged, and never run."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from adamantine.study.errors import StudyError
from adamantine.study.task import Settings, check
from adamantine.study.tasks import load
from adamantine.study.tasks.cifar import PIXELS, read_cifar10
from adamantine.study.tasks.idx import read_idx

RNG = np.random.default_rng(0)

# MNIST's files


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, pack: Callable[[bytes], bytes] = bytes, ending: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 40), ("t10k", 20)):
        images = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = RNG.integers(0, 10, count, dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte{ending}").write_bytes(pack(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte{ending}").write_bytes(pack(idx(labels)))


@pytest.mark.parametrize("place", [".", "MNIST/raw", "mnist"])
@pytest.mark.parametrize(("pack", "ending"), [(bytes, ""), (gzip.compress, ".gz")])
def test_mnist_is_read(tmp_path: Path, place: str, pack: Callable[[bytes], bytes], ending: str) -> None:
    write_mnist(tmp_path / place, pack, ending)
    task = load("mnist", Settings(data_dir=str(tmp_path), train_size=15))
    first, other = task.data(0), task.data(1)
    assert [len(y) for _, y in first] == [15, 20, 20]
    assert first.train[0].shape == (15, 1, 28, 28)
    assert first.test[0] is other.test[0]  # the official test split is nobody's to draw
    assert not torch.equal(first.train[1], other.train[1]) or not torch.equal(first.train[0], other.train[0])
    assert first.test[0].min() >= -0.1307 / 0.3081 - 1e-6


def test_a_small_packed_file_does_not_fill_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "bomb"
    file.write_bytes(gzip.compress(idx(np.zeros((4, 2, 2), np.uint8)) + bytes(10**8)))
    tracemalloc.start()
    try:
        with pytest.raises(StudyError, match="more follow"):
            read_idx(file, 3)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_small_files_give_all_they_have(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    task = load("mnist", Settings(data_dir=str(tmp_path)))
    assert [len(y) for _, y in task.data(0)] == [20, 20, 20]
    with pytest.raises(StudyError, match="--train-size 21: only 20"):
        load("mnist", Settings(data_dir=str(tmp_path), train_size=21))


def test_fashion_mnist_is_read(tmp_path: Path) -> None:
    write_mnist(tmp_path / "FashionMNIST" / "raw")
    assert "Fashion" in load("fashion-mnist", Settings(data_dir=str(tmp_path), train_size=5)).title


def test_missing_mnist_says_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"no train-images-idx3-ubyte \(or .*gz\) in .*get it from the MNIST"
    ):
        load("mnist", Settings(data_dir=str(tmp_path)))
    with pytest.raises(StudyError, match="zalandoresearch"):
        load("fashion-mnist", Settings(data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-1], "promises 40 x 28 x 28 = 31360 bytes, 31359 follow"),
        (lambda raw: raw + b"x", "31360 bytes, more follow"),
        (lambda raw: gzip.compress(raw + bytes(10**8)), "31360 bytes, more follow"),
        (lambda raw: raw[:4] + b"\xff" * 12 + raw[16:], "which is no MNIST file"),
        (lambda raw: b"\x00\x00\x08\x01" + raw[4:], "starts with 00 00 08 01"),
        (lambda raw: b"", "starts with"),
        (lambda raw: raw[:9], "ends inside its 16-byte header"),
        (lambda raw: gzip.compress(raw)[:-9], "damaged gzip"),
        (lambda raw: gzip.compress(raw)[:200] + b"\xff" * 50, "damaged gzip"),
        (lambda raw: b"\x1f\x8b" + raw, "damaged gzip"),
    ],
)
def test_damaged_idx_files_are_named_with_the_fault(
    tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    write_mnist(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(StudyError, match=message) as caught:
        load("mnist", Settings(data_dir=str(tmp_path), train_size=5))
    assert str(file) in str(caught.value)


def test_idx_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    for content, message in (
        (np.zeros(3, np.uint8), "3 labels for the 40 images"),
        (np.full(40, 11, np.uint8), "label 11"),
    ):
        labels.write_bytes(idx(content))
        with pytest.raises(StudyError, match=message):
            load("mnist", Settings(data_dir=str(tmp_path)))
    images = tmp_path / "train-images-idx3-ubyte"
    images.write_bytes(idx(np.zeros((3, 2, 2), np.uint8)))
    assert read_idx(images, 3).shape == (3, 2, 2)


# CIFAR-10's files

NAMES = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(5)
    return [
        (rng.integers(0, 256, (4, PIXELS), dtype=np.uint8), rng.integers(0, 10, 4, dtype=np.uint8))
        for _ in NAMES
    ]


def files(version: str, protocol: int = 4) -> dict[str, bytes]:
    if version == "bin":
        return {
            f"{name}.bin": np.concatenate((labels[:, None], pixels), 1).tobytes()
            for name, (pixels, labels) in zip(NAMES, batches(), strict=True)
        }
    return {
        name: pickle.dumps({b"data": pixels, b"labels": labels.tolist(), b"batch_label": b"x"}, protocol)
        for name, (pixels, labels) in zip(NAMES, batches(), strict=True)
    }


def write_cifar(folder: Path, version: str, packed: bool, content: dict[str, bytes]) -> None:
    unpacked = f"cifar-10-batches-{version}"
    if not packed:
        (folder / unpacked).mkdir()
        for name, raw in content.items():
            (folder / unpacked / name).write_bytes(raw)
        return
    archive = {"bin": "cifar-10-binary.tar.gz", "py": "cifar-10-python.tar.gz"}[version]
    with tarfile.open(folder / archive, "w:gz") as out:
        for name, raw in content.items():
            info = tarfile.TarInfo(f"{unpacked}/{name}")
            info.size = len(raw)
            out.addfile(info, io.BytesIO(raw))


@pytest.mark.parametrize("version", ["bin", "py"])
@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_is_read(tmp_path: Path, version: str, packed: bool) -> None:
    write_cifar(tmp_path, version, packed, files(version))
    train, labels, test, test_labels = read_cifar10(tmp_path)
    expected = batches()
    assert train.shape == (20, 3, 32, 32)
    assert np.array_equal(train.reshape(20, PIXELS), np.concatenate([pixels for pixels, _ in expected[:5]]))
    assert labels.tolist() == [int(label) for _, part in expected[:5] for label in part]
    assert np.array_equal(test.reshape(4, PIXELS), expected[5][0])
    assert test_labels.tolist() == expected[5][1].tolist()


def python_2_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 pickled the official files: protocol 2, byte strings, NumPy's old module names."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    numbers = b"".join(b"K" + bytes((label,)) for label in labels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR"
        b"(K\x01K" + bytes((len(pixels),)) + b"M\x00\x0c\x86"
        b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89" + text(pixels.tobytes()) + b"tb"
    )
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + b"](" + numbers + b"eu."


def test_cifar10_of_python_2_is_read(tmp_path: Path) -> None:
    content = {
        name: python_2_batch(pixels, labels.tolist())
        for name, (pixels, labels) in zip(NAMES, batches(), strict=True)
    }
    assert np.array_equal(pickle.loads(content["test_batch"], encoding="bytes")[b"data"], batches()[5][0])
    write_cifar(tmp_path, "py", False, content)
    assert np.array_equal(read_cifar10(tmp_path)[2].reshape(4, PIXELS), batches()[5][0])


class Evil:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.file}",)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    content = files("py") | {"data_batch_3": pickle.dumps({b"data": Evil(tmp_path / "ran"), b"labels": []})}
    write_cifar(tmp_path, "py", False, content)
    with pytest.raises(StudyError, match=r"data_batch_3: it asks for (posix|nt)\.system"):
        read_cifar10(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("version", "damage", "message"),
    [
        ("bin", lambda raw: raw[:-1], "no whole number of 3073-byte records"),
        ("bin", lambda raw: b"", "no whole number"),
        ("bin", lambda raw: b"\x0b" + raw[1:], "label above 9"),
        ("py", lambda raw: raw[:-100], "not a CIFAR-10 batch"),
        ("py", lambda raw: b"", "not a CIFAR-10 batch"),
        ("py", lambda raw: b"hello", "not a CIFAR-10 batch"),
        ("py", lambda raw: pickle.dumps([1, 2]), "not a CIFAR-10 batch"),
        ("py", lambda raw: pickle.dumps({b"data": np.zeros((4, 5), np.uint8), b"labels": [1] * 4}), "shape"),
        (
            "py",
            lambda raw: pickle.dumps({b"data": np.zeros((4, PIXELS)), b"labels": [1] * 4}),
            "unsigned bytes",
        ),
        (
            "py",
            lambda raw: pickle.dumps({b"data": np.zeros((4, PIXELS), np.uint8), b"labels": [1] * 3}),
            "for 3 labels",
        ),
    ],
)
def test_damaged_cifar10_is_named_with_the_fault(
    tmp_path: Path, version: str, damage: Callable[[bytes], bytes], message: str
) -> None:
    content = files(version)
    name = next(name for name in content if "batch_2" in name)
    write_cifar(tmp_path, version, False, content | {name: damage(content[name])})
    with pytest.raises(StudyError, match=message) as caught:
        read_cifar10(tmp_path)
    assert name in str(caught.value)


def test_a_damaged_or_incomplete_archive_is_named(tmp_path: Path) -> None:
    content = files("bin")
    del content["data_batch_4.bin"]
    write_cifar(tmp_path, "bin", True, content)
    with pytest.raises(StudyError, match=r"data_batch_4\.bin is missing"):
        read_cifar10(tmp_path)
    archive = tmp_path / "cifar-10-binary.tar.gz"
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(StudyError, match="damaged archive"):
        read_cifar10(tmp_path)


def test_a_packed_batch_is_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adamantine.study.tasks.cifar.LARGEST", 4 * (1 + PIXELS))
    write_cifar(tmp_path, "bin", True, files("bin"))
    read_cifar10(tmp_path)
    write_cifar(tmp_path, "bin", True, files("bin") | {"data_batch_2.bin": bytes(5 * (1 + PIXELS))})
    with pytest.raises(StudyError, match=r"data_batch_2\.bin: more than 12292 bytes"):
        read_cifar10(tmp_path)


def test_an_unreadable_archive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    write_cifar(tmp_path, "bin", True, files("bin"))
    monkeypatch.setattr(tarfile, "open", denied)
    with pytest.raises(StudyError, match=r"cifar-10-binary\.tar\.gz: Permission denied"):
        read_cifar10(tmp_path)


def test_missing_cifar10_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"cifar-10-batches-bin.*cifar-10-python\.tar\.gz.*kriz/cifar"):
        load("cifar10", Settings(data_dir=str(tmp_path)))


def test_cifar10_is_a_task(tmp_path: Path) -> None:
    write_cifar(tmp_path, "bin", False, files("bin"))
    task = load("cifar10", Settings(data_dir=str(tmp_path), train_size=6))
    assert check(task, 0)["train"] == 6
