"""Searches each method of a job, confirms its best on fresh seeds, writes the folder."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from adamantine.report.files import write_atomic
from adamantine.study.cell import Cell
from adamantine.study.errors import StudyError
from adamantine.study.folder import FIGURES, TABLE, opened
from adamantine.study.statistics import estimate
from adamantine.study.tune import engine, result
from adamantine.study.tune.plan import Candidate, Job
from adamantine.study.tune.result import Finding, Tried, Tuning
from adamantine.study.tune.search import Search, outcome_of
from adamantine.study.tune.space import Space
from adamantine.study.tune.training import Batched, Called, Reports, Runner, outcomes

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

CONFIRMED = "confirmed"  # user attribute of a study: the best trial's number and its fresh scores
CARRIED = "carried"  # user attribute of a trial that a narrower search had made: its number there
DATABASE = ("study.db", "study.db-wal", "study.db-shm")


class Watcher(Protocol):
    """Is told how a search goes on; see :mod:`adamantine.study.tune.console`."""

    def searching(self, name: str, space: Space, finished: int, wanted: int, best: Tried | None) -> None:
        """So many trials of a method are finished."""

    def training(self, name: str, share: float, trials: int) -> None:
        """A batch of so many trials has come to this share of its training."""

    def confirming(self, name: str) -> None:
        """The best setting is trained with fresh seeds."""


class Silent:
    """A watcher that shows nothing."""

    def searching(self, name: str, space: Space, finished: int, wanted: int, best: Tried | None) -> None: ...

    def training(self, name: str, share: float, trials: int) -> None: ...

    def confirming(self, name: str) -> None: ...


def run(
    job: Job,
    *,
    out: Path | None = None,
    storage: str | None = None,
    fresh: bool = False,
    runner: Runner | None = None,
    watcher: Watcher | None = None,
) -> Tuning:
    """Does what is missing of the job. Killed at any moment, the same call goes on where it was.

    With ``out`` the folder gets ``manifest.json``, ``results.json``, ``results.csv``, figures, and
    ``study.db`` unless ``storage`` names another place. With neither, the study is in memory.
    """
    if runner is None:
        runner = Called(job.objective) if job.objective else Batched(_task(job), job.schedule)
    with contextlib.ExitStack() as stack:
        if out is not None:
            stack.enter_context(opened(out, job.manifest, fresh=fresh))
            if fresh:
                for name in DATABASE:
                    (out / name).unlink(missing_ok=True)
        opened_storage = stack.enter_context(_storage(storage, out))
        tuner = _Tuner(job, opened_storage, job.folder.name, runner, watcher or Silent(), fresh)
        findings = tuple(tuner.find(candidate) for candidate in job.config.candidates)
        about = job.manifest["task"]
        tuning = Tuning(
            about["title"],
            about["score_name"],
            about["score_unit"],
            job.task is not None,
            findings,
            job.manifest,
        )
        if out is not None:
            _write(tuning, out)
    return tuning


def _task(job: Job) -> Any:
    assert job.task is not None
    return job.task


@contextlib.contextmanager
def _storage(url: str | None, folder: Path | None) -> Iterator[Any]:
    storage = engine.open_storage(url, folder)
    try:
        yield storage
    finally:
        engine.close_storage(storage)


class _Tuner:
    def __init__(
        self, job: Job, storage: Any, prefix: str, runner: Runner, watcher: Watcher, fresh: bool
    ) -> None:
        self.job, self.config = job, job.config
        self.storage, self.prefix = storage, prefix
        self.runner, self.watcher, self.fresh = runner, watcher, fresh

    def find(self, candidate: Candidate) -> Finding:
        """The search over the candidate's space, then over wider ones while the best is at the rim."""
        config, space = self.config, candidate.space
        search = self._search(candidate, space, "", config.trials)
        for widened in range(1, config.widen + 1):
            best = best_of(search)
            edges = space.edges(best.params) if best else ()
            if not edges:
                break
            space = space.wider(edges)
            wanted = config.trials + widened * max(config.batch, config.trials // 2)
            search = self._search(candidate, space, f" wider {widened}", wanted, carried=search)
        return self._finding(candidate, search)

    def _search(
        self, candidate: Candidate, space: Space, suffix: str, trials: int, carried: Search | None = None
    ) -> Search:
        """Runs a study until ``trials`` are finished, those carried over from a narrower one among them."""
        config, name = self.config, f"{self.prefix} {candidate.spec}{suffix}"
        if self.fresh:
            engine.delete_study(self.storage, name)
        pruner = engine.make_pruner(config.pruner, self.job.epochs)
        study = engine.open_study(
            self.storage, name, pruner, {"axes": {k: list(v) for k, v in space.axes().items()}}
        )
        search = Search(study, space, config.sampler, seed=config.seed, trials=trials)
        if carried is not None:
            _carry(carried, search)
        search.recover()
        while left := search.left():
            self._watch(candidate, search)
            self._batch(candidate, search, min(config.batch, left))
        self._watch(candidate, search)
        return search

    def _watch(self, candidate: Candidate, search: Search) -> None:
        done = search.trials - search.left()
        self.watcher.searching(candidate.name, search.space, done, search.trials, best_of(search))

    def _batch(self, candidate: Candidate, search: Search, count: int) -> None:
        seeds, epochs = self.config.seeds, self.job.epochs
        trials = search.ask(count)
        settings = [search.space.setting(trial.params) for trial in trials]
        cells = [Cell(candidate.spec, s.lr, s.weight_decay, seed) for s in settings for seed in seeds]
        reports = Reports(
            trials, len(seeds), epochs, lambda share: self.watcher.training(candidate.name, share, count)
        )
        found = outcomes(self.runner(cells, reports), len(seeds))
        search.tell(trials, found)
        if all(outcome.status == "failed" for outcome in found):
            raise StudyError(f"{candidate.name}: every trial of a batch failed: {found[0].message}")

    def _finding(self, candidate: Candidate, search: Search) -> Finding:
        space, best = search.space, best_of(search)
        judged = self._confirmed(candidate, search, best) if best else {}
        return Finding(
            name=candidate.name,
            spec=candidate.spec,
            space=space,
            tried=tuple(tried(trial, space) for trial in search.finished()),
            best=best,
            units=space.units(best.setting, self.job.steps_per_epoch) if best else None,
            edges=space.edges(best.params) if best else (),
            importance=engine.importance(search.study, list(space.axes()) + ["decay"] * space.zero),
            fresh=judged,
            confirmed=estimate(list(judged.values())) if judged else None,
            fresh_asked=len(self.config.fresh_seeds) if best else 0,
        )

    def _confirmed(self, candidate: Candidate, search: Search, best: Tried) -> dict[int, float]:
        """Fresh seed → score at the best setting, kept in the study."""
        seeds = self.config.fresh_seeds
        known = search.study.user_attrs.get(CONFIRMED, {})
        if known.get("trial") != best.number or known.get("seeds") != list(seeds):
            self.watcher.confirming(candidate.name)
            where = best.setting
            cells = [Cell(candidate.spec, where.lr, where.weight_decay, seed) for seed in seeds]
            results = self.runner(cells, lambda epoch, validation: ()) if cells else []
            failed = [found for found in results if found.status == "failed"]
            if failed:
                raise StudyError(f"{candidate.name}: its best setting failed: {failed[0].message}")
            scores = [found.validation if self.job.task is None else found.test for found in results]
            known = {
                "trial": best.number,
                "seeds": list(seeds),
                "scores": [score if math.isfinite(score) else None for score in scores],
            }
            search.study.set_user_attr(CONFIRMED, known)
        pairs = zip(known["seeds"], known["scores"], strict=True)
        return {seed: score for seed, score in pairs if score is not None}


def tried(trial: FrozenTrial, space: Space) -> Tried:
    """A finished trial without Optuna."""
    outcome = outcome_of(trial)
    score = trial.value if trial.value is not None else math.nan
    setting = space.setting(trial.params)
    return Tried(trial.number, outcome.status, setting, dict(trial.params), score, outcome.scores)


def best_of(search: Search) -> Tried | None:
    """The complete trial with the lowest mean score; of equals the first."""
    found = [tried(trial, search.space) for trial in search.finished()]
    complete = [one for one in found if one.status == "complete" and math.isfinite(one.score)]
    return min(complete, key=lambda one: (one.score, one.number), default=None)


def _carry(source: Search, target: Search) -> None:
    """Gives a wider study what the narrower one found; goes on where a killed process stopped."""
    from optuna.trial import create_trial

    known = {trial.user_attrs.get(CARRIED) for trial in target.study.get_trials(deepcopy=False)}
    distributions = target.space.distributions()
    for trial in source.finished():
        if trial.number not in known:
            target.study.add_trial(
                create_trial(
                    state=trial.state,
                    value=trial.value,
                    params=trial.params,
                    distributions=distributions,
                    user_attrs={**trial.user_attrs, CARRIED: trial.number},
                    intermediate_values=trial.intermediate_values,
                )
            )


def _write(tuning: Tuning, out: Path) -> None:
    from adamantine.study.tune.figure import figure_files

    (out / FIGURES).mkdir(exist_ok=True)
    for name, content in figure_files(tuning):
        write_atomic(out / FIGURES / name, content)
    write_atomic(out / TABLE, result.to_csv(tuning))
    write_atomic(out / "results.json", result.to_json(tuning))
