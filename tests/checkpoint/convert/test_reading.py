"""Files of the real libraries are read as the libraries themselves read them, bit for bit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adamantine.checkpoint import CheckpointError, foreign
from adamantine.checkpoint.convert.blockwise import Blockwise

OPTAX = pytest.importorskip("msgpack")


def digest(value: Any) -> str:
    value = value.dequantize() if isinstance(value, Blockwise) else value
    return hashlib.sha256(value.float().contiguous().numpy().tobytes()).hexdigest()


@pytest.mark.parametrize(
    "file",
    [
        "bitsandbytes.pt",
        "optax-adamw.msgpack",
        "torchao-AdamW4bit.pt",
        "torchao-AdamW8bit.pt",
        "torchao-AdamWFp8.pt",
    ],
)
def test_as_the_library_reads_it(file: str, written: Path, expected: dict[str, str]) -> None:
    state = foreign.read(written / file)
    mine = {key: value for key, value in expected.items() if key.startswith(f"{file}/")}
    assert len(mine) == 4  # two parameters of two moments each
    for key, known in mine.items():
        _, name, slot = key.rsplit("/", 2)
        assert digest(state.state[name][slot]) == known, key


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("bitsandbytes.pt", [Blockwise, Tensor]),
        ("torchao-AdamW8bit.pt", [Blockwise, Tensor]),
        ("torchao-AdamW4bit.pt", [Blockwise, Tensor]),
    ],
)
def test_small_tensors_are_not_quantized(file: str, kinds: list[type], written: Path) -> None:
    state = foreign.read(written / file)
    assert [type(slots["exp_avg"]) for slots in state.state.values()] == kinds


def test_merged_ranks_are_what_deepspeed_merges(written: Path) -> None:
    """ds_to_universal.py made the universal folder from the files of the two ranks."""
    ours = foreign.read(written / "deepspeed-stage1-fp32")  # by way of `latest`
    theirs = foreign.read(written / "deepspeed-universal")
    assert ours.names == theirs.names == ["0.weight", "2.weight", "0.bias", "1.weight", "1.bias", "2.bias"]
    for name in ours.names:
        assert ours.state[name].keys() == theirs.state[name].keys() == {"exp_avg", "exp_avg_sq", "step"}
        assert all(torch.equal(ours.state[name][slot], value) for slot, value in theirs.state[name].items())
        assert torch.equal(ours.weights[name], theirs.weights[name])
    assert [(group.decay, group.hyper["weight_decay"]) for group in ours.groups] == [
        ("decoupled", 0.1),
        ("decoupled", 0.0),
    ]


@pytest.mark.parametrize("folder", ["deepspeed-stage2-fp32", "deepspeed-stage1-bf16"])
def test_other_stages_of_deepspeed(folder: str, written: Path) -> None:
    state = foreign.read(written / folder)
    assert state.layout == "deepspeed"
    assert state.shape("0.weight") == (7, 5)
    assert {float(slots["step"]) for slots in state.state.values()} == {3.0}
    assert all(weight.dtype == torch.float32 for weight in state.weights.values())


def test_a_missing_rank_is_said(written: Path, tmp_path: Path) -> None:
    for path in (written / "deepspeed-stage1-fp32" / "at3").iterdir():
        if "rank_1_" not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(
        CheckpointError, match=r"the files of 1 ranks, it was saved by \[2, 2\]; copy them all"
    ):
        foreign.read(tmp_path)


def test_a_missing_model_file_is_said(written: Path, tmp_path: Path) -> None:
    for path in (written / "deepspeed-stage2-fp32" / "at3").glob("*_optim_states.pt"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match=r"mp_rank_00_model_states\.pt cannot be read: No such file"):
        foreign.read(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: No such file or directory"):
        foreign.read(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match="a folder without files of DeepSpeed"):
        foreign.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "rule", "names"),
    [
        ("adamw", "adam", ["Dense_0.bias", "Dense_0.kernel"]),
        ("adamw-masked", "adam", ["Dense_0.bias", "Dense_0.kernel"]),
        ("adamw-clipped-bf16", "adam", ["Dense_0.bias", "Dense_0.kernel"]),
        ("chunked", "adam", ["Dense_0.bias", "Dense_0.kernel"]),
        ("lion", "lion", ["Dense_0.bias", "Dense_0.kernel"]),
        ("partitioned", "unknown", ["Dense_0.kernel", "Dense_0.bias"]),  # AdamW for one, SGD for the other
        ("sgd", "sgd", ["Dense_0.bias", "Dense_0.kernel"]),
        ("train-state", "adam", ["Dense_0.bias", "Dense_0.kernel"]),
    ],
)
def test_trees_of_optax(name: str, rule: str, names: list[str], written: Path) -> None:
    state = foreign.read(written / f"optax-{name}.msgpack")
    assert (state.layout, state.rule, state.names) == ("optax", rule, names)


def test_chunks_and_train_states_hold_the_same(written: Path) -> None:
    plain, *others = (
        foreign.read(written / f"optax-{n}.msgpack") for n in ("adamw", "chunked", "train-state")
    )
    for other in others:
        for name, slots in plain.state.items():
            assert all(torch.equal(value, other.state[name][slot]) for slot, value in slots.items())


def test_dtypes_of_optax_are_kept(written: Path) -> None:
    state = foreign.read(written / "optax-adamw-clipped-bf16.msgpack").state["Dense_0.kernel"]
    assert (state["exp_avg"].dtype, state["exp_avg_sq"].dtype) == (torch.bfloat16, torch.float32)


def test_injected_hyperparameters_are_read(written: Path) -> None:
    hyper = foreign.read(written / "optax-adamw-injected.msgpack").groups[0].hyper
    # optax keeps them in float32, whose nearest to 0.1 is half a unit in the 24th place away
    assert hyper["weight_decay"] == pytest.approx(0.1, rel=2**-24)
    assert hyper["betas"] == pytest.approx((0.9, 0.999), rel=2**-24)


def test_amsgrad_of_optax_is_another_one(written: Path) -> None:
    with pytest.raises(CheckpointError, match="maximum of bias-corrected second moments"):
        foreign.read(written / "optax-amsgrad.msgpack")
