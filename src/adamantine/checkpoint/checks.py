"""Values that no optimizer can have, whatever its class. What `write` and `read` refuse alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from adamantine.checkpoint import codes
from adamantine.checkpoint.contents import Contents
from adamantine.checkpoint.errors import CheckpointError

_RATE = re.compile(r"(^|_)lrs?$")  # lr, peak_lr, initial_lr, highest_lr, max_lr, …
_COUNT = re.compile(r"^(step|steps|n_iter|func_evals|skipped_steps)$")
#: Finite in every optimizer there is; and not negative, though some class may make sense of a negative one.
_FINITE = frozenset({"weight_decay", "eps", "momentum", "betas", "beta", "beta1", "beta2", "alpha", "rho"})


def check(contents: Contents, source: str) -> None:
    """Refuse hyperparameters, step counts and codes that would train nonsense.

    Raises:
        CheckpointError: a NaN among hyperparameters; an infinite or negative learning rate; an infinite λ, ε,
            β or momentum; a step count that is negative or not finite; codes of a block format whose number
            is not the parameter's.
    """
    codes.check(contents, source)
    for number, group in enumerate(contents.groups):
        for key, value in group.hyper.items():
            for number_in in numbers(value):
                _check_hyper(f"{source}: group {number}: {key}", str(key), number_in)
            _check_count(f"{source}: group {number}: {key}", key, value)
    for index, parameter in enumerate(contents.parameters):
        for key, value in (parameter.state or {}).items():
            _check_count(f"{source}: {key} of {parameter.name or f'parameter {index}'}", key, value)


def _check_hyper(at: str, key: str, value: float) -> None:
    remedy = "set it right in the optimizer and save again; nothing has been changed"
    if math.isnan(value):
        raise CheckpointError(f"{at} is NaN; {remedy}")
    rate = _RATE.search(key) is not None
    if math.isinf(value) and (rate or key in _FINITE):
        raise CheckpointError(f"{at} is {value}; {remedy}")
    if value < 0 and (rate or key == "weight_decay"):
        raise CheckpointError(f"{at} is {value}, and must be >= 0; {remedy}")


def _check_count(at: str, key: Any, value: Any) -> None:
    if not isinstance(key, str) or not _COUNT.match(key):
        return
    for number in numbers(value):
        if not (math.isfinite(number) and number >= 0):
            raise CheckpointError(f"{at} is {number}, and a count of steps is >= 0; the state is damaged")


def numbers(value: Any) -> Iterator[float]:
    """The plain numbers of a hyperparameter: itself, a tensor's one element, a tuple's."""
    if isinstance(value, bool):
        return
    if isinstance(value, int) and value.bit_length() > 1000:  # beyond a double
        yield math.inf if value > 0 else -math.inf
    elif isinstance(value, int | float):
        yield value
    elif isinstance(value, Tensor):
        if value.numel() == 1 and not value.is_complex() and value.device.type != "meta":
            yield float(value)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers(item)
