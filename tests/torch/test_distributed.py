"""Sharded parameters (DTensor, as fully_shard makes them) take the same step; here on a mesh of one."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

import adamantine.torch as at

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")


@pytest.fixture(scope="module", autouse=True)
def mesh(tmp_path_factory):
    store = dist.FileStore(str(tmp_path_factory.mktemp("store") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield dist.device_mesh.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")  # torch's own, about experimental parts
@pytest.mark.parametrize("name", ["AdamW", "SGD", "RAdam", "Lion", "AdamAtan2"])
@pytest.mark.parametrize("options", [{}, {"max_norm": 0.1, "on_nonfinite": "skip"}])
def test_a_sharded_model_takes_the_same_steps(mesh, name, options):
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    sharded = copy.deepcopy(plain)
    fully_shard(sharded, mesh=mesh)
    ends = []
    for model in (plain, sharded):
        optimizer = at.OPTIMIZERS[name](model.named_parameters(), lr=0.05, weight_decay=0.1, **options)
        for seed in range(5):
            torch.manual_seed(seed)
            optimizer.zero_grad()
            model(torch.randn(4, 6)).square().mean().backward()
            optimizer.step()
        ends.append([getattr(p, "full_tensor", lambda p=p: p)() for p in model.parameters()])
    for p, q in zip(*ends, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-6, atol=1e-7)  # √ and the norm are torch's on a DTensor


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{"state": "8bit"}, {"weights": "stochastic"}])
def test_a_sharded_model_has_no_blocks(mesh, options):
    """A shard's borders are no block's, so one process alone could not read what it wrote."""
    from torch.distributed.fsdp import fully_shard

    model = nn.Linear(6, 5).bfloat16()
    fully_shard(model, mesh=mesh)
    with pytest.raises(ValueError, match=r"weight is a DTensor.*state='bfloat16'"):
        at.AdamW(model.named_parameters(), **options)
