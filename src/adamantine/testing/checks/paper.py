"""Does it compute what the paper of its name says?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch

from adamantine.reference import Optimizer as Reference
from adamantine.testing.inputs import gradients
from adamantine.testing.measure import gap, mean_gap
from adamantine.testing.oracles import Oracle, rule_of
from adamantine.testing.outcome import NotApplicable, Verdict, no, not_applicable, passed, violated, yes
from adamantine.testing.registry import check
from adamantine.testing.subject import LR, Subject

#: RAdam changes its rule at the sixth step with the default betas.
STEPS = 8

#: Difference that is rounding, relative to the largest movement. In float64, 1e-6: implementations
#: keep single factors in float32 (torch.optim.NAdam its Πμ, 6e-8 each), and every difference of formula that
#: the variants are there for is above 1e-3. In float32: the weights, of size 1, are rounded to 6e-8 at each
#: of 8 steps, which is 5e-5 of a movement of LR. Quantized: 8 bits over blocks of a non-linear code, whose
#: steps are up to 1/16 of a value; there the root of the mean square, since a sign (Lion) turns where a
#: moment is near 0.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-4}
QUANTIZED = 0.15


def tolerance(subject: Subject) -> float:
    """The relative difference that counts as rounding."""
    if subject.oracle and subject.oracle.stored == "quantized":
        return QUANTIZED
    return TOLERANCE[subject.needs.dtype]


def distance(subject: Subject, actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Between two movements, as `tolerance` is meant."""
    quantized = subject.oracle is not None and subject.oracle.stored == "quantized"
    return mean_gap(actual, expected) if quantized else gap(actual, expected)


def stated(subject: Subject, variant: Mapping[str, Any]) -> dict[str, Any]:
    """Rule's hyperparameters under a variant: as stated, else as the signature or a fresh group has them."""
    names = ("betas", "eps", "amsgrad", "momentum", "dampening", "nesterov", "alpha", "centered")
    others = ("lr_decay", "initial_accumulator_value", "momentum_decay")
    return {name: variant.get(name, subject.value_of(name)) for name in (*names, *others)}


@check("formula", "computes the formula of the paper that it is named after", by="its paper")
def formula(subject: Subject) -> Verdict:
    """Every step equals the paper's, without decay, for the defaults and for options far from them.

    Promised by the name and the cited paper (`adamantine.rules` has each formula with its source). Broken in
    practice: ε inside the root or before the bias correction (TensorFlow's RMSprop against torch's, timm's
    ``RMSpropTF``), a bias correction left out, a moment updated after its use.
    """
    oracle = subject.oracle
    if oracle is None:
        return not_applicable("no formula is known for this name")
    if oracle.rule == "sgd" and not subject.accepts("momentum") and _momentum_by_another_name(subject):
        return not_applicable("its momentum is no argument called momentum, whose formula is known")
    compared, refused = [], []
    epsilon = ""
    worst = 0.0
    given = {name: value for name, value in oracle.given.items() if subject.accepts(name)}
    for variant in (given, *({**given, **more} for more in oracle.variants)):
        if not all(_means(subject, name, value) for name, value in variant.items()):
            continue
        try:
            difference = _difference(subject, oracle, variant)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            if variant == given:
                raise
            refused.append(f"{_said(variant)}: {type(error).__name__}")
            continue
        if difference > tolerance(subject) and oracle.rule == "adam" and not variant.get("amsgrad"):
            with_hat = _difference(subject, oracle, variant, epsilon="ε̂")
            if with_hat <= tolerance(subject):
                epsilon = (
                    "; ε beside the uncorrected √v (the paper's ε̂ of section 2, not Algorithm 1 and torch)"
                )
                difference = with_hat
        compared.append(_said(variant))
        worst = max(worst, difference)
        if difference > tolerance(subject):
            return violated(
                f"with {_said(variant)} the movement of {STEPS} steps differs from {oracle.rule} by "
                f"{difference:.2g} of its size",
                example_code(subject, oracle, variant),
            )
    if not compared:
        raise NotApplicable("no variant of the formula can be constructed")
    remark = f"; refuses {'; '.join(refused)}" if refused else ""
    return passed(
        f"{oracle.rule}: {STEPS} steps agree to {worst:.1g} under {'; '.join(compared)}{remark}{epsilon}"
    )


def _momentum_by_another_name(subject: Subject) -> bool:
    """Whether an SGD keeps an average though nobody asked it to: there are several formulas for that."""
    return any(subject.fresh_group.get(name) for name in ("beta", "beta1"))


def _means(subject: Subject, name: str, value: Any) -> bool:
    """Whether the class takes this argument as torch does: not as a flag where torch has a number."""
    if not subject.accepts(name):
        return False
    default = subject.value_of(name)
    return isinstance(default, bool) == isinstance(value, bool) or default is None


def _said(variant: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in variant.items()) or "the defaults"


def _difference(
    subject: Subject, oracle: Oracle, variant: Mapping[str, Any], *, epsilon: Literal["ε", "ε̂"] = "ε"
) -> float:
    """Largest difference to the float64 oracle, relative to the largest movement.

    ε̂ is added before the bias correction (Kingma & Ba 2015, end of section 2): ε = ε̂/√(1-β₂ᵗ) in Algorithm 1.
    """
    params = subject.parameters()
    start = [p.detach().double().clone() for p in params]
    optimizer = subject.build(params, **variant, **subject.lr, **subject.no_decay)
    rule, hyper = rule_of(oracle, stated(subject, variant))
    lr = float(optimizer.param_groups[0].get("lr", LR))
    reference = Reference(rule, lr=lr, **hyper)
    theta = {str(i): p.numpy().copy() for i, p in enumerate(start)}
    for t in range(STEPS):
        gradients(params, t)
        grads = {str(i): p.grad.double().numpy() for i, p in enumerate(params) if p.grad is not None}
        subject.step(optimizer)
        if epsilon == "ε̂":
            reference.hyper["eps"] = hyper["eps"] / math.sqrt(1 - hyper["betas"][1] ** (t + 1))
        reference.step(theta, grads)
    return max(
        distance(subject, p.detach().double() - s, torch.from_numpy(theta[str(i)]) - s)
        for i, (p, s) in enumerate(zip(params, start, strict=True))
    )


def example_code(subject: Subject, oracle: Oracle, variant: Mapping[str, Any]) -> list[str]:
    """A few steps of one weight beside the reference."""
    rule, hyper = rule_of(oracle, stated(subject, variant))
    options = "".join(f", {key}={value!r}" for key, value in hyper.items())
    return [
        "import numpy as np",
        "from adamantine.reference import Optimizer as Reference",
        f"w = torch.nn.Parameter({subject.tensor})",
        *subject.new("w", **variant, **subject.lr, **subject.no_decay),
        f'reference = Reference("{rule}", lr={LR}{options})',
        'expected = {"w": np.ones(w.shape)}',
        f"for t in range({STEPS}):",
        "    w.grad = torch.ones_like(w) * (1.5 if t % 2 == 0 else -0.5)",
        f"    {subject.step_of()}",
        '    reference.step(expected, {"w": w.grad.double().numpy()})',
        'print(w.flatten()[0].item(), "instead of", expected["w"].flat[0])',
        'moved = abs(expected["w"].flat[0] - 1)',
        f'print(abs(w.flatten()[0].item() - expected["w"].flat[0]) <= {tolerance(subject)} * moved)',
    ]


@check("scale-invariance", "takes the same steps when the loss is multiplied by a constant", by="its paper")
def scale_invariance(subject: Subject) -> Verdict:
    """g and 1000 g give the same movement.

    Promised for Adam's family by Kingma & Ba (2015, section 2.1: invariant to the scale of the gradients),
    for Lion by its sign. It is why a loss may be averaged or summed. Asked at gradients ≥ ½, where ε = 1e-8
    is 1e-8 of them.
    """
    ends = []
    for factor in (1.0, 1000.0):
        params = subject.parameters()
        start = [p.detach().clone() for p in params]
        optimizer = subject.build(params, **subject.lr, **subject.no_decay)
        for t in range(5):
            gradients(params, t)
            for p in params:
                p.grad = p.grad * factor if p.grad is not None else None
            subject.step(optimizer)
        ends.append(torch.cat([(p.detach() - s).flatten() for p, s in zip(params, start, strict=True)]))
    difference = gap(ends[1], ends[0])
    if difference <= max(1e-4, tolerance(subject)):
        said = f"1000 times the gradient moves the weights alike, up to {difference:.1g}"
        return passed(said) if subject.oracle else yes(said)
    said = f"1000 times the gradient changes the movement by {difference:.2g} of its size"
    if subject.oracle is None or not subject.oracle.scale_invariant:
        return no(said)
    return violated(
        said,
        [
            "ends = []",
            "for factor in (1.0, 1000.0):",
            f"    w = torch.nn.Parameter({subject.tensor})",
            *[f"    {line}" for line in subject.new("w", **subject.lr, **subject.no_decay)],
            "    for t in range(5):",
            "        w.grad = factor * torch.ones_like(w) * (1.5 if t % 2 else 0.5)",
            f"        {subject.step_of()}",
            "    ends.append(1 - w.flatten()[0].item())",
            "print(ends)",
            "print(abs(ends[1] - ends[0]) <= 1e-4 * abs(ends[0]))",
        ],
    )
