"""The size of decay against the length of the run: λ in a foreign unit, too weak, too strong."""

from __future__ import annotations

from collections.abc import Iterator

from adamantine.audit.checks.kind import Kind, by_class, percent, places, settings_of
from adamantine.audit.members import Parameter
from adamantine.audit.model import Finding, Plan
from adamantine.audit.subject import Group, Subject
from adamantine.report.numbers import setting
from adamantine.report.words import Words

#: A weight remembers the gradients of about τ steps (arXiv 2405.13698). A hundred minibatches are no
#: training set; published settings have τ of 1000 and more (ViT: 1100; ResNet-50 with SGD: 10⁴; GPT-3: 10⁵).
SHORTEST = 100
#: Nor is a thousandth of a run: the published settings above forget 10 to 100 times per run.
SHORTEST_SHARE = 1e-3
#: A run of at most so many τ leaves 5 % or more of the initial weights: the two lengths go together.
GOES_WITH = 3.0
#: Less than 1 % taken from a weight over the whole run is not what a regularizer is set up for.
UNTOUCHED = 0.99
#: λ of the SGD recipes, 1e-5 … 1e-3: as an AdamW coefficient, which multiplies a lr 100 times smaller, it
#: does nothing. AdamW's own values begin at 5e-3 (AlgoPerf's search space: 5e-3 … 1).
LARGEST_L2_HABIT = 1e-3
#: λ of ``independent`` decay is λ_norm·√(1/steps) in the paper: below 4e-3 for all its λ_norm (0.1 at most)
#: in runs of 1000 steps or more. 1 % per step comes from another unit.
LARGEST_PER_STEP = 0.01

#: A product of two numbers that hits a limit exactly counts as beyond it: 1e-3 · 10 is a τ of 100.
_EXACTLY = 1 + 1e-9

SHRINK_ABOVE_ONE = Kind(
    code="shrink-above-one",
    severity="error",
    title=Words("one step removes the whole weight or more", "一步就去掉整个权重甚至更多"),
    why=Words(
        "With lr·λ ≥ 1 the factor 1 - lr·λ is 0 or negative: weights are erased, or flip their sign, at "
        "each step.",
        "当 lr·λ ≥ 1 时，因子 1 - lr·λ 为 0 或负数：每一步权重都会被清零或变号。",
    ),
    remedy=Words("Lower λ so that lr·λ is far below 1.", "降低 λ，使 lr·λ 远小于 1。"),
    source="θ ← (1 - ηλ)θ; clab/dynet issue 329",
)
UNIT = Kind(
    code="unit-of-another-mode",
    severity="warning",
    title=Words("λ looks like a number in the unit of another mode", "λ 像是另一种模式单位下的数值"),
    why=Words(
        "λ multiplies the lr in decoupled decay, is a fraction per step in independent decay, and joins "
        "the gradient in L2. A number carried from one to another is wrong by a factor of 1/lr.",
        "解耦衰减里 λ 要乘学习率，independent 衰减里它是每步的比例，L2 里它并入梯度。"
        "把一个数从一种模式照搬到另一种，会差 1/lr 倍。",
    ),
    remedy=Words(
        "Convert it: adamantine.convert_weight_decay(λ, source=…, target=…, peak_lr=…).",
        "换算：adamantine.convert_weight_decay(λ, source=…, target=…, peak_lr=…)。",
    ),
    source="λ_decoupled = λ_independent / η_max; mlfoundations/open_clip issue 32; AlgoPerf's AdamW space",
)
TOO_LONG = Kind(
    code="timescale-too-long",
    severity="note",
    title=Words("decay is too weak to matter in this run", "衰减太弱，在这次训练中不起作用"),
    why=Words(
        "The timescale τ = 1/(lr·λ) is much longer than the run, so the weights keep nearly all of their "
        "first values. It does no harm, and no good.",
        "时间尺度 τ = 1/(lr·λ) 远长于训练，权重几乎保留了全部初始值。没有坏处，也没有好处。",
    ),
    remedy=Words(
        "Choose λ for a τ between one epoch and the run, or set it to 0.",
        "选 λ 使 τ 在一个 epoch 到整个训练之间，或设为 0。",
    ),
    source="Wang & Aitchison 2024, arXiv 2405.13698: τ not much longer than the run",
)
TOO_SHORT = Kind(
    code="timescale-too-short",
    severity="warning",
    title=Words("decay forgets within a few steps", "衰减在几步之内就忘光"),
    why=Words(
        "The weights are an average over the last τ = 1/(lr·λ) updates. So few minibatches are no data set.",
        "权重相当于最近 τ = 1/(lr·λ) 次更新的平均。这么几个小批量不足以代表数据集。",
    ),
    remedy=Words("Lower λ: a τ between one epoch and the run.", "降低 λ：让 τ 在一个 epoch 到整个训练之间。"),
    source="Wang & Aitchison 2024, arXiv 2405.13698: τ not much shorter than an epoch; lion-pytorch issue 2",
)

KINDS = (SHRINK_ABOVE_ONE, UNIT, TOO_LONG, TOO_SHORT)


def size_of_decay(subject: Subject) -> Iterator[Finding]:
    """One finding per group at most, the gravest: an error where the weights flip, a warning where a unit is
    mistaken or the memory is a handful of steps, a note where decay is harmlessly weak (fine-tuning)."""
    judged: dict[str, list[Group]] = {}
    for group in subject.groups:
        if group.acts and not group.is_unstated and any(p.tensor.requires_grad for p in group.members):
            code = _judgement(subject, group)
            if code:
                judged.setdefault(code, []).append(group)
    for code, all_groups in judged.items():
        for name, groups in by_class(all_groups).items():
            yield _WRITERS[code](subject, name, groups)


def _judgement(subject: Subject, group: Group) -> str | None:
    shrink, decay = group.peak_shrink, float(group.decays.max())
    if not shrink or shrink < 0:
        return None
    if shrink >= 1:
        return "above"
    if group.behaviour.decay in {"independent", "fixed"} and shrink > LARGEST_PER_STEP * _EXACTLY:
        return "per-step"
    if _forgets(subject.plan, 1 / shrink):
        return "short"
    is_habit = group.behaviour.decay in {"decoupled", "cautious", "corrected"} and decay <= LARGEST_L2_HABIT
    # in the middle of a run, what is left of it says nothing of the whole
    kept = subject.kept(group) if subject.course.at[0] == 0 else None
    if kept is not None and kept > UNTOUCHED:
        return "habit" if is_habit and group.behaviour.adaptive is not False else "long"
    return None


def _forgets(plan: Plan, timescale: float) -> bool:
    """Whether τ is too short: a handful of steps that are no epoch, and no run of that length."""
    if plan.steps_per_epoch is not None and timescale >= plan.steps_per_epoch:
        return False
    if plan.steps is not None and timescale <= SHORTEST_SHARE * plan.steps * _EXACTLY:
        return True
    is_handful = timescale <= SHORTEST * _EXACTLY
    return is_handful and (plan.steps is None or plan.steps > GOES_WITH * timescale * _EXACTLY)


def _above(subject: Subject, name: str, groups: list[Group]) -> Finding:
    worst = max(groups, key=lambda g: g.peak_shrink or 0.0)
    shrink = worst.peak_shrink or 0.0
    factor = setting(1 - shrink)
    return SHRINK_ABOVE_ONE.finding(
        title=Words(
            f"Decay removes {percent(shrink)} of a weight in one step",
            f"一步衰减去掉权重的 {percent(shrink)}",
        ),
        reason=Words(
            f"{name}, {places(groups).en}: at lr {setting(worst.peak_lr)} and λ = "
            f"{setting(float(worst.decays.max()))} each weight is multiplied by {factor} at every step.",
            f"{name}，{places(groups).zh}：学习率 {setting(worst.peak_lr)}、λ = "
            f"{setting(float(worst.decays.max()))} 时，每一步权重都会乘以 {factor}。",
        ),
        remedy=_suggest(subject, worst),
        parameters=_trained(groups),
        groups=groups,
    )


def _per_step(subject: Subject, name: str, groups: list[Group]) -> Finding:
    worst = max(groups, key=lambda g: g.peak_shrink or 0.0)
    decay, mode, shrink = float(worst.decays.max()), worst.behaviour.decay, worst.peak_shrink or 0.0
    converted = decay * worst.peak_lr
    is_ours = "decay" in worst.settings
    typed = (
        f"adamantine.convert_weight_decay({setting(decay)}, source='decoupled', target='independent', "
        f"peak_lr={setting(worst.peak_lr)})"
    )
    also = Words(
        "; a normalized λ goes through adamantine.normalized_weight_decay(…, batch_size=…, examples=…, "
        "epochs=…)",
        "；归一化的 λ 要先经过 adamantine.normalized_weight_decay(…, batch_size=…, examples=…, epochs=…)",
    )
    return UNIT.finding(
        title=Words(
            f"λ = {setting(decay)} is a fraction per step here: {percent(shrink)} of the weights each step",
            f"这里的 λ = {setting(decay)} 是每步的比例：每一步去掉权重的 {percent(shrink)}",
        ),
        reason=Words(
            f"{name} does not multiply λ by the lr in {places(groups).en} ({mode} decay), so weights "
            f"forget within {1 / shrink:.0f} steps. As a decoupled coefficient the number would mean "
            f"{setting(converted)} per step.",
            f"{name} 在{places(groups).zh}中不把 λ 乘以学习率（{mode} 衰减），权重在 {1 / shrink:.0f} "
            f"步内就会遗忘。若当作解耦系数，这个数意味着每步 {setting(converted)}。",
        ),
        remedy=Words(
            "If it was meant as a decoupled λ: "
            f"{typed if is_ours else f'weight_decay={setting(converted)}'}{also.en}.",
            f"如果本意是解耦的 λ：{typed if is_ours else f'weight_decay={setting(converted)}'}{also.zh}。",
        ),
        parameters=_trained(groups),
        groups=groups,
    )


def _habit(subject: Subject, name: str, groups: list[Group]) -> Finding:
    worst = min(groups, key=lambda g: g.peak_shrink or 0.0)
    decay, shrink = float(worst.decays.max()), worst.peak_shrink or 0.0
    kept = max(subject.kept(g) or 0.0 for g in groups)
    return UNIT.finding(
        title=Words(
            f"λ = {setting(decay)} is an L2 coefficient of SGD recipes; here it does nothing",
            f"λ = {setting(decay)} 是 SGD 配方里的 L2 系数；在这里不起作用",
        ),
        reason=Words(
            f"{name} multiplies it by the lr ({setting(worst.peak_lr)}) in {places(groups).en}: "
            f"{percent(shrink)} per step, τ = {1 / shrink:,.0f} steps in a run of {subject.plan.steps:,}, "
            f"at whose end {percent(kept)} of a weight without gradient is left.",
            f"{name} 在{places(groups).zh}中把它乘以学习率（{setting(worst.peak_lr)}）：每步 "
            f"{percent(shrink)}，τ = {1 / shrink:,.0f} 步，而训练只有 {subject.plan.steps:,} 步，"
            f"结束时没有梯度的权重还剩 {percent(kept)}。",
        ),
        remedy=_suggest(subject, worst),
        parameters=_trained(groups),
        groups=groups,
    )


def _long(subject: Subject, name: str, groups: list[Group]) -> Finding:
    worst = min(groups, key=lambda g: g.peak_shrink or 0.0)
    shrink, kept = worst.peak_shrink or 0.0, subject.kept(worst) or 1.0
    return TOO_LONG.finding(
        title=Words(
            f"λ = {settings_of(groups, 'weight_decay')} takes {percent(1 - kept)} of a weight over the "
            "whole run",
            f"λ = {settings_of(groups, 'weight_decay')} 在整个训练中只去掉权重的 {percent(1 - kept)}",
        ),
        reason=Words(
            f"In {places(groups).en}, τ = {1 / shrink:,.0f} steps at peak lr, the run has "
            f"{subject.plan.steps:,}.",
            f"{places(groups).zh}在峰值学习率下 τ = {1 / shrink:,.0f} 步，而训练有 {subject.plan.steps:,} "
            "步。",
        ),
        remedy=_suggest(subject, worst),
        parameters=_trained(groups),
        groups=groups,
    )


def _short(subject: Subject, name: str, groups: list[Group]) -> Finding:
    worst = max(groups, key=lambda g: g.peak_shrink or 0.0)
    timescale = 1 / (worst.peak_shrink or 1.0)
    per_epoch = subject.plan.steps_per_epoch
    epochs = f", {setting(timescale / per_epoch)} epochs" if per_epoch else ""
    run = (
        Words(f" of {subject.plan.steps:,} in all", f"，全程共 {subject.plan.steps:,} 步")
        if subject.plan.steps
        else Words("", "")
    )
    return TOO_SHORT.finding(
        title=Words(
            f"Weights remember only the last {timescale:,.0f} steps{run.en}",
            f"权重只记得最近 {timescale:,.0f} 步{run.zh}",
        ),
        reason=Words(
            f"{name}, {places(groups).en}: lr {setting(worst.peak_lr)} and λ = "
            f"{setting(float(worst.decays.max()))} take {percent(1 / timescale)} per step, τ = "
            f"{timescale:,.0f} steps{epochs}.",
            f"{name}，{places(groups).zh}：学习率 {setting(worst.peak_lr)}、λ = "
            f"{setting(float(worst.decays.max()))} 每步去掉 {percent(1 / timescale)}，τ = {timescale:,.0f} "
            f"步{epochs.replace(', ', '，').replace('epochs', '个 epoch')}。",
        ),
        remedy=_suggest(subject, worst),
        parameters=_trained(groups),
        groups=groups,
    )


def _suggest(subject: Subject, group: Group) -> Words:
    """λ for a timescale as long as the run, which is the weak end of what the paper recommends."""
    steps, shrink = subject.plan.steps, group.peak_shrink
    if not steps or not shrink:
        return Words(
            "Choose λ so that τ = 1/(lr·λ) lies between one epoch and the length of the run.",
            "选择 λ，使 τ = 1/(lr·λ) 介于一个 epoch 和整个训练长度之间。",
        )
    weakest = float(group.decays.max()) / (shrink * steps)
    per_epoch = subject.plan.steps_per_epoch
    upper = weakest * steps / per_epoch if per_epoch and per_epoch < steps else weakest * 10
    until = Words(
        "one epoch" if per_epoch and per_epoch < steps else "a tenth of it",
        "一个 epoch" if per_epoch and per_epoch < steps else "训练的十分之一",
    )
    return Words(
        f"weight_decay={setting(weakest)} gives a τ as long as the run, {setting(upper)} one of "
        f"{until.en}; 0 says that none is meant.",
        f"weight_decay={setting(weakest)} 使 τ 与训练等长，{setting(upper)} 使 τ 为{until.zh}；"
        "不想要衰减就设为 0。",
    )


def _trained(groups: list[Group]) -> list[Parameter]:
    return [p for g in groups for p in g.members if p.tensor.requires_grad]


_WRITERS = {"above": _above, "per-step": _per_step, "habit": _habit, "long": _long, "short": _short}
