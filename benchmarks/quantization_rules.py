"""The codes under other rules than AdamW: what each rule's slots do to rounding.

The same measure as in quantization_cases.py, with u of any rule of `adamantine.rules` at its defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quantization_cases import At, Case, Roundtrip, error

from adamantine.rules import RULES
from adamantine.rules.rule import Rule

Array = NDArray[Any]


def displacement(case: Case, rule: Rule, codes: Mapping[str, Roundtrip], seed: int) -> list[Array]:
    """Σ u of a rule whose slots, by letter, go through codes; float64, one array per tensor."""
    slots: list[list[Array]] = []
    found: list[Array] = []
    carried: dict[str, Any] = dict(rule.carried)
    for t, gradients in enumerate(case.gradients(seed), 1):
        if t == 1:
            start = {s: rule.hyper[rule.initial[s]] if s in rule.initial else 0.0 for s in rule.slots}
            slots = [[np.full_like(g, start[s]) for s in rule.slots] for g in gradients]
            found = [np.zeros(g.shape) for g in gradients]
        scalars, carried = rule.host(t if rule.counts_steps else min(t, 2), rule.hyper, carried)
        numbers = {k: np.float32(x) for k, x in scalars.items()}
        for k, g in enumerate(gradients):
            u, *new = rule.direction(g, *slots[k], **numbers)
            if t > case.counted_from:
                found[k] += u
            at = At(t, k, seed, new[-1])
            slots[k] = [
                codes[letter](x, at) if letter in codes else x
                for letter, x in zip(rule.slots, new, strict=True)
            ]
    return found


def rule_error(case: Case, name: str, codes: Mapping[str, Roundtrip], seed: int = 0) -> float:
    """Against the same rule with float32 slots."""
    rule = RULES[name]
    return error(displacement(case, rule, codes, seed), displacement(case, rule, {}, seed))
