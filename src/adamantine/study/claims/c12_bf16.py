"""Claim 12: in pure bfloat16 weights, decay below ηλ = 2⁻⁹ is lost to rounding; there are three rescues."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from adamantine.report.words import Words
from adamantine.study.claims._looks import ADAM_L2, ADAMW, OTHERS
from adamantine.study.claims.claim import Claim, Effort, Measurement, Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from adamantine.report.claimfigure import Sheet

#: A bfloat16 has 8 significant bits: θ(1−ηλ) rounds back to every θ when ηλ < 2⁻⁹, to none when ηλ > 2⁻⁸.
THRESHOLD = -9
EXPONENTS = tuple(range(-14, -4))  # of ηλ
LR = 2.0**-10  # then λ = ηλ/η: a power of two as well, so that nothing is rounded but the weight
RESCUED = 0.02  # by how much a rescued decay may miss the exact one

PREDICTIONS = (
    Prediction(
        "lost_ours",
        Words(
            "adamantine.torch.AdamW, weights in bf16: largest share of the decay applied, ηλ < 2⁻⁹",
            "adamantine.torch.AdamW，bf16 权重：ηλ < 2⁻⁹ 时实际执行的衰减所占比例（最大值）",
        ),
        0.0,
        0.0,
    ),
    Prediction(
        "lost_torch",
        Words("the same of torch.optim.AdamW", "torch.optim.AdamW 的同一比例"),
        0.0,
        0.0,
    ),
    Prediction(
        "felt",
        Words(
            "control: smallest share, of both, for ηλ ≥ 2⁻⁸",
            "对照：ηλ ≥ 2⁻⁸ 时两者执行比例的最小值",
        ),
        0.5,
    ),
    *(
        Prediction(
            name,
            Words(
                f"{en}: largest error of the share, all ηλ from 2⁻¹⁴",
                f"{zh}：从 2⁻¹⁴ 起所有 ηλ 上执行比例的最大误差",
            ),
            0.0,
            RESCUED,
        )
        for name, en, zh in (
            ("master", "float32 master weights", "float32 主权重"),
            ("compensation", "compensated summation", "补偿求和"),
            ("stochastic", "stochastic rounding", "随机舍入"),
        )
    ),
)


def measure(effort: Effort) -> Measurement:
    """Weights that no gradient moves, log-uniform over a binade: how much of (1−ηλ)ᵗ happens to their mean.

    The share is ln(mean θ_T/mean θ₀)/(T·ln(1−ηλ)): 0 where nothing happens, 1 where all of it does.
    """
    import torch

    weights = effort.of(4096, 65_536, short=1024)
    steps = effort.of(512, 4096, short=128)
    start = torch.exp2(torch.arange(weights) / weights).bfloat16()
    shares = {name: [_share(run, start, 2.0**k, steps) for k in EXPONENTS] for name, run in _runs().items()}
    lost = [place for place, k in enumerate(EXPONENTS) if k < THRESHOLD]
    felt = [place for place, k in enumerate(EXPONENTS) if k > THRESHOLD]
    values = {
        "lost_ours": max(shares["ours"][place] for place in lost),
        "lost_torch": max(shares["torch"][place] for place in lost),
        "felt": min(shares[name][place] for name in ("ours", "torch") for place in felt),
    }
    for name in ("master", "compensation", "stochastic"):
        values[name] = max(abs(share - 1) for share in shares[name])
    return Measurement(values, {"exponents": list(EXPONENTS), "shares": shares, "steps": steps})


Run = Callable[["Tensor", float, int], "Tensor"]  # weights, ηλ, steps → weights, any dtype


def _share(run: Run, start: Tensor, rate: float, steps: int) -> float:
    end = run(start.clone(), rate, steps).double().mean()
    return float((end / start.double().mean()).log()) / (steps * math.log1p(-rate)) + 0.0


def _runs() -> dict[str, Run]:
    import torch
    from torch import nn

    from adamantine.torch import AdamW

    def optimized(optimizer: type[torch.optim.Optimizer]) -> Run:
        def run(theta: Tensor, rate: float, steps: int) -> Tensor:
            weight = nn.Parameter(theta)
            weight.grad = torch.zeros_like(weight)
            groups = [{"params": [weight], "lr": LR, "weight_decay": rate / LR}]
            stepper = optimizer(groups)  # type: ignore[call-arg]
            for _ in range(steps):
                stepper.step()
            return weight.detach()

        return run

    def master(theta: Tensor, rate: float, steps: int) -> Tensor:
        exact = theta.float()
        for _ in range(steps):
            exact *= 1 - rate
            theta = exact.bfloat16()
        return theta

    def compensation(theta: Tensor, rate: float, steps: int) -> Tensor:
        lost = torch.zeros_like(theta)  # what rounding has taken from θ so far, itself in bf16 (Kahan)
        for _ in range(steps):
            move = lost.float() - rate * theta.float()
            new = (theta.float() + move).bfloat16()
            lost = (move - (new.float() - theta.float())).bfloat16()
            theta = new
        return theta

    def stochastic(theta: Tensor, rate: float, steps: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        for _ in range(steps):
            theta = round_stochastically(theta.float() * (1 - rate), generator)
        return theta

    return {
        "ours": optimized(AdamW),
        "torch": optimized(torch.optim.AdamW),
        "master": master,
        "compensation": compensation,
        "stochastic": stochastic,
    }


def round_stochastically(x: Tensor, generator: object = None) -> Tensor:
    """float32 to one of the two neighbouring bfloat16, up with the probability of the part cut off."""
    import torch

    assert generator is None or isinstance(generator, torch.Generator)
    dither = torch.randint(0, 2**16, x.shape, dtype=torch.int32, generator=generator)
    bits = (x.view(torch.int32) + dither) & ~0xFFFF  # a bfloat16 is the upper half of a float32
    return bits.view(torch.float32).bfloat16()


def draw(measurement: Measurement, sheet: Sheet) -> None:
    """Share of the decay that happens, over ηλ."""
    (ax,) = sheet.axes()
    data = measurement.data
    rates = [2.0**k for k in data["exponents"]]
    edge = 2.0**THRESHOLD
    plain = {
        "ours": ("adamantine AdamW, bf16", "adamantine AdamW，bf16", ADAMW, 13.0),
        "torch": ("torch AdamW, bf16", "torch AdamW，bf16", ADAM_L2, 6.5),
    }
    rescued = {
        "master": ("float32 master weights", "float32 主权重", OTHERS[0], 13.0),
        "compensation": ("compensated summation", "补偿求和", OTHERS[1], 9.0),
        "stochastic": ("stochastic rounding", "随机舍入", OTHERS[2], 5.0),
    }
    sheet.prediction(ax, [rates[0], edge, edge], [0, 0, 1])
    sheet.prediction(ax, [rates[0], rates[-1]], [1, 1])
    for name, (en, zh, look, size) in {**plain, **rescued}.items():
        shares = data["shares"][name]
        sheet.line(ax, rates, shares, look, linewidth=1.0)
        sheet.points(ax, rates, shares, look, label=sheet.say(en, zh), markersize=size)
    sheet.logarithmic(ax, "x", base=2, most=len(rates))
    ax.set_ylim(-0.12, None)
    ax.set_xlabel(sheet.say("decay per step, ηλ", "每步衰减 ηλ"))
    ax.set_ylabel(sheet.say("share of the decay that happens", "实际执行的衰减比例"))
    sheet.write(ax, edge, 0.2, "2⁻⁹", offset=(-5, 0), ha="right")
    sheet.legend(ax, loc="center left", bbox_to_anchor=(0.02, 0.45))


CLAIM = Claim(
    number=12,
    title=Words(
        "In pure bf16 weights, decay below ηλ = 2⁻⁹ does not happen",
        "纯 bf16 权重中，ηλ 低于 2⁻⁹ 的衰减根本不会发生",
    ),
    says=Words("–", "–"),
    formula="round₈(θ·(1 − ηλ)) = θ  for ηλ < 2⁻⁹",
    predictions=PREDICTIONS,
    sources=(
        "IEEE 754 round to nearest, 8 significant bits",
        "Kahan 1965",
        "Zamirai et al. 2020, arXiv 2010.06192",
    ),
    finding=Words(
        "bf16 weights ignore decay below ηλ = 2⁻⁹; three rescues exist",
        "bf16 权重会丢掉低于 2⁻⁹ 的衰减；三种补救办法都能恢复它",
    ),
    measure=measure,
    draw=draw,
    seconds=3.0,
)
