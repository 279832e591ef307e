"""Two memories: nothing but copies may touch both. Simulated on every machine, real where there is one."""

from __future__ import annotations

import pytest
import torch
from tests.torch.small_net import net_of
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import adamantine.torch as at

aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}


class TwoMemories(TorchDispatchMode):
    """Some of the CPU's tensors count as a device's, and so does what is computed from them.

    An operation on tensors of both raises, as on a real device; a number (no dimensions) may be anywhere.
    """

    def __init__(self, on_device):
        super().__init__()
        self.storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in on_device}
        self.crossings = 0

    def holds(self, tensor):
        return tensor.untyped_storage()._cdata in self.storages

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        here = [x for x in given if self.holds(x)]
        if func is aten.copy_.default and self.holds(given[0]) != self.holds(given[1]):
            self.crossings += 1
        elif func not in COPIES and here and any(x.dim() > 0 for x in given if not self.holds(x)):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
        found = func(*args, **kwargs)
        if here and kwargs.get("device") is None and func is not aten.copy_.default:
            for x in tree_leaves(found):
                if isinstance(x, torch.Tensor):
                    self.storages[x.untyped_storage()._cdata] = x.untyped_storage()
        return found


def _backward(net, step):
    p = next(net.parameters())
    x = torch.randn(8, 12, generator=torch.Generator().manual_seed(step))
    net(x.to(p.device, p.dtype)).float().pow(2).sum().backward()


OPTIONS = [
    {},
    {"max_norm": 0.5, "on_nonfinite": "skip"},
    {"engine": "generic"},
    {"engine": "generic", "weights": "nearest"},  # ordinary tensors, joined
    {"weights": "split8", "state": "8bit", "engine": "generic", "max_norm": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_nothing_but_copies_touches_both_memories(options):
    net = net_of(torch.bfloat16)
    optimizer = at.AdamW(net.named_parameters(), lr=0.03, offload=True, **options)
    with TwoMemories(net.parameters()) as memories:
        for step in range(2):
            optimizer.zero_grad()
            for p in net.parameters():
                p.grad = p.detach() * 2
            optimizer.step()
            assert memories.crossings == (3 + 2 * step) * len(list(net.parameters())), "θ once, then g and θ"
        with torch.no_grad():
            net[0].weight.clamp_(-0.1, 0.1)
        optimizer.store_as(state="8bit", weights="split16")
        for entry in optimizer.state.values():
            assert not any(memories.holds(value) for value in entry.values())
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.step()
        with optimizer.release_gradients():
            for p in net.parameters():
                p.grad = p.detach() * 2
            optimizer.step()
        optimizer.explain()
        optimizer.gradient_statistics()
        optimizer.memory_report()


def test_the_simulation_knows_a_mixture():
    there, here = torch.ones(3), torch.ones(3)
    with TwoMemories([there]):
        here.copy_(there)
        product = there * 2
        with pytest.raises(RuntimeError, match="same device"):
            product + here


ACCELERATOR = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


@pytest.mark.skipif(ACCELERATOR is None, reason="no accelerator")
@pytest.mark.parametrize("released", [False, True], ids=["", "released"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_accelerator(dtype, released):
    """The same gradients, brought to the host by hand, give the same bits."""
    net = net_of(dtype).to(ACCELERATOR)
    optimizer = at.AdamW(net.parameters(), lr=0.03, max_norm=0.5, offload=True)
    plain, by_hand = net_of(dtype).to(ACCELERATOR), net_of(dtype)
    settled = {key: optimizer.param_groups[0][key] for key in ("weights", "state")}
    wanted = at.AdamW(by_hand.parameters(), lr=0.03, max_norm=0.5, **settled)
    if released:
        optimizer.release_gradients()
    for step in range(20):
        optimizer.zero_grad()
        _backward(net, step)
        assert not released or all(p.grad is None for p in net.parameters())
        optimizer.step()
        plain.zero_grad()
        _backward(plain, step)
        for p, q in zip(plain.parameters(), by_hand.parameters(), strict=True):
            q.grad = p.grad.cpu()
        wanted.step()
        with torch.no_grad():
            for p, q in zip(plain.parameters(), by_hand.parameters(), strict=True):
                p.copy_(q)
    assert all(torch.equal(p.cpu(), q) for p, q in zip(net.parameters(), by_hand.parameters(), strict=True))
    assert all(value.device.type == "cpu" for entry in optimizer.state.values() for value in entry.values())
    assert all(optimizer._offloaded.mirror(p).is_pinned() for p in net.parameters())
    optimizer.load_state_dict(optimizer.state_dict())
    assert all(value.device.type == "cpu" for entry in optimizer.state.values() for value in entry.values())
