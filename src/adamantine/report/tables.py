"""What the page's tables say, in words: one view per row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adamantine.report import coordinates as system
from adamantine.report.article import FEATURES, OPTIMIZERS, Optimizer, adam_l2, adamw
from adamantine.report.basin import widths
from adamantine.report.model import Comparison, Difference, MethodGrid
from adamantine.report.numbers import Scores, printable, setting
from adamantine.report.phrases import counted, fill, scores_of, verdict
from adamantine.report.separability_model import MEANINGS, NAMES, Score
from adamantine.report.testscores import nothing
from adamantine.report.theme import Stroke, stroke
from adamantine.report.words import Language, Words

NONE = "–"

_EDGES = {
    "lr low": Words("best at the lowest learning rate of its grid", "最佳设置在网格最低的学习率上"),
    "lr high": Words("best at the highest learning rate of its grid", "最佳设置在网格最高的学习率上"),
    "weight_decay low": Words(
        "best at the lowest weight decay of its grid", "最佳设置在网格最小的权重衰减上"
    ),
    "weight_decay high": Words(
        "best at the highest weight decay of its grid", "最佳设置在网格最大的权重衰减上"
    ),
}

#: Decay modes with their names and what they do.
DECAYS = {
    "none": (Words("none", "无"), Words("No decay: λ is not used.", "没有衰减：不使用 λ。")),
    "l2": (
        Words("l2", "L2（耦合）"),
        Words(
            "The penalty λ‖θ‖²/2 is part of the loss: λθ joins the gradient and goes through the update "
            "rule.",
            "惩罚项 λ‖θ‖²/2 属于损失函数：λθ 并入梯度，并经过更新规则。",
        ),
    ),
    "decoupled": (
        Words("decoupled", "解耦"),
        Words(
            "Every step multiplies the weights by 1 − ηλ, outside the update rule.",
            "每一步在更新规则之外把权重乘以 1 − ηλ。",
        ),
    ),
    "independent": (
        Words("independent", "独立"),
        Words(
            "Every step multiplies the weights by 1 − (η/η_max)λ: it follows the schedule, not the size of "
            "the learning rate.",
            "每一步把权重乘以 1 − (η/η_max)λ：跟随学习率的调度，而与学习率的大小无关。",
        ),
    ),
    "corrected": (
        Words("corrected", "修正"),
        Words("Every step multiplies the weights by 1 − (η²/η_max)λ.", "每一步把权重乘以 1 − (η²/η_max)λ。"),
    ),
    "cautious": (
        Words("cautious", "谨慎"),
        Words(
            "Like decoupled, only where the update does not already grow the weight.",
            "与解耦相同，但只作用于更新方向没有使其增大的权重。",
        ),
    ),
}


@dataclass(frozen=True)
class MethodView:
    """One method's row: what was measured at its own best setting."""

    index: int  # place in the comparison: gives colour and maps
    name: str
    spec: str  # what the command line took, where it says more than the name
    stroke: Stroke
    decay: str
    lr: str
    weight_decay: str
    per_step: str  # γ
    timescale: str  # τ in steps, "" where the decay has none
    epochs: str  # τ in epochs
    score: str
    interval: str
    seeds: str
    basin: str
    basin_lrs: str
    basin_decays: str
    diverged: str
    any_diverged: bool
    edges: list[str]
    validation: str  # mean validation score at the best setting
    nothing: str  # what stands where a score is missing

    @classmethod
    def of(cls, comparison: Comparison, index: int, language: Language) -> MethodView:
        method, scores = comparison.methods[index], scores_of(comparison, language)
        chosen, cells = method.chosen, method.basin.size
        diverged = int(method.diverged.any(axis=2).sum())
        tau = None if chosen is None else system.timescale(method, chosen.lr, chosen.weight_decay)
        rate = None if chosen is None else system.per_step(method, chosen.lr, chosen.weight_decay)
        of_all = Words("{n} of {all}", "{all} 组中的 {n} 组")
        octaves = Words("{n} octaves", "{n} 个二倍程")

        def wide(width: str) -> str:
            return fill(octaves, n=width).of(language) if width[-1].isdigit() else WIDTHS[width].of(language)

        lrs, decays = widths(method)
        return cls(
            index=index,
            name=printable(method.name),
            spec="" if method.spec == method.name else printable(method.spec),
            stroke=stroke(index),
            decay=_decay_name(method).of(language),
            lr=NONE if chosen is None else setting(chosen.lr),
            weight_decay=NONE if chosen is None else setting(chosen.weight_decay),
            per_step=NONE if rate is None else setting(rate),
            timescale="" if tau is None else _count(tau, "step").of(language),
            epochs=_epochs(tau, comparison.steps_per_epoch, language),
            score="" if method.at_best is None else scores.mean(method.at_best),
            interval="" if method.at_best is None else scores.mean_interval(method.at_best),
            seeds=counted(len(method.judged), "seed").of(language),
            basin=""
            if chosen is None or not method.basin.any()
            else fill(
                Words("{n} of {all} settings", "{all} 组设置中的 {n} 组"),
                n=str(int(method.basin.sum())),
                all=str(cells),
            ).of(language),
            basin_lrs=wide(lrs),
            basin_decays=wide(decays),
            diverged=(fill(of_all, n=str(diverged), all=str(cells)) if diverged else Words("none", "无")).of(
                language
            ),
            any_diverged=bool(diverged),
            edges=[_EDGES[e].of(language) if e in _EDGES else printable(e) for e in method.edges],
            validation="" if chosen is None else scores.value(float(chosen.validation.mean())),
            nothing=nothing(method).of(language),
        )


#: What a width says that is no number.
WIDTHS = {
    NONE: Words(NONE, NONE),
    "at rim": Words("at rim", "在边缘"),
    "< 1 step": Words("< 1 step", "不到一格"),
}


def _decay_name(method: MethodGrid) -> Words:
    if method.decay in DECAYS:
        return DECAYS[method.decay][0]
    return (
        Words(printable(method.decay), printable(method.decay)) if method.decay else Words("its own", "自带")
    )


def _count(value: float, noun: str) -> Words:
    chinese = {"step": "步", "epoch": "轮"}[noun]
    return Words(f"{system.steps(value)} {noun}s", f"{system.steps(value)} {chinese}")


def _epochs(tau: float | None, steps_per_epoch: int | None, language: Language) -> str:
    return _count(tau / steps_per_epoch, "epoch").of(language) if tau and steps_per_epoch else ""


@dataclass(frozen=True)
class DifferenceView:
    """One pair of methods with its verdict."""

    a: str
    b: str
    difference: str
    interval: str
    seeds: str
    verdict: str
    decided: bool

    @classmethod
    def of(cls, difference: Difference, scores: Scores) -> DifferenceView:
        estimate = difference.estimate
        said = verdict(difference.a, difference.b, difference.verdict)
        return cls(
            a=printable(difference.a),
            b=printable(difference.b),
            difference=scores.difference(estimate),
            interval=scores.interval(estimate),
            seeds=counted(estimate.n, "seed").of(scores.language),
            verdict=printable(said.of(scores.language)),
            decided=difference.verdict != "not decided",
        )


@dataclass(frozen=True)
class ArticleRow:
    """A row of the article's table: of its own words, or of this run's numbers."""

    name: str
    adam_l2: str
    adamw: str


@dataclass(frozen=True)
class ArticleTable:
    """The article's table of Adam with L2 and AdamW, and what this run measured of it."""

    words: list[ArticleRow]
    numbers: list[ArticleRow]
    verdict: DifferenceView | None

    @classmethod
    def of(
        cls, comparison: Comparison, views: Sequence[MethodView], language: Language
    ) -> ArticleTable | None:
        """``None`` where the run has neither of the two."""
        places = [_first(comparison, is_meant) for is_meant in (adam_l2, adamw)]
        if places == [None, None]:
            return None
        a, b = (None if place is None else views[place] for place in places)
        score = fill(Words("Test {score}", "测试{score}"), score=scores_of(comparison, language).name)
        rows: list[tuple[Words, str]] = [
            (score, "score"),
            (Words("Best learning rate η", "最佳学习率 η"), "lr"),
            (Words("Best weight decay λ", "最佳权重衰减 λ"), "weight_decay"),
            (Words("Decay per step γ = ηλ", "每步衰减 γ = ηλ"), "per_step"),
            (Words("Timescale τ = 1/γ", "时间尺度 τ = 1/γ"), "timescale"),
            (Words("Basin of good settings", "好设置的盆地"), "basin"),
        ]
        return cls(
            [ArticleRow(f.name.of(language), f.adam_l2.of(language), f.adamw.of(language)) for f in FEATURES],
            [ArticleRow(name.of(language), _value(a, field), _value(b, field)) for name, field in rows],
            _verdict(comparison, places, scores_of(comparison, language)),
        )


def _value(view: MethodView | None, field: str) -> str:
    """Of the method, a dash where the run has not got it."""
    if view is None:
        return NONE
    found = str(getattr(view, field))
    return f"{found} = {view.epochs}" if field == "timescale" and view.epochs else found or NONE


def _verdict(comparison: Comparison, places: Sequence[int | None], scores: Scores) -> DifferenceView | None:
    names = {comparison.methods[place].name for place in places if place is not None}
    pairs = [d for d in comparison.differences if {d.a, d.b} == names]
    return DifferenceView.of(pairs[0], scores) if pairs else None


def _first(comparison: Comparison, is_meant: Callable[[MethodGrid], bool]) -> int | None:
    return next((i for i, method in enumerate(comparison.methods) if is_meant(method)), None)


def not_measured(comparison: Comparison) -> list[Optimizer]:
    """The article's optimizers that this run has not got."""
    return [one for one in OPTIMIZERS if _first(comparison, one.is_meant) is None]


@dataclass(frozen=True)
class ScoreView:
    """One score of separability: a number, its interval, and the number of the note below the table."""

    value: str
    interval: str
    note: int | None


@dataclass(frozen=True)
class SeparabilityView:
    """One method: number of the score → the score in λ and in γ."""

    name: str
    stroke: Stroke
    scores: dict[str, list[ScoreView]]


@dataclass(frozen=True)
class SeparabilityTable:
    """All methods, and the notes that their scores refer to by number, from 1."""

    methods: list[SeparabilityView]
    notes: list[str]

    @classmethod
    def of(cls, comparison: Comparison, language: Language) -> SeparabilityTable:
        notes: dict[str, int] = {}

        def view(score: Score) -> ScoreView:
            note = printable(score.note.of(language))
            number = notes.setdefault(note, len(notes) + 1) if note else None
            return ScoreView(_signed(score.value), _interval(score), number)

        views = []
        for index, method in enumerate(comparison.methods):
            both = [one for one in comparison.separability if one.method == method.name]
            if both and method.best is not None:
                scores = {number: [view(one.scores[number]) for one in both] for number in NAMES}
                views.append(SeparabilityView(printable(method.name), stroke(index), scores))
        return cls(views, list(notes))


def _interval(score: Score) -> str:
    known = not math.isnan(score.low + score.high)
    return f"[{_signed(score.low)}, {_signed(score.high)}]" if known else ""


def _signed(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def score_names(language: Language) -> dict[str, tuple[str, str]]:
    """Number → name and meaning of the scores of separability."""
    return {number: (NAMES[number].of(language), MEANINGS[number].of(language)) for number in NAMES}
