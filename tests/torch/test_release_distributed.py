"""Released gradients where several processes train: DistributedDataParallel is refused, fully_shard works."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

import adamantine.torch as at

pytestmark = [
    pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed"),
    pytest.mark.filterwarnings("ignore"),  # torch's own, about experimental parts
]


@pytest.fixture(scope="module", autouse=True)
def mesh(tmp_path_factory):
    store = dist.FileStore(str(tmp_path_factory.mktemp("store") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield dist.device_mesh.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def test_distributed_data_parallel_is_refused_before_and_after():
    model = mlp()
    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer = at.AdamW(model.parameters())
    with pytest.raises(RuntimeError, match="DistributedDataParallel, which averages gradients after"):
        optimizer.release_gradients()
    del wrapped
    other = mlp()
    optimizer = at.AdamW(other.parameters())
    optimizer.release_gradients()
    wrapped = nn.parallel.DistributedDataParallel(other)
    before = copy.deepcopy(other)
    with pytest.raises(RuntimeError, match="DistributedDataParallel, which averages gradients after"):
        wrapped(torch.ones(2, 6)).sum().backward()
    for p, q in zip(other.parameters(), before.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("options", [{}, {"on_nonfinite": "skip"}])
def test_a_sharded_model_takes_the_same_steps(mesh, options):
    from torch.distributed.fsdp import fully_shard

    ends = []
    for released in (False, True):
        model = mlp()
        fully_shard(model, mesh=mesh)
        optimizer = at.AdamW(model.parameters(), lr=0.05, weight_decay=0.1, **options)
        if released:
            optimizer.release_gradients()
        for seed in range(5):
            torch.manual_seed(seed)
            model(torch.randn(4, 6)).square().mean().backward()
            assert all((p.grad is None) == released for p in model.parameters())
            optimizer.step()
            optimizer.zero_grad()
        ends.append([p.full_tensor() for p in model.parameters()])
    for p, q in zip(*ends, strict=True):
        assert torch.equal(p, q)
