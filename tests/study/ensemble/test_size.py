"""How many members share a batch depends on the task and on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from adamantine.study.ensemble import size
from adamantine.study.ensemble.size import bytes_per_member, members_at_once
from adamantine.study.task import Data, Settings, Task
from adamantine.study.tasks import load


def task(model: Callable[[], nn.Module], inputs: int, batch_size: int = 8) -> Task:
    def data(seed: int) -> Data:
        x = torch.zeros(100, inputs)
        return Data((x, x), (x, x), (x, x))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum()

    return Task("t", "t", lambda seed: model(), data, loss, loss, batch_size)


def test_bytes_counted_by_hand() -> None:
    """tanh keeps its outputs, a linear layer its inputs and weights, which are data and parameters here."""
    model = nn.Sequential(nn.Linear(10, 5), nn.Tanh(), nn.Linear(5, 3, bias=False))
    tanh, parameters = 8 * 5, 10 * 5 + 5 + 5 * 3
    assert bytes_per_member(task(lambda: model, 10)) == 4 * (tanh + 4 * parameters)
    assert bytes_per_member(task(lambda: model, 10, batch_size=1000)) == 4 * (100 * 5 + 4 * parameters)


@pytest.mark.parametrize(
    ("width", "expected"), [(1, size.MOST), (10**4, size.BUDGET // (16 * 10**5)), (10**7, 1)]
)
def test_as_many_as_the_budget_holds(width: int, expected: int) -> None:
    with torch.device("meta") if width == 10**7 else torch.device("cpu"):
        assert members_at_once(task(lambda: nn.Linear(10, width, bias=False), 10)) == expected


@pytest.mark.parametrize("name", ["digits", "digits-resnet", "digits-transformer", "modular", "text"])
def test_built_in_tasks(name: str) -> None:
    """The sizes that the benchmark was run with, whatever the threads, the seed and the random state."""
    expected = {"digits": 64, "digits-resnet": 15, "digits-transformer": 13, "modular": 21, "text": 2}[name]
    loaded = load(name, Settings())
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert members_at_once(loaded, seed=1) == expected
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)


def test_larger_batches_of_examples_leave_room_for_fewer_members() -> None:
    resnet = load("digits-resnet", Settings())
    assert members_at_once(replace(resnet, batch_size=4 * resnet.batch_size)) < members_at_once(resnet)
