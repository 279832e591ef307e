"""How the claims' figures look: one sheet per claim, its finding as the title, in every theme and tongue."""

from __future__ import annotations

import logging
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from adamantine.report.svg import drawing, inline, svg, themed
from adamantine.report.theme import LIGHT, Stroke, Theme, recoloured, stroke
from adamantine.report.words import Language, Words

SIZE = (7.2, 4.6)  # inches
_TITLE_COLUMNS = 64  # Latin letters of the title's size that fit into SIZE

#: One method, one stroke, in every claim; as in a comparison of the three.
SGD, ADAM_L2, ADAMW = stroke(0), stroke(1), stroke(2)
OTHERS = (stroke(3), stroke(4), stroke(5))

#: Families with Chinese letters, tried in this order behind the figures' usual one.
CHINESE = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Microsoft YaHei",
    "SimHei",
)
_CHINESE_FILES = ("cjk", "sourcehansans", "wqy", "pingfang", "msyh", "simhei")


@dataclass(frozen=True)
class Sheet:
    """What a claim draws on. Add axes to ``figure``; its title is drawn already."""

    figure: Figure
    theme: Theme
    language: Language

    def say(self, en: str, zh: str) -> str:
        """The text in the sheet's language."""
        return Words(en, zh).of(self.language)

    def axes(self, columns: int = 1, **options: Any) -> list[Axes]:
        """Plain axes side by side: faint grid, no box."""
        found = list(self.figure.subplots(1, columns, squeeze=False, **options)[0])
        for ax in found:
            ax.grid(visible=True, zorder=0)
            ax.set_axisbelow(True)
            ax.spines[["top", "right"]].set_visible(False)
        return found

    def line(self, ax: Axes, x: Any, y: Any, look: Stroke, **options: Any) -> None:
        """A measured curve."""
        dashes: Any = (0, look.dash) if look.dash else "solid"
        ax.plot(x, y, **{"color": look.colour, "linestyle": dashes, "linewidth": 2.2, "zorder": 3, **options})

    def points(self, ax: Axes, x: Any, y: Any, look: Stroke, *, error: Any = None, **options: Any) -> None:
        """Measured points, with error bars of ``error`` (one size, or ``[2, points]`` below and above)."""
        ax.errorbar(
            x,
            y,
            yerr=error,
            **{
                "linestyle": "none",
                "color": look.colour,
                "marker": look.marker,
                "markersize": 6.5,
                "markeredgecolor": self.theme.surface,
                "markeredgewidth": 0.8,
                "elinewidth": 1.6,
                "capsize": 3,
                "zorder": 4,
                **options,
            },
        )

    def prediction(self, ax: Axes, x: Any, y: Any, **options: Any) -> None:
        """What is predicted: a thin dotted line in the colour of the text, the same in all figures."""
        ax.plot(
            x,
            y,
            **{"color": self.theme.ink, "linestyle": (0, (1, 1.6)), "linewidth": 1.5, "zorder": 5, **options},
        )

    def band(self, ax: Axes, x: Any, low: Any, high: Any, look: Stroke) -> None:
        """A spread, or a tolerance, behind everything else."""
        ax.fill_between(x, low, high, color=look.colour, alpha=0.18, linewidth=0, zorder=1)

    def write(
        self, ax: Axes, x: float, y: float, text: str, look: Stroke | None = None, **options: Any
    ) -> None:
        """Text at a place of the data: in a method's colour beside its curve, else as a remark.

        ``offset`` moves it by so many points.
        """
        ax.annotate(
            text,
            (x, y),
            xytext=options.pop("offset", (0, 0)),
            textcoords="offset points",
            **{
                "color": look.colour if look else self.theme.muted,
                "fontweight": "bold" if look else "normal",
                "fontsize": 10,
                "zorder": 6,
                **options,
            },
        )

    def legend(self, ax: Axes, **options: Any) -> None:
        """A legend of the labels, for what cannot be written beside its curve."""
        ax.legend(**{"fontsize": 9.5, "handlelength": 2.8, "labelcolor": self.theme.ink, **options})


Draw = Callable[[Sheet], None]


def files(name: str, title: Words, draw: Draw, language: Language) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a claim's figure: PNG and SVG, light and dark."""
    return themed(name, lambda theme: _figure(title, draw, theme, language))


def panel(name: str, title: Words, draw: Draw, language: Language) -> str:
    """The figure for a page that says the title itself: safe HTML, in the page's CSS variables."""
    with drawing():
        figure = Figure(SIZE, layout="constrained", facecolor="none")
        _draw(figure, draw, LIGHT, language)
        source = svg(figure, text="text")
    return recoloured(inline(source, prefix=name, alt=title.of(language)), None)


def _figure(title: Words, draw: Draw, theme: Theme, language: Language) -> Figure:
    figure = Figure(SIZE, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    _use_fonts()
    figure.suptitle(
        wrapped(title.of(language), _TITLE_COLUMNS),
        x=0.02,
        ha="left",
        fontsize=12,
        fontweight="bold",
        color=theme.ink,
    )
    _draw(figure, draw, theme, language)
    return figure


def _draw(figure: Figure, draw: Draw, theme: Theme, language: Language) -> None:
    _use_fonts()
    draw(Sheet(figure, theme, language))


def _use_fonts() -> None:
    """Inside `drawing`, which restores it: Chinese letters from the first family that is installed."""
    mpl.rcParams["font.family"] = ["DejaVu Sans", *_chinese()[:1]]


@cache
def _chinese() -> list[str]:
    """The installed families of `CHINESE`; matplotlib's own list of fonts is as old as its cache."""
    # A Chinese family in one weight serves for bold too; that is no news to anybody.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    manager = font_manager.fontManager
    known = {font.name for font in manager.ttflist}
    for file in font_manager.findSystemFonts():
        if any(part in Path(file).name.lower() for part in _CHINESE_FILES) and not known & set(CHINESE):
            manager.addfont(file)
            known = {font.name for font in manager.ttflist}
    return [name for name in CHINESE if name in known]


def wrapped(text: str, columns: int) -> str:
    """Lines of at most so many columns; a Chinese letter takes two, and a line may end behind any.

    >>> wrapped("one two three", 8), wrapped("权重衰减是解耦的", 8)
    ('one two\\nthree', '权重衰减\\n是解耦的')
    """
    if not any(_wide(letter) for letter in text):
        return "\n".join(textwrap.wrap(text, columns))
    lines, line, width = [], "", 0
    for letter in text:
        size = 2 if _wide(letter) else 1
        if width + size > columns and letter not in "，。；：、）":
            lines.append(line)
            line, width = "", 0
        line += letter
        width += size
    return "\n".join([*lines, line])


def _wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"
