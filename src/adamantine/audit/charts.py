"""The audit page's figures, as SVG whose words are text of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from adamantine.audit.model import AuditReport, Distortion, Trajectory
from adamantine.audit.written import one, percent
from adamantine.report.markup import drawing, element, path
from adamantine.report.numbers import printable
from adamantine.report.phrases import fill, joined
from adamantine.report.theme import Stroke, stroke
from adamantine.report.ticks import Scale, label
from adamantine.report.words import Language, Words

_WIDTH = 340.0  # of every figure, in units of the page's small letters
_ROW = 34.0  # of `pairs`
_LETTERS = 44  # of a name above its row


@dataclass(frozen=True)
class Curve:
    """Groups whose schedule is the same, as one line."""

    name: str
    look: Stroke
    line: Trajectory


@dataclass(frozen=True)
class Pair:
    """Two values of one parameter, on one axis."""

    name: str
    first: float
    second: float


FIRST, SECOND = stroke(1), stroke(0)


def curves(report: AuditReport, language: Language) -> list[Curve]:
    """One per schedule that differs from the others, in the order of the groups."""
    alike: dict[tuple[object, ...], list[Trajectory]] = {}
    for line in report.trajectories:
        if line.steps:
            alike.setdefault((line.steps, line.lr, line.kept), []).append(line)
    named = Words("group {n}", "第 {n} 组")
    return [
        Curve(fill(named, n=_ranges([t.group for t in lines])).of(language), stroke(i), lines[0])
        for i, lines in enumerate(alike.values())
    ]


def _ranges(numbers: list[int]) -> str:
    return f"{numbers[0]}–{numbers[-1]}" if len(numbers) > 3 else ", ".join(map(str, numbers))


def kept_chart(lines: Sequence[Curve], language: Language) -> Markup:
    """What decay leaves of a weight without gradient, in percent, over the steps of the run."""
    alt = joined(
        [
            fill(
                Words("{name}: {left} left at the end", "{name}：最终剩余 {left}"),
                name=c.name,
                left=percent(c.line.kept[-1]),
            )
            for c in lines
        ],
        Words(". ", "；"),
    )
    y = Scale(0.0, 105.0, 214.0, 10.0)
    values = [[100 * k for k in c.line.kept] for c in lines]
    return _over_steps(lines, values, y, 250.0, alt.of(language), language)


def lr_chart(lines: Sequence[Curve], language: Language) -> Markup:
    """The learning rate over the steps of the run."""
    values = [list(c.line.lr) for c in lines]
    every = [v for line in values for v in line]
    alt = fill(
        Words("Learning rate from {low} to {high}", "学习率，从 {low} 到 {high}"),
        low=one(min(every)),
        high=one(max(every)),
    )
    y = Scale(0.0, max(every) * 1.05 or 1.0, 214.0, 10.0)
    return _over_steps(lines, values, y, 250.0, alt.of(language), language)


def _over_steps(
    lines: Sequence[Curve], values: list[list[float]], y: Scale, height: float, alt: str, language: Language
) -> Markup:
    left, right, bottom = 46.0, 18.0, y.start
    last = max(c.line.steps[-1] for c in lines) or 1
    x = Scale(0.0, float(last), left, _WIDTH - right)
    content = [
        _grid(y, left),
        *_labels_of_y(y.ticks(6), y, left),
        *_labels_of_x([t for t in x.ticks(5) if t == int(t)], x, bottom),
        _name_of_x(Words("step", "步").of(language), left, height),
    ]
    for curve, drawn in zip(lines, values, strict=True):
        points = [(x(s), y(v)) for s, v in zip(curve.line.steps, drawn, strict=True)]
        content.append(_line(points, curve.look))
        if len(lines) > 1:  # as in the legend; on a single line a mark looks like an event
            x_middle, y_middle = points[len(points) // 2]
            content.append(
                element(
                    "path",
                    d=curve.look.marker_path,
                    fill=curve.look.colour,
                    transform=f"translate({x_middle:.1f} {y_middle:.1f})",
                    class_="mark",
                )
            )
    return drawing(_WIDTH, height, printable(alt), content)


def distortion_chart(distortion: Distortion, language: Language) -> Markup:
    """Effective decay of single weights against the size of their gradients, on two logarithmic axes."""
    height, left, right, top, bottom = 298.0, 56.0, 18.0, 30.0, 240.0
    bins = [
        (g, e, lo, hi)
        for g, e, lo, hi in zip(
            distortion.gradient, distortion.effective, distortion.low, distortion.high, strict=True
        )
        if 0 < g < math.inf and 0 < e < math.inf
    ]
    floor = min(e for _, e, _, _ in bins) / 30  # what lies below, 0 too, is drawn on the rim
    nominal = distortion.nominal if distortion.nominal and distortion.nominal > 0 else None
    heights = [_at_least(floor, v) for _, e, lo, hi in bins for v in (e, lo, hi)] + (
        [nominal] if nominal else []
    )
    x = _decades([g for g, *_ in bins], left + 6, _WIDTH - right)
    y = _decades(heights, bottom, top)
    look = stroke(1)
    upper = [(x(g), y(_at_least(floor, hi))) for g, _, _, hi in bins]
    lower = [(x(g), y(_at_least(floor, lo))) for g, _, lo, _ in bins]
    content = [
        _grid(y, left),
        *_labels_of_y(y.ticks(6), y, left),
        element(
            "text",
            Words("fraction of the weight removed per step", "每步去掉的权重比例").of(language),
            x=0.0,
            y=14.0,
            class_="axis name",
        ),
        *_labels_of_x(x.ticks(5), x, bottom),
        _name_of_x(
            Words("size of a weight's gradient (RMS)", "权重的梯度大小（均方根）").of(language),
            left,
            height - 18,
        ),
        element("path", d=f"{path([*upper, *reversed(lower)])}Z", fill=look.colour, fill_opacity="0.2"),
        _line([(x(g), y(e)) for g, e, _, _ in bins], look),
        *(
            element(
                "path",
                d=look.marker_path,
                fill=look.colour,
                class_="mark",
                transform=f"translate({x(g):.1f} {y(e):.1f}) scale(.8)",
            )
            for g, e, _, _ in bins
        ),
    ]
    if nominal:
        content += [
            element(
                "path",
                d=path([(left, y(nominal)), (_WIDTH - right, y(nominal))]),
                class_="nominal",
            ),
            element(
                "text",
                fill(Words("decoupled: η·λ = {value}", "解耦：η·λ = {value}"), value=one(nominal)).of(
                    language
                ),
                x=_WIDTH - right,
                y=y(nominal) - 6,
                text_anchor="end",
                class_="axis",
            ),
        ]
    alt = fill(
        Words(
            "Fraction of a weight removed per step: {first} at gradients of {small}, {last} at {large}",
            "每步衰减掉的权重比例：梯度为 {small} 时 {first}，为 {large} 时 {last}",
        ),
        first=one(bins[0][1]),
        small=one(bins[0][0]),
        last=one(bins[-1][1]),
        large=one(bins[-1][0]),
    )
    return drawing(_WIDTH, height, alt.of(language), content)


def _at_least(floor: float, value: float) -> float:
    """What a diverged run left without a number is drawn on the floor too."""
    return value if floor < value < math.inf else floor


def pairs_chart(pairs: Sequence[Pair], first: str, second: str, unit: str) -> Markup:
    """A row per parameter: two marks on one logarithmic axis, joined; their distance is their ratio."""
    shown = [p for p in pairs if 0 < p.first < math.inf and 0 < p.second < math.inf]
    bottom = 8 + _ROW * len(shown)
    x = _decades([v for p in shown for v in (p.first, p.second)], 10.0, _WIDTH - 10)
    content = [
        element("path", d="".join(path([(x(t), 6), (x(t), bottom)]) for t in x.ticks(6)), class_="lines"),
        *_labels_of_x(x.ticks(6), x, bottom),
        _name_of_x(unit, 0.0, bottom + 36),
    ]
    for row, pair in enumerate(shown):
        y = 26 + _ROW * row
        said = f"{pair.name}: {first} {one(pair.first)}, {second} {one(pair.second)}"
        content.append(
            element(
                "g",
                element("title", printable(said)),
                element("text", _shortened(printable(pair.name)), x=0.0, y=y - 8, class_="small"),
                element("path", d=path([(x(pair.first), y), (x(pair.second), y)]), class_="joint"),
                _mark(x(pair.second), y, SECOND),
                _mark(x(pair.first), y, FIRST),
            )
        )
    alt = "; ".join(f"{p.name}: {one(p.first)}, {one(p.second)}" for p in shown)
    return drawing(_WIDTH, bottom + 40, printable(f"{first}, {second}. {alt}"), content)


def _mark(x: float, y: float, look: Stroke) -> Markup:
    return element(
        "path",
        d=look.marker_path,
        fill=look.colour,
        class_="mark",
        transform=f"translate({x:.1f} {y:.1f}) scale(1.25)",
    )


def _shortened(name: str) -> str:
    """Its end tells more than its beginning.

    >>> _shortened("a" * 30 + ".attention.output.weight")
    '…aaaaaaaaaaaaaaaaaaa.attention.output.weight'
    """
    return name if len(name) <= _LETTERS else f"…{name[1 - _LETTERS :]}"


def _decades(values: Sequence[float], start: float, end: float) -> Scale:
    """A logarithmic axis around the values, never narrower than one decade."""
    low, high = min(values), max(values)
    spare = max((high / low) ** 0.06, math.sqrt(max(10.0 / (high / low), 1.0)))
    return Scale(low / spare, high * spare, start, end, logarithmic=True)


def _line(points: Sequence[tuple[float, float]], look: Stroke) -> Markup:
    return element(
        "path",
        d=path(points),
        fill="none",
        stroke=look.colour,
        stroke_width="2",
        stroke_linejoin="round",
        stroke_dasharray=" ".join(f"{2 * d:g}" for d in look.dash) or None,
    )


def _grid(y: Scale, left: float) -> Markup:
    lines = [path([(left, y(t)), (_WIDTH - 10, y(t))]) for t in y.ticks(6)]
    return element("path", d="".join(lines), class_="lines")


def _labels_of_y(ticks: list[float], y: Scale, left: float) -> list[Markup]:
    return [
        element("text", label(t), x=left - 6, y=y(t) + 4, text_anchor="end", class_="axis") for t in ticks
    ]


def _labels_of_x(ticks: list[float], x: Scale, bottom: float) -> list[Markup]:
    return [
        element("text", label(t), x=x(t), y=bottom + 17, text_anchor="middle", class_="axis") for t in ticks
    ]


def _name_of_x(name: str, left: float, height: float) -> Markup:
    return element(
        "text", name, x=(left + _WIDTH) / 2, y=height - 3, text_anchor="middle", class_="axis name"
    )
