"""The figures of a report as files for other documents: whole figures with titles and legends.

The page draws its own, with words that its reader's fonts show in any language (svgmap.py, svgchart.py), from
the same geometry, curves and colours.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Collection, Iterator

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from adamantine.report.curves import Quantity, draw_curves, has_curves, legend_handles, quantities
from adamantine.report.heatmap import draw_colour_bar, draw_heatmap, shared_norm
from adamantine.report.model import Comparison, MethodGrid
from adamantine.report.numbers import Scores, printable
from adamantine.report.phrases import Written, fill, joined, same, scores_of
from adamantine.report.separability_model import Coordinates
from adamantine.report.svg import KINDS, themed
from adamantine.report.testscores import draw_test_scores
from adamantine.report.theme import Theme
from adamantine.report.words import Language, Words

_MAPS = {
    "λ": Words(
        "Validation {score} over learning rate and weight decay", "验证{score}随学习率和权重衰减的变化"
    ),
    "γ": Words(
        "Validation {score} over learning rate and weight decay per step",
        "验证{score}随学习率和每步权重衰减的变化",
    ),
}


def order_by_test(methods: tuple[MethodGrid, ...]) -> list[int]:
    """Places of the methods, best mean test score first; methods without one at the end, as given."""
    return sorted(
        range(len(methods)),
        key=lambda i: math.inf if (e := methods[i].at_best) is None or math.isnan(e.mean) else e.mean,
    )


def _label(name: str, width: int, lines: int) -> str:
    """A method's name in a figure: wrapped, and shortened where it would crowd out the data."""
    return "\n".join(
        textwrap.wrap(printable(name), width, max_lines=lines, placeholder=" …", break_long_words=True)
    )


def figure_files(
    comparison: Comparison, kinds: Collection[str] = KINDS, language: Language = "en"
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of every figure file: PNG and SVG, light and dark.

    Chinese words are text in an SVG, for its reader's fonts; a PNG would need a font with them here, so its
    words stay English. Figures without any data (no curves recorded, no method) are left out.
    """
    if language == "zh":
        for name, draw in _drawings(comparison, "zh").items():
            yield from themed(name, draw, [kind for kind in kinds if kind == "svg"], text="text")
        kinds = [kind for kind in kinds if kind == "png"]
    if kinds:
        for name, draw in _drawings(comparison, "en").items():
            yield from themed(name, draw, kinds)


def _drawings(comparison: Comparison, language: Language) -> dict[str, Callable[[Theme], Figure]]:
    if not comparison.methods:
        return {}
    scores = scores_of(comparison, language)
    panels = quantities(Written.of(comparison))
    learning = [q for q in panels if q.name != "norm" and has_curves(comparison.methods, q)]
    norms = [q for q in panels if q.name == "norm" and has_curves(comparison.methods, q)]
    drawings: dict[str, Callable[[Theme], Figure]] = {
        "test-scores": lambda theme: _test_scores(comparison, scores, theme),
        "heatmaps": lambda theme: _heatmaps(comparison, scores, theme, "λ"),
        "heatmaps-gamma": lambda theme: _heatmaps(comparison, scores, theme, "γ"),
    }
    if learning:
        drawings["learning-curves"] = lambda theme: _curves(comparison, learning, language)
    if norms:
        drawings["weight-norm"] = lambda theme: _curves(comparison, norms, language)
    return drawings


def _figure(size: tuple[float, float]) -> Figure:
    return Figure(size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))


def _test_scores(comparison: Comparison, scores: Scores, theme: Theme) -> Figure:
    methods = comparison.methods
    figure = _figure((7.0, 1.35 + 0.75 * len(methods)))
    ax = figure.subplots()
    labels = [_label(m.name, 42, 1) for m in methods]
    draw_test_scores(ax, methods, order_by_test(methods), labels, scores, theme)
    title = Words("Test {score} at each method's own best setting", "每种方法在自己最佳设置下的测试{score}")
    ax.set_title(title.of(scores.language).format(score=scores.name), pad=16)
    key = Words(
        "circles: seeds · filled mark: their mean · bar: 95 % confidence interval of the mean",
        "圆圈：种子 · 实心标记：均值 · 横条：均值的 95 % 置信区间",
    )
    _key(figure, key.of(scores.language), theme)
    return figure


def _key(figure: Figure, text: str, theme: Theme) -> None:
    """A line below everything else."""
    figure.supxlabel(text, x=0.012, ha="left", fontsize=9.5, color=theme.muted)


def _heatmaps(comparison: Comparison, scores: Scores, theme: Theme, coordinates: Coordinates) -> Figure:
    methods = comparison.methods
    columns = min(3, len(methods))
    rows = math.ceil(len(methods) / columns)
    width = max(5.0 * columns, 6.5)
    figure = _figure((width, 4.6 * rows + 1.3))
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[*[1.0] * rows, 0.035])
    figure.suptitle(
        _MAPS[coordinates].of(scores.language).format(score=scores.name),
        x=0.012,
        ha="left",
        fontsize=13,
        fontweight="bold",
        color=theme.ink,
    )
    norm = shared_norm(methods)
    for index, method in enumerate(methods):
        ax = figure.add_subplot(grid[index // columns, index % columns])
        draw_heatmap(ax, method, norm, scores, theme, coordinates)
        ax.set_title(_label(method.name, 40, 2), pad=24 if "lr high" in method.edges else 8)
    draw_colour_bar(figure.add_subplot(grid[rows, :]), norm, scores, theme)
    key = Words(
        "star: best setting · outline: its basin · hatched: a seed diverged · arrow: best on the grid's edge",
        "星：最佳设置 · 轮廓：它的盆地 · 斜线：有种子发散 · 箭头：最佳设置在网格边缘",
    )
    finer = Words("dots: tried between the grid's settings", "圆点：在网格设置之间试过")
    parts = [key, finer] if any(method.finer for method in methods) else [key]
    _key(figure, joined(parts, same(" · ")).of(scores.language), theme)
    return figure


def _curves(comparison: Comparison, panels: list[Quantity], language: Language) -> Figure:
    figure = _figure((max(5.6 * len(panels), 6.5), 4.8))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, quantity in zip(axes, panels, strict=True):
        draw_curves(ax, comparison.methods, quantity, language)
        title = fill(
            Words("{title}, each method at its best setting", "{title}（各自的最佳设置）"),
            title=quantity.title,
        )
        ax.set_title(title.of(language))
    figure.legend(
        handles=legend_handles(comparison.methods, [_label(m.name, 40, 2) for m in comparison.methods]),
        loc="outside lower left",
        ncols=min(3, len(comparison.methods)),
        handlelength=3.2,
    )
    return figure
