"""How the claims' figures look: one sheet per claim, its finding as the title, in every theme and tongue."""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

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

    def logarithmic(self, ax: Axes, which: Literal["x", "y"], *, base: int = 10, most: int = 8) -> None:
        """Makes one axis logarithmic, with at most so many ticks, at powers of ``base``.

        matplotlib's own ticks would show their source, for these figures typeset no mathematics.
        """
        axis = ax.xaxis if which == "x" else ax.yaxis
        (ax.set_xscale if which == "x" else ax.set_yscale)("log", base=base)
        axis.set_major_locator(LogLocator(base=base, numticks=most))
        axis.set_major_formatter(FuncFormatter(lambda value, _: power(value, base) if value > 0 else ""))
        axis.set_minor_locator(NullLocator())

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

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(value: float, base: int = 10) -> str:
    """A power of the base, as a tick shows it; nothing else gets a number.

    >>> power(1e-3), power(1.0), power(100.0), power(2.0**-9, base=2), power(0.5, base=10)
    ('10⁻³', '1', '100', '2⁻⁹', '')
    """
    exponent = round(math.log(value, base))
    if not math.isclose(value, float(base) ** exponent, rel_tol=1e-6):
        return ""
    if base == 10 and 0 <= exponent <= 3:
        return str(10**exponent)
    return f"{base}{str(exponent).translate(_SUPERSCRIPTS)}"


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
    """As few lines of at most so many columns as will do, about equally long.

    A Chinese letter takes two columns, and a line may end behind any. Words and numbers stay whole, and
    punctuation stays with what it closes.

    >>> wrapped("one two three", 8), wrapped("权重衰减是解耦的", 8)
    ('one two\\nthree', '权重衰减\\n是解耦的')
    >>> wrapped("slopes foretold: −1 and 0", 23), wrapped("斜率为 +0.88，预测 0", 10)
    ('slopes foretold:\\n−1 and 0', '斜率为\\n+0.88，\\n预测 0')
    """
    wanted = len(_lines(text, columns))
    evenest = next(width for width in range(1, columns + 1) if len(_lines(text, width)) <= wanted)
    return "\n".join(_lines(text, evenest))


def _lines(text: str, columns: int) -> list[str]:
    lines, line = [], ""
    for piece in _PIECES.findall(text):
        if line and _columns((line + piece).rstrip()) > columns:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return [*lines, line]


#: A word, or one Chinese letter, with the punctuation and the spaces that no line may begin with.
_PIECES = re.compile(r"（?(?:[^\s\u2e80-\uffff]+|\S)[，。；：、）]*\s*")


def _columns(text: str) -> int:
    return sum(2 if _wide(letter) else 1 for letter in text)


def _wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"
