"""Optuna behind words: samplers, pruners and storages by name. Works with Optuna 4 and 5."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adamantine.study.errors import StudyError
from adamantine.study.tune.space import Space

if TYPE_CHECKING:
    import optuna
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

SAMPLERS = ("tpe", "gp", "random", "qmc", "grid", "cmaes")
PRUNERS = ("median", "hyperband", "halving", "none")
STARTUP = 10  # trials at random before a model is asked, and before anything is pruned: Optuna's for TPE
NEEDED = {"cmaes": "cmaes", "gp": "torch"}  # beyond Optuna


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's log lines and its warnings that an interface is experimental; the user's level is put
    back."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def check(sampler: str, pruner: str) -> None:
    """Raises :class:`StudyError` for a name that is not known or that needs a package which is not there."""
    for option, name, known in (("--sampler", sampler, SAMPLERS), ("--pruner", pruner, PRUNERS)):
        if name not in known:
            raise StudyError(f"{option} {name!r}: there are {', '.join(known)}")
    if importlib.util.find_spec("optuna") is None:
        raise StudyError('tune needs optuna: pip install "adamantine[tune]"')
    package = NEEDED.get(sampler)
    if package and importlib.util.find_spec(package) is None:
        raise StudyError(f"--sampler {sampler} needs a package more: pip install {package}")


def make_sampler(name: str, space: Space, *, seed: int, index: int, trials: int) -> BaseSampler:
    """A sampler for the trial at place ``index``, and for it alone.

    Samplers draw from a state that a killed process takes with it. So each trial gets a sampler of its own,
    seeded by (``seed``, ``index``): what it asks for depends on the trials before it and on nothing else.
    """
    from optuna import samplers

    own = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
    with quiet():
        if name == "tpe":
            return samplers.TPESampler(
                seed=own, multivariate=True, constant_liar=True, n_startup_trials=STARTUP
            )
        if name == "gp":
            return samplers.GPSampler(seed=own, n_startup_trials=STARTUP)
        if name == "cmaes":
            return samplers.CmaEsSampler(seed=own, warn_independent_sampling=False)
        if name == "qmc":
            return _listed(sobol_point(space, seed, index), own)
        if name == "grid":
            points = grid_points(space, trials)
            order = np.random.default_rng(seed).permutation(len(points))
            return _listed(points[order[index]] if index < len(points) else {}, own)
        return samplers.RandomSampler(seed=own)


def grid_points(space: Space, trials: int) -> list[dict[str, Any]]:
    """At most ``trials`` settings, on equidistant logarithms, each axis with as many values as the other."""
    axes = space.axes()
    choices: list[dict[str, Any]] = [{"decay": "some"}, {"decay": "none"}] if space.zero else [{}]
    count = max(int((trials / len(choices)) ** (1 / len(axes)) + 1e-9), 1)
    for name, (low, high) in axes.items():
        values = np.geomspace(low, high, count) if count > 1 else [math.sqrt(low * high)]
        choices = [{**choice, name: float(min(max(x, low), high))} for choice in choices for x in values]
    return choices


def sobol_point(space: Space, seed: int, index: int) -> dict[str, Any]:
    """The point at place ``index`` of a Sobol sequence scrambled with ``seed``."""
    from scipy.stats.qmc import Sobol  # type: ignore[import-untyped]

    axes = space.axes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # SciPy renames its seed
        sequence = Sobol(len(axes) + space.zero, scramble=True, seed=seed)
    if index:  # to go forward by 0 is an error in some versions
        sequence.fast_forward(index)
    places = sequence.random(1)[0]
    point: dict[str, Any] = {
        name: float(min(max(low * (high / low) ** place, low), high))
        for (name, (low, high)), place in zip(axes.items(), places, strict=False)
    }
    return point | ({"decay": "some" if places[-1] < 0.5 else "none"} if space.zero else {})


def _listed(point: Mapping[str, Any], seed: int) -> BaseSampler:
    """A sampler of one point; what the point lacks is random.

    Optuna's own grid and quasi-random samplers count what they gave in the storage, and count wrong after
    a kill; its grid, moreover, stops a study that it takes to be running.
    """
    from optuna.samplers import RandomSampler

    class Listed(RandomSampler):
        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            if param_name in point:
                return point[param_name]
            return super().sample_independent(study, trial, param_name, param_distribution)

    return Listed(seed=seed)


def make_pruner(name: str, epochs: int) -> BasePruner:
    """``median``: worse than the median of earlier trials at the same epoch, from a third of the epochs on:
    before that a large lr looks worse than it will end. ``hyperband`` and ``halving``: a third goes on, from
    a ninth of the epochs."""
    from optuna import pruners

    ninth = max(epochs // 9, 1)
    makers: dict[str, Callable[[], BasePruner]] = {
        "median": lambda: pruners.MedianPruner(STARTUP, n_warmup_steps=epochs // 3),
        "hyperband": lambda: pruners.HyperbandPruner(ninth, epochs, 3),
        "halving": lambda: pruners.SuccessiveHalvingPruner(ninth, 3),
        "none": pruners.NopPruner,
    }
    with quiet():
        return makers[name]()


def open_storage(url: str | None, folder: Path | None) -> Any:
    """Optuna's storage: ``url`` if there is one, else ``study.db`` in the folder, else memory.

    Our own file is written ahead (WAL), so that a report costs no wait for the disk; a killed process loses
    nothing, and a failing power supply the latest trials at most.
    """
    from optuna import storages

    if url is None and folder is None:
        return storages.InMemoryStorage()
    try:
        with quiet():
            if url is not None:
                return storages.get_storage(url)
            storage = storages.RDBStorage(f"sqlite:///{folder}/study.db")
    except Exception as error:  # SQLAlchemy's, a driver's, Optuna's, the network's
        what = " ".join(str(error).split())[:200]
        raise StudyError(f"--storage {url or folder}: {type(error).__name__}: {what}") from error
    from sqlalchemy import event

    @event.listens_for(storage.engine, "connect")
    def _pragmas(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()  # the connections made before the listener was there
    return storage


def close_storage(storage: Any) -> None:
    """Closes the connections of a storage that has any."""
    backend = getattr(storage, "_backend", storage)  # Optuna wraps a database in a cache
    if hasattr(backend, "engine"):
        backend.remove_session()
        backend.engine.dispose()


def open_study(storage: Any, name: str, pruner: BasePruner, identity: Mapping[str, Any]) -> optuna.Study:
    """The study of that name, made if missing; an existing one must be of the same search."""
    import optuna

    with quiet():
        try:
            study = optuna.create_study(
                storage=storage, study_name=name, pruner=pruner, direction="minimize", load_if_exists=True
            )
            known = study.user_attrs.get("adamantine")
        except Exception as error:  # a database's
            what = " ".join(str(error).split())[:200]
            raise StudyError(
                f"the storage refuses the study {name!r}: {type(error).__name__}: {what}"
            ) from error
    if known is None:
        if study.get_trials(deepcopy=False):
            raise StudyError(f"the storage has a study {name!r} that is none of ours; use another --out")
        study.set_user_attr("adamantine", dict(identity))
    elif known != dict(identity):
        raise StudyError(f"the storage has another search under the name {name!r}; use another --out")
    return study


def delete_study(storage: Any, name: str) -> None:
    """Removes the study of that name, if there is one."""
    import optuna

    with quiet(), contextlib.suppress(KeyError):
        optuna.delete_study(study_name=name, storage=storage)


def importance(study: optuna.Study, names: Sequence[str]) -> dict[str, float]:
    """The share of each parameter in the variance of the score (fANOVA, Hutter et al. 2014), summing to 1.

    Over the finished trials, in the coordinates of the search; empty where there are too few or all alike.
    """
    import optuna

    finished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    values = {trial.value for trial in finished if trial.value is not None and math.isfinite(trial.value)}
    if len(values) < 4 or len(names) < 2:
        return {}
    with quiet():
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(
            study,
            evaluator=evaluator,
            params=list(names),
            target=lambda trial: trial.value if trial.value is not None else math.inf,
        )
    return {name: float(share) for name, share in found.items()}
