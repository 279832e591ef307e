"""The codes under other rules than AdamW: what each rule's slots do to rounding.

The same measure as in quantization_cases.py, with u of any rule of `adamantine.rules` at its defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quantization_cases import CASES, At, Case, Roundtrip, error
from quantization_codes import Ours, Rounding, our_code

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
        numbers = {k: np.float32(x) if isinstance(x, float) else x for k, x in scalars.items()}
        for k, g in enumerate(gradients):
            u, *new = rule.direction(g, *slots[k], **numbers)
            if t > case.counted_from:
                found[k] += u
            at = At(t, k, seed, g * g)  # no code here asks for v
            slots[k] = [
                codes[letter](x, at) if letter in codes else x
                for letter, x in zip(rule.slots, new, strict=True)
            ]
    return found


def rule_error(case: Case, name: str, codes: Mapping[str, Roundtrip], seed: int = 0) -> float:
    """Against the same rule with float32 slots."""
    rule = RULES[name]
    return error(displacement(case, rule, codes, seed), displacement(case, rule, {}, seed))


#: Rule, slots coded, and the ways to round them that are compared.
ASKED: tuple[tuple[str, str, tuple[Rounding, ...]], ...] = (
    ("adagrad", "s", ("nearest", "weyl")),
    ("rmsprop", "v", ("nearest", "weyl")),
    ("adamax", "n", ("nearest", "weyl")),
    ("amsgrad", "w", ("nearest", "weyl")),
    ("lion", "m", ("nearest", "weyl")),
    ("heavy_ball", "m", ("nearest", "weyl")),
)
WHERE = ("alike", "spread", "alike, mean 0", "shift")


def measure_rules(*, quick: bool) -> dict[str, Any]:
    """In the form of quantization.py's studies: one slot coded, the others exact."""
    rows: dict[str, dict[str, list[float]]] = {}
    for name, letter, ways in ASKED:
        signed = letter not in RULES[name].unsigned
        for bits in (8, 4):
            for way in ways:
                codes = {letter: Ours(our_code(bits, signed), way)}
                row = rows.setdefault(f"{name} {letter}, {bits} bits, {way}", {})
                for case in WHERE:
                    found = [rule_error(CASES[case], name, codes, s) for s in range(1 if quick else 2)]
                    row[case] = [float(np.mean(found)), float(np.max(found))]
    return {
        "question": "Do other rules' slots want the same rounding?",
        "bytes": {row: (8 if "8 bits" in row else 4) / 8 + 1 / 32 for row in rows},
        "errors": rows,
    }
