"""Claim 2: inside Adam, the L2 term is divided by √v̂, so every weight has a decay of its own.

    Adam + L2   m = m_g + m_θ (of g and of λθ), θ ← θ - η m̂_g/(√v̂+ε) - η m̂_θ/(√v̂+ε)
    AdamW       θ ← θ - η m̂/(√v̂+ε) - ηλθ

Whatever of a step the loss gradients do not account for is decay. With m_g kept beside the optimizer and v̂
read from its state, the same measurement serves both:

    r_i = Σ_t [θ_t - θ_{t+1} - η m̂_g/(√v̂+ε)]_i / Σ_t [θ_t]_i      over a window of steps

and r = ηλ/(√v̂+ε) is predicted for Adam + L2 (slope -1 over √v̂+ε in log-log), r = ηλ for AdamW (slope 0).
Nothing is fitted but the slopes. Weights that crossed 0 within the window have no rate; their share is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adamantine.report.words import Words
from adamantine.study.claims.claim import Claim, Effort, Measurement, Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from adamantine.report.claimfigure import Sheet

Floats = NDArray[np.float64]

LR, BETAS, EPS = 1e-3, (0.9, 0.999), 1e-8
DECAYS = {"adamw": 0.1, "adam_l2": 1e-3}
WINDOW = 50  # steps over which a rate is measured
SHOWN = 500  # weights of each method in the figure

PREDICTIONS = (
    Prediction(
        "adamw_slope",
        Words("AdamW: slope of log r over log (√v̂ + ε)", "AdamW：log r 对 log (√v̂ + ε) 的斜率"),
        low=-0.001,
        high=0.001,
        rule="seeds",
    ),
    Prediction(
        "adamw_rate",
        Words("AdamW: |r / ηλ − 1|, the largest of all weights", "AdamW：|r / ηλ − 1|，所有权重中的最大值"),
        high=1e-6,
    ),
    Prediction(
        "adam_l2_slope",
        Words("Adam + L2: slope of log r over log (√v̂ + ε)", "Adam + L2：log r 对 log (√v̂ + ε) 的斜率"),
        low=-1.05,
        high=-0.95,
        rule="seeds",
    ),
    Prediction(
        "adam_l2_rate",
        Words("Adam + L2: r (√v̂ + ε) / ηλ, median weight", "Adam + L2：r (√v̂ + ε) / ηλ，权重的中位数"),
        low=0.95,
        high=1.05,
        rule="seeds",
    ),
)


class Rates(NamedTuple):
    """Per weight: √v̂ + ε at the end of the window, and the decay per step and unit of the weight."""

    divisor: Floats
    rate: Floats
    crossed: float  # fraction of the weights left out because they crossed 0


def rates(method: str, steps: int, seed: int) -> Rates:
    """Trains the digits' MLP in float64 and measures r over its last `WINDOW` steps."""
    import torch
    from torch.nn.functional import cross_entropy

    from adamantine.study.claims._digits import batches
    from adamantine.study.nets import mlp
    from adamantine.torch import Adam, AdamW

    torch.manual_seed(seed)
    net = mlp(64, 128, 10).double()
    weights = [p for p in net.parameters() if p.ndim > 1]
    make = {"adamw": AdamW, "adam_l2": Adam}[method]
    optimizer = make(net.parameters(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAYS[method])
    own_m = [torch.zeros_like(p) for p in weights]
    moved, lain = ([torch.zeros_like(p) for p in weights] for _ in range(2))
    signs = [torch.zeros_like(p) for p in weights]
    for step, (x, y) in enumerate(batches(seed, steps), 1):
        optimizer.zero_grad()
        cross_entropy(net(x.double()), y).backward()  # type: ignore[no-untyped-call]
        for m, p in zip(own_m, weights, strict=True):
            assert p.grad is not None
            m.mul_(BETAS[0]).add_(p.grad, alpha=1 - BETAS[0])
        before = [p.detach().clone() for p in weights]
        optimizer.step()
        if step <= steps - WINDOW:
            continue
        for k, p in enumerate(weights):
            step_size = LR / (1 - BETAS[0] ** step)
            by_gradient = step_size * own_m[k] / _divisor(optimizer.state[p]["exp_avg_sq"], step)
            moved[k] += before[k] - p.detach() - by_gradient
            lain[k] += before[k]
            signs[k] += p.detach().sign()
    divisor = [_divisor(optimizer.state[p]["exp_avg_sq"], steps) for p in weights]
    steady = torch.cat([(s.abs() == WINDOW).flatten() for s in signs]).numpy()
    flat = [torch.cat([t.flatten() for t in part]).numpy()[steady] for part in (divisor, moved, lain)]
    return Rates(flat[0], flat[1] / flat[2], float(1 - steady.mean()))


def _divisor(v: Tensor, step: int) -> Tensor:
    return (v / (1 - BETAS[1] ** step)).sqrt() + EPS


def slope(x: Floats, y: Floats) -> float:
    """The least-squares slope of log y over log x, where y > 0."""
    positive = y > 0
    return float(np.polyfit(np.log(x[positive]), np.log(y[positive]), 1)[0])


def measure(effort: Effort) -> Measurement:
    steps = effort.of(300, 1000, short=150)
    seeds = range(effort.of(3, 10, short=2))
    found = {method: [rates(method, steps, seed) for seed in seeds] for method in DECAYS}
    per_step = {method: LR * decay for method, decay in DECAYS.items()}
    adamw = np.concatenate([r.rate for r in found["adamw"]]) / per_step["adamw"]
    chosen = {
        method: np.random.default_rng(0).permutation(len(found[method][0].rate))[:SHOWN] for method in found
    }
    return Measurement(
        values={
            "adamw_slope": [slope(r.divisor, r.rate) for r in found["adamw"]],
            "adamw_rate": float(np.abs(adamw - 1).max()),
            "adam_l2_slope": [slope(r.divisor, r.rate) for r in found["adam_l2"]],
            "adam_l2_rate": [
                float(np.median(r.rate * r.divisor)) / per_step["adam_l2"] for r in found["adam_l2"]
            ],
        },
        data={
            method: {
                "divisor": found[method][0].divisor[chosen[method]],
                "rate": found[method][0].rate[chosen[method]] / per_step[method],
                "crossed": max(r.crossed for r in found[method]),
            }
            for method in found
        },
    )


def draw(measurement: Measurement, sheet: Sheet) -> None:
    from adamantine.study.claims._looks import ADAM_L2, ADAMW

    data = measurement.data
    (ax,) = sheet.axes()
    for method, look in (("adam_l2", ADAM_L2), ("adamw", ADAMW)):
        small = {"markersize": 4.5 if method == "adamw" else 3.4, "markeredgewidth": 0, "alpha": 0.5}
        sheet.points(ax, data[method]["divisor"], data[method]["rate"], look, **small)
    every = np.concatenate([data[method]["divisor"] for method in ("adam_l2", "adamw")])
    ends = np.array([every[every > 10 * EPS].min() / 2, every.max() * 2])
    sheet.prediction(ax, ends, 1 / ends)
    sheet.prediction(ax, ends, [1, 1])
    sheet.logarithmic(ax, "x")
    sheet.logarithmic(ax, "y")
    ax.set_xlim(*ends)
    ax.set_ylim(0.2, 2 / ends[0])
    middle = float(np.sqrt(ends[0] * ends[1]))
    sheet.write(ax, ends[0], 1, "AdamW", ADAMW, offset=(8, 7))
    sheet.write(ax, middle, 1 / middle, "Adam + L2", ADAM_L2, offset=(14, 10))
    said = sheet.say("dotted: predicted, 1/(√v̂ + ε) and 1", "点线：预测 1/(√v̂ + ε) 与 1")
    sheet.write(ax, ends[1], 2 / ends[0], said, offset=(-4, -6), ha="right", va="top")
    ax.set_xlabel(sheet.say("gradient scale of a weight, √v̂ + ε", "权重的梯度尺度 √v̂ + ε"))
    ax.set_ylabel(sheet.say("measured decay rate of a weight, r / ηλ", "权重的实测衰减率 r / ηλ"))


CLAIM = Claim(
    number=2,
    title=Words("Adam + L2 divides each weight's decay by its √v̂", "Adam + L2 把每个权重的衰减除以 √v̂"),
    says=Words(
        "Adam scales the merged gradient by 1/√v̂, so the strength of the decay changes with it.",
        "Adam 会对合并后的梯度进行自适应学习率调整（除以 √v̂），自适应学习率会动态地缩放权重衰减的强度。",
    ),
    formula="Adam + L2: r = ηλ/(√v̂ + ε)  ·  AdamW: r = ηλ",
    predictions=PREDICTIONS,
    sources=("Loshchilov & Hutter 2019, section 2 (arXiv 1711.05101)",),
    finding=Words(
        "AdamW decays all weights alike; Adam + L2 divides by their √v̂",
        "AdamW 对所有权重衰减一致；Adam + L2 却要除以各自的 √v̂",
    ),
    measure=measure,
    draw=draw,
    seconds=8.0,
)
