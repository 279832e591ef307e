"""The numbers of the group under test: as they are, and as they are measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adamantine.probe.rig import Rig, stated_decay
from adamantine.schedules import peak_lr


@dataclass(frozen=True)
class Setting:
    """λ and lr of the group, and the lr to measure at, which is another one where the present one is 0."""

    group: Mapping[str, Any]
    weight_decay: float
    off: float | None  # the λ of the run without decay; None where there is no λ to set
    real_lr: float
    lr: float

    @classmethod
    def of(cls, rig: Rig, weight_decay: float | None) -> Setting:
        """Of the factory's group; ``weight_decay`` in place of the group's, if given."""
        group = rig.group()
        stated = stated_decay(group) if weight_decay is None else weight_decay
        real_lr = number(group, "lr")
        lr = real_lr if real_lr > 0 else _some_lr(group)
        return cls(group, stated or 0.0, None if stated is None else 0.0, real_lr, lr)

    @property
    def override(self) -> float | None:
        """The lr to give in place of a 0; None leaves what there is, the optimizer's own included."""
        return self.lr if self.group.get("lr") is not None and self.real_lr == 0 else None

    @property
    def peaks(self) -> list[float]:
        """What the optimizer may take for the highest lr of its schedule."""
        stated = {key: value for key, value in self.group.items() if value is not None}
        peaks = [self.lr, peak_lr({**stated, "lr": self.lr})]
        peaks += [number(self.group, key) for key in ("initial_lr", "max_lr", "peak_lr", "constructed_lr")]
        return [peak for peak in peaks if peak > 0]

    def at_real(self, rate: float, weight_decay: float, power: int | None) -> float:
        """A rate measured at λ = ``weight_decay``, at the λ and lr of the group."""
        ratio = 1.0 if self.group.get("lr") is None else self.real_lr / self.lr
        return float(rate * self.weight_decay / weight_decay * ratio ** (power or 0))


def number(group: Mapping[str, Any], key: str) -> float:
    """A hyperparameter, or 0 where there is none."""
    value = group.get(key)
    return 0.0 if value is None else float(value)


def _some_lr(group: Mapping[str, Any]) -> float:
    """An lr to measure with where the present one is 0, as in the first step of a warm-up."""
    for key in ("peak_lr", "max_lr", "initial_lr", "constructed_lr"):
        if (value := number(group, key)) > 0:
            return value
    return 1e-3
