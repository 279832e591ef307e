"""Where a step with released gradients is: what has begun, what has cut it short, what came too late."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer


class Progress:
    """One step after the other of one optimizer.

    Attributes:
        has_begun: whether a gradient of this step has arrived.
        failed: whether an error is known to have cut it short.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self.begin()

    def begin(self) -> None:
        """Another step."""
        self.has_begun = self.failed = False
        self._in_backward = False
        self._settings: list[dict[str, Any]] | None = None  # of the groups when the first parameter moved

    def enter_backward(self) -> None:
        """A gradient has arrived: autograd is to say when its pass is complete."""
        if not self._in_backward:
            self._in_backward = True
            engine: Any = torch.autograd.Variable._execution_engine
            engine.queue_callback(_leave_backward(weakref.ref(self)))

    def leave_backward(self) -> None:
        self._in_backward = False

    def was_cut_short(self) -> bool:
        """Whether an error, ours or another's, has ended a backward pass of this step."""
        return self.failed or self._in_backward

    def move(self) -> None:
        """A parameter is about to move, by the groups as they are."""
        if self._settings is None:
            self._settings = _settings(self._optimizer)

    def warn_of_late_changes(self) -> None:
        """UserWarning if the groups are not what they were when parameters took this step."""
        late = sorted(
            {
                f"{name} of group {number} ({old[name]!r} → {new[name]!r})"
                for number, (old, new) in enumerate(
                    zip(self._settings or [], _settings(self._optimizer), strict=False)
                )
                for name in old.keys() & new.keys()
                if old[name] != new[name]
            }
        )
        if late:
            warnings.warn(
                f"{', '.join(late)} changed after backward, in which parameters had taken this step already, "
                "by the old value; with released gradients, set it before backward",
                UserWarning,
                stacklevel=5,
            )


def _settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The numbers that each group's steps go by."""
    return [
        {name: group[name] for name in optimizer.defaults if isinstance(group[name], (int, float, tuple))}
        for group in optimizer.param_groups
    ]


def _leave_backward(progress: Callable[[], Progress | None]) -> Callable[[], None]:
    """What autograd calls when a pass is complete, and does not when an error has ended it."""

    def end() -> None:
        alive = progress()
        if alive is not None:
            alive.leave_backward()

    return end
