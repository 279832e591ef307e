"""How many members are one batch: as many as stay near the caches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from adamantine.study.task import Data, Task

BUDGET = 24 * 2**20  # bytes of all members together: 12 to 16 of the digits' CNN or Transformer are fastest
MOST = 64  # more of the smallest gain little (256: a fifth), and a grid in few chunks leaves cores idle


def members_at_once(task: Task, seed: int = 0) -> int:
    """The number of members to train as one batch, 1 to :data:`MOST`.

    A function of the task alone, never of the machine or of the number of processes: it decides which cells
    share a chunk, and the same run has the same chunks wherever it goes on.
    """
    return max(1, min(MOST, BUDGET // bytes_per_member(task, seed)))


def bytes_per_member(task: Task, seed: int = 0) -> int:
    """What a step of one member touches: what a forward pass on a batch keeps for the backward pass, and of
    the parameters four copies (value, gradient, two moments).

    Beyond the caches a larger batch of members saves nothing: the cost of calling a function is spread
    thinly enough by then, and memory is slower.
    """
    inputs, targets = Data(*task.data(seed)).train
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = slice(task.batch_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = task.model(seed).train()
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = task.loss(model(inputs[batch]), targets[batch])  # kept alive: so are the addresses
    del loss
    parameters = list(model.parameters())
    for tensor in (inputs, targets, *parameters):
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(kept.values()) + 4 * sum(p.numel() * p.element_size() for p in parameters)
