"""What decay and gradients do to every parameter while it trains.

    with Ledger(optimizer, model) as ledger:
        train()
    print(ledger.report().layers)

Nothing of the training changes: weights, gradients, state and random numbers are read, never written, and all
bits of a run are the same with the ledger as without it (tests/audit/ledger/test_untouched.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from adamantine.audit.distortion import Spread
from adamantine.audit.errors import AuditError
from adamantine.audit.ledger_findings import findings
from adamantine.audit.ledger_pace import Pace
from adamantine.audit.ledger_sample import share
from adamantine.audit.ledger_series import Series, layer_row
from adamantine.audit.ledger_watch import Before, Watch
from adamantine.audit.model import LedgerReport


class Ledger:
    """Watches optimizers at work. Use it as a context, or `attach` and `detach`, or call `after_step`.

    What it reads of a step: up to 4096 elements of each parameter (the same ones every time), their
    gradients and state, before and after. `adamantine.audit.ledger_split` says how the decay is told from
    the rest.

    Args:
        optimizer: any ``torch.optim.Optimizer``, or several. Without hooks (``param_groups`` is all that is
            needed) call `after_step` in the loop.
        model: for the names of the parameters.
        every: measure step 1 and every so many steps from then on, which is reproducible; None: as often as
            1.25 % of the training time pay for (and 0.4 % for looking through gradients).

    Raises:
        AuditError: ``every`` is not a whole number > 0; something has no ``param_groups``.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5, weight_decay=0.1)
    >>> with Ledger(optimizer, model, every=1) as ledger:
    ...     model(torch.ones(1, 2)).sum().backward()
    ...     optimizer.step()
    >>> row = ledger.report().layers[0]
    >>> row.name, row.gradient, round(row.gradient_step, 6)
    ('weight', 1.0, 0.5)
    """

    def __init__(self, optimizer: Any | Sequence[Any], model: nn.Module, *, every: int | None = None) -> None:
        optimizers: list[Any] = list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
        for each in optimizers:
            if not hasattr(each, "param_groups"):
                raise AuditError(
                    f"optimizer: {type(each).__name__} has no param_groups; give a "
                    "torch.optim.Optimizer, or a list of them"
                )
        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise AuditError(
                f"every: {every!r} is not a whole number > 0; leave it out to measure as time allows"
            )
        self._optimizers, self._model = optimizers, model
        self._pace = Pace(every)
        self._watches: list[Watch] = []
        self._series = Series()
        self._pending: dict[int, Before] = {}
        self._awake: set[int] = set()  # optimizers whose step has begun with the ledger awake
        self._handles: list[Any] = []
        self._called = False  # by after_step, not by hooks

    # --- three ways to use it

    def __enter__(self) -> Ledger:
        return self.attach()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def attach(self) -> Ledger:
        """Hook into the optimizers' steps.

        Raises:
            AuditError: one has no step hooks (`after_step` is for those) or releases its gradients, or the
                ledger is attached already.
        """
        if self._handles:
            raise AuditError("the ledger is attached already; detach() it first")
        for each in self._optimizers:
            if not hasattr(each, "register_step_pre_hook"):
                raise AuditError(
                    f"optimizer: {type(each).__name__} has no step hooks; "
                    "call ledger.after_step() after each step"
                )
        self._open()
        for watch in self._watches:
            watch.refuse_released()
        for index, each in enumerate(self._optimizers):
            self._handles.append(each.register_step_pre_hook(self._pre_hook(index)))
            self._handles.append(each.register_step_post_hook(self._post_hook(index)))
        return self

    def detach(self) -> None:
        """Leave no hook behind; what was measured stays. Does nothing where nothing is attached."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._pending.clear()
        self._awake.clear()

    def after_step(self) -> None:
        """For loops without hooks: call it right after each step, before the gradients are cleared.

        The first call only looks at the weights: step 1 itself is not measured.

        Raises:
            AuditError: the ledger is attached to hooks too, and would count every step twice.
        """
        if self._handles:
            raise AuditError(
                "after_step() is for loops without hooks; this ledger is attached to them already"
            )
        if not self._watches:
            self._open()
        if not self._pending and self._pace.rests():
            for watch in self._watches:
                watch.steps += 1
            return
        self._pace.wake()
        for index in range(len(self._watches)):
            self._end(index)
            self._begin(index, makes_gradients=True)
        self._pace.sleep()

    # --- what came of it

    @property
    def steps(self) -> int:
        """Steps seen, of the optimizer that made the most."""
        return max((watch.steps for watch in self._watches), default=0)

    def report(self) -> LedgerReport:
        """All of it so far; at any time, attached or not."""
        watched = [each for watch in self._watches for each in watch.watched]
        layers = tuple(
            layer_row(each, self._series.of(index, place))
            for index, watch in enumerate(self._watches)
            for place, each in enumerate(watch.watched)
        )
        spread = Spread.of([each.rates for each in watched])
        steps, measured = self.steps, self._series.measured
        return LedgerReport(
            steps=steps,
            measured=measured,
            every=self._pace.every or max(1, round(steps / max(measured, 1))),
            layers=layers,
            distortion=spread.binned() if spread else None,
            findings=tuple(findings(self._watches, layers, spread)),
            checked=max((watch.checked for watch in self._watches), default=0),
        )

    def write(self, path: Path | str) -> None:
        """Append what was measured since the last call, one JSON object per parameter and measured step.

        Of more than 512 measured steps a regular selection is kept.

        Keys: ``step``, ``name``, and those of `adamantine.audit.model.LayerRow`; null where there is no
        number. Whole lines are appended in one write, so that a reader never sees a part of one.
        """
        names = [[each.name for each in watch.watched] for watch in self._watches]
        lines = [json.dumps(line, allow_nan=False) + "\n" for line in self._series.unwritten(names)]
        if lines:
            with Path(path).open("ab", buffering=0) as out:
                out.write("".join(lines).encode())

    # --- at work

    def _open(self) -> None:
        names: dict[Tensor, str] = {p: name for name, p in self._model.named_parameters()}
        count = sum(len(group["params"]) for each in self._optimizers for group in each.param_groups)
        self._watches = self._watches or [Watch(each, names, share(count)) for each in self._optimizers]

    def _pre_hook(self, index: int) -> Callable[..., None]:
        def before(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if _hidden() or self._pace.rests():
                return
            self._awake.add(index)
            self._pace.wake()
            # args[0] is the optimizer itself
            closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
            self._begin(index, makes_gradients=closure is not None)
            self._pace.sleep()

        return before

    def _post_hook(self, index: int) -> Callable[..., None]:
        def after(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if _hidden():
                return
            if index not in self._awake:
                self._watches[index].steps += 1
                return
            self._awake.discard(index)
            self._pace.wake()
            self._end(index)
            self._pace.sleep()

        return after

    def _begin(self, index: int, *, makes_gradients: bool) -> None:
        """A step is to come."""
        watch = self._watches[index]
        if watch.failure is None and self._pace.measures(watch.steps + 1):
            with watch.guarded(watch.steps + 1):
                self._pending[index] = watch.before(makes_gradients=makes_gradients)

    def _end(self, index: int) -> None:
        """A step is over."""
        watch = self._watches[index]
        watch.steps += 1
        before = self._pending.pop(index, None)
        checks = before is not None or self._pace.checks()
        with watch.guarded(watch.steps):
            if checks and watch.failure is None:
                watch.check()
            if before is not None and watch.failure is None:
                rows = watch.after(before)
                self._series.add(watch.steps, index, rows, [each.norm for each in watch.watched])
        self._pace.settle("measure" if before is not None else "check" if checks else "nothing")


def _hidden() -> bool:
    """Whether this step is being recorded, to be replayed without Python: nothing can be read there."""
    if torch.compiler.is_compiling():
        return True
    # Not is_available(), which asks the driver, at every step.
    return bool(torch.cuda._initialized) and torch.cuda.is_current_stream_capturing()
