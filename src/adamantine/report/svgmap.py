"""The page's heat maps: the cells are a grid of elements that keyboard, pointer and screen reader can reach.

The text of a cell is its tooltip where no script runs; templates/map.js shows it otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.colors import Normalize, to_hex

from adamantine.report import coordinates as system
from adamantine.report.geometry import Box, Layout
from adamantine.report.heatmap import COLOURS, DECAY_AXES, LR_AXIS, cell_scores, colour_ticks
from adamantine.report.maptext import alt_text, told
from adamantine.report.markup import drawing, element, number, path
from adamantine.report.model import Comparison, MethodGrid
from adamantine.report.numbers import Scores, printable, setting
from adamantine.report.phrases import fill, scores_of
from adamantine.report.separability_model import Coordinates
from adamantine.report.theme import COLOUR_MAP
from adamantine.report.ticks import label
from adamantine.report.words import Language, Words

_WIDTH, _HEIGHT = 340.0, 280.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 26.0, 40.0
_ARROW = 12.0
_FINER_SIZE = 2.0  # radius of the mark of a setting between the grid's
_DIGIT = 0.6  # width of a digit, of the font size
_STAR_SIZE = 6.5  # from its middle
_STAR = "M0-6 1.6-2 5.9-1.9 2.5 .8 3.7 4.9 0 2.5-3.7 4.9-2.5 .8-5.9-1.9-1.6-2Z"


@dataclass(frozen=True)
class Maps:
    """Draws the maps of one comparison on one scale of colours."""

    comparison: Comparison
    norm: Normalize
    language: Language

    def draw(self, index: int, coordinates: Coordinates) -> Markup:
        """The map of the method at place ``index``."""
        method = self.comparison.methods[index]
        layout = Layout.of(method, coordinates)
        view = _View.of(layout, _FINER_SIZE if method.finer else 0.0)
        scores = scores_of(self.comparison, self.language)
        best_or_first = method.best or (len(method.lrs) - 1, 0)
        rows = [
            element(
                "g",
                *(
                    self._cell(index, (i, j), view, scores, (i, j) == best_or_first)
                    for j in range(len(layout.x))
                ),
                role="row",
            )
            for i in reversed(range(len(layout.y)))  # as they are seen, from top to bottom
        ]
        content = [*rows, *self._overlays(method, view), *self._axes(method, coordinates, view)]
        alt = printable(alt_text(method, scores, coordinates).of(self.language))
        return drawing(_WIDTH, _HEIGHT, alt, content, role="grid")

    def _cell(
        self, index: int, at: tuple[int, int], view: _View, scores: Scores, is_entrance: bool
    ) -> Markup:
        method = self.comparison.methods[index]
        mean = float(cell_scores(method)[at])
        x, y, width, height = view.rectangle(view.layout.box(*at))
        diverged = bool(method.diverged[at].any())
        fill_colour, ink = self._colours(mean)
        parts = [
            element("title", "\n".join(self._told(method, at, scores))),
            element("rect", x=x, y=y, width=width, height=height, fill=fill_colour),
        ]
        if diverged:
            parts.append(element("path", d=_hatch(x, y, width, height), class_="hatch"))
        if math.isfinite(mean) and view.font_size:
            parts.append(
                element(
                    "text",
                    scores.cell(mean),
                    x=x + width / 2,
                    y=y + height / 2,
                    fill=ink,
                    font_size=view.font_size,
                    font_weight="700" if at == method.best else None,
                )
            )
        return element(
            "g",
            *parts,
            role="gridcell",
            data_cell=f"{index}-{at[0]}-{at[1]}",
            data_entrance="" if is_entrance else None,
        )

    def _colours(self, mean: float) -> tuple[str, str]:
        """Of the cell and of its number."""
        if not math.isfinite(mean):
            return "var(--void)", "var(--ink)"
        at = float(np.clip(self.norm(max(mean, self.norm.vmin or 0.0)), 0, 1))
        return to_hex(mpl.colormaps[COLOUR_MAP](at)), "#fff" if at > 0.5 else "#000"

    def _told(self, method: MethodGrid, at: tuple[int, int], scores: Scores) -> list[str]:
        return [
            printable(line.of(self.language))
            for line in told(method, at, scores, self.comparison.steps_per_epoch)
        ]

    def _overlays(self, method: MethodGrid, view: _View) -> list[Markup]:
        """The basin's border, the star of the best setting, arrows where it lies on the edge."""
        if method.best is None:
            return []
        border = "".join(path([view.place(*a), view.place(*b)]) for a, b in view.layout.outline(method.basin))
        x, y, width, height = view.rectangle(view.layout.box(*method.best))
        middle = (x + width / 2, y + height / 2)
        arrows = {
            "lr low": (middle[0], y + height, 90),
            "lr high": (middle[0], y, -90),
            "weight_decay low": (x, middle[1], 180),
            "weight_decay high": (x + width, middle[1], 0),
        }
        finer = [view.place(*view.layout.place(tried.lr, tried.weight_decay)) for tried in method.finer]
        star = (x + width - _STAR_SIZE, y + _STAR_SIZE)  # in the cell: on its border are finer settings
        if method.finest is not None:
            star = view.place(*view.layout.place(method.finest.lr, method.finest.weight_decay))
        return [
            element("path", d=border, class_="border outer"),
            element("path", d=border, class_="border"),
            *(
                element("circle", cx=cx, cy=cy, r=_FINER_SIZE, class_="finer", aria_hidden="true")
                for cx, cy in finer
            ),
            element("path", d=_STAR, class_="star", transform=_moved(*star), aria_hidden="true"),
            *(
                element(
                    "path", d=f"M2-5 {number(_ARROW)} 0 2 5Z", class_="arrow", transform=_moved(*arrows[edge])
                )
                for edge in method.edges
                if edge in arrows
            ),
        ]

    def _axes(self, method: MethodGrid, coordinates: Coordinates, view: _View) -> list[Markup]:
        layout, best = view.layout, method.best or (0, 0)
        _, cell_height = layout.cell_size(view.width, view.height)
        stride = math.ceil(13 / cell_height)
        low_arrow = 8 if "weight_decay low" in method.edges else 0
        rows = [i for i in range(len(layout.y)) if (i - best[0]) % stride == 0]
        marks = [
            _text(
                setting(method.lrs[i]),
                _LEFT - 6 - low_arrow,
                view.place(0, sum(layout.y[i]) / 2)[1] + 4,
                "end",
            )
            for i in rows
        ]
        marks += _x_ticks(method, coordinates, view)
        y_label = LR_AXIS.of(self.language)
        return [
            element("g", *marks, class_="axis", aria_hidden="true"),
            element(
                "g",
                _text(
                    DECAY_AXES[coordinates].of(self.language), _LEFT + view.width / 2, _HEIGHT - 6, "middle"
                ),
                element("text", y_label, x=0.0, y=10.0),
                class_="axis name",
                aria_hidden="true",
            ),
        ]

    def colour_key(self) -> Markup:
        """The key of the colours that all maps share."""
        scores = scores_of(self.comparison, self.language)
        low, high = float(self.norm.vmin or 0.0), float(self.norm.vmax or 1.0)
        width, bar = 380.0, 348.0
        stops = [
            element("stop", offset=f"{k * 10}%", stop_color=to_hex(mpl.colormaps[COLOUR_MAP](k / 10)))
            for k in range(11)
        ]
        ticks, last = [], -math.inf
        for tick in colour_ticks(self.norm):
            x, text = 6 + bar * float(self.norm(tick)), label(tick * scores.scale)
            if x - last > 8 + 7 * len(text) / 2:
                ticks.append(_text(text, x, 30, "middle"))
                last = x + 7 * len(text) / 2
        name = COLOURS.of(self.language).format(score=scores.label)
        alt = fill(
            Words(
                "Colours of the heat maps, from {low} to {high} and worse.",
                "热图的颜色：从 {low} 到 {high} 及更差。",
            ),
            low=scores.value(low),
            high=scores.value(high),
        ).of(self.language)
        content = [
            element("linearGradient", *stops, id="scale"),
            element("rect", x=6.0, y=6.0, width=bar, height=11.0, rx=2.0, fill="url(#scale)"),
            element(
                "path",
                d="M357 6l10 5.5-10 5.5Z",
                fill=to_hex(mpl.colormaps[COLOUR_MAP](1.0)),
                stroke="var(--muted)",
                stroke_width="0.5",
            ),
            element("g", *ticks, _text(name, 6, 48, "start"), class_="axis"),
        ]
        return drawing(width, 54, printable(alt), content)


@dataclass(frozen=True)
class _View:
    """A layout in pixels."""

    layout: Layout
    width: float
    height: float
    font_size: float | None  # of the cells' numbers; None where none would be readable

    @classmethod
    def of(cls, layout: Layout, margin: float) -> _View:
        """``margin``: what the numbers leave free at either side of their cells."""
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        cell_width, cell_height = layout.cell_size(width, height)
        size = min(11.5, (cell_width - 3 - 2 * margin) / (_DIGIT * 4), 0.62 * cell_height)
        return cls(layout, width, height, size if size >= 7.5 else None)

    def place(self, x: float, y: float) -> tuple[float, float]:
        (left, right), (bottom, top) = self.layout.limits
        return (
            _LEFT + (x - left) / (right - left) * self.width,
            _TOP + (top - y) / (top - bottom) * self.height,
        )

    def rectangle(self, box: Box) -> tuple[float, float, float, float]:
        """x, y, width, height."""
        (left, top), (right, bottom) = self.place(box.left, box.top), self.place(box.right, box.bottom)
        return left, top, right - left, bottom - top


def _x_ticks(method: MethodGrid, coordinates: Coordinates, view: _View) -> list[Markup]:
    """Below the columns their values, the best one's always; where rows are moved, powers of ten."""
    layout, y = view.layout, _TOP + view.height + (20 if "lr low" in method.edges else 13)
    first = int(layout.detached)
    marks = [_text("0", view.place(sum(layout.x[0]) / 2, 0)[0], y, "middle")] if first else []
    if system.is_sheared(method, coordinates):
        return marks + [_text(label(v), view.place(x, 0)[0], y, "middle") for x, v in layout.decades(6)]
    labels = [setting(value) for value in method.weight_decays]
    longest = max((len(text) for text in labels[first:]), default=1)
    width, _ = layout.cell_size(view.width, view.height)
    size = next((size for size in (11.0, 9.0) if 0.56 * size * longest + 3 <= width), 11.0)
    stride = math.ceil((0.56 * size * longest + 3) / width)
    best = method.best[1] if method.best and method.best[1] >= first else len(labels) - 1
    columns = [j for j in range(first, len(labels)) if (j - best) % stride == 0]
    return marks + [
        element(
            "text",
            labels[j],
            x=view.place(sum(layout.x[j]) / 2, 0)[0],
            y=y,
            text_anchor="middle",
            style=f"font-size:{size:g}px",
        )
        for j in columns
    ]


def _text(text: str, x: float, y: float, anchor: str) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor)


def _moved(x: float, y: float, angle: float = 0) -> str:
    turned = f" rotate({number(angle)})" if angle else ""
    return f"translate({number(x)} {number(y)}){turned}"


def _hatch(x: float, y: float, width: float, height: float) -> str:
    """Diagonals that end at the cell's borders."""
    lines, step = [], 7.0
    offset = step / 2
    while offset < width + height:
        start = (x + max(offset - height, 0), y + min(offset, height))
        end = (x + min(offset, width), y + max(offset - width, 0))
        lines.append(path([start, end]))
        offset += step
    return "".join(lines)
