"""Tensors that are not the usual two-dimensional, contiguous, real ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Parameter

from adamantine.testing.inputs import gradients
from adamantine.testing.measure import copies, gap, same
from adamantine.testing.outcome import NotApplicable, Verdict, no, passed, violated, yes
from adamantine.testing.registry import check
from adamantine.testing.subject import Subject

#: Contiguous or not, the same elementwise operations on the same numbers; sums may round otherwise.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def _train(
    subject: Subject, p: Parameter, steps: int = 3, lay: Callable[[Tensor], Tensor] = lambda g: g
) -> Parameter:
    optimizer = subject.build([p], **subject.lr, **subject.strong_decay)
    for t in range(steps):
        gradients([p], t)
        p.grad = lay(p.grad) if p.grad is not None else None
        subject.step(optimizer)
    return p


def _tried(subject: Subject, p: Parameter) -> Verdict | None:
    """A NO if it raises."""
    try:
        _train(subject, p)
    except NotApplicable:
        raise
    except Exception as error:
        return no(f"refuses: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
    return None


@check("scalar", "moves a parameter without dimensions", by="nobody")
def scalar(subject: Subject) -> Verdict:
    """A learned temperature (CLIP's logit scale) has shape ()."""
    p = Parameter(torch.tensor(1.5, dtype=subject.needs.dtype))
    if refusal := _tried(subject, p):
        return refusal
    if p.shape != ():
        return no(f"gives it the shape {tuple(p.shape)}")
    return yes("three steps") if p.item() != 1.5 and p.isfinite() else no(f"1.5 became {p.item()}")


@check("vector", "moves a one-dimensional parameter", by="nobody")
def vector(subject: Subject) -> Verdict:
    """Biases and norms. Optimizers for matrices (Muon, Shampoo) may leave them to another."""
    p = Parameter(torch.full((5,), 1.5, dtype=subject.needs.dtype))
    if refusal := _tried(subject, p):
        return refusal
    return yes("three steps") if p.isfinite().all() and (p != 1.5).all() else no(f"1.5 became {p.tolist()}")


@check("zero-size", "takes a parameter without elements", by="nobody")
def zero_size(subject: Subject) -> Verdict:
    """Shape (0, 3): an empty shard under tensor parallelism, a head without classes yet."""
    p = Parameter(torch.empty((0, 3), dtype=subject.needs.dtype))
    if refusal := _tried(subject, p):
        return refusal
    return yes("three steps") if p.shape == (0, 3) else no(f"gives it the shape {tuple(p.shape)}")


#: How a tensor is laid out otherwise, with the code that lays it so.
LAYOUTS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "transposed": (lambda x: x.t().contiguous().t(), "{}.t().contiguous().t()"),
    "every second column": (
        lambda x: torch.stack([x, torch.zeros_like(x)], dim=-1)[..., 0],
        "torch.stack([{0}, torch.zeros_like({0})], dim=-1)[..., 0]",
    ),
    "a view into a larger tensor": (
        lambda x: torch.cat([torch.zeros(7, dtype=x.dtype), x.reshape(-1)])[7:].view(x.shape),
        "torch.cat([torch.zeros(7, dtype={0}.dtype), {0}.reshape(-1)])[7:].view({0}.shape)",
    ),
}


@check(
    "non-contiguous",
    "a parameter's layout in memory changes nothing",
    by="torch's classes",
    presumes="determinism",
)
def non_contiguous(subject: Subject) -> Verdict:
    """Transposed, strided, and as a view at an odd offset: the values are those of the contiguous twin.

    By every elementwise formula; `torch.testing._internal.common_optimizers` has such inputs. Broken by
    kernels that read ``data_ptr`` and ``numel`` alone, and write the right numbers to the wrong weights.
    """
    return _laid_out(subject, "weights")


@check(
    "non-contiguous-gradient",
    "a gradient's layout in memory changes nothing",
    by="torch's classes",
    presumes="determinism",
)
def non_contiguous_gradient(subject: Subject) -> Verdict:
    """The same for ``p.grad``: autograd hands out transposed ones for ``x @ w.T``, expanded ones for sums."""
    return _laid_out(subject, "gradients")


def _laid_out(subject: Subject, what: str) -> Verdict:
    plain = subject.parameters(1)[0]
    start = plain.detach().clone()
    # Distinct values throughout, so that a permuted write shows.
    twin = _train(subject, Parameter(start.clone()))
    neighbours = 0.0
    for layout, (lay, code) in LAYOUTS.items():
        p = Parameter(lay(start.clone()) if what == "weights" else start.clone())
        try:
            _train(subject, p, lay=lay if what == "gradients" else lambda g: g)
        except NotApplicable:
            raise
        except Exception as error:
            return no(f"{layout} {what}: {type(error).__name__}: {' '.join(str(error).split())[:120]}")
        worst = gap(p.detach() - start, twin.detach() - start)
        neighbours = max(neighbours, worst)
        if worst > TOLERANCE[subject.needs.dtype]:
            return violated(
                f"{layout} {what}: the movement is off by {worst:.2g} of its size", _code(subject, what, code)
            )
    return passed(f"{what} {', '.join(LAYOUTS)}: as contiguous ones, up to {neighbours:.1g}")


def _code(subject: Subject, what: str, code: str) -> list[str]:
    shape = subject.needs.shape
    # Both signs, and not symmetric: Adam's first step is of one size, and a transposed write would not show.
    numbers = [
        f"x = torch.linspace(-1, 1, {math.prod(shape)}, dtype={subject.needs.dtype}).view{shape}",
        "w = torch.nn.Parameter(x.clone())",
        f"v = torch.nn.Parameter({code.format('x') if what == 'weights' else 'x.clone()'})",
    ]
    grad = code.format("x") if what == "gradients" else "x.clone()"
    return [
        *numbers,
        *subject.new("w", **subject.lr, **subject.strong_decay),
        *subject.new("v", name="other", **subject.lr, **subject.strong_decay),
        "w.grad = x.clone()",
        f"v.grad = {grad}",
        subject.step_of(),
        subject.step_of("other"),
        *["w.grad = -x", f"v.grad = -{grad}", subject.step_of(), subject.step_of("other")],
        "print((w - v).abs().max().item())",
        "print(torch.allclose(w, v, rtol=1e-6))",
    ]


@check("complex", "takes complex parameters, as two real numbers each", by="nobody")
def complex_numbers(subject: Subject) -> Verdict:
    """complex64 weights move as their real and imaginary parts would; Fourier layers have such."""
    real = torch.randn(*subject.needs.shape, 2, generator=torch.Generator().manual_seed(0))
    p = Parameter(torch.view_as_complex(real.clone()))
    q = Parameter(real.clone())
    try:
        optimizers = [subject.build([x], **subject.lr, **subject.strong_decay) for x in (p, q)]
        for t in range(3):
            gradients([q], t)
            p.grad = torch.view_as_complex(q.grad.clone()) if q.grad is not None else None
            for optimizer in optimizers:
                subject.step(optimizer)
    except NotApplicable:
        raise
    except Exception as error:
        return no(f"refuses: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
    worst = gap(torch.view_as_real(p.detach()), q)
    if worst < 1e-5:
        return yes("three steps, each as of the two real numbers")
    return no(f"moves otherwise than the two real numbers, by {worst:.2g}")


@check("bfloat16", "takes bfloat16 parameters", by="nobody")
def bfloat16(subject: Subject) -> Verdict:
    """Weights in bfloat16 move, and stay bfloat16. Which dtype the state has is told."""
    params = subject.parameters(dtype=torch.bfloat16)
    before = copies(params)
    try:
        optimizer = subject.build(params, **subject.lr)
        subject.run(params, optimizer, range(3))
    except NotApplicable:
        raise
    except Exception as error:
        return no(f"refuses: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
    if any(p.dtype != torch.bfloat16 for p in params):
        return no(f"makes them {params[0].dtype}")
    if same(copies(params), before):
        return no("three steps at lr 0.01 move nothing")
    kinds = sorted(
        {
            str(value.dtype).removeprefix("torch.")
            for entry in optimizer.state.values()
            if isinstance(entry, dict)
            for value in entry.values()
            if isinstance(value, Tensor) and value.numel() > 1
        }
    )
    return yes(f"three steps; state in {', '.join(kinds) or 'no tensor'}")
