"""The native engine: one optimizer's parameters in a table, stepped by the compiled kernel.

The table is made from the groups and the state. Every step looks natively at all that can have moved since:
gradients, storages, state tensors, groups. Parameters that the kernel cannot take run on the generic engine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adamantine.rules import Rule
from adamantine.rules.decay import Coefficients
from adamantine.torch.norm import Squares

native: ModuleType | None
try:
    from adamantine import _native as native
except ModuleNotFoundError as error:  # a checkout that was not built; a broken build is another ImportError
    native = None
    MISSING = f"this installation has no compiled kernel ({error}); pip install adamantine brings one"

_PLAIN, _COUPLED, _CAUTIOUS = range(3)

Group = dict[str, Any]


class Lot(NamedTuple):
    """Tensors that share every host number: their group's index, the number of this step, what they carry."""

    group: int
    t: int
    carried: dict[str, float]


class Gathered(NamedTuple):
    """What a step is about to move: natively, in ``lots``, and the indices of parameters it cannot take.

    incomplete: some parameter has no state yet, and `run` would refuse; the norm can be had all the same.
    overlapping: some were refused because they write the same memory; they are to run one after the other.
    """

    lots: list[Lot]
    refused: list[int]
    incomplete: bool
    overlapping: bool


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
        self.protocol: str = self._reader.protocol

    def __enter__(self) -> NativeEngine:
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        if self._table is not None:
            self._table.release()
        self._lock.release()

    def gather(
        self, groups: list[Group], rules: list[Rule], state: Any, fresh: Iterable[Tensor] = ()
    ) -> Gathered:
        """Look at every parameter that has a gradient.

        ``fresh``: parameters whose state was made for this very step, after an incomplete gather.
        """
        assert native is not None
        found = None if self._table is None or rules != self._rules else self._table.gather(groups, state)
        if found is None:  # the groups or the state are others than those the table was made of
            described = [
                (group, rule.name, list(rule.slots.values()), _counters(rule))
                for group, rule in zip(groups, rules, strict=True)
            ]
            self._table, self._rules = native.Table(described, state, set(fresh), self._reader), rules
            found = self._table.gather(groups, state)
        rows, refused, incomplete, overlapping = found
        return Gathered([_lot(rules[row[0]], *row) for row in rows], refused, incomplete, overlapping)

    def sum_of_squares(self) -> float:
        """Σg² over the gathered gradients, as in `adamantine.torch.norm`."""
        return float(self._table.squares(torch.get_num_threads()))

    def statistics(self) -> list[tuple[Tensor, Squares]]:
        """Of the last `sum_of_squares`, for each gradient that was gathered."""
        return [(p, Squares(total, largest)) for p, total, largest in self._table.statistics()]

    def run(self, rows: list[tuple[int, list[Any], tuple[float, ...]]], grad_scale: float) -> None:
        """Step everything gathered; ``rows[i]`` as `row` made it of lot i."""
        moved = self._table.gathered()
        self._table.run(rows, grad_scale, torch.get_num_threads())
        torch.autograd.graph.increment_version(moved)  # a graph that still needs the old θ is to say so

    def reasons(self) -> list[str | None]:
        """Per parameter: None where the kernel takes it, else why not."""
        return list(self._table.reasons())


def row(
    lot: Lot, rule: Rule, hyper: dict[str, Any], decay: Coefficients, eta: float, sign: float
) -> tuple[int, list[Any], tuple[float, ...]]:
    """The host numbers of a lot, in the kernel's order."""
    scalars = rule.scalars(lot.t, **hyper, **lot.carried)
    form = _CAUTIOUS if decay.cautious else _COUPLED if decay.couple != 0.0 else _PLAIN
    numbers = [sign, decay.couple, decay.shrink, eta, *map(scalars.__getitem__, SCALARS[rule.name])]
    renewed = [float(scalars[name]) for name in rule.carried] if rule.carried else []
    return form, numbers, (float(lot.t), *renewed) if rule.counts_steps else ()


def _counters(rule: Rule) -> list[str]:
    return [*(["step"] if rule.counts_steps else []), *rule.carried]


def _lot(rule: Rule, group: int, fresh: bool, counters: tuple[float, ...]) -> Lot:
    if not rule.counts_steps:
        return Lot(group, 1 if fresh else 2, {})
    carried = dict(zip(rule.carried, counters[1:], strict=True)) if rule.carried else {}
    return Lot(group, int(counters[0]) + 1, carried)


#: Rule → the names of its scalars in the order of the kernel's struct. A rule that is not here has no kernel.
SCALARS: dict[str, list[str]] = (
    {} if native is None else {name: scalars.split() for name, _, scalars in native.rules}
)
