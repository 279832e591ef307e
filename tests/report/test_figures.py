"""What the figures show of the numbers, and the files."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from adamantine.report import Comparison, Curves, Estimate, MethodGrid, render
from adamantine.report.curves import draw_curves, legend_handles, quantities
from adamantine.report.figures import figure_files, order_by_test
from adamantine.report.heatmap import WORST_SHOWN, cell_scores, draw_heatmap, shared_norm
from adamantine.report.numbers import Scores, printable, setting
from adamantine.report.phrases import Written
from adamantine.report.svg import drawing
from adamantine.report.testscores import draw_test_scores
from adamantine.report.theme import DARK, LIGHT, METHOD_COLOURS, stroke

ERROR = Scores("error", "%", 2)
TRAIN_LOSS, VALIDATION, NORM = quantities(Written(ERROR, ERROR))


def _heatmap(method: MethodGrid) -> "mpl.axes.Axes":
    with drawing():
        ax = Figure().subplots()
        draw_heatmap(ax, method, shared_norm((method,)), ERROR)
    return ax


def _cells(ax: "mpl.axes.Axes") -> list[Rectangle]:
    return [p for p in ax.patches if isinstance(p, Rectangle) and not p.get_hatch()]


def test_heatmap_shows_every_cell_on_logarithmic_axes(make_grid: Callable[..., MethodGrid]) -> None:
    method = make_grid(lrs=np.array([1e-4, 1e-3, 1e-2]), weight_decays=np.array([0.0, 1e-3, 1e-2, 1e-1]))
    cells = _cells(_heatmap(method))
    assert len(cells) == 12
    centres_x = sorted({round(c.get_x() + c.get_width() / 2, 9) for c in cells})
    centres_y = sorted({round(c.get_y() + c.get_height() / 2, 9) for c in cells})
    assert centres_y == [-4, -3, -2]
    assert centres_x[1:] == [-3, -2, -1]
    assert centres_x[0] < -4  # the column without decay is set apart


def test_heatmap_hatches_what_diverged_and_writes_the_rest(make_grid: Callable[..., MethodGrid]) -> None:
    method = make_grid()
    ax = _heatmap(method)
    diverged = method.diverged.any(axis=2)
    assert 0 < diverged.sum() < diverged.size
    assert sum(bool(p.get_hatch()) for p in ax.patches) == diverged.sum()
    written = {t.get_text() for t in ax.texts}
    assert written - {""} == {ERROR.cell(v) for v in cell_scores(method)[~diverged]}


def test_heatmap_leaves_out_numbers_that_do_not_fit(make_grid: Callable[..., MethodGrid]) -> None:
    method = make_grid(weight_decays=np.logspace(-4, 1, 25))
    assert not _heatmap(method).texts


def test_heatmap_marks_the_best_cell(make_grid: Callable[..., MethodGrid]) -> None:
    method = make_grid(weight_decays=np.logspace(-3, 1, 8))
    (star,) = [line for line in _heatmap(method).lines if line.get_marker() == "*"]
    i, j = method.best
    near = (np.log10(method.weight_decays[j]), np.log10(method.lrs[i]))
    assert np.abs(np.subtract(star.get_xydata()[0], near)).max() < 0.3


@pytest.mark.parametrize("count", [5, 9, 14, 25])
def test_heatmap_labels_the_best_setting(count: int, make_grid: Callable[..., MethodGrid]) -> None:
    decays = np.concatenate([[0.0], 3.125e-5 * 4.0 ** np.arange(count)])
    for best in ((0, 0), (3, count - 1), (6, count)):
        method = replace(make_grid(weight_decays=decays, lrs=np.logspace(-4, -1, 7)), best=best)
        ax = _heatmap(method)
        assert setting(method.lrs[best[0]]) in [t.get_text() for t in ax.get_yticklabels()]
        assert setting(method.weight_decays[best[1]]) in [t.get_text() for t in ax.get_xticklabels()]


def test_heatmap_labels_every_value_where_there_is_room(make_grid: Callable[..., MethodGrid]) -> None:
    decays = np.array([0.0, *3.125e-5 * 4.0 ** np.arange(5)])  # the default for a penalty in the gradient
    ax = _heatmap(make_grid(weight_decays=decays))
    assert len(ax.get_xticks()) == 6
    assert len(ax.get_yticks()) == 7


def test_heatmap_outlines_the_basin(make_grid: Callable[..., MethodGrid]) -> None:
    basin = np.zeros((7, 8), bool)
    basin[2:4, 3:6] = True  # a block of 2 x 3: a circumference of 10 cell sides
    method = replace(make_grid(weight_decays=np.logspace(-3, 1, 8)), basin=basin)
    step_x, step_y = 4 / 7, 0.5  # decades between the values of each axis
    for outline in [c for c in _heatmap(method).collections if isinstance(c, LineCollection)]:
        around = sum(float(np.abs(np.diff(piece, axis=0)).sum()) for piece in outline.get_segments())
        assert around == pytest.approx(2 * 3 * step_x + 2 * 2 * step_y)


@pytest.mark.parametrize(
    ("edges", "directions"),
    [((), set()), (("lr high",), {(0, 1)}), (("lr low", "weight_decay high"), {(0, -1), (1, 0)})],
)
def test_heatmap_points_out_of_the_grid_at_an_edge(
    edges: tuple[str, ...], directions: set[tuple[int, int]], make_grid: Callable[..., MethodGrid]
) -> None:
    ax = _heatmap(replace(make_grid(), edges=edges))
    arrows = [t for t in ax.texts if getattr(t, "arrow_patch", None) is not None]
    assert {tuple(int(v) for v in np.sign(a.xyann)) for a in arrows} == directions


def test_colours_share_one_logarithmic_scale(make_grid: Callable[..., MethodGrid]) -> None:
    good, bad = make_grid(floor=0.02), make_grid(floor=0.05, rng_seed=2)
    norm = shared_norm((bad, good))
    assert isinstance(norm, LogNorm)
    assert norm.vmin == np.nanmin(cell_scores(good))
    assert norm.vmax == pytest.approx(WORST_SHOWN * norm.vmin)


@pytest.mark.parametrize("value", [0.0, -1.0, 1.0, math.nan])
def test_colours_of_odd_scores(value: float, make_grid: Callable[..., MethodGrid]) -> None:
    usual = make_grid()
    flat = replace(usual, validation=np.full_like(usual.validation, value), basin=np.zeros((7, 9), bool))
    assert len(_cells(_heatmap(flat))) == 63
    some = usual.validation.copy()
    some[0, 0] = value
    assert len(_cells(_heatmap(replace(usual, validation=some)))) == 63


def test_a_cell_counts_only_with_all_its_seeds(make_grid: Callable[..., MethodGrid]) -> None:
    method = make_grid()
    validation, diverged = method.validation.copy(), method.diverged.copy()
    validation[1, 1, 0] = np.nan  # not run yet
    diverged[1, 2, 0] = True  # diverged in one seed
    means = cell_scores(replace(method, validation=validation, diverged=diverged))
    assert np.isnan(means[1, 1])
    assert np.isnan(means[1, 2])
    assert means[1, 3] == method.validation[1, 3].mean()


def _curves(rows: list[list[float]]) -> Curves:
    values = np.array(rows)
    epoch = np.arange(1.0, values.shape[1] + 1)
    return Curves(epoch=epoch, train_loss=values, validation=values, norm=values)


def _drawn(method: MethodGrid, quantity: object = TRAIN_LOSS) -> "mpl.axes.Axes":
    with drawing():
        ax = Figure().subplots()
        draw_curves(ax, (method,), quantity)
    return ax


def test_curves_are_means_in_a_band_of_seeds(make_grid: Callable[..., MethodGrid]) -> None:
    method = replace(make_grid(), curves=_curves([[4.0, 2.0, 1.0], [6.0, 4.0, 1.5]]))
    ax = _drawn(method)
    (line,) = ax.lines
    assert line.get_ydata() == pytest.approx([5.0, 3.0, 1.25])
    assert line.get_color() == METHOD_COLOURS[0]
    (band,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == 1.0
    assert corners[:, 1].max() == 6.0


def test_curves_skip_what_was_not_measured(make_grid: Callable[..., MethodGrid]) -> None:
    nan = math.nan
    method = replace(make_grid(), curves=_curves([[4.0, nan, 2.0, nan], [6.0, nan, nan, nan]]))
    (line,) = _drawn(method).lines
    assert line.get_xydata().tolist() == [[1.0, 5.0], [3.0, 2.0]]


def test_a_legend_shows_what_is_drawn(make_grid: Callable[..., MethodGrid]) -> None:
    methods = tuple(make_grid(name, rng_seed=i) for i, name in enumerate("abc"))
    with drawing():
        ax = Figure().subplots()
        draw_curves(ax, methods, TRAIN_LOSS)
        handles = legend_handles(methods, ["a", "b", "c"])
    for line, handle, place in zip(ax.lines, handles, range(3), strict=True):
        assert line.get_marker() == handle.get_marker() == stroke(place).marker
        assert line.get_color() == handle.get_color()


def test_long_curves_are_thinned_and_keep_their_ends(make_grid: Callable[..., MethodGrid]) -> None:
    method = replace(make_grid(), curves=_curves([np.linspace(9, 1, 20_000).tolist()]))
    (line,) = _drawn(method).lines
    assert 100 < len(line.get_xdata()) <= 300
    assert line.get_xydata()[[0, -1]].tolist() == [[1.0, 9.0], [20_000.0, 1.0]]


def test_percentages_are_shown_as_such(make_grid: Callable[..., MethodGrid]) -> None:
    method = replace(make_grid(), curves=_curves([[0.5, 0.02]]))
    assert _drawn(method, VALIDATION).lines[0].get_ydata() == pytest.approx([50.0, 2.0])
    assert _drawn(method, NORM).lines[0].get_ydata() == pytest.approx([0.5, 0.02])


@pytest.mark.parametrize(
    ("values", "scale"), [([1.0, 0.01], "log"), ([1.0, 0.5], "linear"), ([1.0, 0.0], "linear")]
)
def test_wide_ranges_get_a_logarithmic_axis(
    values: list[float], scale: str, make_grid: Callable[..., MethodGrid]
) -> None:
    assert _drawn(replace(make_grid(), curves=_curves([values]))).get_yscale() == scale


def test_test_scores_show_seeds_mean_and_interval(make_grid: Callable[..., MethodGrid]) -> None:
    worse, better = make_grid("worse", floor=0.03), make_grid("better", floor=0.02)
    methods = (worse, better, make_grid("none", max_lr=0.0))
    order = order_by_test(methods)
    assert order == [1, 0, 2]
    with drawing():
        ax = Figure().subplots()
        draw_test_scores(ax, methods, order, ["worse", "better", "none"], ERROR)
    seeds = [line for line in ax.lines if line.get_markerfacecolor() == "none"]
    assert seeds[0].get_xdata() == pytest.approx(better.test[better.best] * 100)
    assert seeds[0].get_color() == stroke(1).colour or seeds[0].get_markeredgecolor() == stroke(1).colour
    bars = [c.get_segments()[0] for c in ax.collections if isinstance(c, LineCollection)]
    assert bars[0][:, 0] == pytest.approx([better.at_best.low * 100, better.at_best.high * 100])
    assert [t.get_text() for t in ax.texts][-1] == "no setting converged"


def test_files(tmp_path: Path, small: Comparison) -> None:
    render(small, tmp_path / "new" / "run")
    figures = tmp_path / "new" / "run" / "figures"
    names = ("heatmaps", "heatmaps-gamma", "learning-curves", "test-scores", "weight-norm")
    expected = {
        f"{n}-{theme}.{kind}" for n in names for theme in ("light", "dark") for kind in ("png", "svg")
    }
    assert {f.name for f in figures.iterdir()} == expected
    for file in figures.glob("*.png"):
        assert file.read_bytes().startswith(b"\x89PNG")
    for name in names:
        light, dark = ((figures / f"{name}-{theme}.svg").read_text("utf-8") for theme in ("light", "dark"))
        assert ET.fromstring(light).tag == ET.fromstring(dark).tag == "{http://www.w3.org/2000/svg}svg"
        assert LIGHT.ink in light
        assert DARK.ink in dark
        assert LIGHT.ink not in dark
        assert DARK.ink not in light
        assert "<metadata" not in light


def test_odd_comparisons_are_drawn(extreme: Comparison) -> None:
    assert len(dict(figure_files(extreme, ["svg"]))) == 10


def test_figures_without_data_are_left_out(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    assert not list(figure_files(make()))
    silent = make(replace(make_grid(lrs=np.array([1e-3])), curves=None))
    assert {name.rsplit("-", 1)[0] for name, _ in figure_files(silent, ["svg"])} == {
        "heatmaps",
        "heatmaps-gamma",
        "test-scores",
    }


def test_drawing_leaves_matplotlib_as_it_was(small: Comparison) -> None:
    with mpl.rc_context({"font.size": 31.0}):
        before = dict(mpl.rcParams)
        next(iter(figure_files(small)))
        assert dict(mpl.rcParams) == before


def test_names_are_neither_mathematics_nor_forbidden_in_xml(
    make: Callable[..., Comparison], make_grid: Callable[..., MethodGrid]
) -> None:
    odd = make(make_grid("$\\frac{a}{$ <b>&amp; \x00\x1b[31m \udc80", lrs=np.array([1e-3])))
    for _, content in figure_files(odd, ["svg"]):
        ET.fromstring(content.decode("utf-8"))


def test_printable_keeps_every_ordinary_character() -> None:
    assert printable("Adam + L2 (β₂ = 0.99), 自适应 ✓") == "Adam + L2 (β₂ = 0.99), 自适应 ✓"


def test_methods_without_a_mean_come_last(make_grid: Callable[..., MethodGrid]) -> None:
    unknown = replace(make_grid(), at_best=Estimate(math.nan, math.nan, math.nan, math.nan, 0))
    assert order_by_test((unknown, make_grid())) == [1, 0]
