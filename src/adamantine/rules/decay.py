"""Weight decay as two host numbers per group and step: ``couple`` and ``shrink``.

| mode | couple | shrink | whose |
|---|---|---|---|
| none | 0 | 1 | |
| l2 | λ | 1 | L2 in the loss: torch.optim.Adam, SGD |
| decoupled | 0 | 1 - η_t·λ | torch.optim.AdamW, optax.adamw |
| independent | 0 | 1 - (η_t/η_max)·λ | Loshchilov & Hutter 2019, Algorithm 2 |
| corrected | 0 | 1 - (η_t²/η_max)·λ | AdamC, Defazio 2025, arXiv 2506.02285 |
| cautious | 0 | 1 - η_t·λ where u·θ ≥ 0, else 1 | arXiv 2510.12402 |

Every mode leaves θ alone at η_t = 0. Units: λ is in 1/θ-of-lr (1/η) for ``decoupled``, ``corrected`` and
``cautious``; dimensionless, a fraction per step at peak lr, for ``independent``; loss/θ² for ``l2``.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

Mode = Literal["none", "l2", "decoupled", "independent", "corrected", "cautious"]
MODES: tuple[str, ...] = get_args(Mode)

#: Modes that need the highest lr of the schedule, η_max.
NEED_PEAK = frozenset({"independent", "corrected"})


#: By how much an lr may exceed a stated peak: schedulers that multiply their way up, and float32 lr tensors,
#: arrive an ulp or a few beside it.
ROUNDING = 1e-6


class Coefficients(NamedTuple):
    """``couple``, ``shrink`` as in the module's table; ``cautious`` picks the elementwise form of apply."""

    couple: Any
    shrink: Any
    cautious: bool = False


def check_mode(mode: str) -> None:
    """ValueError unless ``mode`` is one of `MODES`."""
    if mode not in MODES:
        raise ValueError(f"Invalid decay mode: {mode!r}; choose one of {', '.join(map(repr, MODES))}")


def check_weight_decay(weight_decay: Any, mode: str) -> None:
    """ValueError for a λ that cannot be meant in this mode's unit, finite and >= 0 though it be."""
    if mode == "independent" and weight_decay >= 1.0:
        raise ValueError(
            f"Invalid weight_decay value: {weight_decay}; with decay='independent' it is the fraction of a "
            "weight that one step at peak lr removes, so it must be < 1. A value from a decoupled optimizer "
            "converts by adamantine.convert_weight_decay (multiply by the peak lr)"
        )


def coefficients(mode: str, *, lr: Any, weight_decay: Any, peak_lr: Any = None) -> Coefficients:
    """Couple and shrink of one step.

    Args:
        mode: one of `MODES`.
        lr: η_t, the learning rate of this step.
        weight_decay: λ in the mode's unit.
        peak_lr: η_max, needed by ``independent`` and ``corrected``.

    Raises:
        ValueError: an unknown mode; or no ``peak_lr`` where it is needed; or one below ``lr``.

    >>> coefficients("decoupled", lr=0.01, weight_decay=0.5)
    Coefficients(couple=0.0, shrink=0.995, cautious=False)
    >>> coefficients("independent", lr=0.5e-3, weight_decay=1e-2, peak_lr=1e-3).shrink
    0.995
    """
    check_mode(mode)
    relative = 0.0  # at lr = 0 nothing moves
    if mode in NEED_PEAK:
        if peak_lr is None or lr > peak_lr * (1 + ROUNDING):
            raise ValueError(
                f"decay={mode!r} needs the highest lr of the schedule, got peak_lr={peak_lr} at lr={lr}; "
                "state it in the group as peak_lr, or set peak_lr=None there to have it tracked"
            )
        if lr > 0:
            relative = lr / max(peak_lr, lr)
    return of_relative(mode, lr, weight_decay, relative)


def of_relative(mode: str, lr: Any, weight_decay: Any, relative: Any) -> Coefficients:
    """`coefficients` where η_t/η_max is known and all has been checked; numbers, or arrays of one shape."""
    if mode == "none":
        return Coefficients(0.0, 1.0)
    if mode == "l2":
        return Coefficients(weight_decay, 1.0)
    if mode in NEED_PEAK:
        strength = relative if mode == "independent" else lr * relative
        return Coefficients(0.0, 1.0 - strength * weight_decay)
    return Coefficients(0.0, 1.0 - lr * weight_decay, cautious=mode == "cautious")


def convert(weight_decay: float, *, source: str, target: str, peak_lr: float) -> float:
    """λ of ``source`` in the unit of ``target``, exactly: λ_decoupled = λ_independent / η_max.

    ``decoupled``, ``cautious`` and ``corrected`` share one unit (they agree at η_t = η_max). No factor
    converts ``l2``: inside an adaptive rule its strength differs per parameter.

    Raises:
        ValueError: ``l2`` or ``none`` on one side only, or a peak_lr that is not > 0.

    >>> convert(1.265e-4, source="independent", target="decoupled", peak_lr=1e-3)
    0.1265
    """
    check_mode(source)
    check_mode(target)
    if source == target:
        return weight_decay
    for mode in (source, target):
        if mode in {"l2", "none"}:
            raise ValueError(
                f"no exact conversion of weight_decay from {source!r} to {target!r}: only decoupled, "
                "cautious, corrected and independent are proportional. For plain SGD alone, l2 and "
                "decoupled use the same number"
            )
    if not peak_lr > 0:
        raise ValueError(f"Invalid peak_lr: {peak_lr}; the highest lr of the schedule must be > 0")
    per_lr = weight_decay / peak_lr if source == "independent" else weight_decay
    return per_lr * peak_lr if target == "independent" else per_lr


def normalized(lambda_norm: float, *, batch_size: int, examples: int, epochs: float) -> float:
    """λ for ``decay="independent"`` from the normalized λ (Loshchilov & Hutter 2019, Appendix B).

    λ = λ_norm·√(B / (N·T)) with B the batch size, N the examples in the data set, T the epochs (of the
    current restart, under warm restarts): the same λ_norm serves short and long runs.

    Raises:
        ValueError: a count that is not > 0, or a negative λ_norm.

    >>> f"{normalized(0.025, batch_size=128, examples=50_000, epochs=100):.4g}"
    '0.0001265'
    """
    for name, value in {"batch_size": batch_size, "examples": examples, "epochs": epochs}.items():
        if not value > 0:
            raise ValueError(f"Invalid {name}: {value}; it must be > 0")
    if not 0.0 <= lambda_norm < math.inf:
        raise ValueError(f"Invalid lambda_norm: {lambda_norm}; it must be finite and >= 0")
    return lambda_norm * math.sqrt(batch_size / (examples * epochs))


def timescale(*, lr: float, weight_decay: float) -> float:
    """τ = 1/(η·λ) in steps for decoupled decay: how far back the weights remember (arXiv 2405.13698).

    >>> timescale(lr=1e-3, weight_decay=0.1)
    10000.0
    """
    rate = lr * weight_decay
    return 1.0 / rate if rate > 0 else math.inf
