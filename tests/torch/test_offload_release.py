"""Gradient release under offload: freed on the device during backward, one exact step from the host."""

from __future__ import annotations

import pytest
import torch
from tests.torch.small_net import net_of
from torch import nn
from torch.nn import Parameter

import adamantine.torch as at
from adamantine.torch.offload import release as offload_release


def _backward(net, step):
    x = torch.randn(8, 12, generator=torch.Generator().manual_seed(step))
    net(x.to(net[0].weight.dtype)).float().pow(2).sum().backward()


def _same(one, other):
    return all(map(torch.equal, one.parameters(), other.parameters()))


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_the_bits_are_those_without_release(max_norm, passes):
    plain, net = net_of(), net_of()
    wanted = at.AdamW(plain.parameters(), lr=0.03, max_norm=max_norm)
    optimizer = at.AdamW(net.parameters(), lr=0.03, max_norm=max_norm, offload=True)
    optimizer.release_gradients()
    for step in range(3):
        for each, its in ((plain, wanted), (net, optimizer)):
            its.zero_grad()
            for index in range(passes):
                _backward(each, 10 * step + index)
            assert each is plain or all(p.grad is None for p in each.parameters())
            its.step()
    assert _same(plain, net)
    assert wanted.last_norm == optimizer.last_norm


def test_sums_of_half_precision_are_in_float32():
    p = Parameter(torch.zeros(3, dtype=torch.bfloat16))
    optimizer = at.SGD([p], lr=1.0, weights="nearest", offload=True)
    optimizer.release_gradients(accumulate=3)
    for value in (256.0, 1.0, 1.0):  # in bfloat16, 256 + 1 = 256
        (p * torch.full_like(p, value)).sum().backward()
    optimizer.step()
    assert p.tolist() == [-258.0] * 3


def test_only_one_gradient_is_on_the_device_at_a_time():
    net = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(6)))
    optimizer = at.AdamW(net.parameters(), offload=True)
    present = []

    def count(p):
        present.append(sum(q.grad is not None for q in net.parameters()))

    for p in net.parameters():
        p.register_hook(lambda grad: count(grad) or grad)
    with optimizer.release_gradients():
        net(torch.ones(1, 8)).sum().backward()
        assert max(present) == 0, "when the next is made, the last is freed"
        optimizer.step()


def test_zero_grad_drops_what_only_the_host_has():
    net = net_of()
    optimizer = at.AdamW(net.parameters(), lr=0.03, offload=True)
    optimizer.release_gradients()
    before = [p.detach().clone() for p in net.parameters()]
    _backward(net, 0)
    optimizer.zero_grad()
    optimizer.step()
    assert all(map(torch.equal, before, net.parameters()))
    optimizer.step(lambda: _backward(net, 0) or 0.0)
    once = [p.detach().clone() for p in net.parameters()]
    optimizer.step()
    assert all(map(torch.equal, once, net.parameters())), "a gradient is used once"


def test_a_gradient_set_by_hand_is_added():
    p = Parameter(torch.zeros(2))
    optimizer = at.SGD([p], lr=1.0, offload=True)
    optimizer.release_gradients()
    (p * 3).sum().backward()
    p.grad = torch.ones(2)
    optimizer.step()
    assert p.tolist() == [-4.0, -4.0]


def test_a_model_that_changes_while_only_the_host_has_its_gradients():
    net = net_of()
    optimizer = at.AdamW(net.parameters(), offload=True)
    optimizer.release_gradients()
    _backward(net, 0)
    net.double()
    with pytest.raises(RuntimeError, match=r"\(20, 12\) has another dtype.*zero_grad"):
        optimizer.step()
    optimizer.zero_grad()
    _backward(net, 0)
    optimizer.step()


def test_remove_gives_the_gradients_back():
    plain, net = net_of(), net_of()
    optimizer = at.AdamW(net.parameters(), offload=True)
    handle = optimizer.release_gradients()
    with pytest.raises(ValueError, match="releases its gradients already"):
        optimizer.release_gradients()
    for each in (plain, net):
        _backward(each, 0)
        _backward(each, 1)
    handle.remove()
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(plain.parameters(), net.parameters(), strict=True))
    _backward(net, 2)
    assert net[0].weight.grad is not None


def test_a_gradient_that_is_not_finite():
    """Decided for the whole step, before anything has moved."""
    net = net_of()
    optimizer = at.AdamW(net.named_parameters(), on_nonfinite="raise", offload=True)
    optimizer.release_gradients()
    before = [p.detach().clone() for p in net.parameters()]
    (net[2].bias * float("nan")).sum().backward()
    _backward(net, 0)
    with pytest.raises(FloatingPointError, match=r"2\.bias. No parameter has moved"):
        optimizer.step()
    optimizer.on_nonfinite = "skip"
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert all(map(torch.equal, before, net.parameters()))
    _backward(net, 0)
    optimizer.step()
    assert not any(map(torch.equal, before, net.parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": "delayed"}, "max_norm is exact: leave clip out"),
        ({"clip": "sometimes"}, "Invalid clip"),
        ({"buffer": "bfloat16"}, "sums of gradients are on the host, in float32"),
        ({"scaler": torch.amp.GradScaler("cpu")}, "train in bfloat16"),
    ],
    ids=lambda given: next(iter(given), "") if isinstance(given, dict) else "",
)
def test_what_has_no_use_is_refused(options, message):
    optimizer = at.AdamW([Parameter(torch.ones(2))], offload=True)
    with pytest.raises(ValueError, match=message):
        optimizer.release_gradients(**options)


def test_several_processes_are_refused(monkeypatch):
    optimizer = at.AdamW([Parameter(torch.ones(2))], offload=True)
    monkeypatch.setattr(offload_release, "is_reduced_later", lambda: True)
    with pytest.raises(RuntimeError, match="averaged after backward"):
        optimizer.release_gradients()


def test_two_optimizers_that_release_the_same_gradient_are_refused():
    """The second one's hook finds none."""
    p = Parameter(torch.ones(3))
    one, other = (at.AdamW([p], offload=True) for _ in range(2))
    with one.release_gradients():
        other.release_gradients()
        with pytest.raises(RuntimeError, match="gone before it was copied"):
            p.sum().backward()


def test_any_number_of_passes_is_summed_but_not_any_number_is_one():
    with pytest.raises(ValueError, match="Invalid accumulate: 0"):
        at.AdamW([Parameter(torch.ones(3))], offload=True).release_gradients(accumulate=0)
