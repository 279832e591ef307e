"""What a step does with the gradients it is given, and with the tensors it writes."""

from __future__ import annotations

from adamantine.testing.inputs import gradients
from adamantine.testing.measure import copies, gap, moved, same
from adamantine.testing.outcome import NotApplicable, Verdict, no, passed, violated, yes
from adamantine.testing.registry import check
from adamantine.testing.subject import Subject


@check(
    "none-gradient", "leaves parameters without a gradient alone, decay included", by="torch's documentation"
)
def none_gradient(subject: Subject) -> Verdict:
    """A parameter whose ``.grad`` is None is skipped: it neither moves nor decays.

    Promised by torch (`Optimizer.zero_grad`: "torch.optim optimizers have a different behavior if the
    gradient is 0 or None (in one case it does the step with a gradient of 0 and in the other it skips the
    step altogether)"). Frozen layers depend on it.
    """
    used, unused = subject.parameters()
    optimizer = subject.build([used, unused], **subject.lr, **subject.strong_decay)
    before = copies([unused])
    for t in range(3):
        gradients([used], t)
        subject.step(optimizer)
    if same(copies([unused]), before):
        return passed("a parameter without a gradient keeps every bit for three steps")
    return violated(
        f"a parameter without a gradient moved by {moved([unused], before):.2g}",
        [
            f"w, unused = (torch.nn.Parameter({subject.tensor}) for _ in range(2))",
            *subject.new("w", "unused", **subject.lr, **subject.strong_decay),
            "w.grad = torch.ones_like(w)",
            subject.step_of(),
            'print(unused.flatten()[0].item(), "was 1")',
            "print(torch.equal(unused, torch.ones_like(unused)))",
        ],
    )


@check("gradients-kept", "does not write into the gradients", by="torch's classes")
def gradients_kept(subject: Subject) -> Verdict:
    """``p.grad`` after the step is the tensor it was, to the bit.

    By custom of torch.optim, whose optimizers leave gradients to `zero_grad`; logging, clipping statistics
    and gradient accumulation read them after the step. Broken by coupled decay added in place
    (``p.grad.add_(p, alpha=weight_decay)``), which a second step on the same gradients then adds again.
    """
    params = subject.parameters()
    optimizer = subject.build(params, **subject.lr, **subject.strong_decay)
    for t in range(3):
        gradients(params, t)
        given = [p.grad for p in params]
        before = copies(g for g in given if g is not None)
        subject.step(optimizer)
        if any(p.grad is not g for p, g in zip(params, given, strict=True)):
            return no("replaces or removes .grad in the step")
        if not same(copies(g for g in given if g is not None), before):
            change = moved([g for g in given if g is not None], before)
            return violated(
                f"a step changed a gradient by {change:.2g}",
                [
                    f"w = torch.nn.Parameter({subject.tensor})",
                    *subject.new("w", **subject.lr, **subject.strong_decay),
                    "w.grad = torch.ones_like(w)",
                    *[subject.step_of()] * (t + 1),
                    'print(w.grad.flatten()[0].item(), "was 1")',
                    "print(torch.equal(w.grad, torch.ones_like(w)))",
                ],
            )
    return passed("three steps leave every bit of the gradients")


@check("storage-kept", "writes into the parameter's own memory", by="torch's classes")
def storage_kept(subject: Subject) -> Verdict:
    """The parameter's memory is the same before and after, and holds the new values.

    By custom of torch.optim, whose updates are in place: tied weights, views into a flat buffer (FSDP, DDP),
    CUDA graphs and `share_memory` see the step only so. Broken by ``p.data = p.data - update``.
    """
    params = subject.parameters()
    optimizer = subject.build(params, **subject.lr)
    views = [p.detach() for p in params]
    subject.run(params, optimizer, range(2))
    kept = all(
        p.data_ptr() == v.data_ptr() and same(p.detach(), v) for p, v in zip(params, views, strict=True)
    )
    if kept:
        return passed("views into the weights see every step")
    return violated(
        "the weights are in other memory after a step: views of them, tied weights too, keep the old values",
        [
            f"w = torch.nn.Parameter({subject.tensor})",
            *subject.new("w", **subject.lr),
            "view = w.detach()",
            *["w.grad = torch.ones_like(w)", subject.step_of()] * 2,
            "print(w.flatten()[0].item(), view.flatten()[0].item())",
            "print(torch.equal(w, view))",
        ],
    )


@check("nan-gradient", "recovers from one NaN gradient", by="nobody")
def nan_gradient(subject: Subject) -> Verdict:
    """One step with a NaN, then three good ones: are the weights numbers?

    Nobody promises it: Adam's averages keep the NaN for good, torch.optim.AdamW too. Guards that skip such
    steps (GradScaler, ``on_nonfinite="skip"``) make the difference.
    """
    params = subject.parameters()
    optimizer = subject.build(params, **subject.lr)
    subject.run(params, optimizer, [0])
    gradients(params, 1)
    if params[0].grad is not None:
        params[0].grad.view(-1)[0] = float("nan")
    try:
        subject.step(optimizer)
    except (RuntimeError, ValueError, ArithmeticError) as error:
        return yes(f"refuses it: {type(error).__name__}: {' '.join(str(error).split())[:120]}")
    subject.run(params, optimizer, range(2, 5))
    lost = sum(int(p.isnan().sum()) for p in params)
    if not lost:
        return yes("three steps later every weight is a number")
    of = sum(p.numel() for p in params)
    return no(f"one NaN element, three good steps later {lost} of {of} weights are NaN for good")


@check("maximize", "maximize=True climbs by the steps that it would descend", by="torch's documentation")
def maximize(subject: Subject) -> Verdict:
    """With ``maximize=True`` and the negated gradients, the weights move as without, decay included.

    Promised by torch.optim: "maximize the objective with respect to the params, instead of minimizing"; the
    decay still pulls towards zero.
    """
    if not subject.accepts("maximize"):
        raise NotApplicable("takes no maximize")
    ends = []
    for climb in (False, True):
        params = subject.parameters()
        optimizer = subject.build(params, maximize=climb, **subject.lr, **subject.strong_decay)
        for t in range(3):
            gradients(params, t)
            for p in params:
                p.grad = -p.grad if climb and p.grad is not None else p.grad
            subject.step(optimizer)
        ends.append(copies(params))
    worst = max(gap(b, a) for a, b in zip(*ends, strict=True))
    if worst <= 1e-6:
        return passed("three steps up -g equal three steps down g, with decay")
    return violated(
        f"three steps up -g differ from three steps down g by {worst:.2g}",
        [
            "ends = []",
            "for maximize in (False, True):",
            f"    w = torch.nn.Parameter({subject.tensor})",
            *[
                "    " + line.replace("maximize=True", "maximize=maximize")
                for line in subject.new("w", maximize=True, **subject.lr, **subject.strong_decay)
            ],
            "    for _ in range(3):",
            "        w.grad = torch.ones_like(w) * (-1 if maximize else 1)",
            f"        {subject.step_of()}",
            "    ends.append(w.flatten()[0].item())",
            "print(ends)",
            "print(abs(ends[1] - ends[0]) <= 1e-6)",
        ],
    )
