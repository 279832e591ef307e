"""State dicts: by name where there are names, never into another decay mode, in the dtype that was saved."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

import adamantine.torch as at
from adamantine.schedules import peak_lr


def net(seed=0, width=4):
    torch.manual_seed(seed)
    return nn.ModuleDict({name: nn.Linear(width, width) for name in ("first", "second", "third")})


def train(model, optimizer, steps=3, seed=5):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for _, p in sorted(model.named_parameters()):
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float32).to(p.dtype)
        optimizer.step()


def trained(cls=at.AdamW, named=True, model=None, **options):
    model = model or net()
    optimizer = cls(model.named_parameters() if named else model.parameters(), **options)
    train(model, optimizer)
    return model, optimizer


# --- decay modes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("saved", "live", "modes"),
    [
        (lambda p: torch.optim.AdamW(p), lambda p: at.Adam(p, weight_decay=0.01), ("decoupled", "l2")),
        (lambda p: torch.optim.Adam(p, weight_decay=0.1), lambda p: at.AdamW(p), ("l2", "decoupled")),
        (lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.1), lambda p: at.SGDW(p), ("l2", "decoupled")),
        (
            lambda p: at.AdamW(p, decay="cautious"),
            lambda p: at.AdamW(p, weight_decay=0.3),
            ("cautious", "decoupled"),
        ),
        (
            lambda p: at.AdamW(p, decay="independent"),
            lambda p: at.AdamW(p, decay="corrected"),
            ("independent", "corrected"),
        ),
    ],
)
def test_a_checkpoint_never_flips_the_mode(saved, live, modes):
    theirs, mine = modes
    model = net()
    source = saved(model.parameters())
    train(model, source)
    optimizer = live(model.parameters())
    before, live_decay = copy.deepcopy(optimizer.state_dict()), optimizer.param_groups[0]["weight_decay"]
    with pytest.raises(ValueError, match=f"decay='{theirs}'.*decay='{mine}'.*Construct it with") as caught:
        optimizer.load_state_dict(source.state_dict())
    assert "decay='saved'" in str(caught.value)
    assert optimizer.state_dict() == before, "a refused checkpoint must change nothing"

    optimizer.load_state_dict(source.state_dict(), decay="saved")
    assert optimizer.param_groups[0]["decay"] == theirs
    assert optimizer.param_groups[0]["weight_decay"] == source.param_groups[0]["weight_decay"]

    optimizer = live(model.parameters())
    optimizer.load_state_dict(source.state_dict(), decay="live")
    assert optimizer.param_groups[0]["decay"] == mine
    assert optimizer.param_groups[0]["weight_decay"] == live_decay


def test_without_lambda_there_is_nothing_to_flip():
    model = net()
    source = torch.optim.Adam(model.parameters())
    train(model, source)
    optimizer = at.AdamW(model.parameters())
    optimizer.load_state_dict(source.state_dict())
    assert optimizer.param_groups[0]["decay"] == "decoupled"
    assert optimizer.param_groups[0]["weight_decay"] == 0


def test_torch_flag_is_kept_true_to_the_mode():
    """torch.optim.Adam reads decoupled_weight_decay from a checkpoint: ours must not lie to it."""
    for decay, flag in (("decoupled", True), ("l2", False)):
        model, optimizer = trained(at.Adam, weight_decay=0.1, decay=decay)
        theirs = torch.optim.Adam(model.parameters(), weight_decay=0.1)
        theirs.load_state_dict(optimizer.state_dict())
        assert theirs.param_groups[0]["decoupled_weight_decay"] is flag


@pytest.mark.parametrize(("cls", "mode"), [(at.Adam, "l2"), (at.AdamW, "decoupled")])
def test_a_checkpoint_that_does_not_say_is_asked_about(cls, mode):
    """Before torch 2.7, Adam and AdamW saved the same keys and not which of them they were."""
    model, optimizer = trained(cls, weight_decay=0.1)
    state_dict = optimizer.state_dict()
    for key in ("decay", "decoupled_weight_decay"):
        del state_dict["param_groups"][0][key]
    with pytest.warns(
        UserWarning, match=f"does not say how group 0 decays.*taken for decay='{mode}'"
    ) as caught:
        cls(model.named_parameters()).load_state_dict(state_dict)
    assert caught[0].filename == __file__
    cls(model.named_parameters()).load_state_dict(state_dict, decay="saved")  # said: no warning
    state_dict["param_groups"][0]["weight_decay"] = 0.0
    cls(model.named_parameters()).load_state_dict(state_dict)  # nothing decays: nothing to ask


def test_a_damaged_group_is_refused_before_anything_changes():
    for key, value, message in (
        ("decay", "xyz", "Invalid decay mode: 'xyz'"),
        ("lr", float("nan"), "rate: nan"),
    ):
        model, optimizer = trained()
        state_dict = copy.deepcopy(optimizer.state_dict())
        state_dict["param_groups"][0][key] = value
        other = at.AdamW(model.named_parameters())
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(state_dict, decay="saved")
        assert not other.state


def test_a_foreign_checkpoint_brings_its_own_peak():
    """The live lr, which no step has used, must not pass for the peak of what is loaded."""
    model = net()
    source = torch.optim.AdamW(model.parameters(), lr=1e-3)
    train(model, source)
    optimizer = at.AdamW(model.parameters(), lr=1.0, decay="corrected", weight_decay=0.1)
    optimizer.load_state_dict(source.state_dict(), decay="live")
    assert peak_lr(optimizer.param_groups[0]) == 1e-3


def test_the_flag_follows_a_mode_that_changed():
    _, optimizer = trained(at.Adam, weight_decay=0.1)
    optimizer.param_groups[0]["decay"] = "decoupled"
    assert optimizer.state_dict()["param_groups"][0]["decoupled_weight_decay"] is True


def test_unknown_way_of_settling():
    _model, optimizer = trained()
    with pytest.raises(ValueError, match="Invalid decay: 'mine'; choose 'match', 'saved' or 'live'"):
        optimizer.load_state_dict(optimizer.state_dict(), decay="mine")


# --- names ------------------------------------------------------------------------------------------------


def reordered(model):
    return list(model.named_parameters())[::-1]


def test_another_order_is_healed_by_name():
    model, optimizer = trained()
    other = at.AdamW(reordered(model))
    other.load_state_dict(optimizer.state_dict())
    for p in model.parameters():
        assert torch.equal(other.state[p]["exp_avg"], optimizer.state[p]["exp_avg"])
    assert other.param_groups[0]["param_names"] == [name for name, _ in reordered(model)]


def test_torch_loads_the_same_silently_wrong():
    """The negative control: torch.optim matches by position, so shapes that agree are mixed up."""
    model = net()
    optimizer = torch.optim.AdamW(model.named_parameters())
    train(model, optimizer)
    other = torch.optim.AdamW(reordered(model))
    other.load_state_dict(optimizer.state_dict())
    first = next(model.parameters())
    assert not torch.equal(other.state[first]["exp_avg"], optimizer.state[first]["exp_avg"])


def test_groups_in_another_order_are_matched_by_their_names():
    model = net()

    def groups(*prefixes):
        return [
            {
                "params": [(n, p) for n, p in model.named_parameters() if n.startswith(prefix)],
                "lr": {"first": 0.1, "second": 0.2, "third": 0.3}[prefix],
            }
            for prefix in prefixes
        ]

    optimizer = at.AdamW(groups("first", "second", "third"))
    train(model, optimizer)
    other = at.AdamW(groups("third", "first", "second"))
    for group in other.param_groups:
        group["lr"] = 9.0
    other.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in other.param_groups] == [0.3, 0.1, 0.2]


def test_missing_and_foreign_names_are_named():
    model, optimizer = trained()
    renamed = [(name.replace("third.weight", "third.wheight"), p) for name, p in model.named_parameters()]
    with pytest.raises(
        ValueError, match=r"checkpoint has no parameter 'third.wheight' \(is .* 'third.weight'\?"
    ):
        at.AdamW(renamed).load_state_dict(optimizer.state_dict())
    fewer = [(name, p) for name, p in model.named_parameters() if "third" not in name]
    with pytest.raises(ValueError, match=r"optimizer has no parameter 'third.bias', 'third.weight'"):
        at.AdamW(fewer).load_state_dict(optimizer.state_dict())


def test_parameters_that_changed_group_are_named():
    model = net()
    named = list(model.named_parameters())
    optimizer = at.AdamW([{"params": named[:2]}, {"params": named[2:]}])
    train(model, optimizer)
    with pytest.raises(
        ValueError, match=r"different groups: 'first\.bias' in group 0, 'third\.bias' in group 1"
    ):
        at.AdamW(named).load_state_dict(optimizer.state_dict())
    whole = at.AdamW(named)
    with pytest.raises(ValueError, match=r"group 0 lacks 'second\.bias'"):
        at.AdamW([{"params": named[:2]}, {"params": named[2:]}]).load_state_dict(whole.state_dict())


def test_by_position_shapes_must_agree():
    model, optimizer = trained(named=False)
    swapped = at.AdamW([p for _, p in reordered(model)])
    with pytest.raises(
        ValueError, match=r"exp_avg of parameter 0 has shape \(4, 4\), the parameter has \(4,\)"
    ):
        swapped.load_state_dict(optimizer.state_dict())


def test_live_names_survive_a_nameless_checkpoint():
    model, optimizer = trained(named=False)
    other = at.AdamW(model.named_parameters())
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["param_names"][0] == "first.weight"


def test_two_networks_may_share_names():
    """A generator and a critic in one optimizer: names no longer tell, so places do."""
    networks = [net(seed) for seed in (1, 2)]
    groups = [
        {"params": list(m.named_parameters()), "lr": lr} for m, lr in zip(networks, (0.1, 0.2), strict=True)
    ]
    optimizer = at.AdamW(copy.copy(groups))
    for model in networks:
        for p in model.parameters():
            p.grad = torch.randn_like(p)
    optimizer.step()
    other = at.AdamW([{**group, "lr": 9.0} for group in groups])
    other.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in other.param_groups] == [0.1, 0.2]
    for model in networks:
        for p in model.parameters():
            assert torch.equal(other.state[p]["exp_avg"], optimizer.state[p]["exp_avg"])


def test_a_wrapper_before_the_names_is_named():
    model, optimizer = trained()
    wrapped = [(f"module.{name}", p) for name, p in model.named_parameters()]
    with pytest.raises(ValueError, match=r"was wrapped .* 'module\.' before its names"):
        at.AdamW(wrapped).load_state_dict(optimizer.state_dict())


# --- contents ---------------------------------------------------------------------------------------------


def test_the_state_keeps_its_dtype():
    model, optimizer = trained(model=net().bfloat16())
    state_dict = copy.deepcopy(optimizer.state_dict())
    for entry in state_dict["state"].values():
        entry["exp_avg_sq"] = entry["exp_avg_sq"].float()
    optimizer.load_state_dict(state_dict)
    p = next(model.parameters())
    assert optimizer.state[p]["exp_avg"].dtype == torch.bfloat16
    assert optimizer.state[p]["exp_avg_sq"].dtype == torch.float32
    train(model, optimizer)
    assert optimizer.state[p]["exp_avg_sq"].dtype == torch.float32


def test_loading_shares_no_memory():
    model, optimizer = trained()
    state_dict = optimizer.state_dict()
    other = at.AdamW(model.named_parameters())
    other.load_state_dict(state_dict)
    p = next(model.parameters())
    before = state_dict["state"][0]["exp_avg"].clone()
    train(model, other)
    assert torch.equal(state_dict["state"][0]["exp_avg"], before)
    assert not torch.equal(other.state[p]["exp_avg"], before)


def test_another_rules_state_is_refused():
    model, lion = trained(at.Lion)
    with pytest.raises(ValueError, match=r"state of 'first.weight' has \['exp_avg'\], but AdamW .* needs"):
        at.AdamW(model.named_parameters()).load_state_dict(lion.state_dict())
    with pytest.raises(ValueError, match=r"not an optimizer's state dict: no \['param_groups', 'state'\]"):
        lion.load_state_dict(model.state_dict())


def test_group_sizes_in_torchs_words():
    model, optimizer = trained(named=False)
    short = at.AdamW(list(model.parameters())[:3])
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group: group 0 has 6"):
        short.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match="different number of parameter groups: 1, the optimizer has 2"):
        at.AdamW([{"params": [p]} for p in list(model.parameters())[:2]]).load_state_dict(
            optimizer.state_dict()
        )


def test_peak_lr_and_skipped_steps_travel():
    model, optimizer = trained(decay="independent", weight_decay=1e-3, on_nonfinite="skip", lr=0.02)
    optimizer.param_groups[0]["lr"] = 0.005
    next(model.parameters()).grad.fill_(torch.nan)
    optimizer.step()
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    other = at.AdamW(model.named_parameters(), decay="independent", weight_decay=1e-3, lr=1e-4)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert other.skipped_steps == 1
    assert other.param_groups[0]["lr"] == 0.005
    assert other.param_groups[0]["highest_lr"] == 0.02
    train(model, other, 1)  # η/η_max = ¼ of λ: a peak forgotten would decay by the whole of it
    assert peak_lr(other.param_groups[0]) == 0.02


def test_new_parameters_of_an_old_checkpoint_start_afresh():
    """State that a parameter does not have yet (never stepped) is made at its first step."""
    model = net()
    optimizer = at.AdamW(model.named_parameters())
    next(model.parameters()).grad = torch.ones(4, 4)
    optimizer.step()
    other = at.AdamW(model.named_parameters())
    other.load_state_dict(optimizer.state_dict())
    train(model, other, 1)
    assert [int(other.state[p]["step"]) for p in model.parameters()] == [2, 1, 1, 1, 1, 1]
