"""Checkpoints of state in 8 and 4 bits: loaded, converted, looked into, compared, translated, and damaged."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import adamantine.torch as at
from adamantine.checkpoint import CheckpointError, load, read, save, write
from adamantine.checkpoint.convert.api import convert
from adamantine.checkpoint.difference import diff
from adamantine.checkpoint.inspection import inspect
from adamantine.checkpoint.verification import verify
from adamantine.formats import words


def net(dtype=torch.bfloat16, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(37, 9), nn.Tanh(), nn.Linear(9, 5)).to(dtype)


def train(model, optimizer, steps=3):
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        optimizer.step()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


def saved(path, dtype=torch.bfloat16, cls=at.AdamW, **options):
    model = net(dtype)
    optimizer = cls(model.named_parameters(), lr=1e-2, **options)
    train(model, optimizer)
    save(path, optimizer, model=model)
    return model, optimizer


FORMATS = {"state": {"exp_avg": "4bit", "exp_avg_sq": "8bit"}, "weights": "split8"}


def numbers(optimizer, p, slot):
    """What a live slot stands for, by way of store_as on a copy."""
    wide = copy.deepcopy(optimizer)
    wide.store_as(state="float32")
    place = [q for group in optimizer.param_groups for q in group["params"]].index(p)
    twin = [q for group in wide.param_groups for q in group["params"]][place]
    return wide.state[twin][slot]


# --- loading ------------------------------------------------------------------------------------------------


def test_the_saved_formats_are_kept(path):
    model, optimizer = saved(path, **FORMATS)
    other = at.AdamW(model.named_parameters())
    load(path, other)
    for p in model.parameters():
        assert {key: value.dtype for key, value in other.state[p].items()} == {
            "step": torch.float32,
            "exp_avg_codes": torch.uint8,
            "exp_avg_codes_scale": torch.int32,
            "exp_avg_sq_codes": torch.uint8,
            "exp_avg_sq_codes_scale": torch.int32,
            "residual": torch.int8,
            "rounding": torch.int64,
        }
        assert all(torch.equal(value, optimizer.state[p][key]) for key, value in other.state[p].items())
    assert other.param_groups[0]["state"] == FORMATS["state"]


def test_live_converts_and_says_the_loss(path):
    model, _ = saved(path, torch.float32)
    other = at.AdamW(model.named_parameters(), state="8bit")
    with pytest.warns(
        UserWarning, match=r"(?s)in another format now.*exp_avg_sq: float32 → 8bit.*off by"
    ) as seen:
        load(path, other, model=model, state="live")
    assert seen[0].filename == __file__
    assert other.state[model[0].weight]["exp_avg_codes"].dtype == torch.uint8
    save(path, other, model=model)
    wide = at.AdamW(model.named_parameters(), state="float32")
    load(path, wide, state="live")  # exact: nothing to warn of
    assert torch.equal(wide.state[model[0].weight]["exp_avg"], numbers(other, model[0].weight, "exp_avg"))


def test_live_also_for_another_dtype_of_the_parameters(path):
    saved(path, torch.float32)
    model = net(torch.bfloat16)
    other = at.AdamW(model.named_parameters(), state="8bit", weights="split8")
    with pytest.raises(CheckpointError, match=r"trained in float32, here it is bfloat16.*state='live'"):
        load(path, other)
    with pytest.warns(UserWarning, match="in another format now"):
        load(path, other, state="live")
    train(model, other)
    assert other.state[model[0].weight]["residual"].dtype == torch.int8


def test_a_residual_that_has_no_place_is_warned_about(path):
    saved(path, **FORMATS)
    model = net(torch.float32)
    other = at.AdamW(model.named_parameters(), state="float32")
    with pytest.warns(UserWarning, match="residual of 16-bit weights"):
        load(path, other, state="live")
    assert set(other.state[model[0].weight]) == {"step", "exp_avg", "exp_avg_sq"}


def test_of_torch_in_eight_bits(path):
    model, _ = saved(path, torch.float32, torch.optim.AdamW)
    other = at.AdamW(model.named_parameters(), state="8bit")
    with pytest.warns(UserWarning, match="does not say in which format"):
        load(path, other)
    assert other.state[model[0].weight]["exp_avg_codes"].dtype == torch.uint8


def test_live_is_not_for_other_classes(path):
    model, _ = saved(path, torch.float32, torch.optim.AdamW)
    with pytest.raises(CheckpointError, match="state='live' is for optimizers of adamantine, not for torch"):
        load(path, torch.optim.AdamW(model.named_parameters()), state="live")
    with pytest.raises(CheckpointError, match="Invalid state: '8bit'"):
        load(path, at.AdamW(model.named_parameters()), state="8bit")


# --- looking ------------------------------------------------------------------------------------------------


def test_inspect_reads_the_numbers(path):
    saved(path, **FORMATS)
    found = inspect(path)
    elements = sum(p.numel() for p in net().parameters())
    rows = {row.slot: (row.dtypes, row.elements, row.nbytes) for row in found.slots}
    assert rows["exp_avg"] == (("4bit",), elements, sum(-(-p.numel() // 2) for p in net().parameters()))
    assert rows["exp_avg_sq"] == (("8bit",), elements, elements)
    assert rows["exp_avg_codes_scale"] == (("int32",), 6, 24)
    assert rows["residual"] == (("int8",), elements, elements)
    assert found.suspicions == []
    assert verify(path).problems == []


@pytest.mark.parametrize(
    ("slot", "header", "code"),
    [("exp_avg", 0x7FC00000, "nonfinite"), ("exp_avg_sq", -0x41000000, "negative-second-moment")],
)
def test_suspicious_numbers_behind_codes(path, slot, header, code):
    """A block that was infinite, and one with a negative scale; the codes themselves are as good as any."""
    saved(path, **FORMATS)
    contents = read(path)
    contents.parameters[0].state[f"{slot}_codes_scale"][1] = header
    write(path, contents)
    suspicion = next(each for each in inspect(path).suspicions if each.at == f"0.weight: {slot}")
    assert suspicion.code == code
    assert "128 NaN" in suspicion.what or "of 333 elements are negative" in suspicion.what


def test_an_underflow_is_told_from_codes(path):
    saved(path, **FORMATS)
    contents = read(path)
    contents.parameters[0].state["exp_avg_sq_codes_scale"][0] = 0
    write(path, contents)
    assert [each.code for each in inspect(path).suspicions] == ["underflowed"]


def test_no_residual_and_no_key_is_suspicious(path):
    saved(path, **FORMATS)
    contents = read(path)
    for parameter in contents.parameters:
        parameter.state["residual"].zero_()
        parameter.state["rounding"].fill_(-1)
    write(path, contents)
    assert inspect(path).suspicions == []


def test_diff_compares_the_numbers(path, tmp_path):
    model, optimizer = saved(path, **FORMATS)
    assert diff(path, path).is_none
    other = tmp_path / "other.safetensors"
    contents = read(path)
    header = contents.parameters[0].state["exp_avg_codes_scale"]
    header[0] += 1 << 23  # twice the scale
    write(other, contents)
    (change,) = diff(path, other).tensors
    assert (change.at, change.form) == ("state/0.weight/exp_avg", "4bit [9, 37]")
    first = numbers(optimizer, model[0].weight, "exp_avg").reshape(-1)[:128]
    assert change.largest == pytest.approx(float(first.abs().max()))


def test_diff_tells_keys_as_values(path, tmp_path):
    model, optimizer = saved(path, **FORMATS)
    train(model, optimizer, 1)
    other = tmp_path / "other.safetensors"
    save(other, optimizer)
    values = {at: keys for at, *keys in diff(path, other).values}
    first, second = values["state/0.weight/rounding"]
    assert second == words.next_key(first)


def test_diff_of_numbers_and_their_codes(path, tmp_path):
    _, optimizer = saved(path, torch.float32)
    loss = optimizer.store_as(state="8bit")
    other = tmp_path / "other.safetensors"
    save(other, optimizer)
    found = diff(path, other)
    changes = {change.at: change for change in found.tensors if change.at.startswith("state")}
    assert changes["state/0.weight/exp_avg"].form == "float32 [9, 37] → 8bit [9, 37]"
    assert 0 < changes["state/0.weight/exp_avg"].relative <= loss.slots[0].worst
    assert "state/0.weight/exp_avg_codes_scale" in found.only_second


@pytest.mark.parametrize("form", ["8bit", "4bit"])
@pytest.mark.parametrize("cls", [at.AdamW, at.SGDW, at.Adamax, at.RMSprop, at.Lion])
def test_the_documented_reader_of_codes(path, cls, form):
    """A text of its own, after the specification alone, has the same numbers."""
    text = Path(__file__).parents[2].joinpath("docs", "checkpoint.md").read_text()
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(next(block for block in blocks if "def numbers" in block), names)
    options = {at.SGDW: {"momentum": 0.9}, at.RMSprop: {"momentum": 0.9}}.get(cls, {})
    model, optimizer = saved(path, torch.float32, cls, state=form, **options)
    wide = copy.deepcopy(optimizer)
    wide.store_as(state="float32")
    for parameter, p, twin in zip(
        read(path).parameters, model.parameters(), wide.param_groups[0]["params"], strict=True
    ):
        entry, known = parameter.state, {}
        slots = [key.removesuffix("_codes") for key in entry if key.endswith("_codes")]
        for slot in sorted(slots, reverse=True):
            v = known.get("exp_avg_sq") if (slot, form) == ("exp_avg", "4bit") else None
            found = names["numbers"](
                entry[f"{slot}_codes"].numpy(),
                entry[f"{slot}_codes_scale"].numpy(),
                p.numel(),
                int(form[0]),
                slot in {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "exp_inf"},
                v,
            )
            known[slot] = found
            assert torch.equal(torch.from_numpy(found).view(p.shape), wide.state[twin][slot]), slot
        assert known


# --- translating --------------------------------------------------------------------------------------------


def test_into_torch_as_float32(path, tmp_path):
    model, optimizer = saved(path, **FORMATS)
    target = tmp_path / "state.pt"
    report = convert(path, target, to="torch")
    assert "8 tensors of 8-bit or 4-bit codes become float32" in str(report)
    assert "what 4 parameters have beside their 16-bit weights" in str(report)
    state_dict = torch.load(target, weights_only=True)
    assert set(state_dict["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    expected = numbers(optimizer, model[0].weight, "exp_avg")
    assert torch.equal(state_dict["state"][0]["exp_avg"], expected)
    theirs = torch.optim.AdamW(model.float().named_parameters())
    theirs.load_state_dict(state_dict)
    train(model, theirs)


@pytest.mark.parametrize("formats", [FORMATS, {"state": "4bit"}], ids=str)
def test_into_our_own_layout_as_it_is(path, tmp_path, formats):
    saved(path, **formats)
    target = tmp_path / "renamed.safetensors"
    names = tmp_path / "names.json"
    names.write_text('{"0.weight": "first.weight"}')
    convert(path, target, to="adamantine", names=names)
    before, after = read(path).parameters[0], read(target).parameters[0]
    assert (after.name, after.shape) == ("first.weight", before.shape)
    assert all(torch.equal(value, after.state[key]) for key, value in before.state.items())
    names.write_text('{"0.weight": {"axes": [1, 0]}}')
    with pytest.raises(CheckpointError, match=r"8 or 4 bits.*store_as\(state='float32'\)"):
        convert(path, target, to="adamantine", names=names)


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("exp_avg_codes", torch.zeros(100, dtype=torch.uint8)),
        ("exp_avg_sq_codes_scale", torch.zeros(2, dtype=torch.int32)),
        ("exp_avg_sq_codes_scale", torch.zeros(3)),
    ],
)
def test_codes_that_do_not_fit_are_refused_in_writing(path, key, value):
    saved(path, **FORMATS)
    contents = read(path)
    contents.parameters[0].state[key] = value
    with pytest.raises(CheckpointError, match=r"of 0\.weight has \d+ bytes of codes and .* headers of torch"):
        write(path, contents)


def lose_headers(entry, group):
    del entry["exp_avg_codes_scale"]


def lie_under_the_slots_own_key(entry, group):
    entry["exp_avg"], entry["exp_avg_scale"] = entry.pop("exp_avg_codes"), entry.pop("exp_avg_codes_scale")


def have_numbers_beside_them(entry, group):
    entry["exp_avg"] = torch.zeros(9, 37)


def have_no_format(entry, group):
    group["state"] = None


@pytest.mark.parametrize(
    "edit", [lose_headers, lie_under_the_slots_own_key, have_numbers_beside_them, have_no_format]
)
def test_codes_without_a_meaning_are_refused(path, edit):
    """In writing as in reading: a converter would pass them on as if they were numbers."""
    saved(path, **FORMATS)
    contents = read(path)
    edit(contents.parameters[0].state, contents.groups[0].hyper)
    with pytest.raises(CheckpointError, match=r"exp_avg\w* of 0\.weight is codes that nothing tells"):
        write(path, contents)
