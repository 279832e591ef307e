"""Does searching lr × γ (γ = lr·λ) instead of lr × λ save trials? AdamW on the digits, a real landscape.

python benchmarks/coordinates.py measure     # two landscapes of 2937 trainings: 15 minutes on one core
python benchmarks/coordinates.py search      # repeated searches on them; or: search random tpe tpe-single gp
python benchmarks/coordinates.py table       # the numbers of docs/tune.md
python benchmarks/coordinates.py figure      # docs/images/tune-coordinates-{light,dark}.png

**Landscapes.** Mean validation error of three seeds on a lattice of twelfths of a decade in lr and λ:
task `digits` with its 30 epochs (300 steps) and with 150 epochs (1500 steps, so that decay has time to
act), cosine schedule. Between lattice points: bilinear in (log lr, log λ). A search sees this surface, so
a repeat costs no training and differs from another by its sampler's seed only.

**Areas.** λ coordinates: the rectangle of `study/ranges.py`, lr 1e-3 to 1e-1, λ 5e-3 to 1.28. γ
coordinates: the same lr, and γ as wide as λ with the middle at (middle lr)·(middle λ). (log lr, log λ) →
(log lr, log lr + log λ) is a shear: its determinant is 1, so that the parallelogram that the γ search
covers in the λ plane has the same area and the same middle, but it is not the same set. Random search is
the control for that: whatever it gains is due to the area and not to the coordinates, and gains of other
samplers count only beyond it.

**What counts.** Trials until the best error so far is within 10 % (relative) of the lowest on the whole
lattice; a search that does not get there counts as LIMIT + 1. The main number is, per sampler, the ratio
of the mean numbers of trials, γ over λ, with a bootstrap 95 % interval over repeats, divided by the ratio
of the random control.

**Predictions**, written before anything was measured:

1. Random search: a ratio of 0.8 to 1.25, as many good settings in the one area as in the other.
2. TPE one coordinate at a time (Optuna 4's default), which cannot follow a slanted valley: ratio beyond
   the control's of 0.6 to 0.9, its interval below 1.
3. TPE multivariate (ours): it can follow a little; 0.75 to 1.0.
4. GP, with a length scale per axis, none for a slant: 0.7 to 0.95, its interval below 1.

These were written for 30 epochs. The second landscape was added after a look at the first, in which the
valley hardly slants, and before its own measurement: the same predictions, and

5. With 150 epochs the control-corrected ratio of each sampler of 2 to 4 is lower than with 30.

A confirmed 2 and 4 is the case for γ as default. With fewer, γ stays the default only as the number that
means something by itself (1/γ is the decay's memory in steps), and the documentation says so.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from adamantine.report.files import write_atomic
from adamantine.report.model import Floats
from adamantine.study.cell import Cell
from adamantine.study.methods import parse
from adamantine.study.ranges import default_lrs, default_weight_decays
from adamantine.study.tune import Space, engine
from adamantine.study.tune.space import COORDINATES, Coordinates, space

RESULTS = Path(__file__).parent / "results"
EPOCHS = (30, 150)
STEP = 1 / 12  # of a decade, of both lattice axes
SEEDS = (0, 1, 2)

LR = default_lrs(parse("AdamW"))
DECAY = [value for value in default_weight_decays(parse("AdamW"), "decoupled") if value]
WIDTH = {"lr": math.log10(LR[-1] / LR[0]), "decay": math.log10(DECAY[-1] / DECAY[0])}  # decades
MIDDLE = {
    "lr": math.log10(LR[-1] * LR[0]) / 2,
    "decay": math.log10(DECAY[-1] * DECAY[0]) / 2,
}


def landscape_file(epochs: int) -> Path:
    """Where the landscape of so many epochs is kept."""
    return RESULTS / f"coordinates-{epochs}-epochs.json"


def lattice() -> tuple[Floats, Floats]:
    """Distances from the middle in decades, of log10 lr and log10 λ, to beyond the rim of both areas."""
    return tuple(  # type: ignore[return-value]
        STEP * np.arange(-(count := math.ceil(half / STEP - 1e-9)), count + 1)
        for half in (WIDTH["lr"] / 2, (WIDTH["decay"] + WIDTH["lr"]) / 2)
    )


def needed(x: float, y: float) -> bool:
    """Whether a search in one of the two areas may ask for this point or for one of its neighbours."""
    half = WIDTH["decay"] / 2 + 2 * STEP
    return abs(y) < half or abs(x + y) < half


def measure() -> None:
    """Trains every lattice point that is needed, with every seed: a row of one lr is one batch."""
    from adamantine.study.ensemble import train
    from adamantine.study.task import Settings
    from adamantine.study.tasks import load

    xs, ys = lattice()
    decays = [float(f"{10 ** (MIDDLE['decay'] + y):.6g}") for y in ys]
    lrs = [float(f"{10 ** (MIDDLE['lr'] + x):.6g}") for x in xs]
    for epochs in EPOCHS:
        task = load("digits", Settings(epochs=epochs))
        scores: list[list[list[float] | None]] = []
        started = time.monotonic()
        for x, lr in zip(xs, lrs, strict=True):
            asked = [j for j, y in enumerate(ys) if needed(x, y)]
            cells = [Cell("AdamW", lr, decays[j], seed) for j in asked for seed in SEEDS]
            found = [run.validation if run.status == "ok" else 1.0 for run in train(task, cells)]
            row: list[list[float] | None] = [None] * len(ys)
            for place, j in enumerate(asked):
                row[j] = found[place * len(SEEDS) : (place + 1) * len(SEEDS)]
            scores.append(row)
            took = time.monotonic() - started
            print(f"{epochs} epochs: {len(scores)} of {len(xs)} rows, {took:.0f} s", flush=True)
        content: dict[str, Any] = {
            "what": "validation error [lr, weight decay, seed]; null where no search looks; 1 where diverged",
            "command": "python benchmarks/coordinates.py measure",
            "task": "digits",
            "epochs": epochs,
            "seeds": SEEDS,
            "lr": lrs,
            "weight_decay": decays,
            "validation": scores,
        }
        RESULTS.mkdir(exist_ok=True)
        write_atomic(landscape_file(epochs), json.dumps(content).encode() + b"\n")


LIMIT = 40  # trials, as many as `adamantine tune` takes by default
BATCH = 8  # asked at once, likewise
GOALS = (1.05, 1.1, 1.2)  # times the lowest; the middle one is that of the predictions
REPEATS = {"random": 1000, "tpe": 100, "tpe-single": 100, "gp": 30}
RESAMPLED = 4000  # bootstrap


class Landscape:
    """The measured surface: mean over seeds, between lattice points bilinear in the logarithms."""

    def __init__(self, epochs: int) -> None:
        data = json.loads(landscape_file(epochs).read_text("utf-8"))
        self.scores = np.array(
            [[math.nan if seeds is None else np.mean(seeds) for seeds in row] for row in data["validation"]]
        )
        self.x, self.y = np.log10(data["lr"]), np.log10(data["weight_decay"])
        self.lowest = float(np.nanmin(self.scores))

    def __call__(self, lr: float, decay: float) -> float:
        """The error relative to the lowest."""
        i, u = self._place(math.log10(lr), self.x)
        j, v = self._place(math.log10(decay), self.y)
        corners = self.scores[i : i + 2, j : j + 2]
        weights = np.outer((1 - u, u), (1 - v, v))
        score = float((weights * corners).sum())
        assert math.isfinite(score), (lr, decay)
        return score / self.lowest

    @staticmethod
    def _place(value: float, axis: Floats) -> tuple[int, float]:
        place = (value - axis[0]) / (axis[1] - axis[0])
        index = min(max(int(place), 0), len(axis) - 2)
        return index, place - index


@cache
def space_of(coordinates: Coordinates) -> Space:
    """What `adamantine tune` searches."""
    return space(parse("AdamW"), "decoupled", coordinates=coordinates)


def sampler_of(name: str, seed: int) -> Any:
    """Optuna's, set as `adamantine tune` sets it; ``tpe-single`` treats one coordinate at a time."""
    from optuna import samplers

    makers: dict[str, Callable[[], Any]] = {
        "random": lambda: samplers.RandomSampler(seed=seed),
        "tpe": lambda: samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True),
        "tpe-single": lambda: samplers.TPESampler(seed=seed, multivariate=False, constant_liar=True),
        "gp": lambda: samplers.GPSampler(seed=seed),
    }
    with engine.quiet():
        return makers[name]()


def one_search(landscape: Landscape, sampler: str, coordinates: Coordinates, seed: int) -> list[float]:
    """The errors of the trials, relative to the lowest, in their order."""
    import optuna

    found: list[float] = []
    searched = space_of(coordinates)
    with engine.quiet():
        study = optuna.create_study(sampler=sampler_of(sampler, seed))
        while len(found) < LIMIT:
            trials = [study.ask() for _ in range(BATCH)]
            for trial in trials:
                searched.suggest(trial)
            for trial in trials:
                setting = searched.setting(trial.params)
                found.append(landscape(setting.lr, setting.weight_decay))
                study.tell(trial, found[-1])
    return found


def search() -> None:
    """Repeats each search that has no results yet; a file per sampler: several may run side by side."""
    for sampler in sys.argv[2:] or REPEATS:
        content: dict[str, Any] = {
            "what": "trials until a search is within 5, 10, 20 % of the lowest error, 41: not in 40,"
            " [repeat][goal]; and the lowest error so far over the lowest, mean over repeats, [trial]",
            "command": f"python benchmarks/coordinates.py search {sampler}",
        }
        if searched_file(sampler).exists():
            content |= json.loads(searched_file(sampler).read_text("utf-8"))
        for epochs in EPOCHS:
            if not landscape_file(epochs).exists():
                continue
            landscape = Landscape(epochs)
            for coordinates in COORDINATES:
                if f"{epochs} {coordinates}" in content:
                    continue
                started = time.monotonic()
                runs = [
                    np.minimum.accumulate(one_search(landscape, sampler, coordinates, seed)).round(4)
                    for seed in range(REPEATS[sampler])
                ]
                content[f"{epochs} {coordinates}"] = condensed(np.array(runs))
                took = time.monotonic() - started
                print(f"{sampler}, {epochs} epochs, {coordinates}: {took:.0f} s", flush=True)
                write_atomic(searched_file(sampler), json.dumps(content).encode() + b"\n")


def condensed(runs: Floats) -> dict[str, Any]:
    """What is kept of ``[repeat, trial]``, the lowest relative errors so far."""
    first = np.stack([trials_to(goal, runs) for goal in GOALS], 1)
    mean = [round(float(x), 4) for x in runs.mean(0)]
    return {"first": first.astype(int).tolist(), "mean": mean}


def searched_file(sampler: str) -> Path:
    """Where the searches of a sampler are kept."""
    return RESULTS / f"coordinates-{sampler}.json"


def trials_to(goal: float, runs: Floats) -> Floats:
    """``[repeat]``: the number of the first trial at the goal, LIMIT + 1 where there is none."""
    reached = runs <= goal + 1e-9
    return np.where(reached.any(1), reached.argmax(1) + 1.0, LIMIT + 1.0)


def bootstrap(seed: int, *samples: Floats) -> Floats:
    """``[resample, sample]``: means of samples drawn again with replacement, each by itself."""
    rng = np.random.default_rng(seed)
    return np.stack(
        [sample[rng.integers(0, len(sample), (RESAMPLED, len(sample)))].mean(1) for sample in samples], 1
    )


def interval(values: Floats) -> tuple[float, float]:
    """95 %, by percentiles."""
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def counts(sampler: str, epochs: int) -> dict[str, Floats]:
    """``{coordinates: [repeat, goal]}``, numbers of trials; empty where it was not run."""
    if not searched_file(sampler).exists():
        return {}
    content = json.loads(searched_file(sampler).read_text("utf-8"))
    if any(f"{epochs} {c}" not in content for c in COORDINATES):
        return {}
    return {c: np.array(content[f"{epochs} {c}"]["first"], np.float64) for c in COORDINATES}


class Ratio:
    """Mean number of trials, γ over λ, for one sampler, landscape and goal."""

    def __init__(self, sampler: str, epochs: int, goal: int) -> None:
        found = counts(sampler, epochs)
        samples = [found[c][:, goal] for c in COORDINATES]
        self.repeats = len(samples[0])
        self.means = [float(sample.mean()) for sample in samples]
        self.value = self.means[0] / self.means[1]
        resampled = bootstrap(sum(map(ord, sampler)), *samples)
        self.resampled = resampled[:, 0] / resampled[:, 1]
        self.low, self.high = interval(self.resampled)

    def beyond(self, control: Ratio) -> tuple[float, float, float]:
        """The ratio over that of the control, with its interval."""
        return (self.value / control.value, *interval(self.resampled / control.resampled))


def table() -> None:
    """Markdown: mean numbers of trials to the goals, and their ratios."""
    for epochs in EPOCHS:
        landscape = Landscape(epochs)
        areas = {c: area_share(landscape, c) for c in COORDINATES}
        print(f"\n{epochs} epochs, lowest error {100 * landscape.lowest:.2f} %")
        for k, goal in enumerate(GOALS):
            shares = ", ".join(f"{c} {areas[c][k]:.1%}" for c in COORDINATES)
            print(f"\nwithin {goal - 1:.0%}; share of the area: {shares}\n")
            print("| sampler | repeats | γ | λ | γ / λ (95 %) | beyond the control (95 %) |")
            print("|---|---|---|---|---|---|")
            control = Ratio("random", epochs, k)
            for sampler in REPEATS:
                if not counts(sampler, epochs):
                    continue
                ratio = Ratio(sampler, epochs, k)
                value, low, high = ratio.beyond(control)
                words = "–" if sampler == "random" else f"{value:.2f} ({low:.2f} to {high:.2f})"
                print(
                    f"| {sampler} | {ratio.repeats} | {ratio.means[0]:.1f} | {ratio.means[1]:.1f} | "
                    f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) | {words} |"
                )


def area_share(landscape: Landscape, coordinates: Coordinates) -> list[float]:
    """The share of the searched area that lies within each goal."""
    searched = space_of(coordinates)
    (lr_low, lr_high), (low, high) = searched.axes().values()
    places = (np.arange(100) + 0.5) / 100
    scores = np.array(
        [
            landscape(s.lr, s.weight_decay)
            for u in places
            for v in places
            for s in [
                searched.setting(
                    {"lr": lr_low * (lr_high / lr_low) ** u, searched.axis: low * (high / low) ** v}
                )
            ]
        ]
    )
    return [float((scores <= goal).mean()) for goal in GOALS]


def figure() -> None:
    """docs/images/tune-coordinates-{light,dark}.png: the landscapes with both areas, and the ratios."""
    from adamantine.report.svg import themed

    images = Path(__file__).parent.parent / "docs" / "images"
    for name, content in themed("tune-coordinates", draw):
        if name.endswith(".png"):
            write_atomic(images / name, content)


def draw(theme: Any) -> Any:
    """A row per landscape."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    drawn = Figure((11, 8.6), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    axes = drawn.subplots(len(EPOCHS), 2, width_ratios=(1, 1.1))
    for (left, right), epochs in zip(axes, EPOCHS, strict=True):
        draw_landscape(left, Landscape(epochs), epochs, theme)
        draw_ratios(right, epochs, theme)
    return drawn


def draw_landscape(ax: Any, landscape: Landscape, epochs: int, theme: Any) -> None:
    """Errors over lr and λ, with the rectangle and the parallelogram that are searched."""
    from matplotlib.ticker import FuncFormatter

    from adamantine.report.numbers import setting
    from adamantine.report.theme import COLOUR_MAP, METHOD_COLOURS

    shown = ax.pcolormesh(
        landscape.x,
        landscape.y,
        np.ma.masked_invalid(100 * landscape.scores.T),
        cmap=COLOUR_MAP,
        vmin=100 * landscape.lowest,
        vmax=200 * landscape.lowest,
        shading="nearest",
        rasterized=True,
    )
    ax.figure.colorbar(shown, ax=ax, extend="max", label="validation error (%)")
    for index, coordinates in enumerate(COORDINATES):
        searched = space_of(coordinates)
        (lr_low, lr_high), (low, high) = searched.axes().values()
        corners = [(lr_low, low), (lr_high, low), (lr_high, high), (lr_low, high), (lr_low, low)]
        settings = [searched.setting({"lr": lr, searched.axis: s}) for lr, s in corners]
        ax.plot(
            [math.log10(s.lr) for s in settings],
            [math.log10(s.weight_decay) for s in settings],
            color=METHOD_COLOURS[5 * index],
            linewidth=2.4,
            linestyle=("-", "--")[index],
            label=("γ coordinates", "λ coordinates")[index],
        )
    i, j = np.unravel_index(int(np.nanargmin(landscape.scores)), landscape.scores.shape)
    ax.plot(
        landscape.x[i], landscape.y[j], marker="*", markersize=14, color="#1b2026", markeredgecolor="#fefefe"
    )
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda place, _: setting(10**place)))
        axis.set_major_locator(_whole())
    ax.set_xlabel("learning rate")
    ax.set_ylabel("weight decay λ")
    ax.legend(loc="lower left", fontsize=9)
    ax.set_title(f"{epochs} epochs: error over lr and λ")


def _whole() -> Any:
    from matplotlib.ticker import MultipleLocator

    return MultipleLocator(1.0)


def draw_ratios(ax: Any, epochs: int, theme: Any) -> None:
    """γ over λ, per sampler and goal, with intervals; left of 1 is a saving."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    from adamantine.report.theme import METHOD_COLOURS

    names = [name for name in REPEATS if counts(name, epochs)]
    words = {
        "random": "random (control)",
        "tpe": "TPE multivariate",
        "tpe-single": "TPE, one by one",
        "gp": "GP",
    }
    for row, name in enumerate(names):
        for place, goal in enumerate((1, 2)):
            ratio = Ratio(name, epochs, goal)
            y = -row + (0.14, -0.14)[place]
            ax.errorbar(
                ratio.value,
                y,
                xerr=[[ratio.value - ratio.low], [ratio.high - ratio.value]],
                color=METHOD_COLOURS[(0, 1)[place]],
                marker=("o", "s")[place],
                capsize=3,
                linewidth=1.8,
                label=f"to within {GOALS[goal] - 1:.0%} of the lowest" if row == 0 else None,
            )
    ax.axvline(1, color=theme.ink, linewidth=1)
    ax.set_xscale("log")
    ax.set_xlim(0.45, 2.2)
    ax.set_xticks([0.5, 0.7, 1, 1.4, 2])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_yticks([-row for row in range(len(names))], [words[name] for name in names])
    ax.set_ylim(-len(names) + 0.5, 0.95)
    ax.set_xlabel("trials in γ ÷ trials in λ, 95 %; below 1, γ saves")
    ax.legend(
        loc="upper left", fontsize=9, framealpha=1, frameon=True, edgecolor="none", facecolor=theme.surface
    )
    ax.grid(visible=True, axis="x")
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_title(f"{epochs} epochs: does γ save trials?")


if __name__ == "__main__":
    {"measure": measure, "search": search, "table": table, "figure": figure}[sys.argv[1]]()
