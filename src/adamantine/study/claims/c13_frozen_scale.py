"""Claim 13: with a frozen preconditioner, decoupled decay is a scale-adjusted L2 penalty (Proposition 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adamantine.report.words import Words
from adamantine.study.claims._looks import ADAM_L2, ADAMW, OTHERS
from adamantine.study.claims.claim import Claim, Effort, Measurement, Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from adamantine.report.claimfigure import Sheet
    from adamantine.study.claims._softmax import Softmax

LR, DECAY = 1e-2, 0.1
BETA2, EPS = 0.99, 1e-3  # of the Adam whose √v̂ + ε is frozen; ε as large as a small √v̂: ηλ/s stays below 1
ROUNDING = 1e-12  # float64 over thousands of steps
APART = 1e-3  # what a control must differ by

PREDICTIONS = (
    Prediction(
        "adjusted",
        Words(
            "decoupled against the penalty (λ/2)‖θ⊙√s‖², s frozen: largest relative difference",
            "s 冻结时，解耦衰减与惩罚项 (λ/2)‖θ⊙√s‖² 的最大相对差",
        ),
        0.0,
        ROUNDING,
    ),
    Prediction("plain", Words("control, the usual penalty (λ/2)‖θ‖²", "对照：普通惩罚项 (λ/2)‖θ‖²"), APART),
    Prediction(
        "running",
        Words("control, v goes on running: the penalty enters it", "对照：v 继续更新，惩罚项的梯度进入 v"),
        APART,
    ),
    Prediction(
        "momentum",
        Words(
            "control, β₁ = 0.9: momentum delays the penalty, not the decay",
            "对照：β₁ = 0.9，动量会延迟惩罚项，而不会延迟衰减",
        ),
        APART,
    ),
)
LABELS = {
    "adjusted": Words("scale-adjusted L2", "按尺度调整的 L2"),
    "plain": Words("plain L2", "普通 L2"),
    "running": Words("v not frozen", "v 不冻结"),
    "momentum": Words("with momentum", "带动量"),
}
LOOKS = {
    "adjusted": ADAMW,
    "plain": ADAM_L2,
    "running": OTHERS[0],
    "momentum": OTHERS[1],
}
FLOOR = 1e-18  # where an exact 0 is drawn on the logarithmic axis


def measure(effort: Effort) -> Measurement:
    """Softmax regression on digits in float64; s = √v̂ + ε of a hundred real Adam steps, then kept."""
    import torch

    from adamantine.study.claims._softmax import Softmax

    problem = Softmax()
    steps = effort.of(1000, 10_000, short=100)
    scale = frozen_scale(problem)
    one = torch.ones_like(scale)
    rows = {
        "adjusted": _difference(problem, scale, scale, steps),
        "plain": _difference(problem, scale, one, steps),
        "running": _difference(problem, scale, scale, steps, beta2=BETA2),
        "momentum": _difference(problem, scale, scale, steps, beta1=0.9),
    }
    spread = [float(scale.min()), float(scale.max())]
    return Measurement({name: max(row) for name, row in rows.items()}, {"rows": rows, "scale": spread})


def frozen_scale(problem: Softmax) -> Tensor:
    """√v̂ + ε after a hundred steps of Adam without momentum or decay."""
    import torch

    theta = problem.start()
    v = torch.zeros_like(theta)
    scale = torch.ones_like(theta)
    for t in range(1, 101):
        g = problem.gradient(theta)
        v = BETA2 * v + (1 - BETA2) * g * g
        scale = (v / (1 - BETA2**t)).sqrt() + EPS
        theta = theta - LR * g / scale
    return scale


def _difference(
    problem: Softmax, scale: Tensor, weights: Tensor, steps: int, beta1: float = 0.0, beta2: float = 1.0
) -> list[float]:
    """‖decoupled − penalized‖/‖decoupled‖ after each step, for the penalty (λ/2)·Σ weights·θ².

    v starts at s² and is frozen with ``beta2`` = 1.
    """
    import torch

    decoupled, penalized = problem.start(), problem.start()
    v_decoupled, v_penalized = scale.square(), scale.square()
    m_decoupled, m_penalized = torch.zeros_like(scale), torch.zeros_like(scale)
    found = []
    for _ in range(steps):
        g = problem.gradient(decoupled)
        m_decoupled = beta1 * m_decoupled + (1 - beta1) * g
        v_decoupled = beta2 * v_decoupled + (1 - beta2) * g * g
        decoupled = (1 - LR * DECAY) * decoupled - LR * m_decoupled / v_decoupled.sqrt()

        leaf = penalized.requires_grad_()  # the penalty is in the loss, and autograd differentiates it
        loss = problem.loss(leaf) + DECAY / 2 * (leaf.square() * weights).sum()
        (g,) = torch.autograd.grad(loss, [leaf])
        m_penalized = beta1 * m_penalized + (1 - beta1) * g
        v_penalized = beta2 * v_penalized + (1 - beta2) * g * g
        penalized = leaf.detach() - LR * m_penalized / v_penalized.sqrt()
        found.append(float((decoupled - penalized).norm() / decoupled.norm()))
    return found


def draw(measurement: Measurement, sheet: Sheet) -> None:
    """Relative difference over steps, one curve per form."""
    (ax,) = sheet.axes()
    rows = measurement.data["rows"]
    count = len(rows["adjusted"])
    for name, row in rows.items():
        drawn = [max(x, FLOOR) for x in row]
        sheet.line(ax, range(1, count + 1), drawn, LOOKS[name], label=LABELS[name].of(sheet.language))
    for bound in (ROUNDING, APART):
        sheet.prediction(ax, [1, count], [bound, bound])
    equal = sheet.say("predicted: the equivalent form below this line", "预测：等价的形式在此线之下")
    other = sheet.say("predicted: the others get above this one", "预测：其余三种会越过此线")
    sheet.write(ax, 1, ROUNDING, equal, offset=(2, -13))
    sheet.write(ax, 1, APART, other, offset=(2, -26))
    sheet.logarithmic(ax, "x")
    sheet.logarithmic(ax, "y")
    ax.set_ylim(FLOOR, 10)
    ax.set_xlabel(sheet.say("step", "步数"))
    ax.set_ylabel(sheet.say("relative difference from decoupled decay", "与解耦衰减的相对差"))
    sheet.legend(ax, loc="center right", bbox_to_anchor=(1.0, 0.55))


CLAIM = Claim(
    number=13,
    title=Words(
        "With a frozen preconditioner, decoupled decay is a scale-adjusted L2 penalty",
        "预条件冻结时，解耦衰减就是按尺度调整的 L2 惩罚",
    ),
    says=Words(
        "AdamW adds λθ after the division by √v̂, so the adaptive rate does not rescale the decay.",
        "AdamW 把 λθ 加在除以 √v̂ 之后，因此衰减不被自适应学习率缩放。",
    ),
    formula="θ − (η/s)⊙∇(L + (λ/2)‖θ⊙√s‖²) = (1 − ηλ)θ − (η/s)⊙∇L",
    predictions=PREDICTIONS,
    sources=("Loshchilov & Hutter 2019, arXiv 1711.05101, Proposition 3",),
    finding=Words(
        "Decoupled decay equals L2 weighted by √v̂ while v stands still",
        "只要 v 保持不变，解耦衰减就等于用 √v̂ 加权的 L2 惩罚",
    ),
    measure=measure,
    draw=draw,
    seconds=4.0,
)
