"""The order of copies, on a simulated accelerator that copies as late, or as early, as its streams allow.

A stream here is a list of work that is not done until somebody has to wait for it; an early one does at once
what its waits permit. Who forgets a wait reads old numbers, as would happen now and then on a real device.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch.autograd.graph import increment_version
from torch.nn import Parameter

import adamantine.torch as at
from adamantine.torch.offload import lane as offload_lane
from adamantine.torch.offload import offloaded as offload
from adamantine.torch.offload import seal as offload_seal
from adamantine.torch.offload.lane import Blocking, Streamed, lane_to


class Stream:
    def __init__(self, pace):
        self.pace, self.work, self.done = pace, [], 0

    def enqueue(self, work):
        self.work.append(work)
        if self.pace == "early":
            self.run()

    def run(self, stop=None):
        stop = len(self.work) if stop is None else stop
        while self.done < stop:
            self.done += 1
            self.work[self.done - 1]()

    def record_event(self):
        return Event(self, len(self.work))

    def wait_event(self, event):
        self.enqueue(event.synchronize)

    def wait_stream(self, other):
        self.wait_event(other.record_event())


class Event:
    def __init__(self, stream, place):
        self.stream, self.place = stream, place

    def synchronize(self):
        self.stream.run(self.place)

    def query(self):
        return self.stream.done >= self.place


class Accelerator:
    """What Streamed uses of ``torch.cuda``."""

    def __init__(self, pace):
        self.pace, self.compute = pace, Stream("late")
        self.current = self.compute

    def Stream(self, device):
        return Stream(self.pace)

    def current_stream(self, device=None):
        return self.current

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        yield
        self.current = before


class LateLane(Streamed):
    """The lane under test; only the copies themselves are the simulation's."""

    pinned = False  # no accelerator, no such memory

    def __init__(self, accelerator):
        super().__init__(torch.device("cpu"), accelerator)
        self.kept = []

    def _enqueue(self, target, source):
        increment_version(target)  # as with torch: when it is enqueued, not when it is done
        target, source = target.data, source.data
        self._module.current.enqueue(lambda: target.copy_(source))

    def _keep(self, tensor, stream):
        self.kept.append((tensor.data_ptr(), stream))


@pytest.fixture(params=["late", "early"])
def pace(request):
    return request.param


@pytest.fixture
def accelerator(pace):
    return Accelerator(pace)


@pytest.fixture
def simulated(accelerator, monkeypatch):
    """Optimizers offload from the simulated accelerator; its sums are enqueued too."""
    eager, changed = offload_seal._sums, offload.changed

    def late(x):
        found = torch.zeros((), dtype=torch.int64), torch.zeros(())
        accelerator.current.enqueue(lambda: [to.copy_(of) for to, of in zip(found, eager(x), strict=True)])
        return found

    def waiting(seals):
        accelerator.compute.run()  # the host reads its result
        with monkeypatch.context() as context:
            context.setattr(offload_seal, "_sums", eager)
            return changed(seals)

    lane = LateLane(accelerator)
    monkeypatch.setattr(offload_seal, "_sums", late)
    monkeypatch.setattr(offload, "changed", waiting)
    monkeypatch.setattr(offload, "lane_to", lambda device: lane)
    return lane


def _later(accelerator, tensor, values):
    """Work of the device that fills a tensor."""
    accelerator.compute.enqueue(lambda: tensor.data.copy_(values))


def test_fetch_waits_for_the_numbers_and_the_host_for_the_copy(accelerator):
    source, target = torch.zeros(3), torch.zeros(3)
    _later(accelerator, source, torch.ones(3))
    arrival = LateLane(accelerator).fetch(target, source)
    assert accelerator.pace == "early" or target.tolist() == [0, 0, 0]
    arrival.synchronize()
    assert target.tolist() == [1, 1, 1]


def test_send_waits_for_readers_and_later_work_for_the_copy(accelerator):
    weights, new, seen = torch.zeros(3), torch.ones(3), []
    accelerator.compute.enqueue(lambda: seen.append(weights.clone()))  # the last forward pass
    LateLane(accelerator).send(weights, new)
    accelerator.compute.enqueue(lambda: seen.append(weights.clone()))  # the next
    accelerator.compute.run()
    assert [each.tolist() for each in seen] == [[0, 0, 0], [1, 1, 1]]


def test_memory_of_the_device_is_kept_for_the_stream_that_uses_it(accelerator):
    lane = LateLane(accelerator)
    grad, weights, host = torch.ones(3), torch.ones(3), torch.zeros(3)
    lane.fetch(host, grad)
    lane.send(weights, host)
    assert [place for place, _ in lane.kept] == [grad.data_ptr(), weights.data_ptr()]
    assert lane.kept[0][1] is not lane.kept[1][1], "one stream for both directions would not overlap them"


def _train(accelerator, optimizer, params, steps):
    """The device still computes the gradients when backward is over. Weights as its next pass has them."""
    for step in range(steps):
        for index, p in enumerate(params):
            p.grad = torch.full_like(p, float("nan"))
            generator = torch.Generator().manual_seed(10 * step + index)
            values = torch.randn(p.shape, generator=generator).to(p.dtype)
            if accelerator is None:
                p.grad.copy_(values)
            else:
                _later(accelerator, p.grad, values)
                optimizer._offloaded._mirrors[p].gradient.fetch(p)  # as the hook does
        optimizer.step()
        if accelerator is not None:
            for p in params:
                p.grad.data.fill_(float("nan"))  # whoever still reads it is late
    if accelerator is not None:
        accelerator.compute.run()
    return [p.detach().clone() for p in params]


def _params():
    generator = torch.Generator().manual_seed(0)
    return [
        Parameter(torch.randn(shape, generator=generator).to(dtype))
        for shape, dtype in (((3, 5), torch.float32), ((200,), torch.bfloat16), ((2, 2), torch.float32))
    ]


OPTIONS = {"lr": 0.1, "weights": "split16", "state": "float32", "max_norm": 1.0}


def test_training_is_that_of_a_plain_optimizer(accelerator, simulated):
    params, plain = _params(), _params()
    found = _train(accelerator, at.AdamW(params, offload=True, **OPTIONS), params, 4)
    wanted = _train(None, at.AdamW(plain, **OPTIONS), plain, 4)
    assert all(map(torch.equal, found, wanted))


class NoWaitForNumbers(LateLane):
    def _copy(self, stream, target, source):
        with self._module.stream(stream):
            self._enqueue(target, source)
        return stream.record_event()


class NoWaitOfTheNextPass(LateLane):
    def send(self, target, source):
        return self._copy(self._up, target, source)


class NoWaitOfTheHost(LateLane):
    def fetch(self, target, source):
        super().fetch(target, source)
        return Blocking().fetch(torch.empty(1), torch.empty(1))


@pytest.mark.parametrize(
    ("broken", "pace"),
    [(NoWaitForNumbers, "early"), (NoWaitOfTheNextPass, "late"), (NoWaitOfTheHost, "late")],
    indirect=["pace"],
)
def test_the_simulation_shows_each_forgotten_wait(broken, accelerator, simulated, monkeypatch):
    lane = broken(accelerator)
    monkeypatch.setattr(offload, "lane_to", lambda device: lane)
    params, plain = _params(), _params()
    found = _train(accelerator, at.AdamW(params, offload=True, **OPTIONS), params, 4)
    wanted = _train(None, at.AdamW(plain, **OPTIONS), plain, 4)
    assert not all(map(torch.equal, found, wanted))


def test_gradients_travel_before_the_step(accelerator, simulated):
    """What is fetched during backward is fetched once; what changed afterwards, again."""
    p = Parameter(torch.zeros(4))
    optimizer = at.SGD([p], lr=1.0, offload=True)
    copies = []
    simulated._enqueue = lambda target, source, copy=simulated._enqueue: (
        copies.append(source.data_ptr()),
        copy(target, source),
    )
    (p * torch.ones(4)).sum().backward()
    assert copies == [p.grad.data_ptr()]
    p.grad.mul_(2)
    optimizer.step()
    assert copies.count(p.grad.data_ptr()) == 2
    accelerator.compute.run()
    assert p.tolist() == [-2.0] * 4


def test_gradients_under_way_are_bounded(simulated, monkeypatch):
    """Released, their memory is not free before they have arrived, however far the host is ahead."""
    monkeypatch.setattr(offload_lane, "UNDER_WAY", 100)
    params = [Parameter(torch.ones(size)) for size in (10, 10, 10, 100, 1)]  # 4 bytes each
    optimizer = at.SGD(params, lr=1.0, offload=True)
    optimizer.release_gradients()
    under_way = []
    for p in params:
        p.grad = torch.ones_like(p)
        optimizer._offloaded._mirrors[p].gradient.fetch(p)
        assert p.grad is None
        under_way.append(len(simulated._down.work) - simulated._down.done)
    assert simulated._module.pace == "early" or under_way == [2, 4, 4, 2, 2], "a wait and a copy each"
    optimizer.step()
    simulated._module.compute.run()
    assert not any(p.any() for p in params)


def test_what_has_arrived_is_not_remembered(simulated):
    """Else small gradients would be counted by the ten thousand before they are 256 MiB."""
    p = Parameter(torch.ones(4))
    optimizer = at.SGD([p], lr=0.1, offload=True)
    optimizer.release_gradients()
    for _ in range(5):
        p.grad = torch.ones_like(p)
        optimizer._offloaded._mirrors[p].gradient.fetch(p)
        optimizer.step()
    assert len(simulated._under_way) == 1
    assert simulated._bytes_under_way == 16


def test_lanes():
    assert isinstance(lane_to(torch.device("cpu")), Blocking)
    assert isinstance(lane_to(torch.device("mps")), Blocking), "its backend has no streams"
