"""Which hooks a step runs, where torch hooks base classes too."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import Parameter

from adamantine.testing.measure import copies, same
from adamantine.testing.subject import Subject


def hooks_seen(subject: Subject, params: list[Parameter], optimizer: torch.optim.Optimizer) -> list[str]:
    """Which hooks a step runs, in order; the first as "late" if it finds the weights moved."""
    before = copies(params)
    seen: list[str] = []
    optimizer.register_step_pre_hook(
        lambda *_: seen.append("before" if same(copies(params), before) else "before, but late")
    )
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    subject.run(params, optimizer, [0])
    return seen


@contextlib.contextmanager
def bases_constructed(cls: type) -> Iterator[list[type[torch.optim.Optimizer]]]:
    """As if each base class had been constructed; yields those with a step other than the class's."""
    bases: list[type[torch.optim.Optimizer]] = []
    seen = {inspect.unwrap(cls.__dict__["step"])} if "step" in cls.__dict__ else set()
    for base in reversed(cls.__mro__[1:]):  # the class that defines a step before those that inherit it
        own: Any = vars(base).get("step")
        if base is torch.optim.Optimizer or not issubclass(base, torch.optim.Optimizer) or own is None:
            continue
        if not getattr(own, "__isabstractmethod__", False) and inspect.unwrap(own) not in seen:
            seen.add(inspect.unwrap(own))
            bases.insert(0, base)
    plain = {base: vars(base)["step"] for base in bases if not getattr(base.step, "hooked", False)}
    try:
        for base, step in plain.items():
            wrapped: Any = torch.optim.Optimizer.profile_hook_step(step)
            wrapped.hooked = True
            base.step = wrapped  # type: ignore[method-assign]
        yield bases
    finally:
        for base, step in plain.items():
            base.step = step  # type: ignore[method-assign]
