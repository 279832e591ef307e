"""The native engine: the bits of the generic one in real training, what it refuses, says and leaves alone."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
import weakref

import pytest
import torch
from torch import nn

import adamantine.torch as at
from adamantine.torch.engines import native
from adamantine.torch.engines.native import NativeEngine

pytestmark = pytest.mark.skipif(native.native is None, reason="this installation has no compiled kernel")

OPTIONS = {
    "SGD": [{"momentum": 0.9, "dampening": 0.25}, {}],
    "SGDW": [{"momentum": 0.9, "nesterov": True}],
    "RMSprop": [{"centered": True, "momentum": 0.9}, {"centered": True}, {"momentum": 0.9}, {}],
    "Adagrad": [{"lr_decay": 0.1, "initial_accumulator_value": 0.5}],
    "Adam": [{"amsgrad": True}, {"maximize": True}],
}
CASES = [(name, options) for name in at.OPTIMIZERS for options in OPTIONS.get(name, [{}])]
MODES = ("l2", "decoupled", "corrected", "cautious")


@pytest.fixture
def threads():
    """Sets torch's number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


class Net(nn.Module):
    """A convolution in channels_last, LayerNorm, two linear layers: dense in two orders of dimensions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.LayerNorm(4)
        self.hidden, self.out = nn.Linear(4 * 16, 9), nn.Linear(9, 3)

    def forward(self, x):
        x = self.norm(self.conv(x).permute(0, 2, 3, 1)).flatten(1)
        return self.out(torch.tanh(self.hidden(x)))


def train(name, engine, steps, *, dtype=torch.float32, schedule=False, **options):
    torch.manual_seed(0)
    model = Net().to(dtype).to(memory_format=torch.channels_last)
    optimizer = at.OPTIMIZERS[name](model.named_parameters(), lr=0.01, engine=engine, **options)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if schedule else None
    for _ in range(steps):
        x = torch.randn(5, 3, 4, 4, dtype=dtype).to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x).float(), torch.randint(3, (5,))).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return model, optimizer


def assert_same_end(mine, its):
    (model, optimizer), (model2, optimizer2) = mine, its
    for p, q in zip(model.parameters(), model2.parameters(), strict=True):
        assert torch.equal(p, q)
        assert torch.isfinite(p).all()
        assert p.stride() == q.stride()
        assert optimizer.state[p].keys() == optimizer2.state[q].keys()
        for key, value in optimizer.state[p].items():
            assert value.dtype == optimizer2.state[q][key].dtype
            assert torch.equal(value, optimizer2.state[q][key]), key
    assert optimizer.last_norm == optimizer2.last_norm


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_bits_of_the_generic_engine_over_200_steps(name, options):
    mode = MODES[CASES.index((name, options)) % len(MODES)]
    options = {**options, "weight_decay": 0.1, "decay": mode, "max_norm": 0.5, "schedule": True}
    assert_same_end(*(train(name, engine, 200, **options) for engine in ("native", "generic")))


@pytest.mark.parametrize("name", ["AdamW", "SGDW", "Lion", "NAdam"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("state", [None, "float32", "bfloat16"])
def test_the_bits_in_other_precisions(name, mode, dtype, state):
    if dtype == torch.float64 and state is not None:
        pytest.skip("float64 with another dtype runs on the generic engine")
    options = {"weight_decay": 0.1, "decay": mode, "dtype": dtype, "state": state}
    assert_same_end(*(train(name, engine, 12, **options) for engine in ("native", "generic")))


SIZES = (1, 3, 1000, 16_385, 300_000, 40_000)


def step_tensors(engine, steps=3, *, dtype=torch.float32, **options):
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(n, generator=generator).to(dtype)) for n in SIZES]
    optimizer = at.AdamW(params, lr=0.01, max_norm=1.0, engine=engine, **options)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator).to(dtype)
        optimizer.step()
    return [p.detach() for p in params], optimizer


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_threads_do_not_show(threads, count, dtype):
    threads(1)
    expected, one = step_tensors("generic", dtype=dtype)
    threads(count)
    found, many = step_tensors("native", dtype=dtype)
    assert many.last_norm == one.last_norm
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("protocol", ["shim", "dlpack", "attributes"])
def test_protocols_read_the_same(protocol):
    try:
        engine = NativeEngine(protocol)
    except ValueError as error:
        pytest.skip(str(error))
    assert engine.protocol == protocol
    params, _ = refused_parameters()
    del params["meta"]  # DLPack has no words for that device
    optimizer = at.SGD(params.values(), lr=0.1, momentum=0.9)
    expected = optimizer.explain()
    optimizer._native = engine
    assert optimizer.explain() == expected
    torch.manual_seed(1)
    p, q = (nn.Parameter(torch.ones(5, 3).t()) for _ in range(2))
    ours, its = at.AdamW([p], engine="native"), at.AdamW([q], engine="generic")
    ours._native = NativeEngine(protocol)
    for _ in range(3):
        p.grad = torch.randn(5, 3).t()
        q.grad = p.grad.clone()
        ours.step()
        its.step()
    assert torch.equal(p, q)


class Tagged(torch.Tensor):
    """A subclass, as DTensor is: nobody knows how its elements lie."""


def refused_parameters():
    """One parameter per reason, with a gradient, and the words of the reason."""
    buffer = torch.ones(6)
    both = nn.Parameter(torch.ones(3))
    cases = {
        "subclass": (nn.Parameter(torch.ones(3).as_subclass(Tagged)), torch.ones(3), "subclass"),
        "complex": (nn.Parameter(torch.ones(3, dtype=torch.complex64)), None, "dtype is not"),
        "sparse": (nn.Parameter(torch.ones(4, 2)), torch.ones(4, 2).to_sparse(1), "not a plain strided"),
        "holes": (nn.Parameter(torch.ones(6)[::2]), torch.ones(3), "holes"),
        "order": (nn.Parameter(torch.ones(3, 2)), torch.ones(2, 3).t(), "order"),
        "meta": (nn.Parameter(torch.ones(3, device="meta")), None, "not in host memory"),
        "overlap 1": (nn.Parameter(buffer[:4]), torch.ones(4), "shares memory"),
        "overlap 2": (nn.Parameter(buffer[2:]), torch.ones(4), "shares memory"),
        "own gradient": (both, both.data, "shares memory"),
        "fine": (nn.Parameter(torch.ones(3)), torch.ones(3), "kernel for"),
    }
    for p, grad, _ in cases.values():
        p.grad = grad
    return {name: case[0] for name, case in cases.items()}, {name: case[2] for name, case in cases.items()}


def test_explain_gives_each_reason_and_native_refuses_with_the_names():
    params, words = refused_parameters()
    optimizer = at.SGD(params.items(), lr=0.5, engine="native")
    placements = {p.name: p for p in optimizer.explain().placements}
    assert placements.keys() == words.keys()
    for name, placement in placements.items():
        assert words[name] in placement.reason, name
        assert placement.engine == ("native" if name == "fine" else "generic")
        assert name in str(optimizer.explain())
    with pytest.raises(RuntimeError, match="engine='native'") as raised:
        optimizer.step()
    assert all(name in str(raised.value) for name in ("sparse", "order", "overlap 1", "own gradient"))
    assert all(torch.equal(p, torch.ones_like(p)) for p in params.values() if p.device.type == "cpu")
    assert not optimizer.state


def test_explain_of_states_and_settings():
    p = nn.Parameter(torch.ones(3, dtype=torch.float64))
    p.grad = torch.ones_like(p)
    mixed = at.AdamW([p], state="float32")
    mixed.step()
    assert "float64 is mixed" in str(mixed.explain())
    assert "engine='generic'" in str(at.AdamW([p], engine="generic").explain())
    assert "differentiable=True" in str(at.AdamW([p], differentiable=True).explain())
    mixed.engine = "native"
    before = p.detach().clone()
    with pytest.raises(RuntimeError, match="float64 is mixed"):
        mixed.step()
    assert torch.equal(p, before)
    assert mixed.state[p]["step"] == 1


def test_gradient_statistics_are_those_of_the_gradients():
    params = {"small": nn.Parameter(torch.ones(3)), "order": nn.Parameter(torch.ones(3, 2))}
    params["small"].grad = torch.tensor([3.0, -4.0, 0.0])
    params["order"].grad = torch.full((2, 3), -2.0).t()  # runs on the generic engine
    optimizer = at.AdamW(params.items(), max_norm=1.0)
    assert optimizer.gradient_statistics() == []
    for _ in range(2):
        optimizer.step()
        found = {each.name: each for each in optimizer.gradient_statistics()}
        assert found.keys() == params.keys()
        assert found["small"][1:] == (5.0, 4.0)
        assert found["order"].largest == 2.0
        assert found["order"].norm == pytest.approx(24**0.5, rel=1e-15)
    optimizer.max_norm = None
    optimizer.step()
    assert optimizer.gradient_statistics() == []


def test_gradient_statistics_of_the_first_step_on_one_engine():
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = at.AdamW([p], max_norm=1.0)
    optimizer.step()
    assert len(optimizer.gradient_statistics()) == 1


def test_clip_grad_norm_is_torchs_with_an_exact_norm():
    torch.manual_seed(0)
    params = [nn.Parameter(torch.zeros(n)) for n in SIZES]
    for p in params:
        p.grad = torch.randn(p.shape)
    exact = torch.cat([p.grad.double() for p in params]).norm().item()
    doubles = [nn.Parameter(p.detach().double()) for p in params]
    for p, q in zip(params, doubles, strict=True):
        q.grad = p.grad.double()
    inside = copy.deepcopy(params)
    for p, q in zip(params, inside, strict=True):
        q.grad = p.grad.clone()
    its = nn.utils.clip_grad_norm_(doubles, 1.0)
    norm = at.clip_grad_norm_(params, 1.0)
    assert norm.item() == pytest.approx(exact, rel=1e-13) == pytest.approx(its.item(), rel=1e-13)
    for p, q in zip(params, doubles, strict=True):
        torch.testing.assert_close(p.grad, q.grad.float(), rtol=3e-7, atol=0)  # two float32 roundings
    outside_optimizer, inside_optimizer = at.AdamW(params), at.AdamW(inside, max_norm=1.0)
    outside_optimizer.step()
    inside_optimizer.step()
    assert inside_optimizer.last_norm == norm.item()
    assert all(map(torch.equal, params, inside))  # the folded factor rounds as the written one
    with pytest.raises(ValueError, match="norm_type"):
        at.clip_grad_norm_(params, 1.0, norm_type=1.0)
    with pytest.raises(ValueError, match="max_norm"):
        at.clip_grad_norm_(params, 0.0)
    params[0].grad.fill_(torch.nan)
    before = params[1].grad.clone()
    with pytest.raises(RuntimeError, match="non-finite"):
        at.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert torch.equal(params[1].grad, before)


def test_a_step_between_forward_and_backward_is_noticed():
    layer = nn.Linear(3, 3)
    optimizer = at.SGD(layer.parameters(), lr=0.1, engine="native")
    x = torch.ones(2, 3, requires_grad=True)
    layer(x).sum().backward()
    loss = layer(x).square().sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_profiler_sees_the_step_by_name():
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = at.AdamW([p], engine="native")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    assert "Optimizer.step#AdamW.step" in {event.key for event in profile.key_averages()}


def test_schedulers_count_the_steps():
    p = nn.Parameter(torch.ones(3))
    optimizer = at.AdamW([p], lr=1.0, engine="native")
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    p.grad = torch.ones(3)
    optimizer.step()
    scheduler.step()  # warns, and so fails, if it has seen no step
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer._opt_called


def test_a_grad_scaler_skips_what_is_not_finite():
    p = nn.Parameter(torch.ones(3))
    optimizer = at.SGD([p], lr=1.0, engine="native")
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor, expected in ((1.0, 0.0), (float("inf"), 0.0), (1.0, -1.0)):
        optimizer.zero_grad()
        scaler.scale((factor * p).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert p.tolist() == [expected] * 3


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_go_on_alone(copied):
    model, optimizer = train("AdamW", "native", 3, weight_decay=0.1)
    model2, optimizer2 = copied((model, optimizer))
    for p, q in zip(model.parameters(), model2.parameters(), strict=True):
        q.grad = p.grad.clone()
    optimizer.step()
    before = [q.detach().clone() for q in model2.parameters()]
    assert not any(map(torch.equal, before, model.parameters()))
    optimizer2.step()
    assert_same_end((model, optimizer), (model2, optimizer2))


def test_parent_and_child_step_alike_after_a_fork():
    code = """if True:
        import os, torch, adamantine.torch as at
        torch.set_num_threads(2)
        p = torch.nn.Parameter(torch.arange(600_000.0))
        p.grad = torch.linspace(-1, 1, 600_000)
        optimizer = at.AdamW([p], engine="native", max_norm=1.0)
        optimizer.step()
        child = os.fork()  # torch's own threads are gone in the child, so it may not compute here
        optimizer.step()
        os.write(1, b"%d\\n" % hash(p.detach().numpy().tobytes()))
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert end.returncode == 0, end.stderr
    child, parent = end.stdout.split()
    assert child == parent


@pytest.mark.parametrize("shared", [False, True])
def test_two_python_threads_step(threads, shared):
    threads(2)
    pairs = []
    for _ in range(2):
        p = nn.Parameter(torch.ones(300_000))
        p.grad = torch.ones(300_000)
        pairs.append((p, at.SGD([p], lr=2**-10, max_norm=1e9, engine="native")))
    if shared:
        pairs = [pairs[0]] * 2
    failures = []

    def work(optimizer):
        try:
            for _ in range(100):
                optimizer.step()
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(optimizer,)) for _, optimizer in pairs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not failures
    assert not any(worker.is_alive() for worker in workers)
    for p, _ in pairs:
        assert p.unique().tolist() == [1.0 - (200 if shared else 100) * 2**-10]


@pytest.mark.parametrize("count", [1, 2])
def test_denormals_are_flushed_where_the_caller_flushes(threads, count):
    """Smallest normal × ¾ is denormal: kept or flushed as the calling thread has it, on every thread."""
    threads(count)
    p = nn.Parameter(torch.full((600_000,), 2.0**-126))
    optimizer = at.SGDW([p], lr=0.5, weight_decay=0.5, engine="native")
    p.grad = torch.zeros(600_000)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush denormals")
    try:
        optimizer.step()
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(p, torch.zeros(600_000))
    with torch.no_grad():
        p.fill_(2.0**-126)
    optimizer.step()
    assert torch.equal(p, torch.full((600_000,), 0.75 * 2.0**-126))


def test_a_cycle_with_the_optimizer_is_collected():
    model, optimizer = train("AdamW", "native", 2, max_norm=1.0)
    model.optimizer = optimizer
    next(model.parameters()).optimizer = optimizer
    gone = [weakref.ref(x) for x in (model, optimizer, *model.parameters(), optimizer.native_engine())]
    del model, optimizer
    gc.collect()
    assert [ref() for ref in gone] == [None] * len(gone)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
def test_memory_does_not_grow():
    def pages():
        gc.collect()
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1])

    params = [nn.Parameter(torch.ones(50)) for _ in range(20)]
    optimizer = at.AdamW(params, max_norm=1.0, engine="native")

    def steps(count):
        for _ in range(count):
            for p in params:
                p.grad = torch.ones(50)
            optimizer.step()
            optimizer.gradient_statistics()

    steps(1000)  # the allocator settles
    objects = len(gc.get_objects())  # a list as large as what it counts, so first
    before = pages()
    steps(1000)
    grown = pages() - before
    assert len(gc.get_objects()) - objects < 50
    assert grown < 256  # 1 MiB, where 1000 steps make 4 MB of gradients and 20000 tensors


def test_the_norm_of_what_is_not_dense():
    x = torch.arange(40.0)
    strided = [x[::2], x.view(10, 4)[:, 1], x[3:4].expand(19), x.view(10, 4).t(), x[:1].expand(7, 3)]
    for g in strided:
        assert at.global_norm([g]) == at.global_norm([g.clone(memory_format=torch.contiguous_format)])
    p, q = nn.Parameter(torch.ones(20)), nn.Parameter(torch.ones(20))
    p.grad, q.grad = x[::2], x[::2].clone()
    ours, its = at.AdamW([p], max_norm=1.0), at.AdamW([q], max_norm=1.0)
    ours.step()
    its.step()
    assert ours.last_norm == its.last_norm
