"""What a rule is: the direction of one paper, and the numbers the host computes for it.

A rule never sees the learning rate's use, the weight decay, the storage format or the engine. It states

    u, slots = direction(g, slots, scalars)

elementwise, in the paper's letters; `apply.py` turns ``u`` into a step, once for all rules.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

Scalars = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """One update direction.

    Attributes:
        name: registry name, for instance ``"adam"``.
        paper: where the direction comes from.
        direction: ``direction(g, *slots, **scalars) -> (u, *slots)``; every array has the shape of θ.
        slots: letter in ``direction`` → key in a state dict (torch's name where torch has the rule).
        scalars: ``scalars(t, **hyper, **carried) -> dict``: what ``direction`` takes beside the arrays, for
            step ``t = 1, 2, …``, in double precision, so that no ``1 - beta`` is rounded per language.
        hyper: hyperparameters beside ``lr`` and ``weight_decay``, with their defaults.
        carried: host numbers kept from step to step (NAdam's Πμ), with their initial values. `scalars`
            takes the old value under this name and returns the new one.
        counts_steps: whether the state keeps ``step``. Where it does not, ``t`` is 1 in the step that makes
            the slots and 2 ever after.
        zero_at_zero: a zero gradient gives ``u = 0`` and leaves the slots alone, so that rows without a
            gradient may be left out (sparse gradients).
        initial: slot letter → name of the hyperparameter that fills it at the start (zero otherwise).
        unsigned: letters of the slots that are never negative and divide u: a format must not make them zero.
        relative: letter of a moment → letter of the second moment in whose root a short format measures it.
        cancelling: letters of slots that are subtracted from each other under a divisor: what a format of few
            bits leaves of the difference is its own error, or nothing at all.
        elementwise: every element is updated by itself, so an engine may cut arrays where it likes.
    """

    name: str
    paper: str
    direction: Callable[..., tuple[Any, ...]]
    scalars: Callable[..., Scalars]
    slots: Mapping[str, str] = field(default_factory=dict)
    hyper: Mapping[str, Any] = field(default_factory=dict)
    carried: Mapping[str, float] = field(default_factory=dict)
    counts_steps: bool = True
    zero_at_zero: bool = False
    initial: Mapping[str, str] = field(default_factory=dict)
    unsigned: frozenset[str] = frozenset()
    relative: Mapping[str, str] = field(default_factory=dict)
    cancelling: frozenset[str] = frozenset()
    elementwise: bool = True

    def host(self, t: int, hyper: Mapping[str, Any], carried: Mapping[str, float]) -> tuple[Scalars, Scalars]:
        """The scalars of step ``t`` and the new carried numbers; ``hyper`` may hold more than is asked."""
        scalars = self.scalars(t, **{name: hyper[name] for name in self.hyper}, **carried)
        return scalars, {name: scalars.pop(name) for name in self.carried}


def bind(function: Callable[..., Any], **names: Any) -> Callable[..., Any]:
    """The same code with other globals: the one text of a rule, run with another library's ``sqrt``.

    A rule file says ``from numpy import sqrt`` and is NumPy code as it stands. ``bind(direction,
    sqrt=torch.sqrt)`` is that very code object over a new dictionary of globals, so no front can drift from
    the text. Beside builtins, everything the function looks up must be among ``names``: a forgotten one is a
    NameError on the first call, never a silent NumPy call on a foreign array.

    >>> from math import sqrt
    >>> def length(x, y):
    ...     return sqrt(x * x + y * y)
    >>> bind(length, sqrt=lambda value: f"root of {value}")(3, 4)
    'root of 25'
    """
    if not isinstance(function, FunctionType):
        raise TypeError(f"bind needs a plain Python function, got {function!r}")
    return FunctionType(
        function.__code__,
        {"__builtins__": builtins, **names},  # C code called from here may import through them
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


def bind_module(module: ModuleType, **names: Any) -> SimpleNamespace:
    """Every function of a module as `bind` makes it, each calling the others so made.

    The module's own constants stay; what it imported must be among ``names``.

    >>> import adamantine.rules.arctan2 as module
    >>> bind_module(module, where=lambda condition, x, y: x if condition else y).arctan2(1.0, 1.0)
    0.7853981633974483
    """
    scope: dict[str, Any] = {"__builtins__": builtins}
    scope |= {name: value for name, value in vars(module).items() if isinstance(value, int | float)} | names
    own = {
        name: FunctionType(function.__code__, scope, name, function.__defaults__, function.__closure__)
        for name, function in vars(module).items()
        if isinstance(function, FunctionType) and function.__module__ == module.__name__
    }
    scope |= own
    return SimpleNamespace(**own)
