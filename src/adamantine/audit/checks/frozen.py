"""Frozen parameters in groups that decay."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from adamantine.audit.checks.kind import Kind, class_name, counted, percent, settings_of
from adamantine.audit.model import Finding
from adamantine.audit.subject import Group, Subject
from adamantine.probe import like
from adamantine.probe.quiet import undisturbed
from adamantine.probe.stepping import make_ready, take_step
from adamantine.report.words import Words

FROZEN_DECAYS = Kind(
    code="frozen-decays",
    severity="warning",
    title=Words("frozen parameters are in a decaying group", "冻结的参数在衰减的组里"),
    why=Words(
        "torch's optimizers leave a parameter alone while its gradient is None. A gradient left over from "
        "before the freezing, or set to zeros, or an optimizer that takes None for zero, decays it all "
        "the same.",
        "只要梯度是 None，torch 的优化器就不动这个参数。但冻结之前留下的梯度、被置为零张量的梯度，或把 "
        "None 当作零的优化器，都会让它照样衰减。",
    ),
    remedy=Words(
        "Give the optimizer only what trains: [p for p in model.parameters() if p.requires_grad].",
        "只把要训练的参数交给优化器：[p for p in model.parameters() if p.requires_grad]。",
    ),
    source="facebookresearch/fairseq issue 4702; KellerJordan/Muon issue 54; discuss.pytorch.org/t/153740",
)

KINDS = (FROZEN_DECAYS,)


def frozen_decays(subject: Subject) -> Iterator[Finding]:
    """Warning where the next step would move a frozen parameter: it has a gradient left, or this optimizer
    takes no gradient for a zero one. Note otherwise: it is one ``zero_grad(set_to_none=False)`` away."""
    for group in subject.groups:
        frozen = [p for p in group.members if not p.tensor.requires_grad]
        if not frozen or not group.acts:
            continue
        stale = [p for p in frozen if p.tensor.grad is not None]
        if not stale and _moves_without_gradient(group):
            stale = frozen
            cause = Words(
                f"{class_name(group.optimizer)} decays parameters without a gradient too",
                f" {class_name(group.optimizer)} 连没有梯度的参数也会衰减",
            )
        else:
            cause = Words(
                "they still hold a gradient from before they were frozen", "它们还留着冻结之前的梯度"
            )
        concerned = stale or frozen
        what = counted(
            concerned, Words("frozen parameter", "个冻结的参数"), Words("frozen parameters", "个冻结的参数")
        )
        if stale:
            shrink = percent(group.shrink) if group.shrink is not None else "?"
            title = Words(f"{what.en} will be moved by decay", f"{what.zh}会被衰减改动")
            reason = Words(
                f"requires_grad is False, but {cause.en}, so each step still takes {shrink} of them.",
                f"requires_grad 是 False，但{cause.zh}，所以每步仍会去掉 {shrink}。",
            )
        else:
            title = Words(
                f"{what.en} in a group with λ = {settings_of([group], 'weight_decay')}",
                f"λ = {settings_of([group], 'weight_decay')} 的组里有 {what.zh}",
            )
            reason = Words(
                "Nothing moves them as long as their gradient is None; with zero_grad(set_to_none=False) "
                "after a backward pass, or once they are thawed, they decay.",
                "只要梯度是 None 就不会动；但如果反向传播后调用 zero_grad(set_to_none=False)，或者解冻，"
                "它们就会衰减。",
            )
        yield FROZEN_DECAYS.finding(
            severity="warning" if stale else "note",
            title=title,
            reason=reason,
            parameters=concerned,
            groups=[group],
        )


def _moves_without_gradient(group: Group) -> bool:
    """Whether a step changes a parameter whose gradient is None; False where it cannot be tried.

    torch's and adamantine's own classes skip such parameters and are not tried.
    """
    if type(group.optimizer).__module__.startswith(("torch.optim.", "adamantine.torch")):
        return False
    raw = group.optimizer.param_groups[group.place]
    try:
        with undisturbed():
            still, moving = (torch.ones(8, 8, requires_grad=True) for _ in range(2))
            optimizer = like(group.optimizer, raw)([still, moving])
            make_ready(optimizer)
            take_step(optimizer, [moving], [torch.ones_like(moving)])
    except Exception:  # an optimizer may do anything
        return False
    return not bool(torch.equal(still.detach(), torch.ones(8, 8)))
