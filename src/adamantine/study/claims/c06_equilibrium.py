"""Claim 6: stable decay, in numbers: norm and rotation come to rest where the formulas of Kosson et al. say.

Weights before a normalization are scale-invariant: their gradient is at right angles to θ and of size 1/‖θ‖.
Random gradients of that kind, g = g̃/‖θ‖ with ‖g̃‖ = σ√C, push the norm up; decay pulls it down:

                 norm at rest                       rotation per step
    AdamW        √(ηC/(2λ))                         √(2ηλ(1-β₁)/(1+β₁))
    SGDM + L2    (η‖g̃‖²/(2λ(1-μ)))^¼                √(2ηλ/(1+μ))
    Adam + L2    (η√C‖g̃‖/(2λ))^⅓                    no regular rate

Two starts, one far below and one far above, must come to the same rest: of each pair the one that ends
farther from the prediction is judged, for their mean would hide what is left of the way. AdamW's rest does
not depend on the size of the gradients, Adam + L2's does: its ratio at 8 times the gradients is 8^⅓ = 2, and
AdamW's 1.
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
    from adamantine.report.claimfigure import Sheet

Floats = NDArray[np.float64]

COUNT = 2000  # C, weights of one vector
BETA1, MOMENTUM = 0.9, 0.9


class Method(NamedTuple):
    """How a method is run; chosen so that its norm relaxes within some hundred steps."""

    rule: str
    decay: str
    lr: float
    weight_decay: float
    hyper: dict[str, Any]


METHODS = {
    "adamw": Method("adam", "decoupled", 1e-2, 0.1, {"betas": (BETA1, 0.999)}),
    "sgdm": Method("heavy_ball", "l2", 1e-2, 1e-2, {"momentum": MOMENTUM}),
    "adam_l2": Method("adam", "l2", 1e-2, 1e-3, {"betas": (BETA1, 0.999)}),
}
NAMES = {"adamw": "AdamW", "sgdm": "SGDM + L2", "adam_l2": "Adam + L2"}
GROWN = 8.0  # by which the gradients are multiplied for the ratios


def norm_at_rest(name: str, sigma: float = 1.0) -> float:
    """‖θ‖ as predicted, for ‖g̃‖ = σ√C."""
    _, _, lr, weight_decay, _ = METHODS[name]
    g: float = sigma * math.sqrt(COUNT)
    if name == "adamw":
        return math.sqrt(lr * COUNT / (2 * weight_decay))
    if name == "sgdm":
        return float((lr * g**2 / (2 * weight_decay * (1 - MOMENTUM))) ** 0.25)
    return float((lr * math.sqrt(COUNT) * g / (2 * weight_decay)) ** (1 / 3))


def rotation(name: str) -> float:
    """Angle per step at rest as predicted, in radians."""
    _, _, lr, weight_decay, _ = METHODS[name]
    if name == "adamw":
        return math.sqrt(2 * lr * weight_decay * (1 - BETA1) / (1 + BETA1))
    return math.sqrt(2 * lr * weight_decay / (1 + MOMENTUM))


def _both(name: str, text: Words) -> Prediction:
    return Prediction(name, text, low=0.95, high=1.05, rule="seeds")


def _farther(name: str, en: str, zh: str) -> Words:
    return Words(
        f"{NAMES[name]}: {en} / predicted, the farther off of two starts",
        f"{NAMES[name]}：{zh} / 预测值（两个起点中偏离较远者）",
    )


PREDICTIONS = (
    *(_both(f"{name}_norm", _farther(name, "norm", "范数")) for name in METHODS),
    *(
        _both(
            f"{name}_rotation",
            _farther(name, "rotation", "每步转角"),
        )
        for name in ("adamw", "sgdm")
    ),
    Prediction(
        "adamw_ratio",
        Words("AdamW: norm with 8 × the gradients / norm", "AdamW：梯度 × 8 时的范数之比"),
        low=0.98,
        high=1.02,
        rule="seeds",
    ),
    Prediction(
        "adam_l2_ratio",
        Words(
            "negative control, Adam + L2: norm with 8 × the gradients / norm (2 by the formula)",
            "反例对照，Adam + L2：梯度 × 8 时的范数之比（公式给出 2）",
        ),
        low=1.9,
        high=2.1,
        rule="seeds",
    ),
)


class Walk(NamedTuple):
    """Norm, ``[steps, walkers]``, and the root mean square of the angle per step at rest, ``[walkers]``."""

    norm: Floats
    rotation: Floats


def walk(name: str, starts: list[float], steps: int, seeds: int, sigma: float = 1.0) -> Walk:
    """Random walks of scale-invariant weights from ``starts`` (in units of the predicted norm) × seeds.

    One array holds all walkers, ``[walkers, C]``: an optimizer acts on each weight by itself.
    """
    rng = np.random.default_rng(seeds)
    method = METHODS[name]
    theta = {"w": rng.standard_normal((len(starts) * seeds, COUNT))}
    wanted = np.repeat(starts, seeds) * norm_at_rest(name, sigma)
    theta["w"] *= (wanted / np.linalg.norm(theta["w"], axis=1))[:, None]
    optimizer = Optimizer(
        method.rule, lr=method.lr, decay=method.decay, weight_decay=method.weight_decay, **method.hyper
    )
    norms = np.empty((steps, len(wanted)))
    squares = np.zeros(len(wanted))
    norm = wanted
    for step in range(steps):
        old, size = theta["w"], norm[:, None]
        g = rng.standard_normal(old.shape, np.float32).astype(np.float64)
        g -= (np.einsum("ij,ij->i", g, old)[:, None] / size**2) * old
        optimizer.step(theta, {"w": sigma * g / size})
        new = theta["w"]
        norms[step] = norm = np.sqrt(np.einsum("ij,ij->i", new, new))
        if step >= steps // 2:
            cosine = np.einsum("ij,ij->i", new, old) / (norm * size[:, 0])
            squares += np.arccos(np.minimum(cosine, 1.0)) ** 2
    return Walk(norms, np.sqrt(squares / (steps - steps // 2)))


def at_rest(norm: Floats) -> Floats:
    """The mean norm of the second half, per walker."""
    return np.asarray(norm[len(norm) // 2 :].mean(axis=0))


def farther(ratios: Floats) -> Floats:
    """Of two starts' ratios, ``[2 * seeds]`` with the seeds of one start together, that farther from 1.

    >>> farther(np.array([0.9, 1.0, 1.05, 1.2]))
    array([0.9, 1.2])
    """
    pairs = ratios.reshape(2, -1)
    return np.asarray(np.where(abs(pairs[0] - 1) > abs(pairs[1] - 1), *pairs))


def measure(effort: Effort) -> Measurement:
    steps = effort.of(12_000, 12_000)
    seeds = effort.of(3, 10, short=3)
    values: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    rest: dict[str, Floats] = {}
    for name in METHODS:
        walks = walk(name, [0.3, 2.5], steps, seeds)
        relative = walks.norm / norm_at_rest(name)
        rest[name] = at_rest(relative)
        values[f"{name}_norm"] = farther(rest[name])
        if name != "adam_l2":
            values[f"{name}_rotation"] = farther(walks.rotation / rotation(name))
        curves[name] = relative[:: steps // 200, [0, seeds]].T
    for name in ("adamw", "adam_l2"):
        grown = at_rest(walk(name, [1.0], steps // 2, seeds, sigma=GROWN).norm)
        values[f"{name}_ratio"] = grown / norm_at_rest(name) / rest[name].mean()
    return Measurement(values=values, data={"step": np.arange(0, steps, steps // 200), "relative": curves})


def draw(measurement: Measurement, sheet: Sheet) -> None:
    from adamantine.report.theme import stroke
    from adamantine.study.claims._looks import ADAM_L2, ADAMW
    from adamantine.study.claims.verdict import interval

    looks = {"adamw": ADAMW, "sgdm": stroke(0), "adam_l2": ADAM_L2}
    curves, bars = sheet.axes(2, width_ratios=(1.15, 1))
    step = np.array(measurement.data["step"])
    for name, look in looks.items():
        for relative in measurement.data["relative"][name]:
            sheet.line(curves, step, relative, look)
    sheet.prediction(curves, [0, step[-1]], [1, 1])
    curves.set_xlim(0, min(4000, step[-1]))
    curves.set_ylim(0, 2.6)
    curves.set_xlabel(sheet.say("step", "步数"))
    curves.set_ylabel(sheet.say("‖θ‖ / predicted norm at rest", "‖θ‖ / 预测的平衡范数"))
    curves.set_title(sheet.say("From above and from below", "从上方与从下方出发"), fontsize=11)
    rows = [p for p in PREDICTIONS if p.name.endswith(("_norm", "_rotation"))]
    for place, prediction in enumerate(reversed(rows)):
        name = prediction.name.rpartition("_")[0]
        found = interval(prediction, measurement.values[prediction.name])
        look = looks[name]
        error = [[found.middle - found.low], [found.high - found.middle]]
        sheet.points(bars, [found.middle], [place], look, xerr=error, error=None, markersize=8)
        what = (
            sheet.say("norm", "范数") if prediction.name.endswith("norm") else sheet.say("rotation", "转角")
        )
        sheet.write(bars, 0.845, place, f"{NAMES[name]}: {what}", look, va="center", fontsize=9.5)
    bars.axvspan(0.95, 1.05, color=sheet.theme.line, alpha=0.6, linewidth=0, zorder=0)
    sheet.prediction(bars, [1, 1], [-0.4, len(rows) - 0.4])
    bars.set_xlim(0.84, 1.08)
    bars.set_xticks([0.95, 1, 1.05], ["0.95", "1", "1.05"])
    bars.set_ylim(-0.6, len(rows) - 0.3)
    bars.set_yticks([])
    bars.grid(visible=False, axis="y")
    bars.spines["left"].set_visible(False)
    bars.set_xlabel(sheet.say("measured / predicted; grey: tolerance", "实测 / 预测；灰色：容差"))
    bars.set_title(sheet.say("At rest", "平衡时"), fontsize=11)


CLAIM = Claim(
    number=6,
    title=Words("Decay brings the weights to a predictable rest", "权重衰减使权重达到可预测的平衡"),
    says=Words(
        "AdamW's decay is stable and consistent; that of Adam + L2 is not.",
        "解耦的衰减效果稳定、一致；Adam 中的 L2 正则化并不能实现稳定、一致的权重衰减效果。",
    ),
    formula="AdamW: ‖θ‖ = √(ηC/2λ), ∠ = √(2ηλ(1−β₁)/(1+β₁))  ·  Adam + L2: ‖θ‖ = (η√C‖g̃‖/2λ)^⅓",
    predictions=PREDICTIONS,
    sources=("Kosson, Messmer & Jaggi 2024, table 1 (arXiv 2305.17212)",),
    finding=Words(
        "Norm and rotation come to rest where the formulas say",
        "范数与转角停在公式所说的地方",
    ),
    measure=measure,
    draw=draw,
    seconds=12.0,
)
