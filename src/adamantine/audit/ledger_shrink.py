"""A group's decay per step, followed through the schedule without probing at every step."""

from __future__ import annotations

from typing import Any

from adamantine.probe import Behaviour, behaviour_of
from adamantine.probe.sandbox import decay_key


class Shrink:
    """The behaviour of one group, and the fraction of a weight that its decay removes at the present lr.

    A known class is read anew when lr or λ has changed, which is cheap. A probed one is scaled by the power
    of lr that the probe found, and probed anew where it found none.
    """

    def __init__(self, optimizer: Any, index: int) -> None:
        self._optimizer, self._index = optimizer, index
        self._at = (0.0, 0.0)  # lr and λ of the behaviour
        self._behaviour: Behaviour | None = None

    @property
    def _group(self) -> dict[str, Any]:
        group: dict[str, Any] = self._optimizer.param_groups[self._index]
        return group

    def settings(self) -> tuple[float, float]:
        """lr and λ now; 0 for one that the group has not."""
        group = self._group
        return _number(group.get("lr")), _number(group.get(decay_key(group)))

    def behaviour(self) -> Behaviour:
        """Read or probed at first, and again when lr or λ have changed as no scaling can follow."""
        now = self.settings()
        known = self._behaviour
        if known is None or (now != self._at and not self._scales(known, now)):
            known = self._behaviour = behaviour_of(self._optimizer, self._index)
            self._at = now
        return known

    def now(self) -> float | None:
        """`Behaviour.shrink` at the present lr and λ."""
        behaviour = self.behaviour()
        lr, weight_decay = self.settings()
        if behaviour.shrink is None or (lr, weight_decay) == self._at:
            return behaviour.shrink
        assert behaviour.lr_power is not None  # or `behaviour` would have probed
        return behaviour.shrink * (lr / self._at[0]) ** behaviour.lr_power * (weight_decay / self._at[1])

    def _scales(self, known: Behaviour, now: tuple[float, float]) -> bool:
        if known.source == "class":
            return False
        if known.source == "none":  # a second try would fail as the first did
            return True
        return known.shrink is None or (
            known.lr_power is not None and self._at[0] > 0 and self._at[1] > 0 and now[1] > 0
        )


def _number(value: Any) -> float:
    """Of a number or a tensor of one element; 0 for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return 0.0
