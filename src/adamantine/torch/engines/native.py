"""The native engine: one optimizer's parameters in a table, stepped by the compiled kernel.

The table is made from the groups and the state. Every step looks natively at all that can have moved since:
gradients, storages, state tensors, groups. Parameters that the kernel cannot take run on the generic engine.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from adamantine.rules import Rule
from adamantine.rules.decay import Coefficients
from adamantine.torch.kernel import MISSING, SCALARS, native
from adamantine.torch.norm import Squares
from adamantine.torch.storage import layout as storage
from adamantine.torch.storage.checks import check_kept

PLAIN, COUPLED, CAUTIOUS = range(3)  # the forms of a step (native/apply.hpp)

Group = dict[str, Any]

#: All there are, since a child that is forked in the middle of another thread's step must not wait for it.
_ENGINES: weakref.WeakSet[NativeEngine] = weakref.WeakSet()
_making = threading.Lock()


def engine_of(owner: Any) -> NativeEngine:
    """The engine in ``owner._native``, made on demand, and once though two threads take the first step."""
    with _making:
        if owner._native is None:
            owner._native = NativeEngine()
        engine: NativeEngine = owner._native
        return engine


#: Tensors that share every host number: the index of their group, whether this is their first step (for rules
#: that do not count), and the counters in their state. A plain tuple: small steps have no time for classes.
Lot = tuple[int, bool, tuple[float, ...]]


class NativeEngine:
    """The table of one optimizer. Use ``with engine:`` from gather to run: a step is one thread's.

    Attributes:
        protocol: how tensors are read: by torch's C interface (``"shim"``), by ``"dlpack"`` or by Python
            ``"attributes"``, the fastest that this torch has. ADAMANTINE_PROTOCOL asks for one.
    """

    def __init__(self, protocol: str = os.environ.get("ADAMANTINE_PROTOCOL", "")) -> None:
        if native is None:
            raise RuntimeError(MISSING)
        self._reader = native.Reader(torch.Tensor, torch.nn.Parameter, protocol)
        self._lock = threading.RLock()  # a step that refuses explains itself
        self._table: Any = None
        self._rules: list[Rule] = []
        self._options: list[tuple[Any, Any]] = []
        self.protocol: str = self._reader.protocol
        _ENGINES.add(self)

    def __enter__(self) -> NativeEngine:
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        if self._table is not None:
            self._table.release()
        self._lock.release()

    def gather(
        self, groups: list[Group], rules: list[Rule], state: Any, fresh: Iterable[Tensor] = ()
    ) -> tuple[list[Lot], list[int], bool, bool]:
        """Look at every parameter that has a gradient.

        Args:
            groups, rules, state: the optimizer's, the rules by group.
            fresh: parameters whose state was made for this very step, after an incomplete gather.

        Returns:
            lots: what the kernel is about to move.
            refused: indices of parameters that it cannot take.
            incomplete: whether some parameter has no state yet: the norm can be had, but `run` refuses.
            overlapping: whether some write the same memory, and so have to run one after the other.
        """
        assert native is not None
        options = [(group["state"], group["weights"]) for group in groups]
        same = self._table is not None and rules == self._rules and options == self._options
        found = self._table.gather(groups, state) if same else None
        if found is None:  # the groups or the state are others than those the table was made of
            described = [_described(group, rule, state) for group, rule in zip(groups, rules, strict=True)]
            self._table, self._rules = native.Table(described, state, set(fresh), self._reader), rules
            self._options = [(copy(asked), weights) for asked, weights in options]
            found = self._table.gather(groups, state)
        return found  # type: ignore[no-any-return]

    def sum_of_squares(self) -> tuple[float, Callable[[], list[tuple[Tensor, Squares]]]]:
        """Σg² over the gathered gradients, as in `adamantine.torch.norm`; and, on demand, that of each."""
        table = self._table
        total = float(table.squares(torch.get_num_threads()))
        return total, lambda: [(p, Squares(part, largest)) for p, part, largest in table.statistics()]

    def run(self, rows: list[tuple[int, list[Any], tuple[float, ...]]], grad_scale: float) -> None:
        """Step everything gathered; ``rows[i]`` as `host_row` made it of lot i."""
        table = self._table
        moved = table.gathered()
        table.run(rows, grad_scale, torch.get_num_threads())
        increment_version(moved)  # a graph that still needs the old θ is to say so

    def refusal(self, index: int) -> str:
        """Why the last `gather` refused this parameter."""
        return str(self._table.refusal(index))

    def reasons(self) -> list[str | None]:
        """Per parameter: None where the kernel takes it, else why not."""
        return list(self._table.reasons())


def host_row(
    lot: Lot, rule: Rule, hyper: dict[str, Any], decay: Coefficients, eta: float, sign: float
) -> tuple[int, list[Any], tuple[float, ...]]:
    """The host numbers of a lot, in the kernel's order: form, numbers, and the counters after the step."""
    _, fresh, counters = lot
    t = int(counters[0]) + 1 if rule.counts_steps else 1 if fresh else 2
    if rule.carried:
        scalars = rule.scalars(t, **hyper, **dict(zip(rule.carried, counters[1:], strict=True)))
        renewed = (float(t), *(float(scalars[name]) for name in rule.carried))
    else:
        scalars = rule.scalars(t, **hyper)
        renewed = (float(t),) if rule.counts_steps else ()
    couple, shrink, cautious = decay
    form = CAUTIOUS if cautious else COUPLED if couple != 0.0 else PLAIN
    return form, [sign, couple, shrink, eta, *[scalars[name] for name in SCALARS[rule.name]]], renewed


def _described(group: Group, rule: Rule, state: Any) -> tuple[Any, ...]:
    """A group as the table is told of it; headers are where it looks for them, ``_scale`` behind the key."""
    how = storage.formats(group, rule)
    for p in group["params"]:
        check_kept(state.get(p, {}), p, rule, how)
    keys = [how.key(place, key) for place, key in enumerate(rule.slots.values())]
    counters = [*(["step"] if rule.counts_steps else []), *rule.carried]
    slots = [(*slot, partner) for slot, partner in zip(how.slots, how.partners, strict=True)]
    return group, rule.name, keys, counters, slots, how.weights


def _unlock() -> None:
    global _making
    _making = threading.Lock()
    for engine in _ENGINES:
        engine._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)
