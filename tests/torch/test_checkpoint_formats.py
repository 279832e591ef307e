"""State dicts of every storage format: kept as saved, converted only with a word, refused if forged."""

from __future__ import annotations

import copy
import io
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import adamantine.torch as at
from adamantine.formats import block

STATES = (None, "float32", "bfloat16", "8bit", "4bit", {"exp_avg": "4bit", "exp_avg_sq": "8bit"})
WEIGHTS = (None, "nearest", "stochastic", "kahan", "split8", "split16")
SHAPES = {"odd": (7, 41), "tiny": (3,), "long": (1000,), "whole": (4, 64)}


def params(dtype=torch.bfloat16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
        for name, shape in SHAPES.items()
    }


def train(model, optimizer, first=0, last=4):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for p in model.values():
            p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        optimizer.step()


def trained(dtype=torch.bfloat16, cls=at.AdamW, **options):
    model = params(dtype)
    optimizer = cls(list(model.items()), lr=1e-2, **options)
    train(model, optimizer)
    return model, optimizer


def through_a_file(state_dict):
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def clone(model):
    return {name: nn.Parameter(p.detach().clone()) for name, p in model.items()}


def state_bits(optimizer):
    return {
        (number, key): (value.dtype, tuple(value.shape), value.reshape(-1).view(torch.uint8).tolist())
        for number, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }


@pytest.mark.parametrize(("state", "weights"), list(itertools.product(STATES, WEIGHTS)), ids=str)
def test_going_on_is_as_if_nothing_had_happened(state, weights):
    """Saved after 4 steps, loaded into an optimizer of default options, 4 more: the bits of 8 in one go."""
    model, optimizer = trained(state=state, weights=weights)
    saved, weights_then = through_a_file(optimizer.state_dict()), clone(model)
    train(model, optimizer, 4, 8)
    other = at.AdamW(list(weights_then.items()), lr=0.5)
    assert other.load_state_dict(saved) is None
    train(weights_then, other, 4, 8)
    for name, p in model.items():
        assert torch.equal(p, weights_then[name]), name
    assert state_bits(other) == state_bits(optimizer)


def test_codes_are_matched_by_name_and_share_no_memory():
    model, optimizer = trained(state="4bit", weights="split8")
    saved = optimizer.state_dict()
    other = at.AdamW(list(model.items())[::-1])
    other.load_state_dict(saved)
    for p in model.values():
        for key, value in optimizer.state[p].items():
            assert torch.equal(other.state[p][key], value)
            assert other.state[p][key].data_ptr() != value.data_ptr()


# --- whose format -------------------------------------------------------------------------------------------


def test_the_checkpoints_format_is_kept_and_that_is_said():
    model, optimizer = trained(state="8bit", weights="kahan")
    other = at.AdamW(list(model.items()), state="float32", weights="split16")
    with pytest.warns(UserWarning, match="this optimizer was constructed with") as caught:
        other.load_state_dict(optimizer.state_dict())
    state, weights = (str(each.message) for each in caught)
    assert "state='8bit'" in state
    assert "constructed with state='float32': the checkpoint's is kept" in state
    assert "weights='kahan'" in weights
    assert "optimizer.store_as(weights='split16')" in weights
    assert {each.filename for each in caught} == {__file__}
    assert state_bits(other) == state_bits(optimizer)
    assert (other.param_groups[0]["state"], other.param_groups[0]["weights"]) == ("8bit", "kahan")


def test_the_same_format_in_other_words_is_no_news():
    model, optimizer = trained(state={"exp_avg": "8bit", "exp_avg_sq": "8bit"})
    at.AdamW(list(model.items()), state="8bit").load_state_dict(optimizer.state_dict())


def in_blocks(x):
    x = x.float().reshape(-1).numpy()
    return np.pad(x, (0, -len(x) % block.BLOCK)).reshape(-1, block.BLOCK)


def reference_loss(entries, bits):
    """By the NumPy texts alone, per slot: (‖x̂ - x‖/‖x‖, the largest error over the largest of its block)."""
    kept = {"exp_avg": [], "exp_avg_sq": []}
    for entry in entries:
        m, v = in_blocks(entry["exp_avg"]), in_blocks(entry["exp_avg_sq"])
        code = block.CODES[bits, False]
        v_kept = block.decode(*block.encode(v, block.NEAREST, code), code)
        if bits == 4:
            codes, headers = block.encode_relative(m, v_kept, block.NEAREST, block.RELATIVE)
            m_kept = block.decode_relative(codes, headers, v_kept, block.RELATIVE)
        else:
            code = block.CODES[bits, True]
            m_kept = block.decode(*block.encode(m, block.NEAREST, code), code)
        kept["exp_avg"].append((m, m_kept))
        kept["exp_avg_sq"].append((v, v_kept))
    losses = {}
    for slot, pairs in kept.items():
        off = [np.abs(after.astype(np.float64) - before) for before, after in pairs]
        error = sum((each**2).sum() for each in off)
        norm = sum((before.astype(np.float64) ** 2).sum() for before, _ in pairs)
        shares = [each.max(1) / np.abs(before).max(1) for each, (before, _) in zip(off, pairs, strict=True)]
        losses[slot] = ((error / norm) ** 0.5, np.concatenate(shares).max())
    return losses


@pytest.mark.parametrize("bits", [8, 4])
def test_live_converts_and_returns_the_loss(bits):
    model, optimizer = trained(torch.float32)
    other = at.AdamW(list(model.items()), state=f"{bits}bit")
    change = other.load_state_dict(optimizer.state_dict(), state="live")
    assert [(each.slot, each.before, each.after) for each in change.slots] == [
        ("exp_avg", "float32", f"{bits}bit"),
        ("exp_avg_sq", "float32", f"{bits}bit"),
    ]
    elements = sum(p.numel() for p in model.values())
    expected = reference_loss([optimizer.state[p] for p in model.values()], bits)
    for each in change.slots:
        np.testing.assert_allclose((each.error, each.worst), expected[each.slot], rtol=1e-9)
        assert each.worst_at.strip("'") in SHAPES
        assert each.bytes_before == 4 * elements
        assert each.parameters == len(SHAPES)
        assert "of its norm" in str(change)
    assert not change.is_exact
    train(model, other)  # its rounding keys come with the first step


def test_eight_bits_into_float32_are_exact_and_back():
    model, optimizer = trained(torch.float32, state="8bit")
    other = at.AdamW(list(model.items()), state="float32")
    change = other.load_state_dict(optimizer.state_dict(), state="live")
    assert change.is_exact
    assert "exact" in str(change)
    assert set(other.state[model["odd"]]) == {"step", "exp_avg", "exp_avg_sq"}
    back = at.AdamW(list(model.items()), state="8bit")
    loss = back.load_state_dict(other.state_dict(), state="live")
    # Predicted: the numbers lie on the curve of their codes, and on another where the range is chosen anew.
    assert max(each.worst for each in loss.slots) < 0.02


def test_a_first_moment_in_units_of_the_second_follows_it():
    """4-bit codes of m mean something else as soon as v is stored otherwise: both are made anew."""
    _, optimizer = trained(torch.float32, state={"exp_avg": "4bit", "exp_avg_sq": "float32"})
    wide = copy.deepcopy(optimizer)
    assert wide.store_as(state="float32").is_exact
    change = optimizer.store_as(state="4bit")
    assert [(each.slot, each.before, each.after) for each in change.slots] == [
        ("exp_avg", "4bit", "4bit"),
        ("exp_avg_sq", "float32", "4bit"),
    ]
    expected = reference_loss([wide.state[p] for p in params_of(wide)], 4)
    for each in change.slots:
        np.testing.assert_allclose((each.error, each.worst), expected[each.slot], rtol=1e-9)


def params_of(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def test_live_none_is_the_parameters_dtype():
    model, optimizer = trained(torch.bfloat16, state="float32")
    other = at.AdamW(list(model.items()))
    change = other.load_state_dict(optimizer.state_dict(), state="live")
    assert other.state[model["odd"]]["exp_avg"].dtype == torch.bfloat16
    assert max(each.worst for each in change.slots) <= 2**-8  # half a unit of bfloat16


def test_of_torch_in_eight_bits_as_the_constructor_asked():
    """torch's state dict says nothing of formats; who wrote state='8bit' has no memory for another one."""
    model = params(torch.float32)
    theirs = torch.optim.AdamW(list(model.items()))
    train(model, theirs)
    mine = at.AdamW(list(model.items()), state="8bit")
    with pytest.warns(
        UserWarning, match=r"(?s)does not say in which format.*exp_avg_sq: float32 → 8bit.*norm"
    ):
        change = mine.load_state_dict(theirs.state_dict())
    assert {each.after for each in change.slots} == {"8bit"}
    assert mine.state[model["odd"]]["exp_avg_codes"].dtype == torch.uint8
    assert mine.param_groups[0]["state"] == "8bit"
    assert "rounding" not in theirs.state[model["odd"]]
    train(model, mine)


def test_of_torch_is_kept_where_nothing_was_asked():
    model = params(torch.bfloat16)
    theirs = torch.optim.AdamW(list(model.items()))
    train(model, theirs)
    state_dict = theirs.state_dict()
    for entry in state_dict["state"].values():
        entry["exp_avg"] = entry["exp_avg"].float()
    mine = at.AdamW(list(model.items()), state={"exp_avg_sq": "float32"})
    change = mine.load_state_dict(state_dict)  # wider: no loss, so no warning
    assert [(each.slot, each.after) for each in change.slots] == [("exp_avg_sq", "float32")]
    assert {mine.state[model["odd"]][key].dtype for key in ("exp_avg", "exp_avg_sq")} == {torch.float32}


def test_a_residual_without_a_place_is_left_out_with_a_warning():
    model, optimizer = trained(weights="split16", state="8bit")
    wide = {name: nn.Parameter(p.detach().float()) for name, p in model.items()}
    other = at.AdamW(list(wide.items()))
    with pytest.warns(UserWarning, match=r"residual of 16-bit weights.*at most 2⁻⁸"):
        other.load_state_dict(optimizer.state_dict())
    assert "residual" not in other.state[wide["odd"]]
    train(wide, other)


@pytest.mark.parametrize(
    ("saved", "live", "kept"),
    [
        (None, "split8", "split8"),  # a residual starts at zero
        ("split16", "split16", "split16"),
        ("stochastic", "kahan", "kahan"),
    ],
)
def test_live_weights_where_nothing_is_lost(saved, live, kept):
    model, optimizer = trained(weights=saved)
    other = at.AdamW(list(model.items()), weights=live)
    assert other.load_state_dict(optimizer.state_dict(), state="live") is None
    assert other.param_groups[0]["weights"] == kept
    train(model, other)
    assert "residual" in other.state[model["odd"]]


def test_live_weights_that_need_the_parameters_or_lose_something_are_told():
    model, optimizer = trained(weights="split16")
    other = at.AdamW(list(model.items()), weights="kahan")
    with pytest.warns(UserWarning, match=r"store_as\(weights='kahan'\)"):
        other.load_state_dict(optimizer.state_dict(), state="live")
    assert other.param_groups[0]["weights"] == "split16"
    other.store_as(weights="kahan")
    other = at.AdamW(list(model.items()))
    with pytest.warns(UserWarning, match="it is left out, at most 2⁻⁸ of each weight"):
        other.load_state_dict(optimizer.state_dict(), state="live")
    assert "residual" not in other.state[model["odd"]]


def test_complex_parameters():
    generator = torch.Generator().manual_seed(0)
    model = {"c": nn.Parameter(torch.randn(9, 31, generator=generator, dtype=torch.complex64))}
    optimizer = at.AdamW(list(model.items()), state="4bit")
    for _ in range(2):
        model["c"].grad = torch.randn(9, 31, generator=generator, dtype=torch.complex64)
        optimizer.step()
    other = at.AdamW(list(model.items()))
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    assert state_bits(other) == state_bits(optimizer)
    wide = at.AdamW(list(model.items()), state="float32")
    assert wide.load_state_dict(optimizer.state_dict(), state="live").is_exact
    assert wide.state[model["c"]]["exp_avg"].dtype == torch.complex64
    wide.step()


# --- forged -----------------------------------------------------------------------------------------------


def forge(key, value):
    def edit(entry, group):
        entry[key] = value(entry[key]) if callable(value) else value

    return edit


def unsay(entry, group):
    group["state"] = None


def misplace(entry, group):
    entry["exp_avg"] = entry.pop("exp_avg_codes")


def misplace_and_unsay(entry, group):
    misplace(entry, group)
    unsay(entry, group)


FORGERIES = {
    "too few headers": (
        forge("exp_avg_codes_scale", lambda x: x[:-1]),
        r"exp_avg_codes_scale of 'odd'.*of shape \(2,\).*\(3,\)",
    ),
    "too many headers": (forge("exp_avg_codes_scale", lambda x: torch.cat([x, x])), r"of shape \(6,\)"),
    "no headers": (forge("exp_avg_sq_codes_scale", None), "exp_avg_sq_codes_scale of 'odd' is missing"),
    "float headers": (
        forge("exp_avg_codes_scale", lambda x: x.float()),
        r"is float32 of shape \(3,\).*int32",
    ),
    "a negative scale": (forge("exp_avg_sq_codes_scale", lambda x: x | -(2**31)), "negative header"),
    "no such range": (forge("exp_avg_codes_scale", lambda x: x & -128 | 7), "low 7 bits are more than 6"),
    "the ranges of another code": (forge("exp_avg_sq_codes_scale", lambda x: x | 64), "or of another code"),
    "int8 codes": (
        forge("exp_avg_codes", lambda x: x.to(torch.int8)),
        "exp_avg_codes of 'odd' is int8.*'8bit' asks for uint8",
    ),
    "flat codes": (
        forge("exp_avg_codes", lambda x: x.view(-1)),
        r"of shape \(287,\); state='8bit' asks for uint8 of",
    ),
    "numbers for codes": (forge("exp_avg_codes", lambda x: x.float()), "is float32 of shape"),
    "no tensor": (forge("exp_avg_codes", 0.5), "is a float; state='8bit'"),
    "codes without a word": (unsay, "has exp_avg_codes of 'odd', and its group does not say"),
    "codes for numbers": (misplace, "exp_avg of 'odd' is uint8, where .*are 'exp_avg_codes', .* rename them"),
    "codes for numbers without a word": (misplace_and_unsay, "exp_avg of 'odd' is uint8, .* rename them"),
    "numbers and codes": (
        forge("exp_avg", torch.zeros(7, 41)),
        "state of 'odd' has 'exp_avg' and 'exp_avg_codes', numbers and codes of one slot: remove",
    ),
    "another residual": (forge("residual", lambda x: x.to(torch.int16)), "residual of 'odd' is int16.*int8"),
    "a residual of another shape": (forge("residual", lambda x: x[:1]), r"residual of 'odd' .*\(1, 41\)"),
    "a float key": (forge("rounding", lambda x: x.double()), "rounding of 'odd' is float64.*int64"),
    "many keys": (forge("rounding", lambda x: x.expand(3)), r"rounding of 'odd' is int64 of shape \(3,\)"),
    "no such format": (lambda entry, group: group.update(state="3bit"), "Invalid state: '3bit'"),
    "no such slot": (lambda entry, group: group.update(state={"momentum": "8bit"}), "has no 'momentum'"),
    "no format at all": (lambda entry, group: group.update(state=8), "Invalid state: 8"),
    "no such weights": (lambda entry, group: group.update(weights="split12"), "Invalid weights: 'split12'"),
}


@pytest.mark.parametrize("state", ["saved", "live"])
@pytest.mark.parametrize(("edit", "message"), FORGERIES.values(), ids=FORGERIES)
def test_a_forged_state_is_refused_and_changes_nothing(edit, message, state):
    _, optimizer = trained(state="8bit", weights="split8")
    state_dict = copy.deepcopy(optimizer.state_dict())
    edit(state_dict["state"][0], state_dict["param_groups"][0])
    before = state_bits(optimizer)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state_dict, state=state)
    assert state_bits(optimizer) == before


def test_codes_in_units_of_what_is_not_there():
    _, optimizer = trained(state="4bit")
    state_dict = copy.deepcopy(optimizer.state_dict())
    state_dict["state"][1]["exp_avg_sq_codes"] = None
    with pytest.raises(
        ValueError, match="exp_avg of 'tiny' is in units of exp_avg_sq, which it does not have"
    ):
        optimizer.load_state_dict(state_dict)


def test_what_these_parameters_cannot_have_is_refused():
    _, optimizer = trained(weights="split16")
    half = {name: nn.Parameter(p.detach().half()) for name, p in params().items()}
    with pytest.raises(ValueError, match=r"'split16' for 'odd', which is float16"):
        at.AdamW(list(half.items())).load_state_dict(optimizer.state_dict())


def test_unknown_way_of_settling():
    _, optimizer = trained()
    with pytest.raises(ValueError, match="Invalid state: '8bit'; choose 'saved' or 'live'"):
        optimizer.load_state_dict(optimizer.state_dict(), state="8bit")


# --- for torch.optim ---------------------------------------------------------------------------------------

THEIRS = {
    "AdamW": {},
    "Adam": {"amsgrad": True},
    "NAdam": {},
    "RAdam": {},
    "Adamax": {},
    "Adagrad": {},
    "RMSprop": {"momentum": 0.9},
}


def loaded_by_torch(name, state, options):
    """Our codes in torch's class, which loads them without a word; weights and gradients for a step."""
    model = params(torch.float32)
    optimizer = at.OPTIMIZERS[name](list(model.items()), state=state, **options)
    train(model, optimizer)
    theirs = getattr(torch.optim, name)(list(model.items()), **options)
    theirs.load_state_dict(optimizer.state_dict())
    return model, theirs


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("state", ["8bit", "4bit"])
@pytest.mark.parametrize("name", THEIRS)
def test_torch_finds_no_numbers_where_there_are_codes(name, state, foreach):
    """Codes under the slot's own key it would take for moments, and train."""
    model, theirs = loaded_by_torch(name, state, THEIRS[name])
    theirs.param_groups[0]["foreach"] = foreach
    before = clone(model)
    with pytest.raises(KeyError, match=r"exp_avg|sum|square_avg"):
        theirs.step()
    assert all(torch.equal(p, before[key]) for key, p in model.items())


def test_torchs_sgd_begins_its_momentum_anew():
    """To it a missing buffer is one before the first step. Ours refuses what it then saves."""
    model, theirs = loaded_by_torch("SGD", "8bit", {"momentum": 0.9})
    theirs.step()
    assert torch.equal(theirs.state[model["odd"]]["momentum_buffer"], model["odd"].grad)
    with pytest.raises(ValueError, match="'momentum_buffer' and 'momentum_buffer_codes', numbers and codes"):
        at.SGD(list(model.items()), momentum=0.9).load_state_dict(theirs.state_dict())


# --- by way of torch.distributed.checkpoint -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "weights"), [("8bit", "split8"), ("4bit", "kahan"), ("4bit", "stochastic")]
)
def test_the_state_dicts_of_dcp(state, weights):
    """It makes the state by a step at lr 0 without gradients, which is to move no weight of any format."""
    dcp = pytest.importorskip("torch.distributed.checkpoint.state_dict")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(37, 9), nn.Linear(9, 5)).bfloat16()
    optimizer = at.AdamW(model.parameters(), lr=1e-2, state=state, weights=weights)
    train(dict(model.named_parameters()), optimizer)
    other_model = copy.deepcopy(model)
    other = at.AdamW(other_model.parameters(), lr=1e-2, state=state, weights=weights)
    dcp.set_optimizer_state_dict(
        other_model, other, copy.deepcopy(dcp.get_optimizer_state_dict(model, optimizer))
    )
    assert all(map(torch.equal, other_model.parameters(), model.parameters()))
    for each, its in ((model, optimizer), (other_model, other)):
        train(dict(each.named_parameters()), its, 4, 8)
    assert all(map(torch.equal, other_model.parameters(), model.parameters()))
