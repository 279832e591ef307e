"""What the storage of weights and state keeps from moving: decay, updates and averages that round away.

Nothing is tried out and nothing changes; all follows from the formats, the groups and the weights as they
are. A number that is rounded to nearest stays where it is if it is to move by less than half a unit in its
last place, however often. Stochastic rounding and the residual of ``split8`` lose nothing on average.

    for stall in stalls(optimizer):
        print(stall)

It is part of `Optimizer.explain`. The audit (`adamantine.audit`) finds the same in any optimizer, by dry
runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from adamantine.rules import Rule
from adamantine.rules.decay import NEED_PEAK, coefficients
from adamantine.schedules import peak_lr
from adamantine.torch.engines.explain import name_parameters
from adamantine.torch.plan import double, host
from adamantine.torch.resolution import HALF_PRECISION, average_lost_below, lost_below, sample, share_below
from adamantine.torch.storage.layout import Formats, dense_dtype, dtype_name, formats, slot_option

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer

#: Share of a parameter's elements that no update reaches, from which on it is told.
SHARE = 0.1

#: Slots that forget by (1 - β) a step, and where the group keeps β. Lion's is its second.
_FORGETS = {
    "exp_avg": ("betas", 0),
    "exp_avg_sq": ("betas", 1),
    "exp_inf": ("betas", 1),
    "square_avg": ("alpha", None),
    "grad_avg": ("alpha", None),
}
_SQUARES = ("exp_avg_sq", "square_avg", "sum")


@dataclass(frozen=True)
class Stall:
    """One thing that rounds to nothing, for parameters of one group; ``str`` is a sentence.

    Attributes:
        kind: what stands still: ``"decay"``, ``"updates"``, ``"average"`` (a moment), ``"underflow"``
            (squares that float16 holds as 0), or ``"cancellation"`` (a variance that 16 bits make 0).
        parameters: their names.
        reason: why, with the numbers.
        remedy: what to give the optimizer, as code.
    """

    kind: Literal["decay", "updates", "average", "underflow", "cancellation"]
    parameters: tuple[str, ...]
    reason: str
    remedy: str

    def __str__(self) -> str:
        first, *others = self.parameters
        who = f"{first} and {len(others)} more" if others else first
        return f"{who}: {self.reason} Remedy: {self.remedy}."


def stalls(optimizer: Optimizer) -> list[Stall]:
    """Everything in this optimizer's storage that cannot move, at the highest learning rate of its groups.

    For updates, the step is taken as η in every element where a rule divides by the gradient's own size (that
    of a step in a lasting direction; the real ones are mostly shorter), and from the gradients that are there
    for SGD.

    >>> import adamantine.torch as optim
    >>> w = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    >>> [stall.kind for stall in stalls(optim.AdamW([w], lr=1e-3, weight_decay=0.1))]
    ['decay', 'updates', 'average']
    >>> stalls(optim.AdamW([w], lr=1e-3, weight_decay=0.1, weights="stochastic", state="8bit"))
    []
    """
    names = name_parameters(optimizer.param_groups)
    found = []
    for group in optimizer.param_groups:
        rule = optimizer.rule(group)
        how = formats(group, rule)
        trained = [p for p in group["params"] if p.requires_grad and p.numel()]
        found += [*_decay(group, how, trained, names), *_updates(group, rule, how, trained, names)]
        found += _averages(optimizer, group, rule, how, trained, names)
    return found


def notes_of(optimizer: Optimizer) -> list[str]:
    """`stalls` as sentences, for `Optimizer.explain`."""
    return [str(stall) for stall in stalls(optimizer)]


def _decay(
    group: dict[str, Any], how: Formats, params: list[Tensor], names: dict[Tensor, str]
) -> Iterator[Stall]:
    peak = peak_lr(group)
    decay = coefficients(
        group["decay"],
        lr=peak,
        weight_decay=double(host(group["weight_decay"], False)),
        peak_lr=peak if group["decay"] in NEED_PEAK else None,
    )
    shrink = 1.0 - decay.shrink
    for dtype, lot in _in_half_precision(params).items():
        limit = lost_below(dtype, how.weights)
        if 0.0 < shrink < limit:
            yield Stall(
                "decay",
                _names(lot, names),
                f"a step's decay removes {shrink:.2g} of a weight, and {_stored(dtype, how)} weights lose "
                f"what is below {limit:.2g} (2^{_log2(limit)}), at every step.",
                _remedy(dtype),
            )


def _updates(
    group: dict[str, Any], rule: Rule, how: Formats, params: list[Tensor], names: dict[Tensor, str]
) -> Iterator[Stall]:
    peak = peak_lr(group)
    for dtype, lot in _in_half_precision(params).items():
        if how.weights in {"stochastic", "split8", "split16"}:
            continue
        stuck = {}
        for p in lot:
            step = _step(group, rule, p, peak)
            if step is not None and (share := share_below(p, step, how.weights)) > SHARE:
                stuck[p] = share
        if stuck:
            yield Stall(
                "updates",
                _names(list(stuck), names),
                f"at lr {peak:.2g} a whole step is less than half a unit in the last place of "
                f"{max(stuck.values()):.0%} of the {_stored(dtype, how)} elements: they stay, bit for bit.",
                _remedy(dtype),
            )


def _averages(
    optimizer: Optimizer,
    group: dict[str, Any],
    rule: Rule,
    how: Formats,
    params: list[Tensor],
    names: dict[Tensor, str],
) -> Iterator[Stall]:
    for place, (letter, key) in enumerate(rule.slots.items()):
        form, signed = how.slots[place]
        forgets = _forgets(group, rule, key)
        by_dtype: dict[torch.dtype | None, list[Tensor]] = {}
        for p in params:
            by_dtype.setdefault(_slot_dtype(optimizer, group, key, p, form), []).append(p)
        for dtype, lot in by_dtype.items():
            limit = average_lost_below(dtype, None if how.is_dithered(place) else how.code(place))
            stored = form if dtype is None else dtype_name(dtype)
            if forgets is not None and 0.0 < forgets < limit:
                yield Stall(
                    "average",
                    _names(lot, names),
                    f"{key} in {stored} cannot fall: it is to lose 1 - β = {forgets:.2g} of itself a step, "
                    f"and what is below {limit:.2g} is rounded away.",
                    f'state={{"{key}": "float32"}} or "8bit"'
                    if not signed
                    else f'state={{"{key}": "float32"}}',
                )
            if dtype in HALF_PRECISION and letter == min(rule.cancelling, default=None):  # once
                yield Stall(
                    "cancellation",
                    _names(lot, names),
                    f"a step is divided by the root of square_avg - grad_avg², which {stored} can make 0 "
                    "where a gradient's mean is a few times its deviation: by eps alone then.",
                    'state="float32"',
                )
            eps = group.get("eps")
            if dtype == torch.float16 and key in _SQUARES and letter in rule.unsigned and eps is not None:
                tiny = (torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps / 2) ** 0.5
                if double(host(eps, False)) < tiny:
                    seen = tiny / (forgets or 1.0) ** 0.5  # it takes in 1 - β of a square
                    yield Stall(
                        "underflow",
                        _names(lot, names),
                        f"gradients below {seen:.2g} leave {key} in float16 at 0, so that a step is divided "
                        "by its own gradient's size alone, and where that is 0 by eps = "
                        f"{double(host(eps, False)):.2g}.",
                        f'state={{"{key}": "float32"}} or "8bit"',
                    )


def _forgets(group: dict[str, Any], rule: Rule, key: str) -> float | None:
    """1 - β of this slot; None where it is no average."""
    if key not in _FORGETS:
        return None
    option, index = ("betas", 1) if rule.name == "lion" else _FORGETS[key]
    if option not in group:
        return None
    value = group[option] if index is None else group[option][index]
    return 1.0 - double(host(value, False))


def _slot_dtype(
    optimizer: Optimizer, group: dict[str, Any], key: str, p: Tensor, form: str
) -> torch.dtype | None:
    """That a dense slot has, or is about to have; None for a block format."""
    if form != "dense":
        return None
    there = optimizer.state.get(p, {}).get(key)
    dtype = there.dtype if isinstance(there, Tensor) else dense_dtype(p, slot_option(group, key))
    return dtype.to_real() if dtype.is_complex else dtype


def _step(group: dict[str, Any], rule: Rule, p: Tensor, lr: float) -> Tensor | float | None:
    """How far the elements of `sample` go in a lasting direction; None where nothing tells."""
    divides_by_own_size = rule.unsigned or rule.name == "lion"
    momentum = double(host(group.get("momentum", 0.0), False)) if "momentum" in rule.hyper else 0.0
    reach = lr / (1.0 - momentum) if momentum < 1.0 else float("inf")
    if divides_by_own_size:
        return reach
    if p.grad is None or p.grad.is_sparse:
        return None
    return reach * sample(p.grad).abs()


def _in_half_precision(params: list[Tensor]) -> dict[torch.dtype, list[Tensor]]:
    found: dict[torch.dtype, list[Tensor]] = {}
    for p in params:
        dtype = p.dtype.to_real() if p.is_complex() else p.dtype
        if dtype in HALF_PRECISION:
            found.setdefault(dtype, []).append(p)
    return found


def _names(params: Sequence[Tensor], names: dict[Tensor, str]) -> tuple[str, ...]:
    return tuple(names[p] for p in params)


def _stored(dtype: torch.dtype, how: Formats) -> str:
    name = dtype_name(dtype)
    return f"{name} ({how.weights})" if how.weights != "nearest" else name


def _remedy(dtype: torch.dtype) -> str:
    more = ' or "split8" (1 byte more)' if dtype == torch.bfloat16 else ""
    return f'weights="stochastic"{more}'


def _log2(value: float) -> str:
    return f"{torch.tensor(value, dtype=torch.float64).log2().item():.0f}"
