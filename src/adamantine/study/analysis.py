"""From a manifest and the journal's results to the comparison that reports show. Needs no torch."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adamantine.report.model import Comparison, Curves, Difference, Floats, MethodGrid
from adamantine.report.numbers import Scores, counted, setting
from adamantine.study import statistics
from adamantine.study.errors import StudyError
from adamantine.study.folder import read_manifest, read_results
from adamantine.study.plan import (
    Method,
    Plan,
    Results,
    cells,
    confirmation,
    grown,
    plan_from_dict,
    validation_scores,
    wanted,
)
from adamantine.study.ranges import extended

RIVALS = 2  # that the answer names
CURVES = ("train_loss", "validation", "norm")


def read(path: Path) -> Comparison:
    """The comparison that a run folder holds; trains nothing."""
    manifest = read_manifest(path)
    try:
        return analyse(manifest, read_results(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyError(
            f"{path}: its manifest is damaged ({error}); run the comparison again with another --out"
        ) from error


def analyse(manifest: Mapping[str, Any], results: Results) -> Comparison:
    """The comparison as far as the results go; cells that are not done are NaN and are never chosen."""
    plan = plan_from_dict(manifest["configuration"])
    methods = [_method_grid(grown(method, plan, results), plan, results) for method in plan.methods]
    tolerance = statistics.paired_spread([m.validation for m in methods])
    methods = [
        dataclasses.replace(m, basin=statistics.basin(m.validation, m.best, tolerance)) if m.best else m
        for m in methods
    ]
    task = manifest["task"]
    comparison = Comparison(
        task=plan.task,
        task_title=task["title"],
        score_name=task["score_name"],
        score_unit=task["score_unit"],
        methods=tuple(methods),
        differences=_differences(methods),
        answer="",
        advice=(),
        basin_rule="",
        manifest=manifest,
    )
    shown = Scores.of(comparison)
    return dataclasses.replace(
        comparison,
        answer=_answer(comparison, shown),
        advice=tuple(_advice(comparison, shown, plan, results)),
        basin_rule=_basin_rule(shown, tolerance, len(plan.seeds)),
    )


def _method_grid(method: Method, plan: Plan, results: Results) -> MethodGrid:
    seeds = plan.seeds
    validation = validation_scores(method, seeds, results)
    found = [results.get(cell) for cell in cells(method, seeds)]
    test = np.array([r.test if r else math.nan for r in found]).reshape(validation.shape)
    diverged = np.array([r is not None and r.status == "diverged" for r in found]).reshape(validation.shape)
    best = statistics.choose(validation)
    confirmed = [results.get(cell) for cell in confirmation(method, plan, results)]
    grid = MethodGrid(
        name=method.name,
        spec=method.spec,
        decay=method.decay,
        lrs=method.lrs,
        weight_decays=method.weight_decays,
        seeds=seeds,
        validation=validation,
        test=test,
        diverged=diverged,
        best=best,
        at_best=None,
        edges=statistics.edges(best, method.lrs, method.weight_decays) if best else (),
        basin=np.zeros(validation.shape[:2], np.bool_),
        curves=_curves(method, best, seeds, results) if best else None,
        fresh_seeds=plan.fresh_seeds if confirmed else (),
        fresh=np.array([r.test if r else math.nan for r in confirmed]),
    )
    if best is None:
        return grid
    judged = list(grid.judged.values())
    return dataclasses.replace(grid, at_best=statistics.estimate(judged) if judged else None)


def _curves(method: Method, best: tuple[int, int], seeds: tuple[int, ...], results: Results) -> Curves:
    one = dataclasses.replace(
        method, lrs=(method.lrs[best[0]],), weight_decays=(method.weight_decays[best[1]],)
    )
    runs = [results[cell].curves for cell in cells(one, seeds)]
    longest = max(runs, key=lambda run: len(run["epoch"]))["epoch"]
    rows: dict[str, Floats] = {name: np.full((len(seeds), len(longest)), math.nan) for name in CURVES}
    for index, run in enumerate(runs):
        for name in CURVES:
            rows[name][index, : len(run[name])] = run[name]
    return Curves(epoch=np.array(longest), **rows)


def _differences(methods: list[MethodGrid]) -> tuple[Difference, ...]:
    """Every pair, the one with the lower mean test score first."""
    ranked = sorted((m for m in methods if m.at_best), key=_mean_test)
    pairs = itertools.combinations(ranked, 2)
    return statistics.together([_difference(a, b) for a, b in pairs])


def _difference(a: MethodGrid, b: MethodGrid) -> Difference:
    """Over the seeds that both are judged by. Nothing is decided where one of them lost seeds, or where the
    worse one might do better outside its grid."""
    scores_a, scores_b = a.judged, b.judged
    both = sorted(scores_a.keys() & scores_b.keys())
    found = statistics.difference(a.name, b.name, [scores_a[s] for s in both], [scores_b[s] for s in both])
    worse = b if found.estimate.mean < 0 else a
    if a.unjudged or b.unjudged or worse.edges:
        return dataclasses.replace(found, verdict=statistics.UNDECIDED)
    return found


def _mean_test(method: MethodGrid) -> float:
    return method.at_best.mean if method.at_best else math.inf


def _answer(comparison: Comparison, shown: Scores) -> str:
    """Who is best and by how much, or that nobody is; the intervals stand in the table of differences."""
    ranked = sorted((m for m in comparison.methods if m.at_best), key=_mean_test)
    if not ranked:
        return "No method has a setting that every seed finished."
    first = ranked[0]
    assert first.at_best is not None
    seeds = counted(len(first.judged), "seed")
    score = f"{shown.mean(first.at_best)} test {comparison.score_name}"
    behind = [d for d in comparison.differences if d.a == first.name]
    if not behind:
        return f"{first.name} reaches {score} at its own best setting ({seeds})."
    undecided = [d for d in behind if d.verdict == statistics.UNDECIDED]
    decided = [d for d in behind if d.verdict != statistics.UNDECIDED]
    if not undecided:
        return f"{first.name} is best: {score}, {_gaps(decided, shown)}, beyond the spread of {seeds}."
    if not decided:
        within = all(d.estimate.low <= 0 <= d.estimate.high for d in undecided)
        doubt = f"is within the spread of {seeds}" if within else f"decides nothing yet ({seeds}; see advice)"
        gaps = _gaps(undecided, shown)
        return f"Not decided: {first.name} comes out lowest with {score}, {gaps}, but that {doubt}."
    return (
        f"{first.name} comes out lowest with {score}: decidedly, {_gaps(decided, shown)}; not decided, "
        f"{_gaps(undecided, shown)} ({seeds})."
    )


def _gaps(differences: list[Difference], shown: Scores) -> str:
    """By how much the first is below the others, the nearest ones by name."""
    level = shown.number(0.0)
    parts = [
        f"level with {d.b}"
        if shown.number(abs(d.estimate.mean)) == level
        else f"{shown.gap(d.estimate)} below {d.b}"
        for d in differences[:RIVALS]
    ]
    if rest := len(differences) - RIVALS:
        parts += [f"more below {counted(rest, 'other')}"] if rest > 0 else []
    return " and ".join(parts)


def _basin_rule(shown: Scores, tolerance: float, seeds: int) -> str:
    if seeds < 2:
        return (
            "A setting is in the basin when its validation score equals the best's: one seed has no spread."
        )
    noise = shown.apart(tolerance)
    return (
        "A setting is in the basin when it is joined to the method's best by neighbours in the grid and its "
        f"validation score is on average at most {noise} above the best's: the standard deviation over seeds "
        "that pairing by seed leaves among each method's best settings, pooled."
    )


def _advice(comparison: Comparison, shown: Scores, plan: Plan, results: Results) -> list[str]:
    lines = []
    open_cells = sum(len(wanted(method, plan, results)) for method in plan.methods)
    if open_cells:
        lines.append(f"Not finished: {counted(open_cells, 'run')} still to do; the same command goes on.")
    for method in comparison.methods:
        lines += _method_advice(method, shown)
    lines += _pair_advice(comparison)
    for method in comparison.methods:
        unfinished = int(np.isnan(method.fresh).sum())
        if unfinished and not open_cells:
            lines.append(
                f"{method.name}: {unfinished} of {counted(len(method.fresh), 'fresh run')} at its best "
                "setting diverged or failed; its score is over the others."
            )
    failed = [result for result in results.values() if result.status == "failed"]
    for message in sorted({f"{result.cell.method}: {result.message}" for result in failed}):
        lines.append(f"Some runs failed and were left out: {message}")
    return lines


def _method_advice(method: MethodGrid, shown: Scores) -> list[str]:
    if method.best is None:
        runs = int(method.diverged.sum())
        if runs == 0:
            return []
        return [f"{method.name}: every setting diverged for some seed ({counted(runs, 'run')}); lower --lr."]
    i, j = method.best
    lines = [
        f"{method.name}: use lr={setting(method.lrs[i])}, weight_decay={setting(method.weight_decays[j])}; "
        f"with it, {int(method.basin.sum())} of {method.basin.size} settings are as good on validation."
    ]
    options = {"lr": ("--lr", method.lrs), "weight_decay": ("--weight-decay", method.weight_decays)}
    for edge in method.edges:
        axis, side = edge.split()
        option, values = options[axis]
        rim = values[0] if side == "low" else values[-1]
        inward = 1 if side == "low" else -1
        next_to = (i + inward, j) if axis == "lr" else (i, j + inward)
        flat = " (the next value inside is as good, so little may be gained)" if method.basin[next_to] else ""
        lines.append(
            f"{method.name}: its best {axis}, {setting(rim)}, is the {side}est tried{flat}; "
            f"grow the grid: {option} '{method.spec}={_wider(values, side)}', or a larger --grow."
        )
    if method.weight_decays[j] == 0 and len(method.weight_decays) > 1:
        alike = " (some weight decay did as well)" if method.basin[:, 1:].any() else ""
        lines.append(f"{method.name}: no weight decay did best here{alike}.")
    return lines


def _pair_advice(comparison: Comparison) -> list[str]:
    if not comparison.differences:
        return []
    lines = []
    edged = [m.name for m in comparison.methods if m.edges]
    if edged:
        lines.append(
            f"{', '.join(edged)}: not called worse than any other while its best is on its grid's edge."
        )
    first = comparison.differences[0]  # of the two with the lowest scores
    needed = statistics.seeds_to_decide(first.estimate)
    if first.verdict == statistics.UNDECIDED and needed and needed > first.estimate.n:
        option = "--confirm" if any(m.fresh_seeds for m in comparison.methods) else "--seeds"
        lines.append(
            f"A true difference as large as that seen between {first.a} and {first.b} would be decided four "
            f"times in five with about {needed} seeds ({option} {needed}). Choose the number once: to add "
            "seeds until something is decided finds differences that are not there."
        )
    if len(comparison.differences) > 1:
        lines.append(
            "Verdicts hold for all pairs together (Holm), each 95 % interval for its own pair. Both speak of "
            "other seeds on these data, not of other data."
        )
    return lines


def _wider(values: tuple[float, ...], side: str) -> str:
    """The axis with two more values on one side, as ``--lr`` and ``--weight-decay`` take it."""
    return ",".join(f"{value:g}" for value in extended(extended(values, side), side))
