"""A step with its hooks, as torch's own wrapper runs them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch.optim.optimizer as torch_optimizer


def has_hooks(optimizer: Any) -> bool:
    """Whether any hook waits for this optimizer's steps."""
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or torch_optimizer._global_optimizer_pre_hooks
        or torch_optimizer._global_optimizer_post_hooks
    )


def step_with_hooks(step: Callable[..., float | None], optimizer: Any, *given: Any) -> float | None:
    """``step(optimizer, *given)`` between the hooks.

    torch's wrapper (``Optimizer.profile_hook_step``) also opens a mark for the profiler, which costs as much
    as a small step; it is for steps that a profiler watches.
    """
    args: tuple[Any, ...] = (optimizer, *given)
    kwargs: dict[str, Any] = {}
    before = (torch_optimizer._global_optimizer_pre_hooks, optimizer._optimizer_step_pre_hooks)
    for hook in chain.from_iterable(hooks.values() for hooks in before):
        replaced = hook(optimizer, args, kwargs)
        if replaced is not None:
            if not (isinstance(replaced, tuple) and len(replaced) == 2):
                raise RuntimeError(
                    f"{step} must return None or a tuple of (new_args, new_kwargs), but got {replaced}."
                )
            args, kwargs = replaced
    result = step(*args, **kwargs)
    after = (optimizer._optimizer_step_post_hooks, torch_optimizer._global_optimizer_post_hooks)
    for hook in chain.from_iterable(hooks.values() for hooks in after):
        hook(optimizer, args, kwargs)
    return result
