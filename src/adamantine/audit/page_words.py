"""Headings and explanations of the audit's page."""

from __future__ import annotations

from adamantine.report.words import Words

GROUP_HEADINGS = (
    Words("Group", "组"),
    Words("Tensors", "张量"),
    Words("Decay", "衰减方式"),
    Words("Learning rate η", "学习率 η"),
    Words("Weight decay λ", "权重衰减 λ"),
    Words("Per step", "每步衰减"),
    Words("Timescale τ (steps)", "时间尺度 τ（步）"),
    Words("Left at the end", "最终剩余"),
)
PARAMETER_HEADINGS = (
    Words("Parameter", "参数"),
    Words("Shape", "形状"),
    Words("Group", "组"),
    Words("Decays", "衰减"),
    Words("Should it?", "应否衰减"),
    Words("Per step", "每步衰减"),
    Words("τ (steps)", "τ（步）"),
    Words("Left at the end", "最终剩余"),
)
LAYER_HEADINGS = (
    Words("Parameter", "参数"),
    Words("Decay step", "衰减步长"),
    Words("Gradient step", "梯度步长"),
    Words("Decay ÷ gradient", "衰减 ÷ 梯度"),
    Words("Step ÷ weight", "步长 ÷ 权重"),
    Words("Rounded away", "被舍入"),
    Words("‖θ‖", "‖θ‖"),
    Words("Equilibrium", "平衡值"),
    Words("Not finite", "非有限值"),
)
READING = (
    (
        Words("Per step, τ, left at the end", "每步衰减、τ、最终剩余"),
        Words(
            "Per step: the fraction of a weight that one step removes where its gradient is zero, at the"
            " present lr. τ is 1 over that at the peak lr: how many steps back the weights remember. Left at"
            " the end: what the whole planned schedule would leave of a weight without gradient.",
            "每步衰减：梯度为零时一步去掉的权重比例，按当前学习率。τ 是学习率最高时每步衰减的倒数：权重记得"
            "多少步以前。最终剩余：按计划的整个调度，没有梯度的权重还剩多少。",
        ),
    ),
    (
        Words("L2 ÷ √v̂", "L2 ÷ √v̂"),
        Words(
            "L2 inside an adaptive optimizer: λ·θ is added to the gradient and divided by its running size,"
            " so there is no one decay per step. Weights with large gradients hardly decay.",
            "自适应优化器中的 L2 正则化：λ·θ 加进梯度，又随梯度一起除以梯度的滑动大小，因此没有统一的"
            "每步衰减；梯度大的权重几乎不衰减。",
        ),
    ),
    (
        Words("Error, warning, note", "错误、警告、提示"),
        Words(
            "Error: training does something else than its arguments say. Warning: known to hurt. Note: worth"
            " knowing; it never fails a build.",
            "错误：训练所做的与参数所说的不同。警告：已知有害。提示：值得知道，从不使构建失败。",
        ),
    ),
    (
        Words("How a mode is found", "衰减方式怎样查明"),
        Words(
            "From the class where it is a known one; else by a dry run on small copies, with and without"
            " gradients. Your model and your optimizer's state stay untouched.",
            "已知的类直接得知；其他的在小的副本上试运行，有梯度和没有梯度都试。你的模型和优化器状态不受影响。",
        ),
    ),
)
#: Where a ledger is shown.
READING_LEDGER = (
    (
        Words("Decay step, gradient step", "衰减步长、梯度步长"),
        Words(
            "Root mean square, over the numbers of a parameter, of the part of a step that decay made, and of"
            " the rest; medians over the measured steps. A dash: the two could not be told apart.",
            "一次更新中由衰减造成的部分，以及其余部分，各自在该参数所有元素上的均方根；取各测量步的中位数。"
            "短横线：两者无法区分。",
        ),
    ),
    (
        Words("Rounded away, equilibrium", "被舍入、平衡值"),
        Words(
            "Rounded away: of the numbers that were to move, the share that stayed as they were. Equilibrium:"
            " the norm at which decay would balance steps without a common direction; a norm far from it is"
            " no fault by itself.",
            "被舍入：本应改变的元素中，原样未动的比例。平衡值：若各步方向互不相关，衰减与更新恰好抵消时的范数；"
            "范数离它远，本身并不是错误。",
        ),
    ),
)
