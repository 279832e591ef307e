"""Claim 8 (beyond the article): AdamW forgets its start at the rate Π(1 - η_t λ), and at no other.

Two runs with different initial weights get the same gradients. AdamW's update then is the same in both, and

    θ_t - θ'_t = Π_{s ≤ t} (1 - η_s λ) (θ_0 - θ'_0);   at constant lr e^(-t/τ), τ = -1/ln(1-ηλ) ≈ 1/(ηλ)

The gradients are as different in scale as a network's, 10^-1.5 to 10^0.5. Adam + L2, the negative control,
divides each weight's decay by its √v̂: only weights with √v̂ ≈ 1 are forgotten at that rate. With all gradients
of scale 1 this control could not tell the two apart (a deviation of 0.018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from adamantine.reference import Optimizer
from adamantine.report.words import Words
from adamantine.schedules import Constant, Cosine, Schedule, Warmup
from adamantine.study.claims.claim import Claim, Effort, Measurement, Prediction

if TYPE_CHECKING:
    from adamantine.report.claimfigure import Sheet

Floats = NDArray[np.float64]

LR = 1e-2
DECAYS = (0.1, 0.2)
L2 = 0.1
WEIGHTS = 200
SCALES = (-1.5, 0.5)  # of the gradients: exponents of 10 of the smallest and the largest
STEPS = 2000

PREDICTIONS = (
    Prediction(
        "product",
        Words(
            "AdamW, warm-up and cosine: largest relative deviation from Π(1 − ηₜλ), all weights and λ",
            "AdamW，预热加余弦：与 Π(1 − ηₜλ) 的最大相对偏差（所有权重与 λ）",
        ),
        high=1e-10,
    ),
    Prediction(
        "timescale",
        Words(
            "AdamW, constant lr: steps to 1/e of the difference, over 1/(ηλ)",
            "AdamW，恒定学习率：差别降到 1/e 的步数除以 1/(ηλ)",
        ),
        low=0.99,
        high=1.01,
    ),
    Prediction(
        "adam_l2",
        Words(
            "negative control, Adam + L2: a typical weight's deviation from Π(1 − ηₜλ) at the end",
            "反例对照，Adam + L2：典型权重最后与 Π(1 − ηₜλ) 的相对偏差",
        ),
        low=0.1,
    ),
)


def differences(decay: str, weight_decay: float, plan: Schedule, steps: int, seed: int) -> Floats:
    """(θ_t - θ'_t) / (θ_0 - θ'_0), shape ``[steps + 1, weights]``: two starts, one sequence of gradients.

    Float64; the weights stand in the order of their gradients' scale.
    """
    rng = np.random.default_rng(seed)
    theta = {"a": rng.standard_normal(WEIGHTS)}
    theta["b"] = theta["a"] + rng.choice([-1.0, 1.0], WEIGHTS)
    start = theta["a"] - theta["b"]
    scale = np.logspace(*SCALES, WEIGHTS)
    optimizer = Optimizer("adam", lr=LR, decay=decay, weight_decay=weight_decay)
    found = np.ones((steps + 1, WEIGHTS))
    for step in range(steps):
        optimizer.lr = LR * plan(step)
        g = scale * rng.standard_normal(WEIGHTS)
        optimizer.step(theta, {"a": g, "b": g})
        found[step + 1] = (theta["a"] - theta["b"]) / start
    return found


def product(weight_decay: float, plan: Schedule, steps: int) -> Floats:
    """Π(1 - η_s λ) for t = 0 … steps."""
    factors = [1 - LR * plan(step) * weight_decay for step in range(steps)]
    return np.array([1.0, *np.cumprod(factors)])


def steps_to_1_e(difference: Floats) -> float:
    """When the difference crosses 1/e, between two steps by its logarithm."""
    logs = -np.log(difference)
    return float(np.interp(1.0, logs, np.arange(len(logs))))


def measure(effort: Effort) -> Measurement:
    seeds = range(effort.of(3, 10, short=1))
    plan = Warmup(STEPS // 10, Cosine(STEPS - STEPS // 10))
    deviations, curves, products = [], [], []
    for decay in DECAYS:
        predicted = product(decay, plan, STEPS)
        measured = np.array([differences("decoupled", decay, plan, STEPS, seed) for seed in seeds])
        deviations.append(float(np.abs(measured / predicted[:, None] - 1).max()))
        curves.append(np.median(measured[0], axis=1))
        products.append(predicted)
    constant = max(DECAYS)
    to_1_e = [
        steps_to_1_e(np.median(differences("decoupled", constant, Constant(), STEPS // 2, seed), axis=1))
        for seed in seeds
    ]
    coupled = np.array([differences("l2", L2, plan, STEPS, seed) for seed in seeds])
    astray = np.abs(coupled[:, -1] / product(L2, plan, STEPS)[-1] - 1)
    tenth = WEIGHTS // 10
    return Measurement(
        values={
            "product": max(deviations),
            "timescale": float(np.mean(to_1_e)) * LR * constant,
            "adam_l2": float(np.median(astray, axis=1).min()),
        },
        data={
            "decays": DECAYS,
            "l2": L2,
            "step": np.arange(0, STEPS + 1, 20),
            "adamw": [curve[::20] for curve in curves],
            "product": [curve[::20] for curve in products],
            "small_gradients": np.median(coupled[0, ::20, :tenth], axis=1),
            "large_gradients": np.median(coupled[0, ::20, -tenth:], axis=1),
        },
    )


def draw(measurement: Measurement, sheet: Sheet) -> None:
    from adamantine.study.claims._looks import ADAM_L2, ADAMW

    data = measurement.data
    (ax,) = sheet.axes()
    step = data["step"]
    for decay, curve, predicted in zip(data["decays"], data["adamw"], data["product"], strict=True):
        sheet.line(ax, step, curve, ADAMW, linestyle="solid", linewidth=3.2, alpha=0.75)
        sheet.prediction(ax, step, predicted)
        sheet.write(ax, step[-1], curve[-1], f"AdamW, λ = {decay:g}", ADAMW, offset=(6, 0), va="center")
    for name, text in (
        ("small_gradients", sheet.say("small gradients", "小梯度")),
        ("large_gradients", sheet.say("large gradients", "大梯度")),
    ):
        sheet.line(ax, step, data[name], ADAM_L2)
        text = f"Adam + L2, λ = {data['l2']:g},\n{text}"
        sheet.write(ax, step[-1], data[name][-1], text, ADAM_L2, offset=(6, 0), va="center")
    said = sheet.say("dotted: predicted, Π(1 − ηₜλ)", "点线：预测 Π(1 − ηₜλ)")
    sheet.write(ax, step[-1], 1, said, offset=(0, -2), ha="right", va="top")
    ax.set_ylim(-0.04, 1.04)
    ax.set_xlim(0, step[-1])
    ax.set_xlabel(sheet.say("step (warm-up, then cosine to 0)", "步数（预热，然后余弦降到 0）"))
    ax.set_ylabel(
        sheet.say("difference of two runs, (θ − θ′) / (θ₀ − θ′₀)", "两次训练之差 (θ − θ′) / (θ₀ − θ′₀)")
    )


CLAIM = Claim(
    number=8,
    title=Words("AdamW remembers 1/(ηλ) steps", "AdamW 的记忆是 1/(ηλ) 步"),
    says=Words("–", "–"),
    formula="θₜ − θ′ₜ = Π(1 − ηₛλ)·(θ₀ − θ′₀),  τ = 1/(ηλ)",
    predictions=PREDICTIONS,
    sources=("Wang & Aitchison 2024 (arXiv 2405.13698)",),
    finding=Words(
        "AdamW forgets its start as Π(1 − ηₜλ) says; Adam + L2 does not",
        "AdamW 忘记初始值的速度恰为 Π(1 − ηₜλ)；Adam + L2 则不然",
    ),
    measure=measure,
    draw=draw,
    revised=Words(
        "with all gradients of scale 1 the control fails: there √v̂ ≈ 1, and Adam + L2 forgets as AdamW "
        "does (a deviation of 0.018). It holds for gradients of different scales, here 10^−1.5 to 10^0.5.",
        "若所有梯度的尺度都为 1，对照不成立：此时 √v̂ ≈ 1，Adam + L2 与 AdamW 忘得一样快（偏差 0.018）。对"
        "照只对尺度各异的梯度成立，这里取 10^−1.5 至 10^0.5。",
    ),
    seconds=4.0,
)
