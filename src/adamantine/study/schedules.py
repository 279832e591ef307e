"""The learning-rate schedules a comparison offers, by name, each stretched over the whole training."""

from __future__ import annotations

from collections.abc import Callable

from adamantine.schedules import Constant, Cosine, Linear, Schedule, Warmup, WarmupStableDecay


def _warmup_cosine(steps: int) -> Schedule:
    warmup = steps // 20
    return Warmup(warmup, Cosine(steps - warmup))


def _wsd(steps: int) -> Schedule:
    warmup, decay = steps // 20, steps // 5
    return WarmupStableDecay(warmup, steps - warmup - decay, decay)


#: From the number of steps to the schedule. Warm-up takes 5 % of the steps, the final decay of "wsd" 20 %.
SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "cosine": Cosine,
    "linear": Linear,
    "constant": lambda steps: Constant(),
    "warmup-cosine": _warmup_cosine,
    "wsd": _wsd,
}
