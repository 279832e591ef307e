"""One check per hyperparameter name, with the words that torch uses, and the remedy behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from adamantine.rules.decay import check_mode, check_weight_decay

#: name → (how torch calls it, what it must be, test)
_BOUNDS: dict[str, tuple[str, str, Any]] = {
    "lr": ("learning rate", "finite and >= 0", lambda x: 0.0 <= x < math.inf),
    "eps": ("epsilon value", "finite and >= 0", lambda x: 0.0 <= x < math.inf),
    "momentum": ("momentum value", "in [0, 1]; 0.9 is usual", lambda x: 0.0 <= x <= 1.0),
    "dampening": ("dampening value", "in [0, 1]", lambda x: 0.0 <= x <= 1.0),
    "alpha": ("alpha value", "in [0, 1]; 0.99 is usual", lambda x: 0.0 <= x <= 1.0),
    "lr_decay": ("lr_decay value", "finite and >= 0", lambda x: 0.0 <= x < math.inf),
    "momentum_decay": ("momentum_decay value", "finite and >= 0", lambda x: 0.0 <= x < math.inf),
    "initial_accumulator_value": (
        "initial_accumulator_value value",
        "finite and >= 0",
        lambda x: 0.0 <= x < math.inf,
    ),
    "peak_lr": (
        "peak_lr",
        "None (tracked) or finite and >= 0",
        lambda x: x is None or 0.0 <= x < math.inf,
    ),
    "weight_decay": ("weight_decay value", "finite and >= 0", lambda x: 0.0 <= x < math.inf),
    "max_norm": ("max_norm", "None (no clipping) or > 0", lambda x: x is None or x > 0.0),
}


def check(hyper: Mapping[str, Any]) -> None:
    """ValueError, naming parameter, value and remedy, for the first hyperparameter that cannot be meant.

    Unknown names are passed over: a torch group holds more than mathematics.

    >>> check({"lr": 1e-3, "betas": (0.9, 1.5)})
    Traceback (most recent call last):
    ValueError: Invalid beta parameter at index 1: 1.5; it must be in [0, 1)
    """
    for name, value in hyper.items():
        if name in _BOUNDS:
            words, demand, holds = _BOUNDS[name]
            if not _holds(holds, value):
                raise ValueError(f"Invalid {words}: {value}; it must be {demand}")
    if "betas" in hyper:
        _check_betas(hyper["betas"])
    if "decay" in hyper:
        check_mode(hyper["decay"])
        check_weight_decay(hyper.get("weight_decay", 0.0), hyper["decay"])
    if hyper.get("nesterov") and (hyper.get("momentum", 0) <= 0 or hyper.get("dampening", 0) != 0):
        raise ValueError(
            "Nesterov momentum requires a momentum and zero dampening; got "
            f"momentum={hyper.get('momentum', 0)}, dampening={hyper.get('dampening', 0)}"
        )


def _holds(test: Any, value: Any) -> bool:
    try:
        return bool(test(value))
    except TypeError:
        return False


def _check_betas(betas: Any) -> None:
    try:
        beta1, beta2 = betas
    except (TypeError, ValueError):
        raise ValueError(f"Invalid betas: {betas!r}; give a pair such as (0.9, 0.999)") from None
    for index, beta in enumerate((beta1, beta2)):
        if not _holds(lambda x: 0.0 <= x < 1.0, beta):
            raise ValueError(f"Invalid beta parameter at index {index}: {beta}; it must be in [0, 1)")
