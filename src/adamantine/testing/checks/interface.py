"""What else everything that is called an optimizer in torch can do."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import Parameter

from adamantine.testing.hooks import bases_constructed, hooks_seen
from adamantine.testing.inputs import gradients
from adamantine.testing.measure import copies, gap, same
from adamantine.testing.outcome import NotApplicable, Verdict, no, passed, violated, yes
from adamantine.testing.registry import check
from adamantine.testing.subject import Subject


@check("is-optimizer", "is a torch.optim.Optimizer", by="nobody")
def is_optimizer(subject: Subject) -> Verdict:
    """Schedulers, GradScaler, Lightning and Accelerate ask with isinstance."""
    optimizer = subject.build(subject.parameters())
    if isinstance(optimizer, torch.optim.Optimizer):
        return yes("a subclass of torch.optim.Optimizer")
    return no(f"a {type(optimizer).__module__}.{type(optimizer).__qualname__}")


@check("deterministic", "the same steps from the same start, to the bit", by="torch's classes")
def deterministic(subject: Subject) -> Verdict:
    """Two runs with one seed. Stochastic rounding may draw from torch's generator and from no other."""
    if subject.deterministic:
        return passed("two runs of four steps, the same bits")
    return violated(
        "two runs from one start and seed end differently",
        [
            "ends = []",
            "for _ in range(2):",
            "    torch.manual_seed(0)",
            f"    w = torch.nn.Parameter({subject.tensor})",
            *[f"    {line}" for line in subject.new("w", **subject.lr, **subject.strong_decay)],
            *["    w.grad = torch.ones_like(w)", f"    {subject.step_of()}"] * 2,
            "    ends.append(w.detach())",
            "print([end.flatten()[0].item() for end in ends])",
            "print(torch.equal(*ends))",
        ],
    )


@check("threads", "the number of threads changes no bit", by="nobody", presumes="determinism")
def threads(subject: Subject) -> Verdict:
    """One thread and two, on a weight that is large enough to be shared among them."""
    ends = []  # torch shares elementwise work from 2 × 32768 elements on
    for count in (1, 2):
        generator = torch.Generator().manual_seed(0)
        p = Parameter(torch.randn((130, 512), generator=generator, dtype=torch.float32))
        optimizer = subject.build([p], **subject.lr, **subject.strong_decay)
        for t in range(2):
            gradients([p], t)
            torch.set_num_threads(count)
            subject.step(optimizer)
            torch.set_num_threads(1)
        ends.append(p.detach())
    return yes("one or two, the same bits") if same(*ends) else no(f"one or two differ by {gap(*ends):.1g}")


@check(
    "closure", "calls the closure with gradients enabled, and returns its loss", by="torch's documentation"
)
def closure(subject: Subject) -> Verdict:
    """``loss = optimizer.step(closure)``, where the closure computes loss and gradients.

    Promised by torch.optim ("step(closure)": reevaluates the model and returns the loss). Broken by a
    ``step`` under ``no_grad`` that calls the closure there, so that ``backward`` fails, or that forgets the
    loss.
    """
    params = subject.parameters()
    optimizer = subject.build(params, **subject.lr)
    seen = []

    def evaluate() -> torch.Tensor:
        seen.append(torch.is_grad_enabled())
        gradients(params, 0)
        return torch.tensor(2.5)

    try:
        returned: Any = optimizer.step(evaluate)  # type: ignore[arg-type]
    except TypeError as error:
        if "argument" not in str(error):
            raise
        return no(f"takes no closure: {error}")
    code = [
        f"w = torch.nn.Parameter({subject.tensor})",
        *subject.new("w", **subject.lr),
        "enabled = []",
        "def closure():",
        "    enabled.append(torch.is_grad_enabled())",
        "    w.grad = torch.ones_like(w)",
        "    return torch.tensor(2.5)",
        "loss = optimizer.step(closure)",
        'print("gradients enabled:", enabled, "returned:", loss)',
        "print(all(enabled) and loss is not None and float(loss) == 2.5)",
    ]
    if not seen:
        return violated("step(closure) never calls it", code)
    if not all(seen):
        return violated("calls the closure with gradients disabled", code)
    if returned is None or float(returned) != 2.5:
        return violated(f"a closure whose loss is 2.5 makes it return {returned!r}", code)
    return passed(
        f"called {'once' if len(seen) == 1 else f'{len(seen)} times'}, gradients enabled, loss returned"
    )


@check(
    "under-no-grad",
    "steps under torch.no_grad, and leaves leaves that require gradients",
    by="torch's classes",
    presumes="determinism",
)
def under_no_grad(subject: Subject) -> Verdict:
    """The step is the same inside and outside of ``torch.no_grad()``, and no graph hangs on the weights."""
    ends = []
    for enabled in (True, False):
        params = subject.parameters()
        optimizer = subject.build(params, **subject.lr, **subject.strong_decay)
        with torch.set_grad_enabled(enabled):
            subject.run(params, optimizer, range(3))
        if not all(p.is_leaf and p.requires_grad for p in params):
            return violated(
                "after a step a weight is no leaf that requires a gradient",
                [
                    f"w = torch.nn.Parameter({subject.tensor})",
                    *subject.new("w", **subject.lr),
                    "w.grad = torch.ones_like(w)",
                    subject.step_of(),
                    "print(w.is_leaf, w.requires_grad)",
                    "print(w.is_leaf and w.requires_grad)",
                ],
            )
        ends.append(copies(params))
    if same(*ends):
        return passed("the same bits inside and outside, leaves stay leaves")
    return no(f"inside and outside differ by {max(gap(b, a) for a, b in zip(*ends, strict=True)):.1g}")


@check("zero-grad", "zero_grad forgets the gradients, or zeroes them in place", by="nobody")
def zero_grad(subject: Subject) -> Verdict:
    """``set_to_none=True`` is the default since torch 2.0; ``False`` keeps the tensor, zeroed."""
    params = subject.parameters()
    optimizer = subject.build(params, **subject.lr)
    gradients(params, 0)
    kept = [p.grad for p in params]
    try:
        optimizer.zero_grad(set_to_none=False)
    except TypeError:
        return no("zero_grad takes no set_to_none")
    zeroed = all(p.grad is g and g is not None and not g.any() for p, g in zip(params, kept, strict=True))
    gradients(params, 0)
    optimizer.zero_grad()
    gone = all(p.grad is None for p in params)
    if zeroed and gone:
        return yes("None by default, zeroed in place on demand")
    return no(f"set_to_none=False zeroes in place: {zeroed}; the default sets to None: {gone}")


@check("step-hooks", "runs step hooks, once before and once after", by="torch's documentation")
def step_hooks(subject: Subject) -> Verdict:
    """`register_step_pre_hook` and `register_step_post_hook`, which profilers, loggers and audits use.

    torch wraps the ``step`` of every class that has been constructed. A ``step`` that calls its base class's
    therefore runs the hooks twice as soon as somebody constructs that base class too: this is torch's, and
    looked at as if somebody had.
    """
    params = subject.parameters()
    optimizer = subject.build(params, **subject.lr)
    if not isinstance(optimizer, torch.optim.Optimizer):
        return no("is no torch.optim.Optimizer")
    with bases_constructed(type(optimizer)) as bases:
        seen = hooks_seen(subject, params, subject.build(params, **subject.lr))
    if seen == ["before", "after"]:
        return passed("once before anything moves, once after")
    half = len(seen) // 2
    if not bases or half < 2 or seen != ["before"] * half + ["after"] * half:
        return violated(f"the hooks ran: {', '.join(seen) or 'never'}", _hooks_code(subject))
    base = f"{bases[0].__module__}.{bases[0].__qualname__}"
    return violated(
        f"step calls that of {base}: once such an object exists too, torch runs the hooks {half} times",
        _hooks_code(subject, f"{subject.name}.__mro__[{type(optimizer).__mro__.index(bases[0])}]"),
        inherited=True,
    )


def _hooks_code(subject: Subject, base: str = "") -> list[str]:
    return [
        f"w = torch.nn.Parameter({subject.tensor})",
        *([f"{base}([torch.nn.Parameter({subject.tensor})])"] if base else []),
        *subject.new("w", **subject.lr),
        "seen = []",
        'optimizer.register_step_pre_hook(lambda *_: seen.append("before"))',
        'optimizer.register_step_post_hook(lambda *_: seen.append("after"))',
        "w.grad = torch.ones_like(w)",
        subject.step_of(),
        "print(seen)",
        'print(seen == ["before", "after"])',
    ]


@check("refuses-nonsense", "refuses hyperparameters that cannot be meant", by="nobody")
def refuses_nonsense(subject: Subject) -> Verdict:
    """A negative or NaN lr, a negative decay, β = 1, no parameters, one parameter twice.

    torch.optim refuses all of these with ValueError (common_optimizers' error inputs); whoever does not
    trains on.
    """
    p = subject.parameters(1)
    wrong: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "lr=-1": (p, {"lr": -1.0}),
        "lr=nan": (p, {"lr": float("nan")}),
        "weight_decay=-1": (p, {"weight_decay": -1.0}),
        "betas=(1.0, 0.9)": (p, {"betas": (1.0, 0.9)}),
        "no parameters": ([], {}),
        "a parameter in two groups": ([{"params": p}, {"params": p}], {}),
    }
    taken, refused = [], []
    for what, (params, hyper) in wrong.items():
        if not all(subject.accepts(name) for name in hyper):
            continue
        try:
            subject.build(params, **hyper)
        except Exception:
            refused.append(what)
        else:
            taken.append(what)
    if not taken:
        return yes(", ".join(refused))
    return no(f"takes {', '.join(taken)}; refuses {', '.join(refused) or 'nothing'}")


@check("grad-scaler", "works with torch.amp.GradScaler", by="nobody", presumes="determinism")
def grad_scaler(subject: Subject) -> Verdict:
    """Scaled gradients are unscaled before the step, and a step that overflows is left out."""
    if subject.needs.closure:
        raise NotApplicable("GradScaler does not take closures")
    ends = []
    for scaled in (False, True):
        params = subject.parameters()
        optimizer = subject.build(params, **subject.lr)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        for t in range(3):
            gradients(params, t)
            scaler.scale(torch.zeros(()))
            for p in params:
                if scaled and p.grad is not None:
                    p.grad.mul_(1024.0)
            scaler.step(optimizer)
            scaler.update()
        ends.append(copies(params))
    if not same(*ends):
        return no("scaled steps differ from plain ones")
    for p in params:
        p.grad = torch.full_like(p, math.inf)
    scaler.scale(torch.zeros(()))
    scaler.step(optimizer)
    if not same(copies(params), ends[-1]):
        return no("a step whose gradients overflow is taken")
    return yes("three scaled steps, the same bits; one that overflows is left out")
