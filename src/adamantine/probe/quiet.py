"""What surrounds a dry run, so that the training around it notices nothing."""

from __future__ import annotations

import io
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any

import torch
import torch.optim.optimizer as torch_optimizer


@contextmanager
def undisturbed(seed: int | None = None) -> Iterator[None]:
    """Random states are given back, hooks for all optimizers rest; nothing is compiled, printed or warned of.

    ``seed``: also seeds every generator, so that two dry runs see the same noise.
    """
    with ExitStack() as stack:
        stack.enter_context(_random_states())
        stack.enter_context(_without_global_hooks())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(
            torch.compiler.set_stance("force_eager")
        )  # compiling costs minutes, not milliseconds
        stack.enter_context(redirect_stdout(io.StringIO()))  # adabelief_pytorch prints its defaults
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if seed is not None:
            _seed(seed)
        yield


@contextmanager
def _random_states() -> Iterator[None]:
    numpy = sys.modules.get("numpy")
    python_state = random.getstate()
    numpy_state = numpy.random.get_state() if numpy else None
    devices = list(range(torch.cuda.device_count())) if _cuda_in_use() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)


def _seed(seed: int) -> None:
    # not torch.manual_seed: before CUDA is in use, that leaves a seed behind for when it will be
    torch.default_generator.manual_seed(seed)
    if _cuda_in_use():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)


@contextmanager
def _without_global_hooks() -> Iterator[None]:
    """Hooks that torch runs around every optimizer's step are the user's, for the user's optimizers."""
    registries: list[dict[Any, Any]] = [
        torch_optimizer._global_optimizer_pre_hooks,
        torch_optimizer._global_optimizer_post_hooks,
    ]
    kept = [dict(registry) for registry in registries]
    for registry in registries:
        registry.clear()
    try:
        yield
    finally:
        for registry, hooks in zip(registries, kept, strict=True):
            registry.update(hooks)


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
