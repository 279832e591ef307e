"""Claim 7: Adam + L2 decays weights with large gradients too little and those with small gradients too much.

Pure noise of scale σ_i on weight i, over two decades of σ, until the weights are at rest:

    AdamW       RMS of θ_i = √(η/(2λ)), whatever σ_i        slope of log RMS over log σ:  0
    Adam + L2   RMS of θ_i = √(ησ_i/(2λ))                                                +½

(the L2 term is divided by √v̂ ≈ σ, so λ acts as λ/σ). The same on real data: the digits, with a net whose
hidden layer is normalized. Of each pixel, the RMS of its 128 weights against the scale of their gradients.
Pixels at the rim hardly ever change, so two decades are there by nature. Gradients of a real loss are not
pure noise: there the prediction is the direction, and half of the size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adamantine.reference import Optimizer
from adamantine.report.words import Words
from adamantine.study.claims.claim import Claim, Effort, Measurement, Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from adamantine.report.claimfigure import Sheet

Floats = NDArray[np.float64]

LR = 1e-2
DECAYS = {"adamw": 0.1, "adam_l2": 0.01}
MODES = {"adamw": "decoupled", "adam_l2": "l2"}
SIGMAS = np.logspace(-2, 0, 21)
PER_SIGMA = 60  # weights of each σ, for each seed

NET_LR = 3e-3
NET_DECAYS = {"adamw": 0.3, "adam_l2": 1e-3}
FAINTEST = 1e-5  # gradient scale of a pixel, relative to the brightest's, below which it counts as never lit

TICKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of the figure

PREDICTIONS = (
    Prediction(
        "adamw_slope",
        Words("AdamW, noise: slope of log RMS over log σ", "AdamW，噪声：log RMS 对 log σ 的斜率"),
        low=-0.05,
        high=0.05,
        rule="seeds",
    ),
    Prediction(
        "adam_l2_slope",
        Words("Adam + L2, noise: slope of log RMS over log σ", "Adam + L2，噪声：log RMS 对 log σ 的斜率"),
        low=0.45,
        high=0.55,
        rule="seeds",
    ),
    Prediction(
        "adamw_rms",
        Words("AdamW, noise: RMS / √(η/2λ)", "AdamW，噪声：RMS / √(η/2λ)"),
        low=0.95,
        high=1.05,
        rule="seeds",
    ),
    Prediction(
        "net_adamw_slope",
        Words("AdamW, normalized net on digits: the same slope", "AdamW，手写数字上带归一化的网络：同一斜率"),
        low=-0.1,
        high=0.1,
        rule="seeds",
    ),
    Prediction(
        "net_gap",
        Words(
            "normalized net on digits: slope of Adam + L2 minus that of AdamW",
            "手写数字上带归一化的网络：Adam + L2 的斜率减 AdamW 的斜率",
        ),
        low=0.25,
        rule="seeds",
    ),
)


def noise(method: str, steps: int, seeds: int) -> Floats:
    """RMS at rest of weights under random gradients, ``[seeds, σ]``, over the last third of the steps."""
    rng = np.random.default_rng(7)
    sigma = SIGMAS[None, :, None]
    theta = {"w": np.zeros((seeds, len(SIGMAS), PER_SIGMA))}
    optimizer = Optimizer("adam", lr=LR, decay=MODES[method], weight_decay=DECAYS[method])
    squares, counted = np.zeros((seeds, len(SIGMAS))), 0
    for step in range(steps):
        g = sigma * rng.standard_normal(theta["w"].shape, np.float32)
        optimizer.step(theta, {"w": g})
        if step >= steps * 2 // 3 and step % 50 == 0:
            squares += (theta["w"] ** 2).mean(axis=2)
            counted += 1
    return np.sqrt(squares / counted)


def slope(x: Floats, y: Floats) -> float:
    """The least-squares slope of log y over log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


class Pixels(NamedTuple):
    """Of each pixel that is ever lit: RMS of its weights' gradients, and RMS of the weights."""

    scale: Floats
    rms: Floats


def net(method: str, steps: int, seed: int) -> Pixels:
    """Trains 64-128-10 with batch normalization behind the first layer, at constant lr, to its rest."""
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    from adamantine.study.claims._digits import batches
    from adamantine.torch import Adam, AdamW

    torch.manual_seed(seed)
    first = nn.Linear(64, 128, bias=False)
    model = nn.Sequential(first, nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10))
    others = [p for p in model.parameters() if p is not first.weight]
    groups: list[dict[str, Any]] = [
        {"params": [first.weight], "weight_decay": NET_DECAYS[method]},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = {"adamw": AdamW, "adam_l2": Adam}[method](groups, lr=NET_LR)
    squares, grads, counted = torch.zeros(64), torch.zeros(64), 0
    for step, (x, y) in enumerate(batches(seed, steps)):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        assert first.weight.grad is not None
        if step >= steps * 2 // 3:
            squares += first.weight.detach().square().mean(dim=0)
            grads += first.weight.grad.square().mean(dim=0)
            counted += 1
        optimizer.step()
    scale, rms = ((total / counted).sqrt().double().numpy() for total in (grads, squares))
    lit = scale > FAINTEST * scale.max()
    return Pixels(scale[lit], rms[lit])


def measure(effort: Effort) -> Measurement:
    steps = effort.of(18_000, 40_000)
    seeds = effort.of(3, 10)
    net_steps = effort.of(4_000, 12_000)
    rms = {method: noise(method, steps, seeds) for method in DECAYS}
    nets = {method: [net(method, net_steps, seed) for seed in range(seeds)] for method in DECAYS}
    slopes = {method: np.array([slope(p.scale, p.rms) for p in nets[method]]) for method in DECAYS}
    level = math.sqrt(LR / (2 * DECAYS["adamw"]))
    return Measurement(
        values={
            "adamw_slope": [slope(SIGMAS, row) for row in rms["adamw"]],
            "adam_l2_slope": [slope(SIGMAS, row) for row in rms["adam_l2"]],
            "adamw_rms": [float(np.sqrt((row**2).mean())) / level for row in rms["adamw"]],
            "net_adamw_slope": slopes["adamw"],
            "net_gap": slopes["adam_l2"] - slopes["adamw"],
        },
        data={
            "sigma": SIGMAS,
            "adamw": rms["adamw"],
            "adam_l2": rms["adam_l2"],
            "adamw_predicted": np.full(len(SIGMAS), level),
            "adam_l2_predicted": np.sqrt(LR * SIGMAS / (2 * DECAYS["adam_l2"])),
            "net": {method: {"scale": nets[method][0].scale, "rms": nets[method][0].rms} for method in nets},
        },
    )


def draw(measurement: Measurement, sheet: Sheet) -> None:
    from adamantine.study.claims._looks import ADAM_L2, ADAMW

    data = measurement.data
    noise_ax, net_ax = sheet.axes(2, width_ratios=(1.2, 1))
    looks = {"adamw": ADAMW, "adam_l2": ADAM_L2}
    for method, look in looks.items():
        rows = np.array(data[method])
        middle = rows.mean(axis=0)
        error = np.stack([middle - rows.min(axis=0), rows.max(axis=0) - middle])
        sheet.points(noise_ax, data["sigma"], middle, look, error=error, markersize=5.5)
        sheet.prediction(noise_ax, data["sigma"], data[f"{method}_predicted"])
        pixels = data["net"][method]
        sheet.points(net_ax, pixels["scale"], pixels["rms"], look, markersize=5, alpha=0.8)
        _through_the_middle(sheet, net_ax, pixels, exponent=0.0 if method == "adamw" else 0.5)
    noise_ax.set_title(sheet.say("Random gradients", "随机梯度"), fontsize=11)
    noise_ax.set_xlabel(sheet.say("gradient scale σ of a weight", "权重的梯度尺度 σ"))
    noise_ax.set_ylabel(sheet.say("size of the weights at rest, RMS", "平衡时权重的大小（RMS）"))
    net_ax.set_title(sheet.say("Net on digits, by pixel", "手写数字网络，逐像素"), fontsize=11)
    net_ax.set_xlabel(sheet.say("gradient scale of a pixel's weights", "一个像素的权重的梯度尺度"))
    for ax in (noise_ax, net_ax):
        sheet.logarithmic(ax, "x")
        sheet.logarithmic(ax, "y")
        ticks = [tick for tick in TICKS if ax.get_ylim()[0] <= tick <= ax.get_ylim()[1]]
        ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    low, high = data["sigma"][0], data["sigma"][-1]
    sheet.write(noise_ax, low, data["adamw_predicted"][0], "AdamW", ADAMW, offset=(0, 9))
    said = sheet.say("Adam + L2", "Adam + L2")
    sheet.write(noise_ax, high, data["adam_l2_predicted"][-1], said, ADAM_L2, offset=(-8, 3), ha="right")
    dotted = sheet.say("dotted: predicted,\nslopes 0 and ½", "点线：预测，\n斜率 0 与 ½")
    sheet.write(noise_ax, high, data["adam_l2_predicted"][0], dotted, ha="right")


def _through_the_middle(sheet: Sheet, ax: Axes, pixels: dict[str, list[float]], exponent: float) -> None:
    """The predicted slope, through the middle of the points: a net's level is not predicted."""
    x, y = np.log(pixels["scale"]), np.log(pixels["rms"])
    ends = np.array([x.min(), x.max()])
    sheet.prediction(ax, np.exp(ends), np.exp(y.mean() + exponent * (ends - x.mean())))


CLAIM = Claim(
    number=7,
    title=Words(
        "Adam + L2 decays large-gradient weights too little, small-gradient ones too much",
        "Adam + L2 对大梯度权重衰减不足，对小梯度权重衰减过度",
    ),
    says=Words(
        "Where gradients are large, decay is much weakened; where they are small, it is amplified.",
        "对于梯度很大的参数，权重衰减的作用会被大幅削弱；对于梯度很小的参数，权重衰减的作用会被异常放大。",
    ),
    formula="AdamW: RMS = √(η/2λ)  ·  Adam + L2: RMS = √(ησ/2λ)",
    predictions=PREDICTIONS,
    sources=("Kosson, Messmer & Jaggi 2024 (arXiv 2305.17212)",),
    finding=Words(
        "AdamW treats all weights alike; Adam + L2 spares large gradients",
        "AdamW 对所有权重一视同仁；Adam + L2 下大梯度权重逃脱了衰减",
    ),
    measure=measure,
    draw=draw,
    seconds=20.0,
)
