"""Offload with the CPU as both sides: the mirrors are real, so what goes astray shows as other numbers."""

from __future__ import annotations

import copy
import doctest
import gc
import io
import pickle
import weakref
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.torch.small_net import net_of
from torch import nn
from torch.nn import Parameter

import adamantine.torch as at
from adamantine.torch.offload import offloaded as offload


def _backward(net, step):
    x = torch.randn(8, 12, generator=torch.Generator().manual_seed(step))
    dtype = next(net.parameters()).dtype
    net(x.to(dtype)).float().pow(2).sum().backward()


def _train(net, optimizer, steps, between=lambda step: None):
    for step in steps:
        optimizer.zero_grad()
        _backward(net, step)
        between(step)
        optimizer.step()
    return net


def _same(one, other):
    return all(map(torch.equal, one.parameters(), other.parameters()))


def _pair(name="AdamW", dtype=torch.float32, **options):
    """A network with a plain optimizer, and its like with one that offloads."""
    nets = [net_of(dtype), net_of(dtype)]
    return [
        (net, at.OPTIMIZERS[name](net.named_parameters(), lr=0.03, offload=away, **options))
        for net, away in zip(nets, (False, True), strict=True)
    ]


@pytest.mark.parametrize("engine", ["auto", "generic"])
@pytest.mark.parametrize("name", sorted(at.OPTIMIZERS))
def test_the_bits_are_those_without_offload(name, engine):
    (net, optimizer), (ours, away) = _pair(name, engine=engine, weight_decay=0.1)
    assert _same(_train(net, optimizer, range(4)), _train(ours, away, range(4)))


FORMATS = [
    {"weights": "nearest"},
    {"weights": "nearest", "state": "float32"},
    {"weights": "stochastic", "state": "8bit"},
    {"weights": "kahan", "state": "bfloat16"},
    {"weights": "split8", "state": {"exp_avg": "4bit", "exp_avg_sq": "8bit"}},
    {"weights": "split16", "state": "float32"},
]


@pytest.mark.parametrize("options", FORMATS, ids=str)
def test_every_format_has_the_bits_that_it_has_without_offload(options):
    (net, optimizer), (ours, away) = _pair(dtype=torch.bfloat16, seed=3, **options)
    steps = [0, 1]
    if options.get("state") is None:
        options = {**options}
        for group in optimizer.param_groups:
            group["state"] = "float32"  # what offload has by default
    assert _same(_train(net, optimizer, steps), _train(ours, away, steps))
    for one, other in zip(optimizer.state.values(), away.state.values(), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.tensor(2.0),
        lambda: torch.zeros(0, 3),
        lambda: torch.arange(12.0).view(3, 4).t(),
        lambda: torch.arange(48.0).view(1, 3, 4, 4).to(memory_format=torch.channels_last),
        lambda: torch.complex(torch.arange(5.0), torch.ones(5)),
        lambda: torch.arange(5.0, dtype=torch.float64),
    ],
    ids=["scalar", "empty", "transposed", "channels last", "complex", "float64"],
)
def test_shapes_and_strides(make):
    p, q = Parameter(make()), Parameter(make())
    plain, away = at.AdamW([p], lr=0.1, max_norm=1.0), at.AdamW([q], lr=0.1, max_norm=1.0, offload=True)
    for step in range(3):
        for x, optimizer in ((p, plain), (q, away)):
            optimizer.zero_grad()
            (x * x.conj() * (1 + step)).real.sum().backward()
            optimizer.step()
    assert torch.equal(p, q)
    assert q.stride() == p.stride() == away._offloaded.mirror(q).stride()


def test_half_precision_has_a_float32_master_by_default():
    """Steps far below a unit of bfloat16 add up, which they do not under weights="nearest"."""

    def end(**options):
        p = Parameter(torch.ones(300, dtype=torch.bfloat16))
        optimizer = at.SGD([p], lr=1e-4, offload=True, **options)
        for _ in range(100):
            p.grad = torch.ones_like(p)
            optimizer.step()
        return p

    p = end()
    assert p.unique().tolist() == [torch.tensor(0.99).bfloat16().item()]
    assert end(weights="nearest").unique().tolist() == [1.0]


@pytest.mark.parametrize(
    ("dtypes", "asked", "settled"),
    [
        ([torch.float32], {}, (None, None)),
        ([torch.bfloat16, torch.float32], {}, ("split16", "float32")),
        ([torch.bfloat16, torch.float16], {}, ("kahan", "float32")),
        ([torch.bfloat16, torch.float64], {}, ("split16", None)),
        ([torch.bfloat16], {"weights": "nearest", "state": "8bit"}, ("nearest", "8bit")),
    ],
    ids=str,
)
def test_what_a_group_has_that_says_nothing(dtypes, asked, settled):
    optimizer = at.Adam([Parameter(torch.ones(2, dtype=dtype)) for dtype in dtypes], offload=True, **asked)
    assert tuple(optimizer.param_groups[0][name] for name in ("weights", "state")) == settled


# What happens to gradients and weights between the passes


CHANGES_OF_GRADIENTS = {
    "clipped": lambda net: nn.utils.clip_grad_norm_(net.parameters(), 0.1),
    "scaled in place": lambda net: [p.grad.mul_(2) for p in net.parameters()],
    "through .data": lambda net: [p.grad.data.neg_() for p in net.parameters()],
    "another tensor": lambda net: [setattr(p, "grad", torch.ones_like(p)) for p in net.parameters()],
    "in the same memory": lambda net: [p.grad.numpy().fill(2.0) for p in net.parameters()],
    "dropped": lambda net: setattr(net[0].weight, "grad", None),
    "a second pass": lambda net: _backward(net, 99),
}


@pytest.mark.parametrize("name", CHANGES_OF_GRADIENTS)
def test_a_gradient_that_changes_after_backward(name):
    change = CHANGES_OF_GRADIENTS[name]
    (net, optimizer), (ours, away) = _pair()
    _train(net, optimizer, range(3), lambda step: change(net))
    _train(ours, away, range(3), lambda step: change(ours))
    assert _same(net, ours)


def _load(net):
    net.load_state_dict({key: value + 1 for key, value in net.state_dict().items()})


@torch.no_grad()
def _clamp(net):
    for p in net.parameters():
        p.clamp_(-0.1, 0.1)


CHANGES_OF_WEIGHTS = {
    "clamped": _clamp,
    "loaded": _load,
    "through .data": lambda net: [p.data.clamp_(-0.1, 0.1) for p in net.parameters()],
    "other memory": lambda net: nn.utils.vector_to_parameters(torch.ones(323) / 7, net.parameters()),
    "in the same memory": lambda net: [p.detach().numpy().fill(0.5) for p in net.parameters()],
    "another dtype": lambda net: net.double(),
}


@pytest.mark.parametrize("name", CHANGES_OF_WEIGHTS)
def test_weights_that_somebody_else_changes_are_not_overwritten(name):
    change = CHANGES_OF_WEIGHTS[name]
    (net, optimizer), (ours, away) = _pair()
    _train(net, optimizer, range(2))
    _train(ours, away, range(2))
    change(net)
    change(ours)
    assert _same(_train(net, optimizer, range(2, 5)), _train(ours, away, range(2, 5)))


def test_gradients_travel_during_backward(monkeypatch):
    net = net_of()
    optimizer = at.AdamW(net.parameters(), lr=0.1, offload=True)
    _backward(net, 0)
    mirrors = optimizer._offloaded._mirrors
    assert all(torch.equal(mirrors[p].gradient._memory, p.grad) for p in net.parameters())
    monkeypatch.setattr(offload, "is_reduced_later", lambda: True)  # several processes
    _backward(net, 1)
    assert not any(torch.equal(mirrors[p].gradient._memory, p.grad) for p in net.parameters())
    plain = net_of()
    wanted = at.AdamW(plain.parameters(), lr=0.1)
    _backward(plain, 0)
    _backward(plain, 1)
    wanted.step()
    optimizer.step()
    assert _same(net, plain)


def test_parameters_without_gradients_rest():
    (net, optimizer), (ours, away) = _pair()
    for each in (net, ours):
        each[0].requires_grad_(False)
    for steps, frozen in (range(2), True), (range(2, 4), False), (range(4, 6), True):
        for each, its in ((net, optimizer), (ours, away)):
            each[0].requires_grad_(not frozen)
            _train(each, its, steps)
    assert _same(net, ours)


def test_sparse_gradients():
    nets = [nn.Embedding(10, 4, sparse=True) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net, away in zip(nets, (False, True), strict=True):
        optimizer = at.SGD(net.parameters(), lr=0.1, offload=away, max_norm=1.0)
        for step in range(3):
            optimizer.zero_grad()
            net(torch.tensor([step, 1, 1])).pow(2).sum().backward()
            optimizer.step()
    assert _same(*nets)


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="an older torch")
def test_gradients_of_a_dtype_of_their_own():
    def run(away):
        p = Parameter(torch.ones(300, dtype=torch.bfloat16))
        p.grad_dtype = torch.float32
        optimizer = at.AdamW([p], lr=0.1, weights="split16", state="float32", offload=away)
        for _ in range(3):
            (p.float() * torch.arange(300.0)).sum().backward()
            optimizer.step()
        return p

    assert torch.equal(run(False), run(True))


def test_flat_models():
    nets = [net_of(), net_of()]
    for net, away in zip(nets, (False, True), strict=True):
        at.flatten(net)
        _train(net, at.AdamW(net.parameters(), lr=0.03, offload=away), range(3))
    assert _same(*nets)


# Everything else that an optimizer is


def test_clipping_and_what_is_known_of_gradients():
    (net, optimizer), (ours, away) = _pair(max_norm=0.5)
    assert _same(_train(net, optimizer, range(3)), _train(ours, away, range(3)))
    assert away.last_norm == optimizer.last_norm > 0.5
    assert away.gradient_statistics() == optimizer.gradient_statistics() != []


def test_steps_that_are_skipped_and_refused():
    net = net_of()
    optimizer = at.AdamW(net.named_parameters(), lr=0.1, on_nonfinite="skip", offload=True)
    _train(net, optimizer, range(2))
    before = copy.deepcopy(net)
    _train(net, optimizer, range(2), lambda step: net[2].bias.grad.fill_(float("nan")))
    assert _same(net, before)
    assert optimizer.skipped_steps == optimizer.state_dict()["param_groups"][0]["skipped_steps"] == 2
    optimizer.on_nonfinite = "raise"
    with pytest.raises(FloatingPointError, match=r"2\.bias"):
        _train(net, optimizer, [2], lambda step: net[2].bias.grad.fill_(float("inf")))
    assert _same(net, before)
    assert optimizer.last_norm == float("inf")
    assert not _same(_train(net, optimizer, [3]), before)


def test_schedules_and_groups_that_change():
    def run(away):
        net = net_of()
        optimizer = at.AdamW(net[0].parameters(), lr=0.1, decay="corrected", weight_decay=0.1, offload=away)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=8)
        for step in range(4):
            _train(net, optimizer, [step])
            schedule.step()
        optimizer.add_param_group({"params": net[2].parameters(), "lr": 0.01, "peak_lr": 0.01})
        optimizer.param_groups[0]["weight_decay"] = 0.5
        _train(net, optimizer, range(4, 8))
        return net, optimizer

    (net, optimizer), (ours, away) = run(False), run(True)
    assert _same(net, ours)
    for one, other in zip(optimizer.param_groups, away.param_groups, strict=True):
        assert {**one, "params": 0} == {**other, "params": 0}


@pytest.mark.parametrize("there", [False, True], ids=["from offload", "to offload"])
@pytest.mark.parametrize(
    ("dtype", "options"),
    [(torch.float32, {}), (torch.bfloat16, {}), (torch.bfloat16, {"weights": "split8", "state": "8bit"})],
    ids=str,
)
def test_a_checkpoint_goes_both_ways(there, dtype, options):
    """Saved in the middle, loaded into the other kind, which goes on with the same bits."""
    settled = {"weights": "split16", "state": "float32"} if dtype != torch.float32 and not options else {}
    plain, away = _pair(dtype=dtype, **options, **settled)
    if settled:
        net = net_of(dtype)
        away = net, at.AdamW(net.named_parameters(), lr=0.03, offload=True)
    (saver, optimizer), (loader, other) = (plain, away) if there else (away, plain)
    _train(saver, optimizer, range(3))
    _train(loader, other, range(50, 52))  # what is to be forgotten
    file = io.BytesIO()
    torch.save({"model": saver.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file)
    other.load_state_dict(saved["optimizer"])
    loader.load_state_dict(saved["model"])
    assert _same(_train(saver, optimizer, range(3, 6)), _train(loader, other, range(3, 6)))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles(duplicate):
    net = net_of()
    optimizer = at.AdamW(net.parameters(), lr=0.03, offload=True)
    _train(net, optimizer, range(3))
    other, its = duplicate((net, optimizer))
    assert its.offload
    assert its._offloaded is not optimizer._offloaded
    _train(net, optimizer, range(3, 5))
    assert not _same(net, other)
    assert _same(net, _train(other, its, range(3, 5)))


def test_state_that_is_deleted_begins_anew():
    (net, optimizer), (ours, away) = _pair()
    for each, its in ((net, optimizer), (ours, away)):
        _train(each, its, range(2))
        its.state.clear()
        _train(each, its, range(2, 4))
    assert _same(net, ours)


def test_the_state_of_adagrad_is_there_from_the_start():
    net = net_of()
    optimizer = at.Adagrad(net.parameters(), offload=True)
    assert all("sum" in optimizer.state[p] for p in net.parameters())


def test_closures_and_hooks_run_once():
    net = net_of()
    optimizer = at.AdamW(net.parameters(), lr=0.1, offload=True)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))

    def closure():
        seen.append("closure")
        optimizer.zero_grad()
        _backward(net, 0)
        return 4.0

    assert optimizer.step(closure) == 4.0
    assert seen == ["before", "closure", "after"]


def test_grad_scaler():
    nets = [net_of(), net_of()]
    for net, away in zip(nets, (False, True), strict=True):
        optimizer = at.AdamW(net.parameters(), lr=0.1, offload=away)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for step in range(3):
            optimizer.zero_grad()
            x = torch.randn(8, 12, generator=torch.Generator().manual_seed(step))
            scaler.scale(net(x).pow(2).sum()).backward()
            if step == 1:
                net[0].bias.grad.fill_(float("inf"))
            scaler.step(optimizer)
            scaler.update()
    assert _same(*nets)


def test_explain_says_where():
    net = net_of()
    optimizer = at.AdamW(net.named_parameters(), offload=True)
    _train(net, optimizer, range(1))
    found = optimizer.explain()
    assert [each.name for each in found.placements] == [name for name, _ in net.named_parameters()]
    assert all(each.reason.startswith("on the host, θ on cpu: ") for each in found.placements)


def test_another_optimizer_on_the_host():
    """What a conversion does: weights, state and groups that change there come back."""
    _, (ours, away) = _pair()
    _train(ours, away, range(2))
    with torch.no_grad():
        ours[0].bias.fill_(7.0)
    with away._offloaded.on_host(away) as twin:
        assert type(twin) is type(away)
        assert twin.param_groups[0]["params"][1].unique().tolist() == [7.0]
        with torch.no_grad():
            twin.param_groups[0]["params"][3].fill_(8.0)
        twin.param_groups[0]["lr"] = 0.5
        twin.state[twin.param_groups[0]["params"][0]]["exp_avg"].zero_()
    assert ours[2].bias.unique().tolist() == [8.0]
    assert away.param_groups[0]["lr"] == 0.5
    assert not away.state[ours[0].weight]["exp_avg"].any()


def test_the_host_keeps_one_copy_of_weights_and_gradients():
    net = net_of(torch.bfloat16)
    optimizer = at.AdamW(net.parameters(), offload=True)
    count = sum(p.numel() for p in net.parameters())
    assert optimizer._offloaded.nbytes() == (2 * count, 0)
    _train(net, optimizer, range(2))
    assert optimizer._offloaded.nbytes() == (2 * count, 2 * count)


def test_nothing_is_kept_alive():
    net = net_of()
    optimizer = at.AdamW(net.parameters(), offload=True)
    _backward(net, 0)
    grad = weakref.ref(net[0].weight.grad)
    optimizer.step()
    net.zero_grad()
    assert grad() is None, "the device's memory of gradients, after the step"
    _backward(net, 1)
    grad = weakref.ref(net[0].weight.grad)
    optimizer.zero_grad()
    assert grad() is None, "or where a step is left out"
    gone, mirror = weakref.ref(optimizer), weakref.ref(optimizer._offloaded._mirrors[net[0].weight])
    del optimizer
    assert gone() is None, "no cycle"
    assert mirror() is None
    gc.collect()
    assert not net[0].weight._post_accumulate_grad_hooks


class Shard(torch.Tensor):
    """Stands for DTensor and FSDP's parameters: a subclass that holds a part."""


@pytest.mark.parametrize(
    ("p", "message"),
    [
        (torch.ones(2).as_subclass(Shard), "a Shard is none.*CPUOffloadPolicy"),
        (torch.ones(2, device="meta"), r"shape \(2,\) has no memory yet"),
        (torch.ones(2).to_sparse(), r"is torch.sparse_coo"),
    ],
    ids=["sharded", "meta", "sparse"],
)
def test_what_cannot_be_mirrored_is_refused(p, message):
    with pytest.raises(ValueError, match=message):
        at.AdamW([p], offload=True)
    optimizer = at.AdamW([Parameter(torch.ones(2))], offload=True)
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [p]})
    assert len(optimizer.param_groups) == 1


def test_no_gradient_flows_through_the_host():
    with pytest.raises(ValueError, match="differentiable=True needs offload=False"):
        at.AdamW([Parameter(torch.ones(2))], differentiable=True, offload=True)


def test_the_document_runs():
    page = Path(__file__).parents[2] / "docs" / "offload.md"
    failed, attempted = doctest.testfile(str(page), module_relative=False)
    assert failed == 0
    assert attempted > 10


@pytest.mark.parametrize("view", [False, True], ids=["buckets beside", "buckets under the gradients"])
@pytest.mark.parametrize("several", [False, True], ids=["one process", "several"])
def test_gradients_that_are_reduced_after_backward_has_completed_them(view, several, monkeypatch):
    """DistributedDataParallel with a reduction that doubles, which no version counter sees."""
    if several:
        monkeypatch.setattr(offload, "is_reduced_later", lambda: True)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        (net, optimizer), (ours, away) = _pair("SGD")
        for each in (net, ours):
            parallel = nn.parallel.DistributedDataParallel(each, gradient_as_bucket_view=view)
            parallel.register_comm_hook(None, _double)
            for step in range(3):
                its = optimizer if each is net else away
                its.zero_grad()
                x = torch.randn(8, 12, generator=torch.Generator().manual_seed(step))
                parallel(x).pow(2).sum().backward()
                its.step()
    finally:
        dist.destroy_process_group()
    assert _same(net, ours)


def _double(state, bucket):
    reduced = torch.futures.Future()
    reduced.set_result(bucket.buffer().mul_(2))
    return reduced
