"""What classes need before they step: known for some, tried out for the others."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import replace

import torch

from adamantine.testing.errors import ConformanceError
from adamantine.testing.subject import LR, Needs, Subject

#: 64 × 64: below 4096 elements the 8-bit classes quietly keep full precision, and would be judged by that.
LARGE = (64, 64)

#: What is tried, in this order; the first with which the class steps and moves is what it needs.
WAYS = (
    Needs(),
    Needs(dtype=torch.float32),
    Needs(named=True),
    Needs(shape=LARGE, dtype=torch.float32),
    Needs(closure=True),
    Needs(closure=True, dtype=torch.float32),
    Needs(named=True, shape=LARGE, dtype=torch.float32),
    Needs(group={"use_muon": True}),  # Muon with an AdamW beside it: which of the two, a group has to say
    Needs(group={"use_muon": True}, dtype=torch.float32),
)

#: Names whose first way would step, but not as the class is meant.
KNOWN: dict[str, Needs] = {r"8bit|4bit|Fp8": Needs(shape=LARGE, dtype=torch.float32)}

#: Arguments without which a class refuses to be constructed, by ``module:Class``.
REQUIRED = {r"^bitsandbytes.*:SGD": {"momentum": 0.9}, r"^bitsandbytes.*:LARS": {"momentum": 0.9}}


def adapted(subject: Subject) -> Subject:
    """The subject with the needs under which it steps.

    Raises:
        ConformanceError: none of them; the message is what the first ways raised, in float64 and in float32.
    """
    for pattern, hyper in REQUIRED.items():
        if re.search(pattern, subject.reference):
            subject = replace(subject, hyper={**hyper, **subject.hyper})
    problems: list[str] = []
    for candidate in _candidates(subject):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if _moves(candidate):
                    return candidate
            problems.append("three steps move nothing")
        except (Exception, SystemExit) as error:  # a foreign class may raise anything
            said = " ".join(str(error).split())
            problems.append(f"{type(error).__name__}: {said[:300]}")
    float32 = f"; in float32: {problems[1]}" if problems[1] != problems[0] else ""
    raise ConformanceError(
        f"{subject.reference or subject.name} does not step on a small weight: {problems[0]}{float32}; "
        "state what its constructor needs (--kwargs, or hyper=)"
    )


def _candidates(subject: Subject) -> Iterator[Subject]:
    """The subject with each of the needs; with an lr, if it has no default, and at last if that is None."""
    lr = subject.signature.get("lr")
    with_lr = replace(subject, hyper={"lr": LR, **subject.hyper})
    own = [needs for pattern, needs in KNOWN.items() if re.search(pattern, subject.name)]
    for needs in (*own, *WAYS):
        yield replace(with_lr if lr is not None and lr.default is lr.empty else subject, needs=needs)
    if lr is not None and lr.default is None:
        for needs in (*own, *WAYS):
            yield replace(with_lr, needs=needs)


def _moves(subject: Subject) -> bool:
    """Whether three steps move a weight. ValueError for float64 weights whose state is narrower.

    Such a class computes in float32 whatever the weights are, and is compared in float32.
    """
    params = subject.parameters()
    before = [p.detach().clone() for p in params]
    optimizer = subject.build(params)
    subject.run(params, optimizer, range(3))
    if subject.needs.dtype == torch.float64:
        narrow = {
            value.dtype
            for p in params
            for value in optimizer.state.get(p, {}).values()
            if torch.is_tensor(value) and value.shape == p.shape and value.is_floating_point()
        } - {torch.float64}
        if narrow:
            raise ValueError(f"float64 weights have state in {', '.join(map(str, narrow))}")
    return any(not torch.equal(p, q) for p, q in zip(params, before, strict=True))
