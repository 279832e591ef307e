"""From a manifest and the journal's results to the comparison that reports show. Needs no torch."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adamantine.report.model import Comparison, Curves, Difference, Floats, MethodGrid, Setting
from adamantine.report.words import Words
from adamantine.study import sentences, statistics
from adamantine.study.cell import Cell
from adamantine.study.errors import StudyError
from adamantine.study.folder import read_manifest, read_results
from adamantine.study.plan import (
    Method,
    Plan,
    Results,
    cells,
    grown,
    plan_from_dict,
    validation_scores,
)
from adamantine.study.refine import Search, refinement, search
from adamantine.study.separability import of_grid
from adamantine.study.stages import confirmation, wanted

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
    methods = [_method_grid(method, plan, results) for method in plan.methods]
    tolerance = statistics.paired_spread([m.validation for m in methods])
    methods = [
        dataclasses.replace(m, basin=statistics.basin(m.validation, m.best, tolerance)) if m.best else m
        for m in methods
    ]
    task = manifest["task"]
    unsaid = Words("", "")
    comparison = Comparison(
        task=plan.task,
        task_title=task["title"],
        score_name=task["score_name"],
        score_unit=task["score_unit"],
        methods=tuple(methods),
        differences=_differences(methods),
        answer=unsaid,
        advice=(),
        basin_rule=unsaid,
        manifest=manifest,
        steps_per_epoch=_steps_per_epoch(manifest),
        separability=tuple(scored for method in methods for scored in of_grid(method)),
    )
    open_cells = sum(len(wanted(method, plan, results)) for method in plan.methods)
    failed = [result for result in results.values() if result.status == "failed"]
    return dataclasses.replace(
        comparison,
        answer=sentences.answer(comparison),
        advice=sentences.advice(comparison, open_cells, failed),
        basin_rule=sentences.basin_rule(comparison, tolerance, len(plan.seeds)),
    )


def _steps_per_epoch(manifest: Mapping[str, Any]) -> int | None:
    """Whole batches only, as they are trained; ``None`` where the manifest does not say."""
    examples, batch_size = manifest.get("data", {}).get("train"), manifest["task"].get("batch_size")
    return max(int(examples) // int(batch_size), 1) if examples and batch_size else None


def _method_grid(planned: Method, plan: Plan, results: Results) -> MethodGrid:
    seeds, method = plan.seeds, grown(planned, plan, results)
    validation = validation_scores(method, seeds, results)
    found = [results.get(cell) for cell in cells(method, seeds)]
    test = np.array([r.test if r else math.nan for r in found]).reshape(validation.shape)
    diverged = np.array([r is not None and r.status == "diverged" for r in found]).reshape(validation.shape)
    tried = search(method, seeds, results, plan.refine)
    best = _on_grid(method, tried.best_setting) or statistics.choose(validation)
    finer, finest = _finer(method, plan, results, tried)
    confirmed = [results.get(cell) for cell in confirmation(planned, plan, results)]
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
        edges=tried.edges,
        basin=np.zeros(validation.shape[:2], np.bool_),
        curves=_curves(method, tried.best_setting, seeds, results) if tried.best_setting else None,
        fresh_seeds=plan.fresh_seeds if confirmed else (),
        fresh=np.array([r.test if r else math.nan for r in confirmed]),
        finer=finer,
        finest=finest,
    )
    if best is None:
        return grid
    judged = list(grid.judged.values())
    return dataclasses.replace(grid, at_best=statistics.estimate(judged) if judged else None)


def _on_grid(method: Method, setting: tuple[float, float] | None) -> tuple[int, int] | None:
    """Where the setting stands on the grid. Refinement may prefer another of several that tie."""
    if setting is None or setting[0] not in method.lrs or setting[1] not in method.weight_decays:
        return None
    return method.lrs.index(setting[0]), method.weight_decays.index(setting[1])


def _finer(
    method: Method, plan: Plan, results: Results, tried: Search
) -> tuple[tuple[Setting, ...], Setting | None]:
    """The refinement's settings that every seed is done with, and which of them is the best of all."""
    by_setting: dict[tuple[float, float], list[Cell]] = {}
    for cell in refinement(method, plan.seeds, results, plan.refine):
        by_setting.setdefault((cell.lr, cell.weight_decay), []).append(cell)
    found = {}
    for setting, its in by_setting.items():
        runs = [results[cell] for cell in its if cell in results]
        if len(runs) == len(its):
            scores = (np.array([run.validation for run in runs]), np.array([run.test for run in runs]))
            found[setting] = Setting(*setting, *scores)
    best = tried.best_setting
    return tuple(found.values()), found.get(best) if best else None


def _curves(method: Method, best: tuple[float, float], seeds: tuple[int, ...], results: Results) -> Curves:
    runs = [results[Cell(method.spec, *best, seed)].curves for seed in seeds]
    longest = max(runs, key=lambda run: len(run["epoch"]))["epoch"]
    rows: dict[str, Floats] = {name: np.full((len(seeds), len(longest)), math.nan) for name in CURVES}
    for index, run in enumerate(runs):
        for name in CURVES:
            rows[name][index, : len(run[name])] = run[name]
    return Curves(epoch=np.array(longest), **rows)


def _differences(methods: list[MethodGrid]) -> tuple[Difference, ...]:
    """Every pair, the one with the lower mean test score first."""
    ranked = sorted((m for m in methods if m.at_best), key=sentences.mean_test)
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
