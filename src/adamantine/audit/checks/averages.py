"""What low-precision state does to running averages, tried out in the dtype of the weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from adamantine.audit.checks.kind import Kind, class_name
from adamantine.audit.checks.precision import by_dtype, run
from adamantine.audit.model import Finding
from adamantine.audit.subject import Group, Subject
from adamantine.report.words import Words

STEPS = 20  # without a gradient, of a dry run: a β₂ of 0.999 is to take 2 % off v in them

AVERAGES_STALL = Kind(
    code="averages-stall",
    severity="warning",
    title=Words("a running average cannot fall in its dtype", "滑动平均在其 dtype 下无法下降"),
    why=Words(
        "v is to lose 1 - β₂ of itself per step. Rounded to nearest, what is below 2⁻⁹ is lost in bfloat16, "
        "and the usual 1 - β₂ is 0.001: v keeps the size of the largest gradients so far, and all later "
        "steps are too short.",
        "v 每步应减少 1 - β₂。按最近舍入时，bfloat16 会丢失小于 2⁻⁹ 的变化，而常用的 1 - β₂ 是 0.001："
        "v 停留在迄今最大梯度的水平，此后的每一步都偏小。",
    ),
    remedy=Words(
        "Keep the state in float32 (adamantine.torch: state='float32'), or in a format that rounds without "
        "bias (state='8bit'); or lower β₂ to 0.99.",
        "状态保持 float32（adamantine.torch：state='float32'），或用无偏舍入的格式（state='8bit'）；"
        "或把 β₂ 降到 0.99。",
    ),
    source="Nerogar/OneTrainer issue 1005; whitecircle/halo pull 30; computed: bfloat16 state in the tests",
)

KINDS = (AVERAGES_STALL,)

#: State that forgets, by the names that optimizers give it; what only grows, or is a copy, has others.
_AVERAGES = ("exp_avg", "exp_avg_sq", "exp_inf", "square_avg", "grad_avg")


def averages_stall(subject: Subject) -> Iterator[Finding]:
    """Warning: training goes on, with steps that are too short. A dry run sees the state after one gradient
    of 1 and its like after gradients of 0; what it is called says that it is to have fallen."""
    for group in subject.groups:
        for dtype, members in by_dtype(group).items():
            if not _keeps_half_precision(group, dtype) or not (still := _still_averages(group, dtype)):
                continue
            stored = ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in still.values()}))
            names = ", ".join(still)
            yield AVERAGES_STALL.finding(
                title=Words(f"{names} cannot fall in {stored}", f"{names} 在 {stored} 中无法下降"),
                reason=Words(
                    f"After a gradient of 1, {STEPS} steps of {class_name(group.optimizer)} with gradients "
                    f"of 0 left every element of {names} as it was: in {stored} what is to go in one step "
                    "is rounded away.",
                    f"在一次梯度为 1 的更新之后，{class_name(group.optimizer)} 以零梯度做了 {STEPS} 步，"
                    f"{names} 的每个元素都分毫未变：每步应减少的部分在 {stored} 中被舍入掉了。",
                ),
                parameters=members,
                groups=[group],
            )


def _keeps_half_precision(group: Group, dtype: torch.dtype) -> bool:
    """Whether state of two bytes is to be expected: as the weights, as is asked for, or as it is there."""
    if dtype.itemsize < 4 or "16" in str(group.settings.get("state")):
        return True
    states = getattr(group.optimizer, "state", {})
    there = [states.get(parameter.tensor) for parameter in group.members]
    return any(
        isinstance(value, Tensor) and value.dtype.itemsize == 2
        for state in there
        if isinstance(state, dict)
        for value in state.values()
    )


def _still_averages(group: Group, dtype: torch.dtype) -> dict[str, Tensor]:
    """State in half precision that is to forget and does not, after `STEPS` gradients of 0."""
    weight = torch.ones(8, 8, dtype=dtype)
    zero = torch.zeros_like(weight)
    first = _state_after(group, weight.clone(), [weight])
    low = {
        name: value
        for name, value in first.items()
        if name in _AVERAGES and value.is_floating_point() and value.dtype.itemsize == 2 and bool(value.any())
    }
    if not low:
        return {}
    later = _state_after(group, weight.clone(), [weight, *[zero] * STEPS])
    return {name: value for name, value in low.items() if name in later and torch.equal(value, later[name])}


def _state_after(group: Group, weight: Tensor, gradients: list[Tensor]) -> dict[str, Tensor]:
    """The state's tensors after steps of the group's optimizer; none where it cannot be tried."""
    optimizer = run(group, weight, gradients)
    state = getattr(optimizer, "state", {}).get(weight, {}) if optimizer is not None else {}
    return {str(k): v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, dict) else {}
