"""Claim 10: lr and λ have to be tuned together; in which coordinates can they be tuned one by one?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adamantine.report.theme import COLOUR_MAP
from adamantine.report.words import Words
from adamantine.study.claims.claim import Claim, Effort, Measurement, Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from adamantine.report.claimfigure import Sheet

#: Octaves of lr, double octaves of λ; each method has its own range of λ: two quantities share that letter.
LRS = (3e-3, 6e-3, 1.2e-2, 2.4e-2, 4.8e-2, 9.6e-2)
DECAYS = {
    "AdamW": (0.01, 0.04, 0.16, 0.64, 2.56, 10.24),
    "Adam": (3e-5, 1.2e-4, 4.8e-4, 1.92e-3, 7.68e-3, 3.072e-2),
}
MODES = {"AdamW": "decoupled", "Adam": "l2"}
TOLERANCE = 0.25  # of a slope
TOGETHER = 72  # cells trained as one batch

PREDICTIONS = (
    Prediction(
        "ridge_adamw",
        Words(
            "AdamW: slope of log γ*(lr) against log lr, γ = ηλ (in torch's λ it is 1 less: −1)",
            "AdamW：log γ*(lr) 对 log lr 的斜率，γ = ηλ（用 torch 的 λ 则小 1，即 −1）",
        ),
        -TOLERANCE,
        TOLERANCE,
        rule="interval",
    ),
    Prediction(
        "ridge_adam_l2",
        Words(
            "Adam + L2: slope of log λ*(lr) against log lr; not AdamW's −1",
            "Adam + L2：log λ*(lr) 对 log lr 的斜率；不同于 AdamW 的 −1",
        ),
        -1 + TOLERANCE,
        rule="interval",
    ),
)


def measure(effort: Effort) -> Measurement:
    """Digits, MLP, cosine: every (lr, λ) with every seed; a slope is S3 of `adamantine.study.separability`.

    Scored on validation and test together: nothing is chosen and then judged here.
    """
    import numpy as np

    from adamantine.study.cell import Cell
    from adamantine.study.ensemble import train
    from adamantine.study.separability import separability
    from adamantine.study.task import Settings
    from adamantine.study.tasks import load

    task = load("digits", Settings())
    seeds = range(effort.of(4, 16, short=2))
    values: dict[str, Any] = {}
    data: dict[str, Any] = {"lrs": list(LRS)}
    for method, decays in DECAYS.items():
        cells = [Cell(method, lr, decay, seed) for lr in LRS for decay in decays for seed in seeds]
        results = []
        for first in range(0, len(cells), TOGETHER):
            results += train(task, cells[first : first + TOGETHER])
        shape = len(LRS), len(decays), len(seeds)
        errors = np.array([(500 * r.validation + 797 * r.test) / 1297 for r in results]).reshape(shape)
        diverged = np.array([r.status == "diverged" for r in results]).reshape(shape)
        own, per_step = separability(method, LRS, decays, errors, diverged, decay=MODES[method])
        ridge, name = (per_step, "ridge_adamw") if method == "AdamW" else (own, "ridge_adam_l2")
        values[name] = [ridge.ridge_slope.value, ridge.ridge_slope.low, ridge.ridge_slope.high]
        data[method] = {
            "decays": list(decays),
            "errors": [[100 * float(x) for x in row] for row in np.nan_to_num(errors, nan=1.0).mean(axis=2)],
            "scores": {
                found.coordinates: {key: [s.value, s.low, s.high] for key, s in found.scores.items()}
                for found in (own, per_step)
            },
            "diverged": int(diverged.sum()),
        }
    return Measurement(values, data)


def draw(measurement: Measurement, sheet: Sheet) -> None:
    """AdamW in both coordinates, Adam + L2 in its λ; the best decay of each lr, and the ridge foretold."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FixedLocator, FuncFormatter

    left, middle, right = sheet.axes(3)
    data = measurement.data
    every = [x for method in DECAYS for row in data[method]["errors"] for x in row if x is not None]
    norm = LogNorm(min(every), min(max(every), 4 * min(every)))
    panels: list[tuple[Axes, str, str, float | None]] = [
        (left, "AdamW", "λ", -1.0),
        (middle, "AdamW", "γ", 0.0),
        (right, "Adam", "λ", None),
    ]
    for ax, method, coordinates, slope in panels:
        image = _map(sheet, ax, data[method], data["lrs"], coordinates, slope, norm)
        name = {"AdamW": "AdamW", "Adam": "Adam + L2"}[method]
        ax.set_title(name, fontsize=10.5)
        ax.set_xlabel(sheet.say("lr", "学习率"))
        ax.set_ylabel({"λ": "λ", "γ": "γ = lr·λ"}[coordinates])
    bar = sheet.figure.colorbar(
        image, ax=[left, middle, right], orientation="horizontal", aspect=50, pad=0.02
    )
    bar.outline.set_visible(False)
    bar.ax.xaxis.set_major_locator(FixedLocator([4, 5, 6, 8, 10, 15, 20]))
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.xaxis.set_minor_locator(FixedLocator([]))
    bar.set_label(
        sheet.say(
            "error (%), worse ones as the last colour; ● best decay of an lr; dotted: predicted ridge",
            "错误率（%），更差的同最末色；● 各学习率下的最优衰减；点线：预测的最优线",
        )
    )


def _map(
    sheet: Sheet,
    ax: Axes,
    grid: dict[str, Any],
    lrs: list[float],
    coordinates: str,
    slope: float | None,
    norm: Any,
) -> Any:
    import numpy as np

    x, y = np.log10(lrs), np.log10(grid["decays"])
    errors = np.array(grid["errors"], np.float64)  # [lr, λ]
    shear = 1.0 if coordinates == "γ" else 0.0
    edges_x, edges_y = (np.append(v, 2 * v[-1] - v[-2]) - (v[1] - v[0]) / 2 for v in (x, y))
    across = np.broadcast_to(edges_x[:, None], (len(edges_x), len(edges_y)))
    image = ax.pcolormesh(
        10**across, 10 ** (edges_y[None, :] + shear * across), errors, norm=norm, cmap=COLOUR_MAP, zorder=1
    )
    best = errors.argmin(axis=1)
    ridge = y[best] + shear * x
    ax.plot(10**x, 10**ridge, linestyle="none", marker="o", markersize=7, color=sheet.theme.surface, zorder=4)
    ax.plot(10**x, 10**ridge, linestyle="none", marker="o", markersize=4.5, color=sheet.theme.ink, zorder=5)
    if slope is not None:
        at = int(errors.min(axis=1).argmin())
        line = 10 ** (ridge[at] + slope * (x - x[at]))
        ax.plot(10**x, line, color=sheet.theme.surface, linewidth=3.2, zorder=2)
        sheet.prediction(ax, 10**x, line, linewidth=2.0, zorder=3)
    ax.grid(visible=False)
    sheet.logarithmic(ax, "x")
    sheet.logarithmic(ax, "y")
    ax.set_xlim(10 ** edges_x[0], 10 ** edges_x[-1])
    ax.set_ylim(10 ** (edges_y[0] + shear * edges_x[0]), 10 ** (edges_y[-1] + shear * edges_x[-1]))
    return image


def finding(measurement: Measurement) -> Words:
    """AdamW's two slopes as they came out."""
    slope = measurement.values["ridge_adamw"][0]
    if slope is None or slope != slope:
        return Words("AdamW's ridge: too flat for a slope", "AdamW 的最优线过于平坦，测不出斜率")
    per_step, own = f"{slope:+.2f}".replace("-", "−"), f"{slope - 1:+.2f}".replace("-", "−")
    return Words(
        f"AdamW's ridge has slope {own} in λ, {per_step} in γ; foretold −1 and 0",
        f"AdamW 最优线的斜率：λ 坐标 {own}，γ 坐标 {per_step}；预测 −1 和 0",
    )


CLAIM = Claim(
    number=10,
    title=Words(
        "AdamW's best decay per step ηλ does not move with lr; Adam + L2 behaves otherwise",
        "AdamW 每步的最优衰减 ηλ 不随学习率移动；Adam + L2 则不同",
    ),
    says=Words(
        "Learning rate and weight decay are a pair that needs careful tuning; AdamW decouples them.",
        "学习率和权重衰减系数是需要仔细调优的一对超参数；AdamW 将两者解耦。",
    ),
    formula="AdamW: d log λ*/d log η = −1,  γ = ηλ: d log γ*/d log η = 0",
    predictions=PREDICTIONS,
    sources=(
        "Loshchilov & Hutter 2019, arXiv 1711.05101, Section 4.1, Figure 2",
        "Wang & Aitchison 2024, arXiv 2405.13698",
    ),
    finding=finding,
    measure=measure,
    draw=draw,
    revised=Words(
        "a grid of half decades of lr, the first, gave a slope of 1.19 in γ and no interval; hence octaves.",
        "最初的学习率网格以半个数量级为步长，γ 坐标下斜率为 1.19，但得不到区间；因此改用倍频程。",
    ),
    seconds=14.0,
)
