"""Audits made by hand: one with mistakes of every kind and what a ledger could have seen, one clean."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from adamantine.audit.model import (
    AuditReport,
    Distortion,
    Finding,
    GroupRow,
    LayerRow,
    LedgerReport,
    ParameterRow,
    Plan,
    Trajectory,
)
from adamantine.probe import Behaviour
from adamantine.report.phrases import same
from adamantine.report.words import Words

STEPS = 4000
LAYERS = 6
L2 = Behaviour(
    "l2",
    True,
    None,
    "unclear",
    None,
    "class",
    "torch.optim.Adam adds λ·θ to the gradient, then divides by √v̂",
)
DECOUPLED = Behaviour(
    "decoupled", True, 1e-5, "before", 1, "probe", "a weight of 1 lost 1e-5 = lr·λ per step at zero gradient"
)


def _parameter(
    name: str, shape: tuple[int, ...], group: int | None, reason: str, **others: object
) -> ParameterRow:
    decays = group == 0
    row = ParameterRow(
        name=name,
        shape=shape,
        elements=math.prod(shape),
        dtype="float32",
        device="cpu",
        trains=True,
        group=group,
        lr=1e-3 if group is not None else 0.0,
        weight_decay=0.01 if decays else 0.0,
        decays=decays,
        should_decay=len(shape) == 2 and "wte" not in name,
        reason=reason,
        shrink=1e-5 if decays else None,
        timescale=1e5 if decays else None,
        epochs=1000.0 if decays else None,
        total_shrink=0.98 if decays else 1.0,
    )
    return replace(row, **others)  # type: ignore[arg-type]


def _parameters() -> tuple[ParameterRow, ...]:
    rows = [_parameter("wte.weight", (1000, 64), 0, "embedding table (Embedding)")]
    for i in range(LAYERS):
        rows += [
            _parameter(f"blocks.{i}.ln.weight", (64,), 0, "normalization (LayerNorm)"),
            _parameter(f"blocks.{i}.ln.bias", (64,), 0, "normalization (LayerNorm)"),
            _parameter(f"blocks.{i}.attn.qkv.weight", (192, 64), 0, "weight of Linear (2-D)"),
            _parameter(f"blocks.{i}.attn.qkv.bias", (192,), 0 if i < 3 else 1, "bias"),
        ]
    rows.append(_parameter("head.weight", (10, 64), None, "weight of Linear (2-D)"))
    return tuple(rows)


def _trajectory(group: int, decay: float) -> Trajectory:
    steps = tuple(range(0, STEPS + 1, STEPS // 100))
    lrs = tuple(1e-3 * min(1.0, s / 400 or 1e-3) * 0.5 * (1 + math.cos(math.pi * s / STEPS)) for s in steps)
    kept = [1.0]
    for (a, b), lr in zip(pairwise(steps), lrs, strict=False):
        kept.append(kept[-1] * (1 - lr * decay) ** (b - a))
    return Trajectory(group, steps, lrs, (decay,) * len(steps), tuple(kept))


def _ledger(rows: tuple[ParameterRow, ...]) -> LedgerReport:
    layers = tuple(
        LayerRow(
            name=row.name,
            decay_step=1e-6 * (1 + i % 5) ** 2,
            gradient_step=3e-4 / (1 + i % 7),
            update_to_weight=1e-3 * (1 + i % 3),
            rounded=0.0 if i % 9 else 0.4,
            norm=3.0 + i % 4,
            equilibrium=2.0 + 0.7 * (i % 5) if row.decays else None,
            gradient=10.0 ** -(i % 6),
            nonfinite=2 if i == 3 else 0,
        )
        for i, row in enumerate(rows)
    )
    sizes = tuple(10.0 ** (-7 + k / 4) for k in range(21))
    middle = tuple(1e-5 / (1 + g / 1e-6) for g in sizes)
    distortion = Distortion(
        sizes, middle, tuple(m / 3 for m in middle), tuple(m * 2.5 for m in middle), nominal=1e-5
    )
    findings = (
        Finding(
            "distorted-decay",
            "error",
            Words("Decay per step differs 10,000-fold between weights", "不同权重的每步衰减相差 10,000 倍"),
            Words("Weights with large gradients lose 1e-9 per step, those with small ones 1e-5.",
                  "梯度大的权重每步损失 1e-9，梯度小的损失 1e-5。"),
            Words("Use torch.optim.AdamW, whose decay is the same for all.",
                  "改用 torch.optim.AdamW，其衰减对所有权重相同。"),
            tuple(row.name for row in rows if row.decays),
        ),
    )  # fmt: skip
    return LedgerReport(2000, 200, 10, layers, distortion, findings)


@pytest.fixture(scope="session")
def faulty() -> AuditReport:
    """Adam with L2 on everything, a head that is in no group; with a ledger."""
    rows = _parameters()
    names = [row.name for row in rows]
    biases = tuple(row.name for row in rows if row.decays and row.reason == "bias")
    norms = tuple(row.name for row in rows if row.decays and "norm" in row.reason)
    findings = (
        Finding(
            "decays-bias", "warning",
            Words("3 biases decay", "3 个偏置被衰减"),
            Words("Weight decay pulls them to 0: an offset is lost.", "权重衰减把它们拉向 0，抹去了偏移。"),
            same("param_groups(model, lr=1e-3, weight_decay=0.01)"),
            biases, (0,),
        ),
        Finding(
            "l2-in-adaptive", "error",
            Words("weight_decay of Adam is L2, not decay", "Adam 的 weight_decay 是 L2 正则化，不是权重衰减"),
            Words("λ·θ is added to the gradient and divided by √v̂ with it, so the decay of a weight depends "
                  "on its gradients: it is weak where they are large.",
                  "λ·θ 加进梯度，又随梯度一起被 √v̂ 除，因此一个权重的衰减取决于它的梯度：梯度大处衰减弱。"),
            Words("torch.optim.AdamW(groups, lr=1e-3, weight_decay=…), with λ tuned anew",
                  "torch.optim.AdamW(groups, lr=1e-3, weight_decay=…)，λ 需重新调"),
            (), (0,),
        ),
        Finding(
            "decays-norm", "warning",
            Words("12 normalization parameters decay", "12 个归一化参数被衰减"),
            Words("Their scale is a gain, which decay switches off.", "它们的尺度是增益，衰减会关掉它。"),
            same("no_decay=['*.ln.*']"),
            norms, (0,),
        ),
        Finding(
            "not-in-optimizer", "error",
            Words("head.weight trains but is in no group", "head.weight 参与训练却不在任何组"),
            Words("It keeps its initial values.", "它一直停在初始值。"),
            same("optimizer.add_param_group({'params': [model.head.weight]})"),
            (names[-1],),
        ),
        Finding(
            "decays-table", "note",
            Words("1 embedding table decays", "1 个嵌入表被衰减"),
            Words("Rows of rare tokens shrink at every step.", "罕见词的行每一步都在缩小。"),
            same("no_decay=['wte.weight']"),
            (names[0],), (0,),
        ),
    )  # fmt: skip
    groups = (
        GroupRow(0, 22, 140_000, 1e-3, 1e-3, 0.01, L2),
        GroupRow(1, 3, 576, 5e-4, 1e-3, 0.0, replace(L2, decay="none", evidence="λ is 0")),
    )
    return AuditReport(
        "torch.optim.adam.Adam",
        Plan(STEPS, 100),
        groups,
        rows,
        findings,
        (_trajectory(0, 0.01), _trajectory(1, 0.0)),
        _ledger(rows),
        {"adamantine": "0.1.0", "torch": "2.13.0"},
    )


@pytest.fixture(scope="session")
def clean(faulty: AuditReport) -> AuditReport:
    """AdamW where everything is as it should be, before training, length unknown."""
    rows = tuple(
        replace(r, group=0 if r.should_decay else 1, decays=r.should_decay, total_shrink=None, epochs=None)
        for r in faulty.parameters
    )
    groups = (
        GroupRow(0, 7, 74_000, 1e-3, 1e-3, 0.01, DECOUPLED),
        GroupRow(1, 19, 66_000, 1e-3, 1e-3, 0.0, replace(DECOUPLED, decay="none", shrink=0.0)),
    )
    return AuditReport("torch.optim.adamw.AdamW", Plan(), groups, rows, ())
