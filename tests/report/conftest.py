"""Synthetic comparisons: shaped like a real run, computed from a made-up error surface."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from adamantine.report import Comparison, Curves, Difference, Estimate, MethodGrid
from adamantine.report.claimmodel import CheckedPrediction, ClaimResult, Status
from adamantine.report.page import page
from adamantine.report.separability_model import Coordinates, Score, Separability
from adamantine.report.words import Words

# 97.5 % quantiles of Student's t by degrees of freedom, from any table.
_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}

BASIN_RULE = Words(
    "A setting is in the basin when its mean validation score is at most 20 % above the best one's.",
    "验证得分的均值最多比最佳设置高 20 % 的设置属于盆地。",
)
MANIFEST = {
    "command": "adamantine compare --task digits --seeds 3 --out runs/digits",
    "configuration": {"task": "digits", "epochs": 30, "batch_size": 64, "schedule": "cosine"},
    "versions": {"adamantine": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "numpy": "2.4.6"},
    "seeds": [0, 1, 2],
    "machine": {"cpu": "x86_64", "cores": 2, "system": "Linux"},
}


def estimate(values: np.ndarray) -> Estimate:
    """Mean, spread and Student-t interval, as the analysis computes them."""
    n = int(values.size)
    if n == 1:
        return Estimate(float(values[0]), math.nan, math.nan, math.nan, 1)
    std = float(values.std(ddof=1))
    half = _T[n - 1] * std / math.sqrt(n)
    mean = float(values.mean())
    return Estimate(mean, std, mean - half, mean + half, n)


def _curves(rng: np.random.Generator, floor: float, chance: float, loss: float, seeds: int) -> Curves:
    epoch = np.arange(1.0, 31.0)
    fall = np.exp(-epoch / rng.uniform(2.5, 5.0) / rng.uniform(0.85, 1.15, (seeds, 1)))
    noise = 1 + 0.08 * rng.standard_normal((3, seeds, epoch.size))
    return Curves(
        epoch=epoch,
        train_loss=(loss * fall + 0.01 * loss * np.exp(-epoch / 12.0)) * noise[0],
        validation=(floor + (chance - floor) * fall) * noise[1],
        norm=(18.0 + 9.0 * rng.uniform(-1, 1) * (1 - np.exp(-epoch / 7.0))) * (1 + 0.1 * (noise[2] - 1)),
    )


def grid(
    name: str = "AdamW",
    *,
    decay: str = "decoupled",
    lrs: np.ndarray | None = None,
    weight_decays: np.ndarray | None = None,
    seeds: int = 3,
    floor: float = 0.019,
    chance: float = 0.9,
    loss: float = 2.3,
    centre: tuple[float, float] = (-2.4, -1.0),
    tilt: float = 0.0,
    max_lr: float = 0.05,
    rng_seed: int = 0,
) -> MethodGrid:
    """One method's grid: a valley around ``centre`` (log10 lr, log10 λ), diverged beyond ``max_lr``."""
    rng = np.random.default_rng(rng_seed)
    lrs = np.logspace(-4, -1, 7) if lrs is None else lrs
    weight_decays = np.concatenate([[0.0], np.logspace(-3, 1, 8)]) if weight_decays is None else weight_decays
    x = np.log10(lrs)[:, None] - centre[0]
    y = np.where(weight_decays > 0, np.log10(np.maximum(weight_decays, 1e-30)), -6.0)[None, :] - centre[1]
    y = np.clip(y, -1.6, None)
    height = 0.9 * x**2 + 0.12 * y**2 * (1 + (y > 0) * 4) + tilt * x * np.clip(y, -1, 1)
    base = np.minimum(floor * np.exp(height), chance)
    shape = (*base.shape, seeds)
    validation = np.round(base[..., None] * (1 + 0.05 * rng.standard_normal(shape)) * 2000) / 2000
    test = np.round(base[..., None] * (1.08 + 0.05 * rng.standard_normal(shape)) * 2000) / 2000
    diverged = np.broadcast_to((lrs > max_lr)[:, None, None], shape).copy()
    near = (lrs[:, None] * np.maximum(weight_decays, 1e-3)[None, :] > 0.08) & (lrs[:, None] > max_lr / 4)
    diverged[..., 0] |= near
    validation[diverged] = np.nan
    test[diverged] = np.nan
    means = validation.mean(axis=2)
    if np.isnan(means).all():
        return MethodGrid(
            name=name,
            spec=name,
            decay=decay,
            lrs=tuple(lrs.tolist()),
            weight_decays=tuple(weight_decays.tolist()),
            seeds=tuple(range(seeds)),
            validation=validation,
            test=test,
            diverged=diverged,
            best=None,
            at_best=None,
            edges=(),
            basin=np.zeros(means.shape, bool),
            curves=None,
        )
    flat = int(np.nanargmin(means))
    best = (flat // means.shape[1], flat % means.shape[1])
    edges = []
    if best[0] in (0, len(lrs) - 1):
        edges.append("lr low" if best[0] == 0 else "lr high")
    if best[1] in (0, len(weight_decays) - 1):
        edges.append("weight_decay low" if best[1] == 0 else "weight_decay high")
    return MethodGrid(
        name=name,
        spec=name,
        decay=decay,
        lrs=tuple(lrs.tolist()),
        weight_decays=tuple(weight_decays.tolist()),
        seeds=tuple(range(seeds)),
        validation=validation,
        test=test,
        diverged=diverged,
        best=best,
        at_best=estimate(test[best]),
        edges=tuple(edges),
        basin=np.nan_to_num(means, nan=np.inf) <= 1.2 * means[best],
        curves=_curves(rng, floor, chance, loss, seeds),
    )


def compare(*methods: MethodGrid, unit: str = "%", **changes: object) -> Comparison:
    """A comparison of the methods, with every pair's difference at their best settings."""
    running = [m for m in methods if m.best is not None]
    differences = []
    for place, a in enumerate(running):
        for b in running[place + 1 :]:
            e = estimate(a.test[a.best] - b.test[b.best])
            verdict = "not decided"
            if e.high < 0 or e.low > 0:
                verdict = f"{a.name if e.high < 0 else b.name} is better"
            differences.append(Difference(a.name, b.name, e, verdict))
    base = Comparison(
        task="digits" if unit == "%" else "text",
        task_title="handwritten digits (8 x 8), MLP 64-128-10"
        if unit == "%"
        else "characters of a text, Transformer with 2 layers",
        score_name="error" if unit == "%" else "loss",
        score_unit=unit,
        methods=methods,
        differences=tuple(differences),
        answer=Words(
            "AdamW makes the fewest test errors at its own best setting: 2.1 %, 0.4 percentage points "
            "below Adam + L2, where the seeds of one method differ by 0.1.",
            "AdamW 在自己的最佳设置下测试错误最少：2.1 %，比 Adam + L2 低 0.4 个百分点，种子之间相差 0.1。",
        ),
        advice=(
            Words(
                "Use AdamW with learning rate 3e-3 and weight decay 0.1; anything in its basin is as good.",
                "AdamW 请用学习率 3e-3、权重衰减 0.1；盆地里的任何设置都同样好。",
            ),
            Words(
                "SGD + momentum is best on the edge of its grid (lr high): grow the grid before trusting it.",
                "SGD + momentum 的最佳设置在网格边缘（学习率最高处）：请先扩大网格，再相信它。",
            ),
        ),
        basin_rule=BASIN_RULE,
        manifest=MANIFEST,
    )
    return replace(base, **changes)


def typical() -> Comparison:
    """What a default run looks like, with diverged settings and one optimum on the edge."""
    return compare(
        grid(
            "SGD + momentum",
            decay="l2",
            lrs=np.logspace(-3, -0.5, 6),
            weight_decays=np.concatenate([[0.0], np.logspace(-5, -2, 7)]),
            centre=(-0.3, -3.5),
            floor=0.024,
            max_lr=1.0,
            rng_seed=1,
        ),
        grid(
            "Adam + L2",
            decay="l2",
            weight_decays=np.concatenate([[0.0], 1e-3 * 2.0 ** np.arange(-5, 3)]),
            centre=(-2.5, -4.0),
            floor=0.0235,
            tilt=0.5,
            rng_seed=2,
        ),
        grid("AdamW", rng_seed=3),
    )


def _score(value: float, low: float, high: float, en: str = "", zh: str = "") -> Score:
    return Score(value, low, high, Words(en, zh))


def complete() -> Comparison:
    """Everything that a page can show of a comparison."""
    made = typical()
    nan, flat = math.nan, ("the best settings fit no bowl", "最好的设置拟合不出碗形")
    scores = [
        _score(0.89, 0.81, 0.97),
        _score(nan, nan, nan, *flat),
        _score(-0.85, -1.1, -0.6),
        _score(0.03, 0.0, 0.17, "3.5% above the best", "比最优值高 3.5%"),
        _score(0.52, -0.25, 1.0),
    ]
    separability = tuple(
        Separability(m.name, coordinates, *scores, settings=56, clipped=3, seeds=3)
        for m in made.methods
        for coordinates in get_args(Coordinates)
    )
    specs = {"SGD + momentum": "SGD(momentum=0.9)", "Adam + L2": "Adam", "AdamW": "AdamW"}
    methods = tuple(replace(m, spec=specs[m.name]) for m in made.methods)
    return replace(made, methods=methods, separability=separability, steps_per_epoch=10)


def claim(number: int, verdict: str, figure: str = "") -> ClaimResult:
    """One claim of the article with two predictions."""
    status: Status = "refuted" if verdict == "refuted" else "holds"
    predictions = (
        CheckedPrediction(Words("slope of AdamW", "AdamW 的斜率"), "0 ± 0.05", "0.001", "holds"),
        CheckedPrediction(Words("slope of Adam + L2", "Adam + L2 的斜率"), "0.5 ± 0.05", "0.47", status),
    )
    return ClaimResult(
        number,
        Words(f"Claim number {number}", f"第 {number} 条论断"),
        Words("Decay is uniform.", "收缩力是一致的。") if number != 4 else Words("–", "–"),
        "r = √(ησ/2λ)",
        ("arXiv 2305.17212",),
        () if verdict == "error" else predictions,
        verdict,
        figure=figure,
        error="RuntimeError: broken" if verdict == "error" else "",
    )


@pytest.fixture(scope="session")
def claims() -> list[ClaimResult]:
    """One of each verdict, the first with a figure."""
    figure = (
        '<svg role="img" aria-label="a figure whose words say what it shows" viewBox="0 0 40 20">'
        '<path d="M0 0L40 20" stroke="var(--ink)"/></svg>'
    )
    verdicts = {1: "holds", 4: "refuted", 7: "not decided", 9: "error"}
    return [claim(number, verdict, figure if number == 1 else "") for number, verdict in verdicts.items()]


@pytest.fixture(scope="session", name="complete")
def _complete() -> Comparison:
    """Everything that a page can show of a comparison."""
    return complete()


def extreme() -> Comparison:
    """Long and odd names, no setting that converges, one seed's worth of spread, a score in nats."""
    nats = {"floor": 1.48, "chance": 4.2, "loss": 4.0}
    ours = grid("AdamW", rng_seed=3, **nats)
    return compare(
        ours,
        grid(
            "A method whose name goes on and on, with_an_unbreakable_part_of_forty_letters, to the end",
            **nats,
        ),
        grid("Lion", max_lr=0.0, **nats),
        grid("RAdam", rng_seed=5, centre=(-5.5, 2.5), **nats),
        replace(grid("NAdam", rng_seed=6, **nats), decay="", spec="torch.optim:NAdam(eps=1e-6)"),
        grid("SGD without decay", decay="none", weight_decays=np.array([0.0]), centre=(-1.0, 0), **nats),
        grid("自适应 <b>$x^2$", rng_seed=8, lrs=np.array([1e-3]), **nats),
        unit="nats/character",
    )


def one_seed() -> Comparison:
    """One seed: no spread, no interval, nothing decided."""
    made = compare(grid("Adam + L2", decay="l2", seeds=1), grid("AdamW", seeds=1, rng_seed=4))
    return replace(
        made,
        answer=Words(
            "One seed cannot decide: AdamW and Adam + L2 differ by 0.1 percentage points.",
            "一个种子无法判定：AdamW 与 Adam + L2 相差 0.1 个百分点。",
        ),
    )


_MADE = {"typical": typical, "extreme": extreme, "one seed": one_seed}


@pytest.fixture(params=list(_MADE), scope="session")
def comparison(request: pytest.FixtureRequest) -> Comparison:
    """Each synthetic comparison in turn."""
    return _MADE[request.param]()


@pytest.fixture(scope="session")
def html(comparison: Comparison) -> str:
    """The page of `comparison`."""
    return page(comparison)


@pytest.fixture
def make() -> Callable[..., Comparison]:
    """``make(grid("AdamW"), ...)``: a comparison of one's own."""
    return compare


@pytest.fixture
def make_grid() -> Callable[..., MethodGrid]:
    """One method's grid, see `grid`."""
    return grid


@pytest.fixture(scope="session", name="extreme")
def _extreme() -> Comparison:
    """Odd names, nothing converged, one learning rate, a score in nats."""
    return extreme()


@pytest.fixture(scope="session")
def usual() -> Comparison:
    """What a default run looks like."""
    return typical()


@pytest.fixture(scope="session")
def usual_html(usual: Comparison) -> str:
    """The page of `usual`."""
    return page(usual)


@pytest.fixture(scope="session")
def small() -> Comparison:
    """Two methods on tiny grids: everything that a report has, quickly drawn."""
    size = {"lrs": np.array([1e-3, 1e-2]), "weight_decays": np.array([0.0, 0.1])}
    return compare(grid("Adam + L2", **size), grid("AdamW", **size, rng_seed=4))
