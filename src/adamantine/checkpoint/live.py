"""Live objects while a checkpoint is put into them: all of it, bit for bit, or none of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from adamantine.checkpoint.container import bytes_of, digest
from adamantine.checkpoint.contents import Contents, SchedulerState
from adamantine.checkpoint.decay import class_name
from adamantine.checkpoint.errors import CheckpointError


@contextmanager
def unchanged_on_error(optimizer: torch.optim.Optimizer, scheduler: Any) -> Iterator[None]:
    """Whatever is raised in this context finds both as they were. Costs no memory: nothing is copied.

    ``load_state_dict`` puts new tensors and containers in the place of old ones, in every optimizer known.
    """
    groups = [(group, dict(group)) for group in optimizer.param_groups]
    entries = [(entry, dict(entry)) for entry in optimizer.state.values() if isinstance(entry, dict)]
    state = dict(optimizer.state)
    parts = [(part, dict(vars(part))) for part in (optimizer, *_members(scheduler))]
    try:
        yield
    except BaseException:
        for part, attributes in parts:
            vars(part).clear()
            vars(part).update(attributes)
        for mapping, content in (*groups, *entries, (optimizer.state, state)):
            mapping.clear()
            mapping.update(content)
        raise


def _members(scheduler: Any) -> Iterator[Any]:
    if scheduler is not None:
        yield scheduler
        for member in getattr(scheduler, "_schedulers", ()):
            yield from _members(member)


def settle_state(
    optimizer: torch.optim.Optimizer, contents: Contents, checksums: dict[int, str]
) -> list[str]:
    """Make the live state the saved one where its class only cast it; say where it did more.

    ``checksums`` are those of the file, by the saved tensor's ``id``: the class may have written into the
    very tensors it was given, so these are no witnesses.

    torch's ``load_state_dict`` casts every floating and integer tensor to the parameter's dtype
    (pytorch #43706).

    Returns:
        What differs from the checkpoint and cannot be mended here.
    """
    found: list[str] = []
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for index, (p, saved) in enumerate(zip(params, contents.parameters, strict=True)):
        at = f"the state of {saved.name or f'parameter {index}'}"
        live = optimizer.state.get(p)
        if not saved.state and not live:
            continue
        settled = _settle(saved.state, live, at, found, checksums)
        if isinstance(live, dict):
            live.update(settled)
    return found


def _settle(saved: Any, live: Any, at: str, found: list[str], checksums: dict[int, str]) -> Any:
    """The live value, or the saved one on the live one's device where a cast is all that is between them."""
    if isinstance(saved, Tensor) and isinstance(live, Tensor):
        expected = checksums[id(saved)]
        if saved.shape == live.shape and saved.dtype == live.dtype:
            if digest(bytes_of(live)) == expected:
                return live
        elif (
            saved.shape == live.shape
            and digest(bytes_of(saved)) == expected
            and bytes_of(saved.to(live.dtype)) == bytes_of(live)
        ):
            return saved.to(live.device)
        found.append(f"{at} has other values")
        return live
    if isinstance(saved, dict) and isinstance(live, dict):
        found += [f"{at}: {key} is gone" for key in saved.keys() - live.keys()]
        found += [f"{at}: {key} is new" for key in live.keys() - saved.keys()]
        for key in saved.keys() & live.keys():
            live[key] = _settle(saved[key], live[key], f"{at}: {key}", found, checksums)
        return live
    if isinstance(saved, list | tuple) and isinstance(live, list | tuple) and len(saved) == len(live):
        pairs = enumerate(zip(saved, live, strict=True))
        return type(saved)(_settle(a, b, f"{at}/{i}", found, checksums) for i, (a, b) in pairs)
    if type(saved) is not type(live) or not (saved == live or saved != saved):
        found.append(f"{at} was {saved!r:.40}, is {live!r:.40}")
    return live


def load_scheduler(scheduler: Any, saved: SchedulerState | None, source: str) -> None:
    """Put a saved scheduler's state into one of the same class.

    torch writes the keys of a scheduler's state straight among its attributes; only those that it has itself
    are let through.

    Raises:
        CheckpointError: none saved, another class, other keys, or what the class itself refuses.
    """
    if saved is None:
        raise CheckpointError(f"{source}: holds no scheduler; load without scheduler=")
    cls = class_name(scheduler)
    if saved.cls != cls:
        raise CheckpointError(
            f"{source}: the scheduler is a {saved.cls}, not a {cls}; build the one that was saved"
        )
    _check_keys(scheduler.state_dict(), saved.state, f"{source}: scheduler")
    try:
        scheduler.load_state_dict(saved.state)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{source}: scheduler {cls}: {error}; build the one that was saved") from None


def _check_keys(live: dict[str, Any], saved: dict[str, Any], at: str) -> None:
    if strangers := saved.keys() - live.keys():
        raise CheckpointError(
            f"{at}: {min(map(str, strangers))!r} is no part of this scheduler's state; build the one that "
            "was saved"
        )
    here, there = live.get("_schedulers"), saved.get("_schedulers")
    if here is None and there is None:
        return
    if not isinstance(here, list) or not isinstance(there, list) or len(here) != len(there):
        raise CheckpointError(f"{at}: other members than were saved; build the scheduler that was saved")
    for number, (one, other) in enumerate(zip(here, there, strict=True)):
        if not isinstance(other, dict):
            raise CheckpointError(f"{at}[{number}]: no state of a scheduler; the file is damaged")
        _check_keys(one, other, f"{at}[{number}]")


def check_model(model: nn.Module, saved: dict[str, Any] | None, source: str) -> dict[str, Any]:
    """The saved state of a model, once it is sure to fit this one.

    Raises:
        CheckpointError: none saved; other names, shapes or dtypes.
    """
    if saved is None:
        raise CheckpointError(f"{source}: holds no model; load without model=, or save with it")
    live = model.state_dict()
    for words, names in (
        ("lacks", live.keys() - saved.keys()),
        ("has in excess", saved.keys() - live.keys()),
    ):
        if names:
            raise CheckpointError(
                f"{source}: {words} {min(names)!r} of the model's state ({len(names)} in all); build the "
                "model that was saved, and unwrap both (DistributedDataParallel, torch.compile) or neither"
            )
    for name, value in live.items():
        here, there = (
            (tuple(x.shape), x.dtype) if isinstance(x, Tensor) else type(x).__name__
            for x in (value, saved[name])
        )
        if here != there:
            raise CheckpointError(
                f"{source}: {name!r} of the model is {there}, here {here}; convert it first"
            )
    return saved
