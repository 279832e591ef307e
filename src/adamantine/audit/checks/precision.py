"""What low-precision weights do to decay and to ε, tried out in their dtype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from adamantine.audit.checks.kind import Kind, class_name, percent
from adamantine.audit.members import Parameter
from adamantine.audit.model import Finding
from adamantine.audit.schedule import number
from adamantine.audit.subject import Group, Subject
from adamantine.probe import like
from adamantine.probe.quiet import undisturbed
from adamantine.probe.stepping import make_ready, take_step
from adamantine.report.numbers import setting
from adamantine.report.words import Words
from adamantine.torch import Optimizer
from adamantine.torch.resolution import lost_below

#: Decay-only steps of a dry run. Stochastic rounding at a tenth of the threshold moves one of 64 weights in
#: them with a probability of 1 - (1 - 0.1)^(64·20), which is 1 in double precision.
_STEPS = 20
_FAR = 100  # times lr, in two steps of which each is to be about lr

KEEP_MORE = Words(
    "Keep float32 weights and use autocast, or an optimizer with float32 copies or stochastic rounding "
    "(adamantine.torch: weights='stochastic').",
    "权重保持 float32 并使用 autocast，或换用带 float32 副本或随机舍入的优化器"
    "（adamantine.torch：weights='stochastic'）。",
)

ROUNDS_TO_NOTHING = Kind(
    code="rounds-to-nothing",
    severity="error",
    title=Words("decay rounds to nothing in the dtype of the weights", "在权重的 dtype 下，衰减被舍入成零"),
    why=Words(
        "θ·(1 - r) is rounded to the nearest number of the dtype, which is θ itself when r < 2⁻⁹ in "
        "bfloat16, 2⁻¹² in float16, 2⁻²⁵ in float32. However many steps: the weight stays.",
        "θ·(1 - r) 会舍入到该 dtype 最近的数。当 r < 2⁻⁹（bfloat16）、2⁻¹²（float16）、2⁻²⁵（float32）时，"
        "结果就是 θ 本身。无论多少步，权重都不变。",
    ),
    remedy=KEEP_MORE,
    source="NVIDIA-NeMo/Automodel pull 3444; pytorch issue 120376; computed for every dtype in the tests",
)
EPS_TOO_SMALL = Kind(
    code="eps-too-small",
    severity="error",
    title=Words("ε is 0 in the dtype of the weights", "ε 在权重的 dtype 下是 0"),
    why=Words(
        "ε keeps m/(√v + ε) finite where gradients are 0 or tiny. In float16 the usual 1e-8 is rounded to "
        "0, and the squares of gradients below 1.7e-4 as well: the step is 0/0 or m/0.",
        "ε 保证梯度为 0 或很小时 m/(√v + ε) 仍有限。在 float16 中常用的 1e-8 会舍入成 0，小于 1.7e-4 "
        "的梯度的平方也会变成 0：更新就成了 0/0 或 m/0。",
    ),
    remedy=Words(
        "Keep float32 weights and use autocast; with float16 weights, eps=1e-4, or state of another dtype "
        "(adamantine.torch: state='float32').",
        "权重保持 float32 并使用 autocast；若权重必须是 float16，用 eps=1e-4，或让状态用别的 dtype"
        "（adamantine.torch：state='float32'）。",
    ),
    source="pytorch issue 147437; chainer issue 6299; discuss.pytorch.org/t/1765",
)

KINDS = (ROUNDS_TO_NOTHING, EPS_TOO_SMALL)


def threshold(group: Group, dtype: torch.dtype) -> float:
    """The largest r for which θ·(1 - r) rounds to θ for every θ, as this group stores weights."""
    ours = isinstance(group.optimizer, Optimizer)
    return lost_below(dtype, (group.settings.get("weights") if ours else None) or "nearest")


def rounds_to_nothing(subject: Subject) -> Iterator[Finding]:
    """Error for two-byte weights: λ is given and has no effect, which a dry run in that dtype confirms, so
    that float32 copies and stochastic rounding raise no alarm. Note for float32, where so weak a decay would
    have done nothing anyway (fine-tuning at a lr of 1e-6)."""
    for group in subject.groups:
        shrink = group.peak_shrink
        if not group.acts or not shrink or group.behaviour.decay == "l2":
            continue
        for dtype, members in by_dtype(group).items():
            lost = threshold(group, dtype)
            if shrink >= lost or not _stays(group, dtype):
                continue
            name = str(dtype).removeprefix("torch.")
            yield ROUNDS_TO_NOTHING.finding(
                severity="error" if dtype.itemsize < 4 else "note",
                title=Words(
                    f"lr·λ = {setting(shrink)} is lost in {name} weights",
                    f"lr·λ = {setting(shrink)} 在 {name} 权重中完全丢失",
                ),
                reason=Words(
                    f"A step that removes {percent(shrink)} of a weight is rounded away below "
                    f"{setting(lost)} = 2^{_power(lost)}: {_STEPS} decay-only "
                    f"steps of {class_name(group.optimizer)} at the peak lr left every {name} weight as it "
                    "was.",
                    f"每步去掉 {percent(shrink)}，低于 {setting(lost)} = "
                    f"2^{_power(lost)} 就会被舍入掉：{class_name(group.optimizer)} "
                    f"以峰值学习率做 {_STEPS} 步纯衰减，{name} 权重分毫未变。",
                ),
                parameters=members,
                groups=[group],
            )


def eps_too_small(subject: Subject) -> Iterator[Finding]:
    """Error: the first small gradient makes a weight infinite or NaN. Tried in the dtype, since optimizers
    that compute in float32 are right with the same ε."""
    for group in subject.groups:
        eps = group.settings.get("eps")
        if not isinstance(eps, int | float | Tensor) or group.behaviour.adaptive is False:
            continue
        for dtype, members in by_dtype(group).items():
            if float(torch.tensor(number(eps), dtype=dtype)) > 0 or not (broken := _breaks(group, dtype)):
                continue
            name = str(dtype).removeprefix("torch.")
            yield EPS_TOO_SMALL.finding(
                title=Words(
                    f"eps = {setting(number(eps))} is 0 in {name}",
                    f"eps = {setting(number(eps))} 在 {name} 中是 0",
                ),
                reason=Words(
                    f"The smallest positive {name} is {setting(_smallest(dtype))}. A dry run of "
                    f"{class_name(group.optimizer)} with {broken.en}.",
                    f"{name} 的最小正数是 {setting(_smallest(dtype))}。{class_name(group.optimizer)} "
                    f"在{broken.zh}。",
                ),
                parameters=members,
                groups=[group],
            )


def by_dtype(group: Group) -> dict[torch.dtype, list[Parameter]]:
    found: dict[torch.dtype, list[Parameter]] = {}
    for parameter in group.members:
        tensor = parameter.tensor
        if tensor.requires_grad and tensor.is_floating_point():
            found.setdefault(tensor.dtype, []).append(parameter)
    return found


def _stays(group: Group, dtype: torch.dtype) -> bool:
    """Whether decay alone leaves weights of this dtype as they are."""
    weight = (1 + torch.arange(64) / 64).reshape(8, 8).to(dtype)
    moved = _stepped(group, weight.clone(), [torch.zeros_like(weight)] * _STEPS)
    return moved is not None and torch.equal(moved, weight)


def _breaks(group: Group, dtype: torch.dtype) -> Words | None:
    """What tiny and zero gradients do to a weight of 1: not finite, or steps that no lr means."""
    tiny = torch.tensor([0.0, 1e-5], dtype=torch.float64).repeat(32).reshape(8, 8).to(dtype)
    moved = _stepped(group, torch.ones(8, 8, dtype=dtype), [tiny] * 3)
    if moved is not None and not bool(torch.isfinite(moved).all()):
        return Words(
            "gradients of 0 and 1e-5 gave infinite or NaN weights",
            "梯度为 0 和 1e-5 的试运行中得到了无穷或 NaN 的权重",
        )
    small = torch.full((8, 8), 1e-3, dtype=dtype)
    moved = _stepped(group, torch.ones(8, 8, dtype=dtype), [small, torch.zeros_like(small)])
    if moved is None or not float((moved.float() - 1).abs().max()) > _FAR * group.peak_lr:
        return None
    return Words(
        f"a gradient of 1e-3 and one of 0 moved weights by more than {_FAR} × lr: 1e-6 is 0 in the state",
        f"梯度先为 1e-3 再为 0 的试运行中，权重移动了超过 {_FAR} × lr：1e-6 在状态中是 0",
    )


def _stepped(group: Group, weight: Tensor, gradients: list[Tensor]) -> Tensor | None:
    """The weight after steps of the group's optimizer at its peak lr; None where it cannot be tried."""
    return None if run(group, weight, gradients) is None else weight.detach()


def run(group: Group, weight: Tensor, gradients: list[Tensor]) -> Any:
    """The optimizer that took these steps at the group's peak lr; None where it cannot be tried."""
    raw = group.optimizer.param_groups[group.place]
    # In the group's own type: torchao's optimizers refuse a number where they keep a tensor.
    lr = torch.full_like(raw["lr"], group.peak_lr) if isinstance(raw.get("lr"), Tensor) else group.peak_lr
    weight.requires_grad_()
    try:
        with undisturbed():
            optimizer = like(group.optimizer, raw)([weight], lr=lr)
            make_ready(optimizer)
            for gradient in gradients:
                take_step(optimizer, [weight], [gradient])
    except Exception:  # an optimizer may do anything
        return None
    return optimizer


def _smallest(dtype: torch.dtype) -> float:
    """The smallest positive number, subnormal ones included."""
    info = torch.finfo(dtype)
    return float(info.smallest_normal * info.eps)


def _power(value: float) -> str:
    return f"{torch.tensor(value, dtype=torch.float64).log2().item():.0f}"
