"""The page's charts of test scores and of training, as SVG whose words are text of the page."""

from __future__ import annotations

import itertools
import math
import unicodedata

import numpy as np
from markupsafe import Markup

from adamantine.report.curves import EPOCHS, Line, Quantity
from adamantine.report.markup import drawing, element, path
from adamantine.report.model import Comparison, MethodGrid
from adamantine.report.numbers import Scores, printable, setting
from adamantine.report.phrases import counted, fill, joined, same, scores_of
from adamantine.report.testscores import SCORE_AXIS, nothing, seed_scores
from adamantine.report.theme import stroke
from adamantine.report.ticks import Scale, label
from adamantine.report.words import Language, Words

_MARKERS = 6  # per curve
_ROW = 56.0  # of the chart of test scores
_LETTER = 8.4  # width of a letter of such a row; of a Chinese one, twice that at most


def scores_chart(comparison: Comparison, order: list[int], language: Language) -> Markup:
    """One row per method, best on top: the seeds, their mean and its confidence interval."""
    scores = scores_of(comparison, language)
    methods = [comparison.methods[i] for i in order]
    width, bottom = 390.0, 10 + _ROW * len(methods)
    values = [v for m in methods for v in (*seed_scores(m), *_limits(m, scores)) if math.isfinite(v)]
    shown = [v * scores.scale for v in values] or [0.0, 1.0]
    spare = (max(shown) - min(shown)) * 0.04 or abs(max(shown)) * 0.05 or 1.0
    scale = Scale(min(shown) - spare, max(shown) + spare, 12, width - 12)
    content = [
        element(
            "path",
            d="".join(path([(scale(t), 14), (scale(t), bottom)]) for t in scale.ticks(7)),
            class_="lines",
        ),
        element(
            "g",
            *(
                element("text", label(t), x=scale(t), y=bottom + 17, text_anchor="middle")
                for t in scale.ticks(7)
            ),
            class_="axis",
        ),
        element(
            "text",
            SCORE_AXIS.of(language).format(score=scores.label),
            x=width / 2,
            y=bottom + 36,
            text_anchor="middle",
            class_="axis name",
        ),
    ]
    for row, (place, method) in enumerate(zip(order, methods, strict=True)):
        y = 44 + _ROW * row
        said = nothing(method).of(language) if method.at_best is None else scores.mean(method.at_best)
        name = _shortened(printable(method.name), width - _LETTER * len(said))
        content += [
            element("text", name, x=0.0, y=y - 18, class_="row"),
            element("text", said, x=width, y=y - 18, class_="value"),
        ]
        content += _row(method, place, y, scale, scores)
    return drawing(width, bottom + 42, _scores_alt(comparison, language), content)


def _shortened(name: str, room: float) -> str:
    """As much of it as there is room for.

    >>> _shortened("AdamW", 100.0), _shortened("a method with a long name", 100.0)
    ('AdamW', 'a method w…')
    """
    width = 0.0
    for place, letter in enumerate(name):
        width += _LETTER * (2 if unicodedata.east_asian_width(letter) in "WF" else 1)
        if width > room and place:
            return f"{name[: place - 1]}…"
    return name


def _limits(method: MethodGrid, scores: Scores) -> tuple[float, float]:
    """Of the interval, NaN where there is none."""
    return (math.nan, math.nan) if method.at_best is None else scores.limits(method.at_best)


def _row(method: MethodGrid, place: int, y: float, scale: Scale, scores: Scores) -> list[Markup]:
    if method.at_best is None or not math.isfinite(method.at_best.mean):
        return []
    factor = scores.scale
    look, (low, high) = stroke(place), _limits(method, scores)
    drawn = []
    if math.isfinite(low + high):
        a, b = scale(low * factor), scale(high * factor)
        bar = f"{path([(a, y), (b, y)])}{path([(a, y - 6), (a, y + 6)])}{path([(b, y - 6), (b, y + 6)])}"
        drawn.append(element("path", d=bar, stroke=look.colour, stroke_width="2.4", fill="none"))
    at = scale(method.at_best.mean * factor)
    drawn.append(
        element(
            "path",
            d=look.marker_path,
            fill=look.colour,
            class_="mark",
            transform=f"translate({at:.1f} {y}) scale(1.35)",
        )
    )
    drawn += [
        element(
            "circle",
            cx=scale(v * factor),
            cy=y + 11,
            r=3.0,
            stroke=look.colour,
            stroke_width="1.4",
            fill="none",
        )
        for v in seed_scores(method)
    ]
    return drawn


def _scores_alt(comparison: Comparison, language: Language) -> str:
    scores = scores_of(comparison, language)
    found = [
        fill(
            Words("{name}: {mean} over {seeds}", "{name}：{mean}，{seeds}"),
            name=m.name,
            mean=scores.mean(m.at_best),
            seeds=counted(seed_scores(m).size, "seed"),
        )
        for m in comparison.methods
        if m.at_best is not None
    ]
    said = fill(
        Words(
            "Test {score} at each method's own best setting. {all}.",
            "每种方法在自己最佳设置下的测试{score}。{all}。",
        ),
        score=scores.name,
        all=joined(found, Words(". ", "；")),
    )
    return printable(said.of(language))


def curves_chart(comparison: Comparison, quantity: Quantity, language: Language) -> Markup:
    """One line per method (mean over seeds) in a band from the lowest to the highest seed."""
    methods = comparison.methods
    lines = {
        place: line
        for place, m in enumerate(methods)
        if m.curves is not None
        and (line := Line.of(m.curves.epoch, quantity.of(m.curves) * quantity.scale)).x.size
    }
    width, height, left, right, top, bottom = 340.0, 256.0, 40.0, 8.0, 8.0, 38.0
    low = min(float(line.low.min()) for line in lines.values())
    high = max(float(line.high.max()) for line in lines.values())
    first = min(float(line.x[0]) for line in lines.values())
    last = max(float(line.x[-1]) for line in lines.values())
    x = Scale(first, last if last > first else first + 1, left + 6, width - right)
    y = Scale.fitted(low, high, height - bottom, top)
    drawn = []
    for place, line in lines.items():
        look = stroke(place)
        band = [*zip(line.x, line.high, strict=True), *reversed([*zip(line.x, line.low, strict=True)])]
        drawn.append(
            element(
                "path", d=f"{path((x(a), y(b)) for a, b in band)}Z", fill=look.colour, fill_opacity="0.16"
            )
        )
        points = [(x(a), y(b)) for a, b in zip(line.x, line.mean, strict=True)]
        drawn.append(
            element(
                "path",
                d=path(points),
                fill="none",
                stroke=look.colour,
                stroke_width="2",
                stroke_linejoin="round",
                stroke_dasharray=" ".join(f"{2 * d:g}" for d in look.dash) or None,
            )
        )
        step = max(1, len(points) // _MARKERS)
        # A few along the line, for methods next to each other not at the same epochs.
        drawn += [
            element(
                "path",
                d=look.marker_path,
                fill=look.colour,
                transform=f"translate({a:.1f} {b:.1f}) scale(.8)",
            )
            for a, b in itertools.islice(points, place * step // len(methods), None, step)
        ]
    x_ticks = [t for t in x.ticks(6) if t == int(t)]
    axis = [
        *(element("text", label(t), x=left - 6, y=y(t) + 4, text_anchor="end") for t in y.ticks(7)),
        *(element("text", label(t), x=x(t), y=height - bottom + 17, text_anchor="middle") for t in x_ticks),
        element(
            "text",
            EPOCHS.of(language),
            x=(left + width) / 2,
            y=height - 5,
            text_anchor="middle",
        ),
    ]
    content = [
        element(
            "path", d="".join(path([(left, y(t)), (width - right, y(t))]) for t in y.ticks(7)), class_="lines"
        ),
        *drawn,
        element("g", *axis, class_="axis"),
    ]
    return drawing(width, height, _curves_alt(comparison, quantity, language), content)


def _curves_alt(comparison: Comparison, quantity: Quantity, language: Language) -> str:
    lowest = []
    for method in comparison.methods:
        if method.curves is not None:
            values = quantity.of(method.curves)
            values = values[np.isfinite(values)]
            if values.size:
                low = setting(float(values.min()) * quantity.scale)
                lowest.append(
                    fill(Words("{name}: lowest {low}", "{name}：最低 {low}"), name=method.name, low=low)
                )
    said = fill(
        Words(
            "{title} over epochs at each method's best setting. {all}.",
            "每种方法最佳设置下的{title}随训练轮数的变化。{all}。",
        ),
        title=quantity.title,
        all=joined(lowest, Words(". ", "；")) if lowest else same("–"),
    )
    return printable(said.of(language))
