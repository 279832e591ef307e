"""The mathematics: one file per paper (`Rule`), decay and step once for all of them. NumPy only."""

from __future__ import annotations

from adamantine.rules.adagrad import ADAGRAD
from adamantine.rules.adam import ADAM
from adamantine.rules.adam_atan2 import ADAM_ATAN2
from adamantine.rules.adamax import ADAMAX
from adamantine.rules.amsgrad import AMSGRAD
from adamantine.rules.lion import LION
from adamantine.rules.nadam import NADAM
from adamantine.rules.radam import RADAM
from adamantine.rules.rmsprop import (
    RMSPROP,
    RMSPROP_CENTERED,
    RMSPROP_CENTERED_MOMENTUM,
    RMSPROP_MOMENTUM,
)
from adamantine.rules.rule import Rule, bind, bind_module
from adamantine.rules.sgd import HEAVY_BALL, NESTEROV, SGD

#: Every rule by name.
RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        SGD,
        HEAVY_BALL,
        NESTEROV,
        ADAGRAD,
        RMSPROP,
        RMSPROP_MOMENTUM,
        RMSPROP_CENTERED,
        RMSPROP_CENTERED_MOMENTUM,
        ADAM,
        AMSGRAD,
        ADAMAX,
        NADAM,
        RADAM,
        LION,
        ADAM_ATAN2,
    )
}

__all__ = ["RULES", "Rule", "bind", "bind_module"]
