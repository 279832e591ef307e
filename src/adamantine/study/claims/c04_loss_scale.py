"""Claim 4 (beyond the article): AdamW does not care about the scale of the loss; Adam + L2 does.

Loss and ε times c = 2¹⁰ multiply g and m by c, v by c², √v̂ + ε by c: the direction keeps its bits, for a
power of two only moves exponents. AdamW's weights then are the same to the last bit. In Adam + L2 the sum
g + λθ has become cg + λθ: another training. λ times c as well restores it, bit for bit. So λ of Adam + L2 is
measured in the loss's unit, and that of AdamW is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adamantine.report.words import Words
from adamantine.study.claims.claim import Claim, Effort, Measurement, Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from adamantine.report.claimfigure import Sheet

LR, EPS, SCALE = 3e-3, 1e-8, 1024.0
DECAYS = {"adamw": 0.1, "adam_l2": 1e-3}

PREDICTIONS = (
    Prediction(
        "adamw",
        Words(
            "AdamW, loss × 1024: weights that differ in any bit", "AdamW，损失 × 1024：有任何一位不同的权重数"
        ),
        low=0,
        high=0,
    ),
    Prediction(
        "adam_l2_restored",
        Words(
            "Adam + L2, loss × 1024 and λ × 1024: weights that differ in any bit",
            "Adam + L2，损失 × 1024 且 λ × 1024：有任何一位不同的权重数",
        ),
        low=0,
        high=0,
    ),
    Prediction(
        "adam_l2",
        Words(
            "negative control, Adam + L2, loss × 1024: difference of the weights at the end",
            "反例对照，Adam + L2，损失 × 1024：最后的权重差别",
        ),
        low=1.0,
        unit=" %",
    ),
)


def train(make: type[Any], weight_decay: float, scale: float, steps: int, seed: int) -> list[Tensor]:
    """All weights after every step (float32, ``[parameters]`` each), with loss and ε times ``scale``."""
    import torch
    from torch.nn.functional import cross_entropy

    from adamantine.study.claims._digits import batches
    from adamantine.study.nets import mlp

    torch.manual_seed(seed)
    net = mlp(64, 128, 10)
    optimizer = make(net.parameters(), lr=LR, eps=EPS * scale, weight_decay=weight_decay)
    found = []
    for x, y in batches(seed, steps):
        optimizer.zero_grad()
        (scale * cross_entropy(net(x), y)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    return found


def apart(ours: list[Tensor], theirs: list[Tensor]) -> list[float]:
    """‖θ - θ'‖ / ‖θ'‖ after every step, in percent."""
    return [float(100 * (a - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True)]


def differing(ours: list[Tensor], theirs: list[Tensor]) -> int:
    """How many weights differ in their bits after the last step."""
    import torch

    return int((ours[-1].view(torch.int32) != theirs[-1].view(torch.int32)).sum())


def measure(effort: Effort) -> Measurement:
    from adamantine.torch import Adam, AdamW

    steps = effort.of(200, 1000, short=60)
    seeds = range(effort.of(3, 10, short=1))
    curves: dict[str, list[float]] = {}
    bits: dict[str, int] = {"adamw": 0, "adam_l2_restored": 0}
    least = float("inf")
    for seed in seeds:
        adamw = [train(AdamW, DECAYS["adamw"], scale, steps, seed) for scale in (1.0, SCALE)]
        adam_l2 = [train(Adam, DECAYS["adam_l2"], scale, steps, seed) for scale in (1.0, SCALE)]
        restored = train(Adam, SCALE * DECAYS["adam_l2"], SCALE, steps, seed)
        bits["adamw"] += differing(adamw[1], adamw[0])
        bits["adam_l2_restored"] += differing(restored, adam_l2[0])
        changed = apart(adam_l2[1], adam_l2[0])
        least = min(least, changed[-1])
        if not curves:
            curves = {
                "adamw": apart(adamw[1], adamw[0]),
                "adam_l2": changed,
                "adam_l2_restored": apart(restored, adam_l2[0]),
            }
    return Measurement(values={**bits, "adam_l2": least}, data={"steps": steps, **curves})


def draw(measurement: Measurement, sheet: Sheet) -> None:
    from adamantine.study.claims._looks import ADAM_L2, ADAMW

    data = measurement.data
    (ax,) = sheet.axes()
    step = range(1, data["steps"] + 1)
    sheet.line(ax, step, data["adam_l2"], ADAM_L2)
    sheet.write(ax, data["steps"], data["adam_l2"][-1], "Adam + L2", ADAM_L2, offset=(6, 0), va="center")
    sheet.line(ax, step, data["adamw"], ADAMW, linewidth=3.4)
    sheet.line(ax, step, data["adam_l2_restored"], ADAM_L2, linestyle=(0, (2, 4)), linewidth=1.8)
    sheet.prediction(ax, [1, data["steps"]], [0, 0], linewidth=1.0)
    top = max(data["adam_l2"])
    sheet.write(ax, data["steps"], 0, "AdamW", ADAMW, offset=(6, 0), va="bottom")
    restored = sheet.say("Adam + L2, λ × 1024", "Adam + L2，λ × 1024")
    sheet.write(ax, data["steps"], 0, restored, ADAM_L2, offset=(6, -2), va="top")
    said = sheet.say("predicted for these two: 0, to the last bit", "对这两者的预测：0，逐位相同")
    sheet.write(ax, data["steps"], 0, said, offset=(-4, 8), ha="right")
    ax.set_ylim(-0.05 * top, 1.08 * top)
    ax.set_xlim(0, data["steps"])
    ax.set_xlabel(sheet.say("step", "步数"))
    ax.set_ylabel(
        sheet.say("weights: loss × 1024 against loss × 1 (%)", "权重之差：损失 × 1024 相对于损失 × 1（%）")
    )


CLAIM = Claim(
    number=4,
    title=Words("Only Adam + L2 depends on the scale of the loss", "只有 Adam + L2 依赖损失的尺度"),
    says=Words("–", "–"),
    formula="AdamW(cL, cε, λ) = AdamW(L, ε, λ)  ·  Adam+L2(cL, cε, cλ) = Adam+L2(L, ε, λ)",
    predictions=PREDICTIONS,
    sources=(),
    finding=Words(
        "Loss × 1024: AdamW keeps every bit, Adam + L2 trains another net",
        "损失 × 1024：AdamW 的权重逐位不变，Adam + L2 训练出另一个网络",
    ),
    measure=measure,
    draw=draw,
    seconds=6.0,
)
