"""The figures of what the ledger saw, each with its finding in words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from markupsafe import Markup

from adamantine.audit.charts import FIRST, SECOND, Pair, distortion_chart, pairs_chart
from adamantine.audit.model import Distortion, LayerRow, LedgerReport
from adamantine.audit.view import decay_share
from adamantine.audit.written import many, one
from adamantine.report.numbers import printable
from adamantine.report.phrases import fill, same
from adamantine.report.theme import Stroke
from adamantine.report.words import Language, Words

_ROWS = 10  # of a figure; the table has all


@dataclass(frozen=True)
class Panel:
    """One figure of the page."""

    title: str
    lead: str
    drawing: Markup
    legend: list[tuple[Stroke, str]] = field(default_factory=list)


def panels(ledger: LedgerReport, language: Language) -> list[Panel]:
    """Those for which something was measured."""
    found = []
    if ledger.distortion is not None and _bins(ledger.distortion):
        found.append(_distortion(ledger.distortion, language))
    if decayed := [row for row in ledger.layers if _drawable(row.decay_step, row.gradient_step)]:
        found.append(_steps(decayed, language))
    if balanced := [row for row in ledger.layers if _drawable(row.norm, row.equilibrium or 0.0)]:
        found.append(_norms(balanced, language))
    return found


def _drawable(*values: float) -> bool:
    """Whether all have a place on a logarithmic axis; what a diverged run leaves has none."""
    return all(0 < value < math.inf for value in values)


def _bins(seen: Distortion) -> list[tuple[float, float]]:
    return [(g, e) for g, e in zip(seen.gradient, seen.effective, strict=True) if _drawable(g, e)]


def _distortion(seen: Distortion, language: Language) -> Panel:
    """The article's claim on this network."""
    bins = _bins(seen)
    strongest, weakest = max(e for _, e in bins), min(e for _, e in bins)
    spread = strongest / weakest
    if spread < 2:
        title = Words("All weights decay alike", "所有权重衰减得一样快")
        lead = Words(
            "Per step, decay removes {most} of a weight, however large its gradients.",
            "无论梯度多大，每步都去掉权重的 {most}。",
        )
    else:
        title = Words("Decay differs {times}‑fold between weights", "不同权重的衰减相差 {times} 倍")
        lead = Words(
            "Per step, decay removes {least} to {most} of a weight, depending on the size of its gradients."
            " Line: the median; band: four of five weights.",
            "每步去掉权重的 {least} 至 {most}，取决于它的梯度大小。线：中位数；带：五分之四的权重。",
        )
    parts = {"times": many(float(f"{spread:.2g}")), "least": one(weakest), "most": one(strongest)}
    return Panel(
        fill(title, **parts).of(language), fill(lead, **parts).of(language), distortion_chart(seen, language)
    )


def _steps(rows: list[LayerRow], language: Language) -> Panel:
    rows = sorted(rows, key=decay_share, reverse=True)
    strongest = rows[0]
    lead = fill(
        Words(
            "RMS of the two parts of a step. Decay is strongest against the gradient in {name}:"
            " {share} of it.{more}",
            "一步的两个部分的均方根。相对梯度，衰减最强的是 {name}：为其 {share}。{more}",
        ),
        name=printable(strongest.name),
        share=_share(decay_share(strongest)),
        more=_left_out(len(rows)),
    )
    first, second = Words("decay", "衰减").of(language), Words("gradient", "梯度").of(language)
    pairs = [Pair(row.name, row.decay_step, row.gradient_step) for row in rows[:_ROWS]]
    unit = Words("size of the step, in units of the weights", "步长，以权重的单位计").of(language)
    return Panel(
        Words("Decay's part of the step, and the gradient's", "步长中衰减与梯度各占多少").of(language),
        lead.of(language),
        pairs_chart(pairs, first, second, unit),
        [(FIRST, first), (SECOND, second)],
    )


def _norms(rows: list[LayerRow], language: Language) -> Panel:
    def distance(row: LayerRow) -> float:
        ratio = row.norm / (row.equilibrium or row.norm)
        return max(ratio, 1 / ratio)

    rows = sorted(rows, key=distance, reverse=True)
    lead = fill(
        Words(
            "Where decay and gradient steps would balance, next to where the norm is. Farthest apart:"
            " {name}.{more}",
            "衰减与梯度步长相互平衡时的范数，与现在的范数。相差最远：{name}。{more}",
        ),
        name=printable(rows[0].name),
        more=_left_out(len(rows)),
    )
    first, second = Words("now", "现在").of(language), Words("at equilibrium", "平衡时").of(language)
    pairs = [Pair(row.name, row.norm, row.equilibrium or row.norm) for row in rows[:_ROWS]]
    return Panel(
        Words("How far the weights are from their equilibrium", "权重离平衡还有多远").of(language),
        lead.of(language),
        pairs_chart(pairs, first, second, Words("norm ‖θ‖", "范数 ‖θ‖").of(language)),
        [(FIRST, first), (SECOND, second)],
    )


def _share(ratio: float) -> str:
    return f"{100 * ratio:.3g} %" if ratio < 10 else f"{ratio:.3g} ×"


def _left_out(rows: int) -> Words:
    if rows <= _ROWS:
        return same("")
    return fill(
        Words(" {shown} of {rows} shown.", "图中为 {rows} 个中的 {shown} 个。"),
        shown=str(_ROWS),
        rows=str(rows),
    )
