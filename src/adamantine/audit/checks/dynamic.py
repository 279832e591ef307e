"""What the ledger finds while training, as entries of the catalogue; it writes the findings itself."""

from __future__ import annotations

from adamantine.audit.checks.kind import Kind
from adamantine.audit.checks.precision import KEEP_MORE
from adamantine.report.words import Words

STALLED_UPDATES = Kind(
    code="stalled-updates",
    severity="warning",
    title=Words("updates are rounded to nothing", "更新被舍入成零"),
    why=Words(
        "In low precision a step smaller than half the distance to the next number leaves the weight as "
        "it was.",
        "在低精度下，若一步小于到下一个可表示数距离的一半，权重就不会变。",
    ),
    remedy=KEEP_MORE,
    source="pytorch issue 120376; FlashOptim's stall detector",
)
NONFINITE_GRADIENTS = Kind(
    code="nonfinite-gradients",
    severity="error",
    title=Words("gradients are infinite or NaN", "梯度为无穷或 NaN"),
    why=Words(
        "One such gradient poisons the moments of an adaptive optimizer for good.",
        "这样的梯度出现一次，就会永久污染自适应优化器的矩估计。",
    ),
    remedy=Words(
        "Skip such steps (adamantine.torch: on_nonfinite='skip'), clip, or lower the lr.",
        "跳过这些步（adamantine.torch：on_nonfinite='skip'）、裁剪梯度，或降低学习率。",
    ),
    source="computed: torch.optim.AdamW after one NaN gradient",
)
DECAY_DOMINATES = Kind(
    code="decay-dominates",
    severity="warning",
    title=Words("decay outweighs the gradient's step", "衰减超过了梯度的更新"),
    why=Words(
        "A weight whose decay step is much larger than its gradient step only goes to 0.",
        "衰减步远大于梯度步的权重只会趋向 0。",
    ),
    remedy=Words("Lower λ for these parameters.", "降低这些参数的 λ。"),
    source="Kosson et al. 2024, arXiv 2305.17212: the two balance in equilibrium",
)
DISTORTED_DECAY = Kind(
    code="distorted-decay",
    severity="warning",
    title=Words("elements decay at very different rates", "各元素的衰减速率相差悬殊"),
    why=Words(
        "Divided by √v̂, the decay of an element depends on the size of its gradients.",
        "衰减被 √v̂ 除，因此每个元素的衰减取决于其梯度的大小。",
    ),
    remedy=Words("Decouple the decay: torch.optim.AdamW.", "把衰减解耦：torch.optim.AdamW。"),
    source="Loshchilov & Hutter 2019, arXiv 1711.05101, Proposition 3",
)

FAR_FROM_EQUILIBRIUM = Kind(
    code="far-from-equilibrium",
    severity="note",
    title=Words("norms rest elsewhere than noise would put them", "范数的稳定值与噪声所预测的不同"),
    why=Words(
        "Decay and steps without a direction balance at a norm that lr and λ set. A weight that rests "
        "elsewhere has gradients with a lasting direction, or lr has fallen faster than the norm can "
        "follow.",
        "衰减与没有方向的更新会在由学习率和 λ 决定的范数上达到平衡。停在别处的权重，其梯度有持久的方向，"
        "或者学习率下降得比范数的跟随更快。",
    ),
    remedy=Words(
        "Nothing to mend; worth knowing when layers are compared.", "不需要修正；比较各层时值得了解。"
    ),
    source="Kosson et al. 2024, arXiv 2305.17212",
)

NOT_MEASURED = Kind(
    code="not-measured",
    severity="note",
    title=Words("steps of an optimizer could not be measured", "无法测量某个优化器的更新步"),
    why=Words(
        "Reading the optimizer raised an error; the ledger stopped watching it and the training went on.",
        "读取优化器时出错；不再观测它，训练照常继续。",
    ),
    remedy=Words("Report it with the optimizer's name.", "请连同优化器名称一并报告。"),
    source="the ledger itself",
)

KINDS = (
    STALLED_UPDATES,
    NONFINITE_GRADIENTS,
    DECAY_DOMINATES,
    DISTORTED_DECAY,
    FAR_FROM_EQUILIBRIUM,
    NOT_MEASURED,
)
