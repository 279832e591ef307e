"""Claim 3: decay is a consistent force, seen on a weight whose loss gradient is 0.

    AdamW       θ_t = (1 - ηλ)^t θ_0
    Adam + L2   g = λθ is all that Adam sees; it divides by √v̂ ≈ λ|θ|, and λ cancels:
                θ_t ≈ θ_0 - ηt while ηt ≪ θ_0 and λθ ≫ ε

The line 1 - ηt holds at the start only, for √v̂ remembers larger weights: to second order θ ≈ 1 - s + s²/4
with s = ηt (θ' = -θ/√(mean of θ² so far), the limit of β₂ → 1). That λ cancels is exact up to ε. The negative
control is a λ so small that λθ ≈ ε, which shows that the measurement can tell λ apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from adamantine.reference import Optimizer
from adamantine.report.words import Words
from adamantine.study.claims.claim import Claim, Effort, Measurement, Prediction

if TYPE_CHECKING:
    from adamantine.report.claimfigure import Sheet

LR = 1e-3
DECAYS = (0.1, 0.5, 2.0)
TINY = 1e-8  # Adam's ε: here λθ is not ≫ ε
START_OF_THE_WAY = 0.1  # ηt up to which 1 - ηt is to hold

PREDICTIONS = (
    Prediction(
        "adamw",
        Words(
            "AdamW: largest relative deviation from (1 − ηλ)ᵗ, all λ",
            "AdamW：与 (1 − ηλ)ᵗ 的最大相对偏差（所有 λ）",
        ),
        high=1e-12,
    ),
    Prediction(
        "adam_l2_slope",
        Words(
            "Adam + L2: way gone by ηt = 0.1, over ηt, each λ (the farthest from 1)",
            "Adam + L2：到 ηt = 0.1 为止走过的距离除以 ηt（取偏离 1 最远的 λ）",
        ),
        low=0.95,
        high=1.05,
    ),
    Prediction(
        "adam_l2_spread",
        Words(
            "Adam + L2: largest difference between the λ, all steps",
            "Adam + L2：不同 λ 之间的最大差别（全部步数）",
        ),
        high=1e-3,
    ),
    Prediction(
        "adamw_spread",
        Words(
            "negative control, AdamW: difference between the λ at the end",
            "反例对照，AdamW：不同 λ 在最后的差别",
        ),
        low=0.3,
    ),
    Prediction(
        "tiny_decay",
        Words(
            "negative control, Adam + L2 with λθ ≈ ε: difference from the other λ at the end",
            "反例对照，λθ ≈ ε 的 Adam + L2：最后与其他 λ 的差别",
        ),
        low=0.1,
    ),
)


def path(decay: str, weight_decay: float, steps: int) -> list[float]:
    """θ_0 … θ_steps of a weight that starts at 1 and has no loss gradient, in float64."""
    theta = {"w": np.ones(1)}
    optimizer = Optimizer("adam", lr=LR, decay=decay, weight_decay=weight_decay)
    found = [1.0]
    for _ in range(steps):
        optimizer.step(theta, {"w": np.zeros(1)})
        found.append(float(theta["w"][0]))
    return found


def measure(effort: Effort) -> Measurement:
    steps = effort.of(1000, 2000, short=1000)
    time = np.arange(steps + 1)
    adamw = {decay: np.array(path("decoupled", decay, steps)) for decay in DECAYS}
    adam_l2 = {decay: np.array(path("l2", decay, steps)) for decay in (*DECAYS, TINY)}
    deviations = [float(np.abs(theta / (1 - LR * decay) ** time - 1).max()) for decay, theta in adamw.items()]
    early = round(START_OF_THE_WAY / LR)
    slopes = [float((1 - adam_l2[decay][early]) / START_OF_THE_WAY) for decay in DECAYS]
    same = np.stack([adam_l2[decay] for decay in DECAYS])
    ends = [theta[-1] for theta in adamw.values()]
    return Measurement(
        values={
            "adamw": max(deviations),
            "adam_l2_slope": max(slopes, key=lambda slope: abs(slope - 1)),
            "adam_l2_spread": float(np.ptp(same, axis=0).max()),
            "adamw_spread": max(ends) - min(ends),
            "tiny_decay": float(abs(adam_l2[TINY][-1] - same[:, -1]).min()),
        },
        data={
            "lr": LR,
            "decays": DECAYS,
            "step": time[::10],
            "adamw": [adamw[decay][::10] for decay in DECAYS],
            "adam_l2": [adam_l2[decay][::10] for decay in DECAYS],
            "tiny": adam_l2[TINY][::10],
        },
    )


def draw(measurement: Measurement, sheet: Sheet) -> None:
    from adamantine.study.claims._looks import ADAM_L2, ADAMW

    data = measurement.data
    step = np.array(data["step"])
    (ax,) = sheet.axes()
    last = step[-1]
    for decay, theta in zip(data["decays"], data["adamw"], strict=True):
        sheet.line(ax, step, theta, ADAMW, linestyle="solid")
        sheet.prediction(ax, step, (1 - data["lr"] * decay) ** step)
        sheet.write(ax, last, theta[-1], f"AdamW, λ = {decay:g}", ADAMW, offset=(6, 0), va="center")
    for theta in data["adam_l2"]:
        sheet.line(ax, step, theta, ADAM_L2, linestyle="solid", alpha=0.75)
    every = ", ".join(f"{decay:g}" for decay in data["decays"])
    lines = sheet.say(f"Adam + L2:\nλ = {every}\nare one line", f"Adam + L2：\nλ = {every}\n重合为一条线")
    sheet.write(ax, last, data["adam_l2"][0][-1], lines, ADAM_L2, offset=(6, 0), va="center")
    sheet.prediction(ax, [0, 0.5 / data["lr"]], [1, 0.5])
    said = sheet.say(
        "dotted: predicted\nAdamW (1 − ηλ)ᵗ\nAdam + L2 1 − ηt at the start, for every λ",
        "点线：预测\nAdamW (1 − ηλ)ᵗ\nAdam + L2 开头 1 − ηt，与 λ 无关",
    )
    sheet.write(ax, 0, 0.03, said, offset=(8, 0), va="bottom")
    ax.set_xlim(0, last)
    ax.set_ylim(0, 1.03)
    ax.set_xlabel(sheet.say("step (learning rate η = 0.001)", "步数（学习率 η = 0.001）"))
    ax.set_ylabel(sheet.say("weight without a loss gradient, θ / θ₀", "没有损失梯度的权重，θ / θ₀"))


CLAIM = Claim(
    number=3,
    title=Words("AdamW's decay is a consistent force that λ sets", "AdamW 的衰减是一致的力，由 λ 决定"),
    says=Words(
        "Decay applies a consistent shrinking force; under Adam + L2 its effect is distorted.",
        "它对所有参数施加的收缩力是一致的（系数都是 λ）；而 Adam + L2 的衰减效果被自适应学习率扭曲。",
    ),
    formula="g ≡ 0:  AdamW θₜ = (1 − ηλ)ᵗ θ₀  ·  Adam + L2 θₜ ≈ θ₀ − ηt",
    predictions=PREDICTIONS,
    sources=("Loshchilov & Hutter 2019 (arXiv 1711.05101)",),
    finding=Words(
        "With no gradient, AdamW shrinks by λ; Adam + L2 cannot see λ",
        "没有梯度时，AdamW 按 λ 收缩权重；Adam + L2 根本看不见 λ",
    ),
    measure=measure,
    draw=draw,
    seconds=1.0,
)
