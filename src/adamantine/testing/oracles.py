"""Which classes are known by name, and what the paper of that name says they compute.

A name is a promise: whoever writes ``AdamW`` expects Loshchilov & Hutter's algorithm. Only names whose
formula is not in doubt are listed; every other class is checked for everything but the formula.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from adamantine.rules import RULES
from adamantine.rules.decay import MODES


@dataclass(frozen=True)
class Oracle:
    """The rule behind a class name.

    Attributes:
        family: the name without storage and paging words: ``"AdamW"`` of ``"PagedAdamW8bit"``.
        rule: name of the rule of `adamantine.rules.RULES` without further options.
        variants: hyperparameters to compare under, beside the defaults; those that the class does not take
        are
            left out.
        scale_invariant: whether the paper's step is the same for g and c·g, c > 0, up to ε.
        given: arguments that make it the paper's, where the class takes them.
        stored: ``"exact"``, or ``"quantized"`` where the state is kept in 8 bits or less.
    """

    family: str
    rule: str
    variants: tuple[Mapping[str, Any], ...] = field(default=())
    scale_invariant: bool = True
    given: Mapping[str, Any] = field(default_factory=dict)
    stored: str = "exact"


_ADAM = ({"betas": (0.8, 0.95), "eps": 1e-2}, {"amsgrad": True})
_MOMENTUM = ({"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.5}, {"momentum": 0.9, "nesterov": True})
#: ε = 1e-2 beside gradients of size 1: inside the root, outside, or before bias correction are then far
#: apart.
_NADAM = ({"betas": (0.8, 0.95), "eps": 1e-2}, {"momentum_decay": 0.1})
#: RMSprop's lecture, Adamax's and RAdam's algorithms have no ε, and each implementation puts it elsewhere.
_BETAS = ({"betas": (0.8, 0.95)},)
_RMSPROP = ({"alpha": 0.9}, {"alpha": 0.9, "centered": True}, {"alpha": 0.9, "momentum": 0.9})

KNOWN = {
    oracle.family: oracle
    for oracle in (
        Oracle("SGD", "sgd", _MOMENTUM, scale_invariant=False),
        Oracle("SGDW", "sgd", _MOMENTUM, scale_invariant=False),
        Oracle("Adagrad", "adagrad", ({"eps": 1e-2}, {"lr_decay": 0.5}, {"initial_accumulator_value": 0.5})),
        Oracle("RMSprop", "rmsprop", _RMSPROP),
        Oracle("Adam", "adam", _ADAM),
        Oracle("AdamW", "adam", _ADAM),
        Oracle("Adamax", "adamax", _BETAS),
        Oracle("NAdam", "nadam", _NADAM),
        Oracle("RAdam", "radam", _BETAS, scale_invariant=False),  # its first steps are momentum SGD's
        Oracle("Lion", "lion", _BETAS),
        # a·atan2(m̂, b√v̂) elsewhere
        Oracle("AdamAtan2", "adam_atan2", _BETAS, given={"a": 1.0, "b": 1.0}),
    )
}

_STORAGE = re.compile(r"^(Paged|CPU|Fused|Foreach)|_?(8bit|4bit|32bit|Fp8|FP8)$")
_QUANTIZED = re.compile(r"8bit|4bit|Fp8|FP8")
_DECOUPLED = re.compile(r"(SGD|[a-z])W(?![a-z])|^(Paged)?Lion|AdamAtan2")

#: The modes in which the decay does not pass through the gradient.
DECOUPLED = frozenset({"decoupled", "independent", "corrected", "cautious", "fixed"})

#: Arguments that choose between L2 and decoupled decay, in the wild.
SWITCHES = ("decoupled_weight_decay", "weight_decouple", "decouple_wd", "decoupled_wd", "decoupled_decay")

#: torch.optim's default weight_decay, of the classes whose name others use too.
TORCH_DEFAULT = {
    "SGD": 0.0,
    "Adagrad": 0.0,
    "RMSprop": 0.0,
    "Adam": 0.0,
    "AdamW": 1e-2,
    "Adamax": 0.0,
    "NAdam": 0.0,
    "RAdam": 0.0,
}


def family_of(name: str) -> str:
    """The class name without words for storage and implementation.

    >>> family_of("PagedAdamW8bit"), family_of("CPUAdam"), family_of("AdamW")
    ('AdamW', 'Adam', 'AdamW')
    """
    before = None
    while before != name:
        before, name = name, _STORAGE.sub("", name)
    return name


def oracle_of(name: str, hyper: Mapping[str, Any] | None = None) -> Oracle | None:
    """The oracle of a class name, or None; ``hyper`` may say that the state is kept in codes.

    >>> oracle_of("AdamW8bit").rule, oracle_of("AdamW8bit").stored
    ('adam', 'quantized')
    >>> oracle_of("AdamW", {"state": {"exp_avg": "4bit"}}).stored, oracle_of("AdamW").stored
    ('quantized', 'exact')
    >>> oracle_of("Shampoo") is None
    True
    """
    oracle = KNOWN.get(family_of(name))
    state = (hyper or {}).get("state")  # adamantine.torch
    stored = " ".join([name, *map(str, state.values() if isinstance(state, Mapping) else [state])])
    if oracle is None or not _QUANTIZED.search(stored):
        return oracle
    return replace(oracle, stored="quantized")


def promises_decoupled(name: str) -> bool:
    """Whether the name says that the decay is decoupled: a W after an optimizer's name, or Lion, Adam-atan2.

    >>> [promises_decoupled(name) for name in ("AdamW", "SGDW", "Lion", "AdamWScheduleFree")]
    [True, True, True, True]
    >>> [promises_decoupled(name) for name in ("Adam", "SWATS", "Muon")]
    [False, False, False]
    """
    return _DECOUPLED.search(name) is not None


def promised_decay(name: str, hyper: Mapping[str, Any]) -> frozenset[str]:
    """The decay modes of which one is promised, by a mode among the arguments or by the name; empty: none is.

    >>> sorted(promised_decay("Adam", {"decay": "independent"}))
    ['independent']
    >>> "l2" in promised_decay("AdamW", {}), sorted(promised_decay("Adam", {}))
    (False, [])
    """
    if (stated := hyper.get("decay")) in MODES:
        return frozenset({"ignored" if stated == "none" else stated})
    switched = [bool(hyper[switch]) for switch in SWITCHES if switch in hyper]
    decoupled = switched[0] if switched else promises_decoupled(name)
    return DECOUPLED if decoupled else frozenset()


def rule_of(oracle: Oracle, hyper: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The rule and its hyperparameters, of what a constructor was given and a group holds."""
    name = oracle.rule
    momentum = hyper.get("momentum") or 0.0
    if name == "sgd" and momentum:
        name = "nesterov" if hyper.get("nesterov") else "heavy_ball"
    if name == "rmsprop":
        name += ("_centered" if hyper.get("centered") else "") + ("_momentum" if momentum else "")
    if name == "adam" and hyper.get("amsgrad"):
        name = "amsgrad"
    known = RULES[name].hyper
    return name, {key: hyper[key] for key in known if hyper.get(key) is not None}
