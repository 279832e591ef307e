"""From a checkpoint into live objects."""

from __future__ import annotations

import os
import warnings
from typing import Any, Literal

import torch
from torch import nn

from adamantine.checkpoint import live
from adamantine.checkpoint import rng as generators
from adamantine.checkpoint.decay import class_name
from adamantine.checkpoint.errors import CheckpointError
from adamantine.checkpoint.matching import Settlement, fitted, state_dict_of
from adamantine.checkpoint.reader import open_store
from adamantine.checkpoint.writer import Watch, unwatched
from adamantine.torch.optimizer import Optimizer
from adamantine.torch.storage.layout import RESIDUAL, ROUNDING

Formats = Literal["saved", "live"]


def load(
    path: str | os.PathLike[str],
    optimizer: torch.optim.Optimizer,
    *,
    model: nn.Module | None = None,
    scheduler: Any = None,
    decay: Settlement = "match",
    state: Formats = "saved",
    rng: bool = False,
    done: Watch = unwatched,
) -> Any:
    """Put a checkpoint into an optimizer, and into what else is given. Every bit, or nothing at all.

    Parameters are matched by name, in any order, where both sides have names (``model=`` lends its own to an
    optimizer that was made without); otherwise by position, and then shapes must agree. The state is that of
    the file bit for bit, in its own dtype, also where the class's ``load_state_dict`` would have cast it.

    Args:
        path: as given to `save`.
        optimizer: of the class that was saved. Ours also take the state of torch's class of the same rule.
        model: to be loaded too. Without it, its parameters are left alone.
        scheduler: to be loaded too; of the class that was saved.
        decay: where the checkpoint's decay mode is not the optimizer's: ``"match"`` refuses, ``"saved"``
            adopts the checkpoint's, ``"live"`` keeps the optimizer's mode and its λ.
        state: of our optimizers: ``"saved"`` keeps the formats in which it was saved (8 bits stay 8 bits),
            ``"live"`` puts it into those that the optimizer was constructed with, also where the parameters
            have another dtype now (`adamantine.torch.Optimizer.load_state_dict`).
        rng: also put back the states of the random number generators.
        done: is told the bytes of every tensor read.

    Returns:
        What was given to `save` as ``extra``.

    Raises:
        CheckpointError: a damaged file, or one that does not fit. All that was given is as it was.
        UserWarning: (a warning) names in the file, none here: positions had to do. Or: the state is in
            another format now, or in another than was asked for; with the loss as measured.
    """
    if decay not in {"match", "saved", "live"}:
        raise CheckpointError(f"Invalid decay: {decay!r}; choose 'match', 'saved' or 'live'")
    if state not in {"saved", "live"}:
        raise CheckpointError(f"Invalid state: {state!r}; choose 'saved' or 'live'")
    if state == "live" and not isinstance(optimizer, Optimizer):
        raise CheckpointError(
            f"state='live' is for optimizers of adamantine, not for {class_name(optimizer)}, whose own "
            "load_state_dict decides; leave state='saved'"
        )
    source = str(path)
    store = open_store(path)
    contents, names = store.contents(done)
    checksums = {tensor: store.stored[name].sha256 for tensor, name in names.items()}
    of_model = None if model is None else live.check_model(model, contents, source)
    if rng and contents.rng is None:
        raise CheckpointError(f"{source}: holds no states of random number generators; load without rng=True")
    saved = fitted(contents, optimizer, model=model, decay=decay, recast=state == "live", source=source)
    state_dict = state_dict_of(saved, optimizer)
    with live.unchanged_on_error(optimizer, scheduler):
        change = None
        try:
            if isinstance(optimizer, Optimizer):
                change = optimizer.load_state_dict(state_dict, decay=decay, state=state)
            else:
                optimizer.load_state_dict(state_dict)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"{source}: {class_name(optimizer)} refuses it: {error}") from error
        converted = {each.slot for each in change.slots} if change else set()
        converted |= {RESIDUAL, ROUNDING} if state == "live" else set()
        if changed := live.settle_state(optimizer, saved, checksums, converted):
            raise CheckpointError(
                f"{source}: {class_name(optimizer)}.load_state_dict made something else of it ({changed[0]}; "
                f"{len(changed)} in all), so training would not go on as it was. If that is intended: "
                "optimizer.load_state_dict(adamantine.checkpoint.read(path).state_dict())"
            )
        if scheduler is not None:
            live.load_scheduler(scheduler, contents.scheduler, source)
        if rng:
            generators.restore(contents.rng or {}, source)
        if model is not None and of_model is not None:
            try:
                model.load_state_dict(of_model)  # the last, since it writes in place; checked above
            except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise CheckpointError(
                    f"{source}: the model's own load_state_dict refuses it, perhaps after a part: {error}"
                ) from error
    if state == "live" and change is not None and not change.is_exact:
        warnings.warn(f"{source}: the state is in another format now:\n{change}", UserWarning, stacklevel=2)
    return contents.extra
