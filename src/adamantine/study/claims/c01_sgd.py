"""Claim 1: in plain SGD, an L2 penalty and weight decay are the same thing; with momentum they are not.

    L2      θ ← θ - η (g + λθ)        decay   θ ← (1 - ηλ) θ - η g

The same gradients go through both forms. In exact arithmetic they agree for ever, so what is measured is
rounding: one step is compared in units of the last place, thousands of steps by ‖θ_a - θ_b‖∞ / ‖θ‖∞. Momentum
is the negative control: the L2 term then passes through the buffer and acts 1/(1-μ) times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adamantine.reference import Optimizer
from adamantine.report.words import Words
from adamantine.study.claims.claim import Claim, Effort, Measurement, Prediction

if TYPE_CHECKING:
    from adamantine.report.claimfigure import Sheet

LR, WEIGHT_DECAY, MOMENTUM = 0.1, 0.01, 0.9
WEIGHTS = 1000
FORMS: dict[str, type[np.floating[Any]]] = {"float64": np.float64, "float32": np.float32}

PREDICTIONS = (
    Prediction(
        "one_step_ulp",
        Words(
            "one step: apart by units in the last place of its largest number, both precisions",
            "一步之后：相差几个末位单位（以这一步中最大的数计，两种精度）",
        ),
        high=2.0,
        unit=" ulp",
    ),
    Prediction(
        "float64",
        Words("float64, all steps: largest relative difference", "float64，全部步数：最大相对差"),
        high=1e-13,
    ),
    Prediction(
        "float32",
        Words("float32, all steps: largest relative difference", "float32，全部步数：最大相对差"),
        high=1e-4,
    ),
    Prediction(
        "momentum",
        Words(
            "negative control, momentum 0.9: relative difference at the end",
            "反例对照，动量 0.9：最后的相对差",
        ),
        low=0.1,
    ),
)


def largest(a: NDArray[Any], b: NDArray[Any]) -> float:
    """‖a - b‖∞ / ‖b‖∞."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def one_step(dtype: type[np.floating[Any]], weights: int = 100_000) -> float:
    """The largest distance after one step, in units of the last place of its largest number.

    That is the largest of θ, ηg and the new θ: where the two terms cancel, the new θ is small and carries
    their rounding; where they add up, its own rounding is the coarsest.
    """
    rng = np.random.default_rng(0)
    start, g = (rng.standard_normal(weights).astype(dtype) for _ in range(2))
    l2, decay = (_after_one(start, g, mode) for mode in ("l2", "decoupled"))
    largest = np.abs([start, dtype(LR) * g, l2, decay]).max(axis=0)
    return float((np.abs(l2 - decay) / np.spacing(largest)).max())


def _after_one(start: NDArray[Any], g: NDArray[Any], mode: str) -> NDArray[Any]:
    theta = {"w": start.copy()}
    Optimizer("sgd", lr=LR, decay=mode, weight_decay=WEIGHT_DECAY).step(theta, {"w": g})
    return theta["w"]


def apart(rule: str, dtype: type[np.floating[Any]], steps: int, seed: int, **hyper: float) -> list[float]:
    """Relative difference of the two forms after every step, on one sequence of random gradients."""
    rng = np.random.default_rng(seed)
    start = rng.standard_normal(WEIGHTS).astype(dtype)
    thetas = [{"w": start.copy()}, {"w": start.copy()}]
    optimizers = [
        Optimizer(rule, lr=LR, decay=mode, weight_decay=WEIGHT_DECAY, **hyper) for mode in ("l2", "decoupled")
    ]
    found = []
    for _ in range(steps):
        g = {"w": rng.standard_normal(WEIGHTS).astype(dtype)}
        for optimizer, theta in zip(optimizers, thetas, strict=True):
            optimizer.step(theta, g)
        found.append(largest(thetas[0]["w"], thetas[1]["w"]))
    return found


def measure(effort: Effort) -> Measurement:
    steps = effort.of(2000, 20_000, short=300)
    seeds = range(effort.of(3, 10, short=1))
    plain = {
        name: np.max([apart("sgd", dtype, steps, seed) for seed in seeds], axis=0)
        for name, dtype in FORMS.items()
    }
    momentum = np.min(
        [apart("heavy_ball", np.float64, steps, seed, momentum=MOMENTUM) for seed in seeds], axis=0
    )
    kept = np.unique(np.geomspace(1, steps, 160).round().astype(int)) - 1  # what a figure has pixels for
    return Measurement(
        values={
            "one_step_ulp": max(one_step(dtype) for dtype in FORMS.values()),
            "float64": float(plain["float64"].max()),
            "float32": float(plain["float32"].max()),
            "momentum": float(momentum[-1]),
        },
        data={
            "step": kept + 1,
            "float64": plain["float64"][kept],
            "float32": plain["float32"][kept],
            "momentum": momentum[kept],
        },
    )


def draw(measurement: Measurement, sheet: Sheet) -> None:
    from adamantine.report.theme import stroke

    data = measurement.data
    (ax,) = sheet.axes()
    step = data["step"]
    curves = (
        ("momentum", stroke(3), sheet.say("SGD with momentum 0.9", "带动量 0.9 的 SGD")),
        ("float32", stroke(4), sheet.say("plain SGD, float32", "普通 SGD，float32")),
        ("float64", stroke(0), sheet.say("plain SGD, float64", "普通 SGD，float64")),
    )
    for name, look, text in curves:
        sheet.line(ax, step, np.maximum(np.asarray(data[name], float), 1e-17), look)
        sheet.write(
            ax, step[-1], data[name][-1], text, look, offset=(0, 9 if name == "momentum" else -19), ha="right"
        )
    for name, bound in (("float64", 1e-13), ("float32", 1e-4), ("momentum", 0.1)):
        sheet.prediction(ax, [1, step[-1]], [bound, bound])
        below = name != "momentum"
        said = (
            sheet.say("predicted: below", "预测：低于此线")
            if below
            else sheet.say("predicted: above", "预测：高于此线")
        )
        sheet.write(ax, 2.6, bound, said, offset=(0, -13 if below else 4), fontsize=9)
    sheet.logarithmic(ax, "x")
    sheet.logarithmic(ax, "y", most=10)
    ax.set_ylim(1e-17, 30)
    ax.set_xlabel(sheet.say("step", "步数"))
    ax.set_ylabel(sheet.say("difference of the two forms, ‖Δθ‖∞ / ‖θ‖∞", "两种形式之差 ‖Δθ‖∞ / ‖θ‖∞"))


CLAIM = Claim(
    number=1,
    title=Words("In plain SGD, L2 and weight decay are the same", "在普通 SGD 中，L2 与权重衰减等价"),
    says=Words(
        "In standard SGD, weight decay is equivalent to L2 regularization.",
        "权重衰减是一种与 L2 正则化在标准 SGD 中等价的技术。",
    ),
    formula="θ − η(g + λθ) = (1 − ηλ)θ − ηg",
    predictions=PREDICTIONS,
    sources=("Loshchilov & Hutter 2019, Proposition 1 (arXiv 1711.05101)",),
    finding=Words(
        "Plain SGD: L2 and decay differ by rounding; momentum parts them",
        "普通 SGD 中 L2 与权重衰减只差舍入误差；加上动量便分道扬镳",
    ),
    measure=measure,
    draw=draw,
    revised=Words(
        "the first prediction was 2 ulp of the result. Where θ and ηg cancel, the result is small and "
        "that is wrong: up to 512 of its ulp in float32, 8192 in float64, more than 2 for 0.8 % of the "
        "weights. What is judged is 2 ulp of the step's largest number.",
        "最初的预测是相差至多 2 个“结果”的 ulp。θ 与 ηg 相消时结果很小，这一预测不成立：float32 最多 512 "
        "个，float64 最多 8192 个，0.8 % 的权重超过 2 个。现在以这一步中最大的数的 ulp 计。",
    ),
    seconds=3.0,
)
