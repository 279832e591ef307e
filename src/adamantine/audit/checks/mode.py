"""Decay that is not what its name says: L2 in an adaptive rule, ignored, blind to lr, or unknown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from adamantine.audit.checks.kind import (
    Kind,
    by_class,
    grouped_call,
    groups_call,
    percent,
    places,
    settings_of,
)
from adamantine.audit.model import Finding
from adamantine.audit.subject import Group, Subject
from adamantine.report.numbers import setting
from adamantine.report.words import Words

L2_IN_ADAPTIVE = Kind(
    code="l2-in-adaptive",
    severity="error",
    title=Words("L2 regularization inside an adaptive optimizer", "自适应优化器里的 L2 正则化"),
    why=Words(
        "λθ is added to the gradient and then divided by the running size of the gradients, √v̂. Weights "
        "with large gradients hardly decay, weights with small gradients decay hard. It is not weight "
        "decay, and lr and λ can no longer be tuned apart.",
        "λθ 先被加进梯度，再被梯度的滑动幅度 √v̂ 除。梯度大的权重几乎不衰减，梯度小的权重衰减过强。"
        "这不是权重衰减，而且学习率和 λ 再也不能分开调。",
    ),
    remedy=Words(
        "Use the decoupled form (torch.optim.AdamW) and choose λ anew: no factor converts an L2 coefficient.",
        "换成解耦形式（torch.optim.AdamW），并重新选择 λ：L2 系数没有任何换算因子。",
    ),
    source="Loshchilov & Hutter 2019, arXiv 1711.05101",
)

DECAY_IGNORED = Kind(
    code="decay-ignored",
    severity="error",
    title=Words("weight_decay is accepted and never applied", "weight_decay 被接受，却从未生效"),
    why=Words(
        "The optimizer takes the argument and its step does not use it: the run has no weight decay.",
        "优化器接受了这个参数，但更新时并没有用到它：训练中根本没有权重衰减。",
    ),
    remedy=Words(
        "Use an optimizer that applies it, or set weight_decay=0 so that nobody believes in it.",
        "换用真正施加权重衰减的优化器，或把 weight_decay 设为 0，免得误会。",
    ),
    source="kozistr/pytorch_optimizer issue 517 (SignSGD)",
)

DECAY_IGNORES_LR = Kind(
    code="decay-ignores-lr",
    severity="warning",
    title=Words("decay of one size whatever the learning rate is", "无论学习率是多少，衰减都一样大"),
    why=Words(
        "Every step removes the same fraction of the weights, at lr 0 too. Late in the schedule, where lr "
        "is small, decay overpowers the gradients; and torch.distributed.checkpoint, which initializes "
        "optimizer state by a step with lr 0, changes the weights.",
        "每一步都去掉权重的同一比例，学习率为 0 时也一样。到了调度后期学习率很小，衰减就会压倒梯度；而 "
        "torch.distributed.checkpoint 用一次学习率为 0 的更新来初始化优化器状态，这时权重也会被改动。",
    ),
    remedy=Words(
        "Use a decay that follows the schedule: decay='independent' of adamantine.torch has the same unit.",
        "换用跟随调度的衰减：adamantine.torch 的 decay='independent' 用的是同一个单位。",
    ),
    source="lucidrains/lion-pytorch issue 39; torch.distributed.checkpoint.state_dict._init_optim_state",
)

UNKNOWN_DECAY = Kind(
    code="unknown-decay",
    severity="note",
    title=Words("decay of an unknown kind", "未知类型的衰减"),
    why=Words(
        "What this optimizer does with λ fits no known mode, or it could not be tried on other tensors. "
        "Shrink and timescale are not judged.",
        "这个优化器对 λ 的用法不符合任何已知模式，或者无法在别的张量上试运行。收缩率和时间尺度未作判断。",
    ),
    remedy=Words(
        "Run adamantine check on the class, which shows what it does step by step.",
        "用 adamantine check 检查这个类，它会逐步展示其行为。",
    ),
    source="the dry run of adamantine.probe",
)

KINDS = (L2_IN_ADAPTIVE, DECAY_IGNORED, DECAY_IGNORES_LR, UNKNOWN_DECAY)


def l2_in_adaptive(subject: Subject) -> Iterator[Finding]:
    """Warning: the article's subject, known to hurt and documented behaviour. Error where the class is named
    AdamW or the like: then training does something else than it says."""
    for name, groups in by_class([g for g in subject.groups if g.acts and g.is_l2_in_adaptive]).items():
        says_decoupled = name.endswith("W") or "adamw" in name.lower()
        decay = settings_of(groups, "weight_decay")
        instead, typed = _decoupled_of(name, groups)
        yield L2_IN_ADAPTIVE.finding(
            severity="error" if says_decoupled else "warning",
            title=Words(
                f"{name} divides its decay by √v̂: λ = {decay} is L2, not weight decay",
                f"{name} 把衰减除以 √v̂：λ = {decay} 是 L2 正则化，不是权重衰减",
            ),
            reason=Words(
                f"In {places(groups).en}, λθ joins the gradient before it is divided by its running size, "
                "so a weight with a gradient of 1 decays 1000 times less than one with 0.001. lr and λ "
                f"can no longer be tuned apart.{_seen(groups).en}",
                f"在{places(groups).zh}中，λθ 先并入梯度，再除以梯度的滑动幅度，所以梯度为 1 "
                f"的权重比梯度为 0.001 的权重少衰减 1000 倍。学习率和 λ 再也不能分开调。{_seen(groups).zh}",
            ),
            remedy=Words(
                f"{instead.en}: {typed}. Choose λ anew; no factor converts an L2 coefficient.",
                f"{instead.zh}：{typed}。λ 要重新选择，L2 系数没有换算因子。",
            ),
            parameters=[p for g in groups for p in g.members if p.tensor.requires_grad],
            groups=groups,
        )


def decay_ignored(subject: Subject) -> Iterator[Finding]:
    """Error: training does something else than its arguments say."""
    ignored = [g for g in subject.groups if g.behaviour.decay == "ignored" and not g.spares_vectors]
    for name, groups in by_class(ignored).items():
        decay = settings_of(groups, "weight_decay")
        yield DECAY_IGNORED.finding(
            title=Words(
                f"{name} never applies weight_decay={decay}", f"{name} 从不施加 weight_decay={decay}"
            ),
            reason=Words(
                "A dry run with and without λ left the same weights, bit for bit, in "
                f"{places(groups).en}.{_seen(groups).en}",
                f"{places(groups).zh}在有 λ 和没有 λ 的试运行中得到逐位相同的权重。{_seen(groups).zh}",
            ),
            parameters=[p for g in groups for p in g.members],
            groups=groups,
        )


def decay_ignores_lr(subject: Subject) -> Iterator[Finding]:
    """Warning: it does what its code says, and hurts at the end of a schedule and at the loading of state."""
    for name, groups in by_class(
        [g for g in subject.groups if g.acts and g.behaviour.decay == "fixed"]
    ).items():
        shrink = settings_of(groups, "shrink")
        lowest = min(float(g.lrs.min()) for g in groups)
        highest = max(g.peak_lr for g in groups)
        falls = lowest < highest / 2
        at_end = Words(
            f" The schedule goes down to lr {setting(lowest)}, the decay does not." if falls else "",
            f"调度会把学习率降到 {setting(lowest)}，衰减却不降。" if falls else "",
        )
        yield DECAY_IGNORES_LR.finding(
            title=Words(
                f"{name} removes {shrink} of every weight per step, whatever lr is",
                f"{name} 每步都去掉权重的 {shrink}，与学习率无关",
            ),
            reason=Words(
                f"The same fraction was removed at lr, lr/2 and 0 in {places(groups).en}.{at_end.en} A "
                "step with lr = 0, by which torch.distributed.checkpoint makes optimizer state, changes "
                "the weights.",
                f"{places(groups).zh}在学习率为 lr、lr/2 和 0 时去掉的比例相同。"
                f"{at_end.zh}torch.distributed.checkpoint 用学习率为 0 的更新来生成优化器状态，"
                "这时权重也会变。",
            ),
            parameters=[p for g in groups for p in g.members],
            groups=groups,
        )


def unknown_decay(subject: Subject) -> Iterator[Finding]:
    """Note: nothing is known to be wrong."""
    odd = [g for g in subject.groups if g.acts and g.behaviour.decay in {"unknown", "other"}]
    for name, groups in by_class([g for g in odd if g.is_unstated]).items():
        yield UNKNOWN_DECAY.finding(
            title=Words(
                f"{name} shrinks weights though their group states no λ",
                f"{name} 会收缩权重，尽管组里没有写 λ",
            ),
            reason=Words(
                f"A step without a gradient takes {percent(max(g.behaviour.shrink or 0.0 for g in groups))} "
                f"of each weight in {places(groups).en}, of biases and normalizations too: weight_decay=0 "
                "in a group spares nothing from it.",
                f"没有梯度时，每一步仍会去掉{places(groups).zh}中每个权重的 "
                f"{percent(max(g.behaviour.shrink or 0.0 for g in groups))}，偏置和归一化参数也一样："
                "在组里写 weight_decay=0 也免除不了。",
            ),
            remedy=Words(
                "Set its own argument for that to 0 and state weight_decay per group, or give what must not "
                "decay to an optimizer without it.",
                "把它自己的相应参数设为 0，在各组里写明 weight_decay；"
                "或把不该衰减的参数交给没有衰减的优化器。",
            ),
            groups=groups,
        )
    for name, groups in by_class([g for g in odd if not g.is_unstated]).items():
        cls = type(groups[0].optimizer)
        said = (
            Words(f"{name} cannot be dry-run", f"无法试运行 {name}")
            if groups[0].behaviour.decay == "unknown"
            else Words(f"What {name} does with λ fits no mode", f"{name} 对 λ 的用法不属于任何已知模式")
        )
        yield UNKNOWN_DECAY.finding(
            title=said,
            reason=Words(
                f"Shrink and timescale of {places(groups).en} are not judged.{_seen(groups).en}",
                f"{places(groups).zh}的收缩率和时间尺度未作判断。{_seen(groups).zh}",
            ),
            remedy=Words(
                f"See what it does step by step: adamantine check {cls.__module__}:{cls.__name__}",
                f"逐步查看它的行为：adamantine check {cls.__module__}:{cls.__name__}",
            ),
            groups=groups,
        )


def _seen(groups: list[Group]) -> Words:
    """What the dry run saw, where there was one."""
    probed = [g.behaviour.evidence for g in groups if g.behaviour.source != "class"]
    if not probed:
        return Words("", "")
    short = textwrap.shorten(probed[0], 240, placeholder=" …")
    return Words(f" Seen: {short}", f"所见：{short}")


def _decoupled_of(name: str, groups: list[Group]) -> tuple[Words, str]:
    """The class or argument that decouples this one's decay, as it is typed in."""
    short = name.rpartition(".")[2]
    if name == "torch.optim.Adam":
        return Words("Use AdamW", "改用 AdamW"), grouped_call("torch.optim.AdamW", groups)
    if name in {"torch.optim.NAdam", "torch.optim.RAdam"}:
        return Words("Decouple it", "改为解耦"), grouped_call(name, groups, decoupled_weight_decay=True)
    if name.startswith("adamantine."):
        return Words("Decouple it", "改为解耦"), grouped_call(name, groups, decay="decoupled")
    if name in _ALSO_OURS:
        typed = grouped_call(f"adamantine.torch.{short}", groups, decay="decoupled")
        return Words("Use the same rule with decoupled decay", "改用同一规则的解耦版本"), typed
    typed = f"torch.optim.AdamW({groups_call(groups)})"
    words = Words(
        "Set its weight_decay to 0, or use a decoupled optimizer",
        "把它的 weight_decay 设为 0，或改用解耦的优化器",
    )
    return words, typed


#: torch's classes of the same name and arguments in adamantine.torch, where decay can be decoupled.
_ALSO_OURS = frozenset(
    {"torch.optim.RMSprop", "torch.optim.Adagrad", "torch.optim.Adamax", "torch.optim.AdamW"}
)
