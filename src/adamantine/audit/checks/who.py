"""Who decays: vectors and tables that should not, matrices that should."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adamantine.audit.checks.kind import (
    Kind,
    class_name,
    counted,
    grouped_call,
    groups_call,
    percent,
    places,
    settings_of,
)
from adamantine.audit.members import Parameter, is_flattened
from adamantine.audit.model import Finding, Severity
from adamantine.audit.subject import Group, Subject
from adamantine.probe.sandbox import decay_key
from adamantine.report.words import Words

_PARAM_GROUPS = Words(
    "Group the parameters: adamantine.param_groups(model, lr=…, weight_decay=…).",
    "给参数分组：adamantine.param_groups(model, lr=…, weight_decay=…)。",
)

DECAYS_BIAS = Kind(
    code="decays-bias",
    severity="warning",
    title=Words("biases decay", "偏置在衰减"),
    why=Words(
        "A bias sets an offset. Pulling it to 0 does not make the function simpler, it shifts it.",
        "偏置设定的是偏移量。把它拉向 0 并不会让函数更简单，只会让函数平移。",
    ),
    remedy=_PARAM_GROUPS,
    source="He et al. 2019, arXiv 1812.01187, section 3.1; huggingface/transformers pull 32",
)
DECAYS_NORM = Kind(
    code="decays-norm",
    severity="warning",
    title=Words("normalization parameters decay", "归一化参数在衰减"),
    why=Words(
        "The gain of a normalization sets the scale of features. Decay pulls it to 0 and switches "
        "features off; the weights before it take no part in that.",
        "归一化的增益设定特征的尺度。衰减把它拉向 0，等于把特征关掉；而它前面的权重并不参与其中。",
    ),
    remedy=_PARAM_GROUPS,
    source="He et al. 2019, arXiv 1812.01187; huggingface/transformers pull 35927",
)
DECAYS_SCALAR = Kind(
    code="decays-scalar",
    severity="warning",
    title=Words("scalars, gains and other vectors decay", "标量、增益和其他向量在衰减"),
    why=Words(
        "Temperatures, LayerScale, PReLU slopes and the like have a meaning of their own at their own "
        "size; 0 is not their simple value.",
        "温度、LayerScale、PReLU 斜率之类各有自己的含义和大小；0 并不是它们的“简单”取值。",
    ),
    remedy=_PARAM_GROUPS,
    source="majumderb/rezero issue 14; ServiceNow/Fast-LLM pull 545; timm spares ndim <= 1",
)
DECAYS_TABLE = Kind(
    code="decays-table",
    severity="note",
    title=Words("embedding or position tables decay", "嵌入表或位置表在衰减"),
    why=Words(
        "Every row shrinks at every step, while the row of a rare token hardly ever gets a gradient. Many "
        "recipes spare tables (ViT, OLMo 2), others decay them (GPT-2, nanoGPT).",
        "每一步每一行都在收缩，而罕见词的那一行几乎得不到梯度。许多配方不衰减表（ViT、OLMo 2），"
        "也有配方衰减它们（GPT-2、nanoGPT）。",
    ),
    remedy=_PARAM_GROUPS,
    source="OLMo 2, arXiv 2501.00656; nanoGPT's configure_optimizers",
)
DECAYS_LISTED = Kind(
    code="decays-listed",
    severity="warning",
    title=Words("parameters decay that the model itself wants spared", "模型自己要求不衰减的参数在衰减"),
    why=Words(
        "The model lists them in no_weight_decay() or marks them _no_weight_decay: its authors trained it "
        "without.",
        "模型在 no_weight_decay() 里列出了它们，或标记了 _no_weight_decay：作者训练时没有衰减它们。",
    ),
    remedy=_PARAM_GROUPS,
    source="athms/mad-lab issue 5; timm's param_groups_weight_decay",
)
SPARES_MATRIX = Kind(
    code="spares-matrix",
    severity="warning",
    title=Words(
        "matrices do not decay while others of their kind do", "部分矩阵不衰减，而同类的其他矩阵在衰减"
    ),
    why=Words(
        "A filter by name, such as 'ln' in name, has caught more than it was meant to.",
        "按名字过滤（例如 'ln' in name）时多过滤掉了一些参数。",
    ),
    remedy=Words(
        "Move them to the decaying group, or ignore this code for them.",
        "把它们移到衰减的组里，或对它们忽略这个代码。",
    ),
    source="facebookresearch/BalancingGroups issue 6; hysts/pytorch_image_classification issue 31",
)
FLATTENED = Kind(
    code="flattened",
    severity="note",
    title=Words("parameters flattened by FSDP1", "被 FSDP1 展平的参数"),
    why=Words(
        "A flat parameter holds matrices, biases and gains in one vector: decay cannot spare any of them, "
        "and what they are cannot be told from it.",
        "扁平参数把矩阵、偏置和增益放在同一个向量里：衰减无法放过其中任何一个，从它也看不出原来是什么。",
    ),
    remedy=Words(
        "Use torch's fully_shard, which keeps the shapes, or use_orig_params=True.",
        "改用保留形状的 fully_shard，或设 use_orig_params=True。",
    ),
    source="torch.distributed.fsdp.FullyShardedDataParallel: use_orig_params",
)

KINDS = (FLATTENED, DECAYS_BIAS, DECAYS_NORM, DECAYS_SCALAR, DECAYS_TABLE, DECAYS_LISTED, SPARES_MATRIX)

_NOUNS: dict[str, tuple[Kind, Words, Words]] = {
    "bias": (DECAYS_BIAS, Words("bias", "个偏置"), Words("biases", "个偏置")),
    "norm": (
        DECAYS_NORM,
        Words("normalization parameter", "个归一化参数"),
        Words("normalization parameters", "个归一化参数"),
    ),
    "table": (DECAYS_TABLE, Words("table", "个表"), Words("tables", "个表")),
    "listed": (
        DECAYS_LISTED,
        Words("parameter listed by the model", "个模型列出的参数"),
        Words("parameters listed by the model", "个模型列出的参数"),
    ),
}
_OTHER = (
    DECAYS_SCALAR,
    Words("scalar or vector", "个标量或向量"),
    Words("scalars and vectors", "个标量和向量"),
)


def decays_what_it_should_not(subject: Subject) -> Iterator[Finding]:
    """Warning in adaptive and sign-based optimizers, where each step of a bias has the size of any other and
    decay wins where gradients are weak. Note in SGD, where decay of everything is the tradition that
    published recipes were tuned with (torchvision's references). Tables are a note: good recipes do either.
    """
    found: dict[tuple[str, Severity], list[tuple[Group, Parameter]]] = {}
    for group in subject.groups:
        if not group.acts or group.is_unstated:  # no group could spare them: `unknown_decay` says so
            continue
        for parameter in group.members:
            kind, _, _ = _NOUNS.get(parameter.verdict.kind, _OTHER)
            if parameter.verdict.decays or not parameter.of_model or not parameter.tensor.requires_grad:
                continue
            if not group.decays_member(parameter):
                continue
            severity: Severity = "note" if group.behaviour.adaptive is False else kind.severity
            found.setdefault((parameter.verdict.kind, severity), []).append((group, parameter))
    merged: dict[tuple[str, Severity], list[tuple[Group, Parameter]]] = {}
    for (word, severity), pairs in found.items():  # scalar, scale and vector are one kind
        merged.setdefault((word if word in _NOUNS else "vector", severity), []).extend(pairs)
    for (word, severity), pairs in merged.items():
        kind, one, many = _NOUNS.get(word, _OTHER)
        groups, parameters = [g for g, _ in pairs], [p for _, p in pairs]
        what = counted(parameters, one, many)
        verb = "decays" if len(parameters) == 1 else "decay"
        size = _size(subject, groups)
        yield kind.finding(
            severity=severity,
            title=Words(f"{what.en} {verb}", f"{what.zh}在衰减"),
            reason=Words(
                f"{size.en} {kind.why.en}{_tradition(severity, kind).en}",
                f"{size.zh}{kind.why.zh}{_tradition(severity, kind).zh}",
            ),
            remedy=_grouping(groups),
            parameters=parameters,
            groups=groups,
        )


def spares_matrix(subject: Subject) -> Iterator[Finding]:
    """Warning, and only where something else decays in the same optimizer: a whole one without decay is a
    choice. Only weights of layers, and matrices of a class that decays elsewhere: of other parameters with
    two dimensions the user may know that they are none."""
    for optimizer in subject.optimizers:
        groups = [g for g in subject.groups if g.optimizer is optimizer]
        if not any(g.acts and any(p.tensor.requires_grad for p in g.members) for g in groups):
            continue
        decayed = {p.owner for g in groups if g.acts for p in g.matrices}
        spared = [
            (g, p)
            for g in groups
            if not g.acts and g.behaviour.decay == "none"
            for p in g.matrices
            if p.tensor.requires_grad
            and p.verdict.kind == "matrix"
            and (p.owner in decayed or "weight" in p.name.rpartition(".")[2])
        ]
        if not spared:
            continue
        parameters = [p for _, p in spared]
        what = counted(parameters, Words("matrix", "个矩阵"), Words("matrices", "个矩阵"))
        where = places([g for g, _ in spared])
        others = sum(len(g.members) for g in groups if g.acts)
        verb = "does" if len(parameters) == 1 else "do"
        yield SPARES_MATRIX.finding(
            title=Words(f"{what.en} {verb} not decay", f"{what.zh}不衰减"),
            reason=Words(
                f"weight_decay is 0 in {where.en}, while {others} other parameters decay in the same "
                "optimizer. A filter may have caught too much, or the lists are the wrong way round.",
                f"{where.zh}的 weight_decay 是 0，而同一个优化器里另有 {others} 个参数在衰减。"
                "可能是过滤得太多，也可能是两个列表弄反了。",
            ),
            parameters=parameters,
            groups=[g for g, _ in spared],
        )


def flattened(subject: Subject) -> Iterator[Finding]:
    """Note: an honest limit of the audit."""
    flat = [p for p in subject.parameters if is_flattened(p.name)]
    if flat:
        what = counted(flat, Words("flat parameter", "个扁平参数"), Words("flat parameters", "个扁平参数"))
        yield FLATTENED.finding(
            title=Words(f"{what.en} of FSDP1 are not judged", f"FSDP1 的 {what.zh}未作判断"),
            reason=FLATTENED.why,
            parameters=flat,
        )


def _size(subject: Subject, groups: Sequence[Group]) -> Words:
    """What each step takes of them, and the run."""
    shrinks = [g.peak_shrink for g in groups if g.peak_shrink is not None]
    if not shrinks:
        decay = settings_of(groups, "weight_decay")
        return Words(
            f"λ = {decay} pulls them to 0 with a strength that depends on their gradients.",
            f"λ = {decay} 把它们拉向 0，力度取决于各自的梯度。",
        )
    most = percent(max(shrinks))
    steps = Words(f"Each step takes {most} of them", f"每步去掉其 {most}")
    if any(g.lr < 0.99 * g.peak_lr for g in groups):
        steps = Words(f"At the peak lr each step takes {most} of them", f"在峰值学习率下每步去掉其 {most}")
    kept = [k for g in groups if (k := subject.kept(g)) is not None]
    if not kept:
        return Words(f"{steps.en}.", f"{steps.zh}。")
    left = percent(min(kept))
    return Words(
        f"{steps.en}; without a gradient, {left} would be left at the end of the run.",
        f"{steps.zh}；若没有梯度，训练结束时只剩 {left}。",
    )


def _tradition(severity: Severity, kind: Kind) -> Words:
    if severity != "note" or kind.severity == "note":
        return Words("", "")
    return Words(
        " With SGD it is the tradition that published recipes were tuned with.",
        "对 SGD 来说这是惯例，公开的配方就是这样调出来的。",
    )


def _grouping(groups: Sequence[Group]) -> Words:
    """The call that makes the groups, with this optimizer's numbers."""
    key = decay_key(groups[0].settings)
    if key != "weight_decay":  # adamantine.param_groups writes that key alone
        return Words(
            f"Give them a group of their own: {{'params': [...], '{key}': 0.0}}.",
            f"把它们放进单独的组：{{'params': [...], '{key}': 0.0}}。",
        )
    # L2 in an adaptive optimizer is to be another class, as its own finding says.
    l2 = any(group.is_l2_in_adaptive for group in groups)
    call = groups_call(groups) if l2 else grouped_call(class_name(groups[0].optimizer), groups)
    return Words(f"Group the parameters: {call}", f"给参数分组：{call}")
