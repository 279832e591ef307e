"""Released steps that something cuts short: errors inside backward, loading, options that change too late."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._dynamo import compiled_autograd

import adamantine.torch as at


class Trap(torch.autograd.Function):
    """The identity, whose backward pass is interrupted while it is ``armed``."""

    armed = False

    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    def backward(_, grad):
        if Trap.armed:
            raise KeyboardInterrupt
        return grad


class Trapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.last(Trap.apply(self.first(x)))


def backward(model):
    loss = model(torch.ones(2, 3)).sum()
    loss.backward()
    return loss.item()


def interrupted(call):
    Trap.armed = True
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
    finally:
        Trap.armed = False


def moved(model):
    return [name for name, p in model.named_parameters() if not torch.equal(p, Trapped().get_parameter(name))]


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"accumulate": 2, "buffer": "moments"}], ids=str)
def test_zero_grad_begins_anew_after_an_interrupted_backward_pass(options):
    model = Trapped()
    optimizer = at.AdamW(model.parameters())
    optimizer.release_gradients(**options)
    for _ in range(options.get("accumulate", 1) - 1):
        backward(model)
    interrupted(lambda: backward(model))
    assert moved(model) == ["last.weight", "last.bias"]  # the documented loss: half of a step
    with pytest.raises(RuntimeError, match=r"zero_grad\(\) after one that an error has cut short"):
        backward(model)
    for _ in range(2):
        optimizer.zero_grad()
        for _ in range(options.get("accumulate", 1)):
            backward(model)
        optimizer.step()
    assert [int(optimizer.state[p]["step"]) for p in model.parameters()] == [2, 2, 3, 3]


def test_a_closure_that_was_interrupted_can_be_called_again():
    model = Trapped()
    optimizer = at.AdamW(model.parameters())
    optimizer.release_gradients()

    def closure():
        optimizer.zero_grad()
        return backward(model)

    interrupted(lambda: optimizer.step(closure))
    assert optimizer.step(closure) > optimizer.step(closure)


def test_a_forgotten_step_is_still_an_error():
    model = Trapped()
    optimizer = at.AdamW(model.parameters())
    optimizer.release_gradients()
    backward(model)
    optimizer.zero_grad()
    with pytest.raises(RuntimeError, match=r"Call optimizer\.step"):
        backward(model)


def test_leaving_the_mode_by_an_error_shows_that_error():
    model = Trapped()
    optimizer = at.AdamW(model.parameters())

    def train():
        with optimizer.release_gradients(accumulate=2, buffer="moments"):
            backward(model)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert optimizer._release is None
    optimizer.release_gradients()


@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "buffer": "moments"}], ids=str)
def test_a_checkpoint_that_is_loaded_in_the_middle_is_gone_on_from(options):
    def steps(model, optimizer, count):
        for _ in range(count):
            for _ in range(options.get("accumulate", 1)):
                backward(model)
            optimizer.step()
            optimizer.zero_grad()

    straight, other = Trapped(), Trapped()
    optimizer = at.AdamW(straight.parameters())
    optimizer.release_gradients(**options)
    steps(straight, optimizer, 1)
    weights, state = copy.deepcopy((straight.state_dict(), optimizer.state_dict()))
    steps(straight, optimizer, 1)

    resumed = at.AdamW(other.parameters())
    resumed.release_gradients(**options)
    backward(other)  # its first, in the middle of which a checkpoint is loaded
    other.load_state_dict(weights)
    resumed.load_state_dict(state)
    steps(other, resumed, 1)
    assert all(map(torch.equal, straight.parameters(), other.parameters()))


def test_half_a_step_is_not_saved_silently():
    model = Trapped()
    optimizer = at.AdamW(model.parameters())
    optimizer.release_gradients(accumulate=2, buffer="moments")
    backward(model)
    with pytest.warns(UserWarning, match=r"in the moments of parameter 0 .* save after optimizer\.step"):
        optimizer.state_dict()
    backward(model)
    optimizer.state_dict()
    optimizer.step()
    optimizer.state_dict()


def test_the_state_of_idle_parameters_is_the_loaded_one():
    """It is not what was made ahead of the first gradient, and dropped since none came."""
    model = Trapped()
    optimizer = at.AdamW(model.parameters())
    backward(model)
    optimizer.step()
    optimizer.zero_grad()
    saved = copy.deepcopy(optimizer.state_dict())

    again = at.AdamW(model.parameters())
    with again.release_gradients():
        for _ in range(2):
            model.last(torch.ones(1, 4)).sum().backward()
            again.load_state_dict(saved)
            again.step()
    assert len(again.state) == 4

    another = at.AdamW(model.parameters())
    another.release_gradients()
    model.last(torch.ones(1, 4)).sum().backward()
    another.state.clear()
    another.step()
    assert not another.state


def test_options_that_change_after_backward_are_too_late_and_it_is_said():
    model = Trapped()
    optimizer = at.AdamW(model.parameters(), lr=0.5)
    optimizer.release_gradients()
    backward(model)
    optimizer.param_groups[0]["lr"] = 0.0
    with pytest.warns(UserWarning, match=r"lr of group 0 \(0\.5 → 0\.0\) changed after backward"):
        optimizer.step()
    backward(model)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.25  # in time, as a scheduler does
    backward(model)
    optimizer.step()


def test_options_may_change_between_micro_batches():
    """Sums move nothing before the last one."""
    model = Trapped()
    optimizer = at.AdamW(model.parameters(), lr=0.5)
    optimizer.release_gradients(accumulate=2)
    backward(model)
    optimizer.param_groups[0]["lr"] = 0.0
    backward(model)
    optimizer.step()
    assert not moved(model)


def test_what_the_moments_cannot_take_is_refused_later_too():
    model = Trapped()
    optimizer = at.Adam(model.parameters())
    optimizer.release_gradients(accumulate=2, buffer="moments")
    optimizer.param_groups[0]["weight_decay"] = 0.1
    with pytest.raises(ValueError, match="with L2"):
        backward(model)
    assert not moved(model)


@pytest.mark.filterwarnings("ignore")  # Dynamo's own
@pytest.mark.parametrize("options", [{}, {"offload": True}], ids=str)
def test_compiled_autograd_leaves_the_steps_alone(options):
    """It traces hooks, and there the kernel and autograd's callbacks are of no use."""
    ends = []
    for compiled in (False, True):
        model = Trapped()
        optimizer = at.AdamW(model.last.parameters(), **options)
        optimizer.release_gradients()
        for _ in range(2):
            with compiled_autograd._enable(torch.compile(backend="eager")) if compiled else nullcontext():
                model.last(torch.ones(2, 4)).sum().backward()
            assert model.last.weight.grad is None
            optimizer.step()
        ends.append(model)
    assert all(map(torch.equal, *[model.parameters() for model in ends]))
