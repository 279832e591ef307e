"""The learning rate as something that changes while training goes on."""

from __future__ import annotations

import torch
from torch.optim import lr_scheduler

from adamantine.testing.inputs import gradients, set_lr
from adamantine.testing.measure import copies, gap, moved, same
from adamantine.testing.outcome import NotApplicable, Verdict, no, passed, violated, yes
from adamantine.testing.registry import check
from adamantine.testing.subject import LR, Subject


def _must_be_torchs(subject: Subject) -> None:
    """torch's schedulers and checkpoints take nothing else; `is-optimizer` says so."""
    if not isinstance(subject.build(subject.parameters()), torch.optim.Optimizer):
        raise NotApplicable("is no torch.optim.Optimizer")


@check("zero-lr", "a step at lr = 0 moves nothing, whatever the decay", by="torch.distributed")
def zero_lr(subject: Subject) -> Verdict:
    """With lr = 0 in its group, a new optimizer leaves every bit of the weights, with and without gradients.

    Relied upon by torch.distributed.checkpoint, which makes the state by such a step (`_init_optim_state`:
    "make lr to zero when calling step()"), and by warm-ups that start at 0. Broken by decay that ignores lr:
    θ ← (1-λ)θ whatever lr is.
    """
    for zero in (True, False):
        params = subject.parameters()
        optimizer = subject.build(params, **subject.lr, **subject.strong_decay)
        set_lr(optimizer, 0.0)
        before = copies(params)
        for t in range(3):
            gradients(params, t)
            for p in params:
                p.grad = torch.zeros_like(p) if zero else p.grad
            subject.step(optimizer)
        if not same(copies(params), before):
            kind = "zero" if zero else "non-zero"
            return violated(
                f"three steps at lr = 0 with {kind} gradients moved a weight by {moved(params, before):.2g}",
                [
                    f"w = torch.nn.Parameter({subject.tensor})",
                    *subject.new("w", **subject.lr, **subject.strong_decay),
                    'optimizer.param_groups[0]["lr"] = 0.0',
                    f"w.grad = torch.{'zeros' if zero else 'ones'}_like(w)",
                    *(f"{subject.step_of()}" for _ in range(3)),
                    'print(w.flatten()[0].item(), "was 1")',
                    "print(torch.equal(w, torch.ones_like(w)))",
                ],
            )
    return passed("three steps at lr = 0 leave every bit, with zero and non-zero gradients")


@check("zero-lr-later", "a step at lr = 0 moves nothing in the midst of training", by="its paper")
def zero_lr_later(subject: Subject) -> Verdict:
    """After two usual steps, lr = 0 stops the weights at once, at the end of a schedule for instance.

    By the formula of every rule that multiplies its direction by lr. Optimizers that average weights, or fold
    lr into their momentum, may move on: for a class without a known formula it is told and not judged.
    """
    params = subject.parameters()
    optimizer = subject.build(params, **subject.lr, **subject.strong_decay)
    subject.run(params, optimizer, range(2))
    set_lr(optimizer, 0.0)
    before = copies(params)
    subject.run(params, optimizer, range(2, 4))
    if same(copies(params), before):
        said = "two steps at lr = 0 after two usual ones leave every bit"
        return passed(said) if subject.oracle else yes(said)
    said = f"two steps at lr = 0 after two usual ones moved a weight by {moved(params, before):.2g}"
    if subject.oracle is None:
        return no(said)
    return violated(
        said,
        [
            f"w = torch.nn.Parameter({subject.tensor})",
            *subject.new("w", **subject.lr, **subject.strong_decay),
            "w.grad = torch.ones_like(w)",
            subject.step_of(),
            'optimizer.param_groups[0]["lr"] = 0.0',
            "before = w.detach().clone()",
            subject.step_of(),
            'print(w.flatten()[0].item(), "was", before.flatten()[0].item())',
            "print(torch.equal(w, before))",
        ],
    )


@check(
    "dcp-initialisation",
    "torch.distributed.checkpoint can make its state without moving a weight",
    by="torch.distributed",
)
def dcp_initialisation(subject: Subject) -> Verdict:
    """`get_optimizer_state_dict` before the first step, as every sharded training does that saves or resumes.

    torch.distributed.checkpoint.state_dict takes one step with zero gradients and lr = 0 to make the state,
    and calls ``step(closure=None)``. Broken by decay that ignores lr, by a ``step`` that cannot do without a
    closure.
    """
    if not torch.distributed.is_available():
        raise NotApplicable("this torch has no torch.distributed")
    _must_be_torchs(subject)
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = subject.parameters()

    model = Model()
    params = list(model.parameters())
    optimizer = subject.build(
        model.named_parameters() if subject.needs.named else params, **subject.lr, **subject.strong_decay
    )
    before = copies(params)
    get_optimizer_state_dict(model, optimizer)
    if same(copies(params), before):
        return passed("the weights are the same to the bit, before and after the state is asked for")
    return violated(
        f"asking for the state moved a weight by {moved(params, before):.2g}",
        [
            "from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict",
            "model = torch.nn.Module()",
            f"model.w = torch.nn.Parameter({subject.tensor})",
            *subject.new("model.w", **subject.lr, **subject.strong_decay),
            "get_optimizer_state_dict(model, optimizer)",
            'print(model.w.flatten()[0].item(), "was 1")',
            "print(torch.equal(model.w, torch.ones_like(model.w)))",
        ],
    )


@check("lr-schedule", "a scheduler's lr is the lr of the next step", by="torch's documentation")
def lr_schedule(subject: Subject) -> Verdict:
    """Under LambdaLR, which halves lr each step, every movement is that of constant lr times the factor.

    Promised by torch.optim ("How to adjust learning rate"): schedulers write ``group["lr"]`` and the
    optimizer reads it at every step. Broken by classes that keep the constructor's lr. Judged where the
    formula is known to be linear in lr.
    """
    if not subject.lr:
        raise NotApplicable("takes no lr")
    _must_be_torchs(subject)
    runs = []
    factors = [0.5**t for t in range(4)]
    for scheduled in (False, True):
        params = subject.parameters(1)
        optimizer = subject.build(params, **subject.lr, **subject.no_decay)
        scheduler = lr_scheduler.LambdaLR(optimizer, lambda t: 0.5**t) if scheduled else None
        steps = []
        for t in range(4):
            before = params[0].detach().clone()
            subject.run(params, optimizer, [t])
            steps.append(params[0].detach() - before)
            if scheduler:
                scheduler.step()
        runs.append(steps)
    # A movement is a difference of weights of size 1: rounding of 1e-7 each against LR/8, in float32.
    tolerance = 1e-5 if subject.needs.dtype == torch.float64 else 2e-3
    worst = max(gap(b, a * f) for a, b, f in zip(*runs, factors, strict=True))
    if worst <= tolerance:
        said = f"LambdaLR: each of 4 movements is proportional to its lr, up to {worst:.1g}"
        return passed(said) if subject.oracle else yes(said)
    said = f"LambdaLR halves lr each step; the movements are off by {worst:.2g} of what that gives"
    if subject.oracle is None or subject.oracle.stored == "quantized":
        return no(said)
    return violated(
        said,
        [
            "from torch.optim.lr_scheduler import LambdaLR",
            "steps = []",
            "for halved in (1.0, 0.5):",
            f"    w = torch.nn.Parameter({subject.tensor})",
            *[f"    {line}" for line in subject.new("w", **subject.lr, **subject.no_decay)],
            "    scheduler = LambdaLR(optimizer, lambda t: halved**t)",
            "    for _ in range(2):",
            "        before = w.flatten()[0].item()",
            "        w.grad = torch.ones_like(w)",
            f"        {subject.step_of()}",
            "        scheduler.step()",
            "    steps.append(before - w.flatten()[0].item())",
            'print("second step:", steps[0], "and with half the lr", steps[1])',
            "print(abs(steps[1] - steps[0] / 2) <= 1e-2 * abs(steps[0]))",
        ],
    )


@check("one-cycle", "works under OneCycleLR", by="nobody")
def one_cycle(subject: Subject) -> Verdict:
    """Ten steps under OneCycleLR, which moves lr and, against it, the momentum or β₁.

    torch's scheduler asks for ``momentum`` or ``betas`` in the optimizer's defaults, and fails without.
    """
    if not subject.lr:
        raise NotApplicable("takes no lr")
    _must_be_torchs(subject)
    params = subject.parameters()
    optimizer = subject.build(params, **subject.lr)
    try:
        scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=10)
    except (ValueError, KeyError) as error:
        return no(f"OneCycleLR refuses it: {' '.join(str(error).split())}")
    for t in range(9):
        subject.run(params, optimizer, [t])
        scheduler.step()
    finite = all(bool(p.isfinite().all()) for p in params)
    return (
        yes("nine steps, momentum or β₁ cycled too") if finite else no("the weights are not finite after it")
    )


@check("tensor-lr", "takes a tensor as lr", by="nobody")
def tensor_lr(subject: Subject) -> Verdict:
    """``lr=torch.tensor(…)`` means its value; torch.compile and capturable training want it."""
    if not subject.lr:
        raise NotApplicable("takes no lr")
    ends = []
    for lr in (2.0**-7, torch.tensor(2.0**-7)):
        params = subject.parameters()
        try:
            subject.run(params, subject.build(params, lr=lr), range(3))
        except Exception as error:
            if not isinstance(lr, torch.Tensor):
                raise
            return no(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        ends.append(copies(params))
    worst = max(gap(b, a) for a, b in zip(*ends, strict=True))
    return yes("moves as with the number") if worst < 1e-6 else no(f"moves otherwise, by {worst:.2g}")
