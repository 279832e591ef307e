"""What a ledger's numbers say about the training, with the reason for each threshold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from adamantine.audit.checks.precision import KEEP_MORE
from adamantine.audit.distortion import Spread
from adamantine.audit.equilibrium import RELAXES
from adamantine.audit.ledger_watch import Watch, Watched
from adamantine.audit.model import Finding, LayerRow
from adamantine.audit.written import one
from adamantine.report.words import Words

#: The typical element does not move: what is trained is the smaller half of the weights.
STALLED = 0.5
#: Decay moves the weight more than the loss does. Under noise at rest, decay's part of AdamW's step is
#: √(ηλ/2)·√((1+β₁)/(1-β₁)) of the gradient's, 3 % at ηλ = 1e-4; without any noise, where loss and decay
#: balance, it is as large as the gradient's, by definition. Twice that is no rest of either kind.
DOMINATES = 2.0
#: One decade between the 10 % and the 90 % quantile: no λ fits both ends.
SPREAD = 1.0
#: Factor between norm and balance; within 2 is what gradients that are no pure noise make of the formula.
FAR = 2.0

_Rows = Sequence[tuple[Watch, Watched, LayerRow]]


def findings(
    watches: Sequence[Watch], layers: Sequence[LayerRow], spread: Spread | None
) -> Iterator[Finding]:
    """Those of a whole ledger. ``layers`` are in the order of the watches' parameters."""
    watched = [(watch, each) for watch in watches for each in watch.watched]
    rows = [(watch, each, layer) for (watch, each), layer in zip(watched, layers, strict=True)]
    yield from _unmeasured(watches)
    yield from _nonfinite(rows)
    yield from _stalled(rows)
    yield from _dominated(rows)
    yield from _distorted(rows, spread)
    yield from _far(rows)


def _unmeasured(watches: Sequence[Watch]) -> Iterator[Finding]:
    for watch in watches:
        if watch.failure is not None:
            step, error = watch.failure
            name = type(watch.optimizer).__name__
            yield Finding(
                "not-measured",
                "note",
                Words(f"the steps of {name} could not be measured", f"无法测量 {name} 的更新步"),
                Words(
                    f"Reading them failed in step {step} ({error}); the training went on unwatched.",
                    f"第 {step} 步读取失败（{error}）；训练在未被观测的情况下继续。",
                ),
                Words("Report it with the optimizer's name.", "请连同优化器名称一并报告。"),
            )


def _nonfinite(rows: _Rows) -> Iterator[Finding]:
    bad = [(watch, layer) for watch, _, layer in rows if layer.nonfinite]
    if not bad:
        return
    worst = max((layer for _, layer in bad), key=lambda layer: layer.nonfinite)
    checked = max(watch.checked for watch, _ in bad)
    lost = [layer.name for _, _, layer in rows if not math.isfinite(layer.norm)]
    if lost:
        yield Finding(
            "nonfinite-gradients",
            "error",
            Words(
                "infinite or NaN gradients have reached the weights",
                "梯度中出现无穷大或 NaN，并已进入权重",
            ),
            Words(
                f"{_most(worst, checked)}; {_count(lost)} hold no finite norm any more, and Adam-like "
                "state that has seen a NaN never recovers.",
                f"{_most_zh(worst, checked)}；{len(lost)} 个参数的范数已不是有限值，"
                "而 Adam 类优化器的状态一旦混入 NaN 就无法恢复。",
            ),
            Words(
                "Go back to a checkpoint before it; leave such steps out (adamantine.torch optimizers: "
                "on_nonfinite='skip'; GradScaler does it for float16).",
                "回到此前的检查点，并跳过这样的步（adamantine.torch 的优化器：on_nonfinite='skip'；"
                "float16 训练由 GradScaler 负责）。",
            ),
            tuple(lost),
        )
        return
    yield Finding(
        "nonfinite-gradients",
        "warning",
        Words("some gradients were infinite or NaN", "部分梯度为无穷大或 NaN"),
        Words(
            f"{_most(worst, checked)}; the weights are still finite: such steps were left out, or "
            "did no harm by luck.",
            f"{_most_zh(worst, checked)}；权重仍为有限值：这些步被跳过，或者侥幸无碍。",
        ),
        Words(
            "With GradScaler a few are expected while it searches its scale; otherwise find the operation "
            "(torch.autograd.set_detect_anomaly) or leave such steps out (on_nonfinite='skip').",
            "GradScaler 寻找缩放系数时出现几次属正常；否则请用 torch.autograd.set_detect_anomaly "
            "找出问题运算，或跳过这样的步（on_nonfinite='skip'）。",
        ),
        tuple(layer.name for _, layer in bad),
    )


def _stalled(rows: _Rows) -> Iterator[Finding]:
    # float32 that stands still has arrived at an optimum: no other format would help it.
    stalled = [
        (each, layer)
        for _, each, layer in rows
        if layer.rounded > STALLED and torch.finfo(each.p.dtype).bits < 32
    ]
    if not stalled:
        return
    each, worst = max(stalled, key=lambda pair: pair[1].rounded)
    dtype = str(each.p.dtype).removeprefix("torch.")
    yield Finding(
        "stalled-updates",
        "warning",
        Words("most updates are rounded to nothing", "多数更新因舍入而消失"),
        Words(
            f"{worst.name} ({dtype}): {worst.rounded:.0%} of the elements that were to move stayed as "
            f"they were, bit for bit: half the distance to the next {dtype} number is more than the step.",
            f"{worst.name}（{dtype}）：本应移动的元素中有 {worst.rounded:.0%} 逐位未变：更新量小于到下一个 "
            f"{dtype} 数的距离的一半。",
        ),
        KEEP_MORE,
        tuple(layer.name for _, layer in stalled),
    )


def _dominated(rows: _Rows) -> Iterator[Finding]:
    dominated = [layer for _, _, layer in rows if layer.decay_step > DOMINATES * layer.gradient_step]
    if not dominated:
        return
    alone = [layer for layer in dominated if layer.gradient_step == 0]
    worst = max(dominated, key=lambda layer: layer.decay_step / (layer.gradient_step or math.ulp(0.0)))
    ratio = worst.decay_step / worst.gradient_step if worst.gradient_step else math.inf
    times = f"{ratio:.3g}×"
    yield Finding(
        "decay-dominates",
        "warning",
        Words("decay moves weights further than the loss does", "权重衰减对权重的改变超过损失梯度"),
        Words(
            f"{worst.name}: only decay moves it, its gradient steps are 0; it goes to 0."
            if alone
            else f"{worst.name}: in the median step decay moves it {times} as far as the gradient "
            f"({one(worst.decay_step)} and {one(worst.gradient_step)} per element); decay, not the loss, "
            "decides where it goes.",
            f"{worst.name}：梯度步为 0，只有衰减在改变它，它将趋于 0。"
            if alone
            else f"{worst.name}：在中位数的一步中，衰减造成的改变是梯度的 {times}"
            f"（每个元素分别为 {one(worst.decay_step)} 与 {one(worst.gradient_step)}）；"
            "决定其走向的是衰减，而非损失。",
        ),
        Words(
            "Lower weight_decay for it, or put it in a group with weight_decay=0; a part of the model that "
            "does not train belongs in no group.",
            "为其降低 weight_decay，或放入 weight_decay=0 的参数组；不参与训练的部分不应进入任何参数组。",
        ),
        tuple(layer.name for layer in dominated),
    )


def _distorted(rows: _Rows, spread: Spread | None) -> Iterator[Finding]:
    groups = {(id(watch), each.group): (watch, each) for watch, each, _ in rows}
    l2 = [
        (watch, each)
        for watch, each in groups.values()
        if (behaviour := watch.shrink_of(each).behaviour()).decay == "l2" and behaviour.adaptive
    ]
    if spread is None or not l2:
        return
    decades = spread.decades()
    if not decades >= SPREAD:
        return
    low, high, slope = *spread.quantiles(), spread.slope()
    yield Finding(
        "distorted-decay",
        "warning",
        Words(
            "the weight decay differs between weights by orders of magnitude",
            "各权重实际受到的衰减相差几个数量级",
        ),
        Words(
            f"L2 is divided by √v̂: of the elements seen, 10 % lose less than {low:.2g} × lr·λ per step and "
            f"10 % more than {high:.2g} ×, {10**decades:.0f} times as much; slope over the gradient's size "
            f"{slope:.2f} in log-log (decoupled decay: 0).",
            f"L2 项被 √v̂ 除：所测元素中，10 % 每步的衰减低于 {low:.2g} × lr·λ，10 % 高于 {high:.2g} ×，相差 "
            f"{10**decades:.0f} 倍；对梯度大小的双对数斜率为 {slope:.2f}（解耦衰减为 0）。",
        ),
        Words(
            "Use decoupled decay (AdamW) and search λ anew: the two have no common unit.",
            "改用解耦权重衰减（AdamW），并重新搜索 λ：两者没有共同的单位。",
        ),
        tuple(
            layer.name
            for watch, each, layer in rows
            if any(w is watch and e.group == each.group for w, e in l2) and layer.decay_step > 0
        ),
    )


def _far(rows: _Rows) -> Iterator[Finding]:
    far = []
    for watch, each, layer in rows:
        shrink = watch.shrink_of(each).now()
        if not layer.equilibrium or shrink is None or shrink <= 0 or len(each.p.shape) < 2:
            continue
        ratio = layer.norm / layer.equilibrium
        if watch.steps * shrink >= RELAXES and not 1 / FAR <= ratio <= FAR and math.isfinite(ratio):
            far.append((abs(math.log(ratio)), ratio, watch.steps * shrink / RELAXES, layer))
    if not far:
        return
    _, ratio, times, worst = max(far, key=lambda entry: entry[0])
    yield Finding(
        "far-from-equilibrium",
        "note",
        Words("norms rest elsewhere than noise would put them", "范数的稳定值与噪声所预测的不同"),
        Words(
            f"{worst.name}: ‖θ‖ = {worst.norm:.3g} is {ratio:.2g} × the {worst.equilibrium:.3g} at which "
            f"decay and steps without direction balance, after {times:.1f} relaxation times: its "
            "gradients have a lasting direction, or lr has fallen faster than the norm can follow.",
            f"{worst.name}：‖θ‖ = {worst.norm:.3g}，"
            f"是衰减与无方向的步相平衡时 {worst.equilibrium:.3g} 的 {ratio:.2g} 倍，"
            f"已历经 {times:.1f} 个弛豫时间：梯度具有持久的方向，或学习率下降快于范数所能跟随。",
        ),
        Words("Nothing to mend; worth knowing when layers are compared.", "无需修正；比较各层时值得了解。"),
        tuple(layer.name for *_, layer in far),
    )


def _most(worst: LayerRow, checked: int) -> str:
    return f"{worst.name}: in {worst.nonfinite} of {checked} steps looked at"


def _most_zh(worst: LayerRow, checked: int) -> str:
    return f"{worst.name}：所查 {checked} 步中有 {worst.nonfinite} 步"


def _count(names: Sequence[str]) -> str:
    return "1 parameter" if len(names) == 1 else f"{len(names)} parameters"
