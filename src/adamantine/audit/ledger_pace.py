"""When the ledger measures: at every so many steps, or as often as a budget of time allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

#: Shares of the training time that the ledger may take when it sets its own pace. Together 1.65 %, which
#: leaves room for what it cannot count (caches that it displaces, torch's calls of the hooks) below 5 %.
MEASURING, CHECKING = 0.0125, 0.004


class Allowance:
    """A share of the time that passes, saved up until it pays for one more piece of work, and no further:
    a pause of the training (validation, a notebook) buys no burst of measurements afterwards.

    >>> allowance = Allowance(0.02)
    >>> allowance.affords()  # the first time is free, to learn the price
    True
    >>> allowance.pay(0.010); allowance.earn(0.3); allowance.affords()
    False
    >>> allowance.earn(0.3); allowance.affords(), round(allowance.saved, 6)
    (False, 0.002)
    >>> allowance.earn(9.0); allowance.affords(), round(allowance.saved, 6)
    (True, 0.01)
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.saved = 0.0  # seconds; negative: owed
        self.price: float | None = None  # of the cheapest so far of the last few

    def earn(self, seconds: float) -> None:
        """So much training went by."""
        self.saved = min(self.saved + self.share * seconds, max(self.saved, self.price or 0.0))

    def affords(self) -> bool:
        """Whether the next piece of work is paid for."""
        return self.price is None or self.saved >= self.price

    def wait(self) -> float:
        """Seconds of training until then.

        >>> allowance = Allowance(0.02)
        >>> allowance.pay(0.010); allowance.wait()
        1.0
        """
        return 0.0 if self.price is None else max(0.0, self.price - self.saved) / self.share

    def pay(self, seconds: float) -> None:
        """What a piece of work has cost."""
        self.saved -= seconds
        # The first is dear: memory is new and code is cold. The price follows quickly down, slowly up.
        self.price = seconds if self.price is None else min(seconds, 1.25 * self.price)


class Pace:
    """Decides before each step. ``every``: a number of steps, which makes all results reproducible, or None.

    >>> pace = Pace(every=10)
    >>> [step for step in range(1, 42) if pace.measures(step)]
    [1, 10, 20, 30, 40]
    """

    def __init__(self, every: int | None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.every = every
        self._clock = clock
        self._measuring, self._checking = Allowance(MEASURING), Allowance(CHECKING)
        self._left: float | None = None  # when the ledger last went to sleep
        self._due = -math.inf  # before this time nothing is affordable
        self._work = 0.0

    def rests(self) -> bool:
        """Whether there is nothing to do yet: one look at the clock, for the hooks of almost all steps."""
        return self._clock() < self._due

    def wake(self) -> None:
        """The training stops here and the ledger's own time begins."""
        now = self._clock()
        if self._left is not None:
            for allowance in (self._measuring, self._checking):
                allowance.earn(now - self._left)
        self._left = now

    def sleep(self) -> None:
        """The training goes on."""
        now = self._clock()
        if self._left is not None:
            self._work += now - self._left
        self._left = now

    def measures(self, step: int) -> bool:
        """Whether step number ``step``, counted from 1, is to be measured."""
        if self.every is not None:
            return step == 1 or step % self.every == 0
        return self._measuring.affords()

    def checks(self) -> bool:
        """Whether the gradients of a step that is not measured are looked through for inf and NaN."""
        return self.every is not None or self._checking.affords()

    def settle(self, work: str) -> None:
        """Charge the time since the last call to ``"measure"``, ``"check"``, or to ``"nothing"``: hooks that
        did no work are too cheap to be paid for, and are in neither price."""
        self.sleep()
        spent, self._work = self._work, 0.0
        if work == "measure":
            self._measuring.pay(spent)
        elif work == "check":
            self._checking.pay(spent)
        if self.every is None and self._left is not None:
            self._due = self._left + min(self._measuring.wait(), self._checking.wait())
