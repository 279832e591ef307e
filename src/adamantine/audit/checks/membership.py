"""Which parameters the optimizers train: left out, foreign, twice, tied without knowing."""

from __future__ import annotations

from collections.abc import Iterator

from adamantine.audit.checks.kind import Kind, counted
from adamantine.audit.members import Parameter
from adamantine.audit.model import Finding
from adamantine.audit.subject import Subject
from adamantine.report.words import Words

_ONE, _MANY = Words("parameter", "个参数"), Words("parameters", "个参数")

NOT_IN_OPTIMIZER = Kind(
    code="not-in-optimizer",
    severity="error",
    title=Words("parameters that require a gradient are in no group", "需要梯度的参数不在任何组里"),
    why=Words(
        "They get gradients and never move: made after the optimizer, filtered out by mistake, or a layer "
        "that nobody listed.",
        "它们有梯度，却从不更新：要么是在优化器之后创建的，要么被误过滤，要么漏列了一层。",
    ),
    remedy=Words(
        "Add them: optimizer.add_param_group({'params': [...]}); or freeze them with "
        "requires_grad_(False). If another optimizer trains them, audit both: audit([a, b], model).",
        "把它们加进去：optimizer.add_param_group({'params': [...]})；或用 requires_grad_(False) 冻结。"
        "如果由另一个优化器训练，就一起检查：audit([a, b], model)。",
    ),
    source="luxonis/luxonis-train pull 432; zjunlp/HVPNeT issue 5",
)
NOT_OF_MODEL = Kind(
    code="not-of-model",
    severity="error",
    title=Words("the optimizer trains tensors that the model does not have", "优化器在训练不属于模型的张量"),
    why=Words(
        "The model was made anew, copied or replaced after the optimizer was made, so that the steps go "
        "into tensors that no forward pass reads.",
        "创建优化器之后模型被重建、复制或替换，更新落到了前向计算根本不读的张量上。",
    ),
    remedy=Words("Make the optimizer after the model is final.", "等模型定型之后再创建优化器。"),
    source="huggingface/transformers pull 3532; pytorch issue 14467",
)
TWICE = Kind(
    code="twice",
    severity="error",
    title=Words(
        "parameters are in several groups or several times in one", "参数在多个组里，或在同一组里重复出现"
    ),
    why=Words(
        "Each occurrence is stepped and decayed: twice the lr, twice the decay, and a shared state.",
        "每次出现都会更新和衰减一次：学习率加倍，衰减加倍，状态还是共用的。",
    ),
    remedy=Words("List each parameter once.", "每个参数只列一次。"),
    source="pytorch issues 40967 and 48518",
)
TIED_SPLIT = Kind(
    code="tied-split",
    severity="error",
    title=Words("tensors that share memory are separate parameters", "共享内存的张量被当作不同的参数"),
    why=Words(
        "The weights were tied by their data, not as one Parameter: each name has its own gradient and "
        "state, and the one memory is stepped and decayed once per name.",
        "权重是通过数据绑定的，而不是同一个 Parameter：每个名字都有自己的梯度和状态，"
        "同一块内存会按名字数重复更新和衰减。",
    ),
    remedy=Words(
        "Tie the Parameter itself: head.weight = embedding.weight.",
        "绑定 Parameter 本身：head.weight = embedding.weight。",
    ),
    source="paiml/entrenar issue 314",
)

KINDS = (NOT_IN_OPTIMIZER, NOT_OF_MODEL, TWICE, TIED_SPLIT)


def not_in_optimizer(subject: Subject) -> Iterator[Finding]:
    """Error: they look trained and are not. All optimizers that were given count together."""
    left = [p for p in subject.parameters if p.of_model and not p.groups and p.tensor.requires_grad]
    if not left:
        return
    total = [p for p in subject.parameters if p.of_model and p.tensor.requires_grad]
    share = sum(p.elements for p in left) / max(sum(p.elements for p in total), 1)
    what = counted(left, _ONE, _MANY)
    verb = "requires" if len(left) == 1 else "require"
    yield NOT_IN_OPTIMIZER.finding(
        title=Words(f"{what.en} in no group {verb} a gradient", f"{what.zh}需要梯度，却不在任何组里"),
        reason=Words(
            f"{share:.1%} of what is to train stays as it was initialized. {NOT_IN_OPTIMIZER.why.en}",
            f"要训练的数中有 {share:.1%} 会停留在初始值。{NOT_IN_OPTIMIZER.why.zh}",
        ),
        parameters=left,
    )


def not_of_model(subject: Subject) -> Iterator[Finding]:
    """Error where a parameter of the model is left out that has the stray's shape: the copy is trained in
    place of the original. Note otherwise: a loss with parameters of its own, another model."""
    strays = [p for p in subject.parameters if not p.of_model]
    if not strays:
        return
    missing = {p.shape for p in subject.parameters if p.of_model and not p.groups and p.tensor.requires_grad}
    orphans = [p for p in strays if p.shape in missing]
    for parameters, is_orphan in ((orphans, True), ([p for p in strays if p not in orphans], False)):
        if not parameters:
            continue
        what = counted(parameters, Words("tensor", "个张量"), Words("tensors", "个张量"))
        groups = [subject.groups[i] for p in parameters for i in p.groups]
        if is_orphan:
            reason = Words(
                "They have the shapes of parameters of the model that are in no group. "
                + NOT_OF_MODEL.why.en,
                "它们的形状和模型中不在任何组里的参数一致。" + NOT_OF_MODEL.why.zh,
            )
        else:
            reason = Words(
                "They may be another module's. Whether their decay is meant cannot be judged without it.",
                "它们可能属于另一个模块。没有那个模块就无法判断它们的衰减是否合理。",
            )
        yield NOT_OF_MODEL.finding(
            severity="error" if is_orphan else "note",
            title=Words(f"{what.en} in the optimizer, not in the model", f"优化器里有 {what.zh}不属于模型"),
            reason=reason,
            remedy=None
            if is_orphan
            else Words(
                "Pass all modules: audit(optimizer, [model, loss]).",
                "把所有模块都传进来：audit(optimizer, [model, loss])。",
            ),
            parameters=parameters,
            groups=groups,
        )


def twice(subject: Subject) -> Iterator[Finding]:
    """Error within one optimizer; warning across several, which may step in turns on purpose."""
    for parameters, across in _repeated(subject):
        what = counted(parameters, _ONE, _MANY)
        most = max(len(p.groups) for p in parameters)
        groups = [subject.groups[i] for p in parameters for i in p.groups]
        where = (
            Words("in several optimizers", "在多个优化器里")
            if across
            else Words("more than once", "出现不止一次")
        )
        yield TWICE.finding(
            severity="warning" if across else "error",
            title=Words(f"{what.en} listed {where.en}", f"{what.zh}{where.zh}"),
            reason=Words(
                f"Up to {most} times; each time it is stepped and decayed once more.",
                f"最多 {most} 次；每出现一次就多更新、多衰减一次。",
            ),
            parameters=parameters,
            groups=groups,
        )


def _repeated(subject: Subject) -> Iterator[tuple[list[Parameter], bool]]:
    within, across = [], []
    for parameter in subject.parameters:
        optimizers = [id(subject.groups[i].optimizer) for i in parameter.groups]
        if len(set(optimizers)) < len(optimizers):
            within.append(parameter)
        elif len(optimizers) > 1:
            across.append(parameter)
    for parameters, is_across in ((within, False), (across, True)):
        if parameters:
            yield parameters, is_across


def tied_split(subject: Subject) -> Iterator[Finding]:
    """Error: no training wants two optimizer states for one memory. Only exactly equal extents are taken;
    views of one flat buffer do not overlap."""
    extents: dict[tuple[str, int, int], list[Parameter]] = {}
    for parameter in subject.parameters:
        if parameter.groups and (extent := _extent(parameter)):
            extents.setdefault(extent, []).append(parameter)
    tied = [p for shared in extents.values() if len(shared) > 1 for p in shared]
    if tied:
        names = ", ".join(p.name for p in tied[:4])
        what = counted(tied, _ONE, _MANY)
        yield TIED_SPLIT.finding(
            title=Words(f"{what.en} share memory without being tied", f"{what.zh}共享内存，却没有真正绑定"),
            reason=Words(f"{names}: {TIED_SPLIT.why.en}", f"{names}：{TIED_SPLIT.why.zh}"),
            parameters=tied,
            groups=[subject.groups[i] for p in tied for i in p.groups],
        )


def _extent(parameter: Parameter) -> tuple[str, int, int] | None:
    """Where its memory is; None for a tensor without any."""
    try:
        pointer = parameter.elements and parameter.tensor.data_ptr()
    except RuntimeError:  # fake, functional or sparse tensors
        return None
    return (str(parameter.tensor.device), pointer, parameter.elements) if pointer else None
