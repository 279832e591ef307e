"""Live objects while a checkpoint is put into them: all of it, bit for bit, or none of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adamantine.checkpoint.container import bytes_of, digest
from adamantine.checkpoint.contents import Contents, SchedulerState
from adamantine.checkpoint.decay import class_name
from adamantine.checkpoint.errors import CheckpointError
from adamantine.torch.storage.layout import slot_keys


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
    optimizer: torch.optim.Optimizer,
    contents: Contents,
    checksums: dict[int, str],
    converted: Collection[str] = (),
) -> list[str]:
    """Make the live state the saved one where its class only cast it; say where it did more.

    torch's ``load_state_dict`` casts every tensor but the step count to the parameter's dtype (pytorch
    #43706). What is compared is what the class itself would save now.

    Args:
        optimizer: just loaded.
        contents: what it was given.
        checksums: of the file, by the saved tensor's ``id``. The class may have written into the very tensors
            it was given, so these are no witnesses.
        converted: parts that were put into another format, under whatever keys: not to be undone.

    Returns:
        What differs from the checkpoint and cannot be mended here.
    """
    settling = _Settling(checksums)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    now = optimizer.state_dict()["state"]
    for index, (p, saved) in enumerate(zip(params, contents.parameters, strict=True)):
        at = f"the state of {saved.name or f'parameter {index}'}"
        if saved.state or now.get(index):
            settling.recast.clear()
            settling.settle(_without(saved.state, converted), _without(now.get(index), converted), at)
            if settling.recast and now[index] is not optimizer.state[p]:  # a copy: mending it mends nothing
                settling.found += settling.recast
    return settling.found


def _without(entry: Any, converted: Collection[str]) -> Any:
    if not converted or not isinstance(entry, dict):
        return entry
    left_out = {key for slot in converted for key in slot_keys(slot)}
    return {key: value for key, value in entry.items() if key not in left_out}


class _Settling:
    """One comparison of a whole state.

    Attributes:
        found: what cannot be mended.
        recast: what has been, of the parameter at hand.
    """

    def __init__(self, checksums: dict[int, str]) -> None:
        self.checksums = checksums
        self.found: list[str] = []
        self.recast: list[str] = []

    def settle(self, saved: Any, live: Any, at: str) -> Any:
        """The live value, or the saved one on its device where a cast is all that is between them."""
        if isinstance(saved, Tensor) and isinstance(live, Tensor):
            return self._tensor(saved, live, at)
        if isinstance(saved, dict) and isinstance(live, dict):
            self.found += [f"{at}: {key} is gone" for key in saved.keys() - live.keys()]
            self.found += [f"{at}: {key} is new" for key in live.keys() - saved.keys()]
            for key in saved.keys() & live.keys():
                live[key] = self.settle(saved[key], live[key], f"{at}: {key}")
            return live
        if isinstance(saved, list | tuple) and type(saved) is type(live) and len(saved) == len(live):
            items = enumerate(zip(saved, live, strict=True))
            return type(saved)([self.settle(a, b, f"{at}/{i}") for i, (a, b) in items])
        if isinstance(saved, np.ndarray) and isinstance(live, np.ndarray):
            same = np.array_equal(saved, live)
        else:
            same = type(saved) is type(live) and bool(saved == live or saved != saved)
        if not same:
            self.found.append(f"{at} was {saved!r:.40}, is {live!r:.40}")
        return live

    def _tensor(self, saved: Tensor, live: Tensor, at: str) -> Tensor:
        expected = self.checksums.get(id(saved))  # None: the class put another tensor into what it was given
        if saved.shape != live.shape:
            self.found.append(f"{at} has shape {tuple(live.shape)}, saved was {tuple(saved.shape)}")
        elif saved.dtype == live.dtype:
            if digest(bytes_of(live)) != expected:
                self.found.append(f"{at} has other values")
        elif digest(bytes_of(saved)) == expected and bytes_of(saved.to(live.dtype)) == bytes_of(live):
            self.recast.append(f"{at} is {live.dtype}, saved was {saved.dtype}")
            return saved.to(live.device)
        else:
            self.found.append(f"{at} has other values")
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


def check_model(model: nn.Module, contents: Contents, source: str) -> OrderedDict[str, Any]:
    """The saved state of a model, once it is sure to fit this one; with the versions that torch notes on it.

    Raises:
        CheckpointError: none saved; other names, shapes or dtypes.
    """
    saved = contents.model
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
    state = OrderedDict(saved)
    if contents.model_versions is not None:
        state._metadata = contents.model_versions  # type: ignore[attr-defined]  # where torch looks for them
    return state
