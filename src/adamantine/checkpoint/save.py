"""From live objects to a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from adamantine.checkpoint import rng as generators
from adamantine.checkpoint.contents import Contents, SchedulerState
from adamantine.checkpoint.decay import class_name
from adamantine.checkpoint.dtypes import name_of
from adamantine.checkpoint.errors import CheckpointError
from adamantine.checkpoint.names import names_of
from adamantine.checkpoint.writer import Watch, unwatched, write


def save(
    path: str | os.PathLike[str],
    optimizer: torch.optim.Optimizer,
    *,
    model: nn.Module | None = None,
    scheduler: Any = None,
    extra: Any = None,
    rng: bool = False,
    max_shard_bytes: int = 5_000_000_000,
    done: Watch = unwatched,
) -> None:
    """Write all that is needed to train on as if nothing had happened.

    Whatever ends the process meanwhile, ``path`` leads to the old checkpoint or to the new one, each whole.

    Args:
        path: a name that ends in ``.safetensors``; with shards, ``.index.json`` is added to it.
        optimizer: any class's. Every entry of its state in its own dtype, every hyperparameter of its groups,
            the names and the decay mode.
        model: its parameters and buffers too. It also tells the names of parameters where the optimizer was
            made without them, so that they are not matched by position when loaded.
        scheduler: a learning-rate scheduler, nested ones with their members. Functions (LambdaLR's) are not
            saved: build the scheduler with the same ones before loading.
        extra: epoch, best score, …: numbers, texts, tensors, and lists, tuples and dicts of them.
        rng: also the states of torch's, numpy's and Python's random number generators.
        max_shard_bytes: above so many bytes, an index and shards of at most this size.
        done: is told the bytes of every tensor written.

    Raises:
        CheckpointError: an object that only its own code could bring back, named with its place; a NaN or
            negative learning rate; a folder that cannot be written to. What was at ``path`` is still there.

    >>> import tempfile
    >>> weight = nn.Parameter(torch.ones(2))
    >>> optimizer = torch.optim.AdamW([("weight", weight)], lr=1e-3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/state.safetensors", optimizer, extra={"epoch": 3})
    ...     from adamantine.checkpoint import load
    ...     load(f"{folder}/state.safetensors", optimizer)
    {'epoch': 3}
    """
    contents = contents_of(optimizer, model)
    if model is not None:
        state = model.state_dict()
        contents.model = dict(state)
        contents.model_versions = {name: dict(each) for name, each in getattr(state, "_metadata", {}).items()}
    if scheduler is not None:
        functions = [f"{at}: a function" for at in _functions(scheduler)]
        contents.scheduler = SchedulerState(class_name(scheduler), scheduler.state_dict(), functions)
    contents.rng = generators.collect() if rng else None
    contents.extra = extra
    write(path, contents, max_shard_bytes=max_shard_bytes, done=done)


def contents_of(optimizer: torch.optim.Optimizer, model: nn.Module | None = None) -> Contents:
    """An optimizer's part of a checkpoint; it shares the tensors.

    Raises:
        CheckpointError: a state dict in another form than torch's.
    """
    if not hasattr(optimizer, "param_groups") or not hasattr(optimizer, "state_dict"):
        raise CheckpointError(
            f"a {class_name(optimizer)} has no state_dict() and param_groups, as torch.optim.Optimizer has; "
            "save what it consists of in extra="
        )
    params: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    return Contents.of(
        optimizer.state_dict(),
        class_name(optimizer),
        shapes=[tuple(p.shape) for p in params],
        dtypes=[name_of(p.dtype) for p in params],
        names=names_of(optimizer, model),
    )


def _functions(scheduler: Any, at: str = "scheduler") -> Iterator[str]:
    """Where a scheduler of torch's holds functions, which its state dict leaves out."""
    for name in ("lr_lambdas", "_scale_fn_custom", "schedule"):
        held = getattr(scheduler, name, None)
        for number, item in enumerate(held if isinstance(held, list | tuple) else [held]):
            if callable(item) and not _has_words(item):
                yield f"{at}.{name}[{number}]" if isinstance(held, list | tuple) else f"{at}.{name}"
    for number, member in enumerate(getattr(scheduler, "_schedulers", ())):
        yield from _functions(member, f"{at}[{number}]")


def _has_words(item: Any) -> bool:
    from adamantine.schedules import Schedule

    return isinstance(item, Schedule)
