"""Samplers, pruners and storages by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import optuna
import pytest

from adamantine.study.errors import StudyError
from adamantine.study.tune import Space, engine

SPACE = Space("decoupled", "gamma", (1e-3, 1e-1), (1e-4, 1e-2))
THERE = [name for name in engine.SAMPLERS if name != "cmaes" or importlib.util.find_spec("cmaes")]


@pytest.mark.parametrize("sampler", THERE)
def test_a_sampler_depends_on_seed_and_place_alone(sampler: str) -> None:
    def asked(seed: int) -> list[object]:
        with engine.quiet():
            study = optuna.create_study()
            for index in range(11):
                study.sampler = engine.make_sampler(sampler, SPACE, seed=seed, index=index, trials=16)
                trial = study.ask()
                SPACE.suggest(trial)
                study.tell(trial, float(index))
        return [trial.params for trial in study.trials]

    first = asked(0)
    assert asked(0) == first
    assert asked(1) != first
    assert len({str(params) for params in first}) == 11


def test_the_grid_is_taken_whole_and_once() -> None:
    points = engine.grid_points(SPACE, 9)
    assert len(points) == 9
    assert sorted({point["lr"] for point in points}) == pytest.approx([1e-3, 1e-2, 1e-1])
    study = optuna.create_study()
    with engine.quiet():
        for index in range(9):
            study.sampler = engine.make_sampler("grid", SPACE, seed=3, index=index, trials=9)
            trial = study.ask()
            SPACE.suggest(trial)
            study.tell(trial, 1.0)
    asked = sorted(tuple(trial.params.values()) for trial in study.trials)
    assert asked == sorted(tuple(point.values()) for point in points)


def test_unknown_names_and_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StudyError, match="--sampler 'anneal': there are tpe"):
        engine.check("anneal", "none")
    with pytest.raises(StudyError, match="--pruner 'axe'"):
        engine.check("tpe", "axe")
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "cmaes" else find(name))
    with pytest.raises(StudyError, match="pip install cmaes"):
        engine.check("cmaes", "none")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StudyError, match=r"adamantine\[tune\]"):
        engine.check("tpe", "none")


def test_a_storage_that_cannot_be_is_one_line() -> None:
    with pytest.raises(StudyError, match="--storage nonsense") as error:
        engine.open_storage("nonsense://x", None)
    assert "\n" not in str(error.value)


def test_a_study_of_another_search_is_refused(tmp_path: Path) -> None:
    storage = engine.open_storage(None, tmp_path)
    pruner = engine.make_pruner("none", 10)
    engine.open_study(storage, "a", pruner, {"axes": 1})
    engine.open_study(storage, "a", pruner, {"axes": 1})
    with pytest.raises(StudyError, match="another search"):
        engine.open_study(storage, "a", pruner, {"axes": 2})
    optuna.create_study(storage=storage, study_name="theirs").add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(StudyError, match="none of ours"):
        engine.open_study(storage, "theirs", pruner, {"axes": 1})
    engine.close_storage(storage)


def test_quiet_puts_the_level_back() -> None:
    before = optuna.logging.get_verbosity()
    with engine.quiet():
        assert optuna.logging.get_verbosity() == optuna.logging.WARNING
    assert optuna.logging.get_verbosity() == before


def test_importance_tells_which_parameter_matters(whole: None) -> None:
    def shares(values: list[float]) -> dict[str, float]:
        study = optuna.create_study()
        for index, value in enumerate(values):
            place = index / (len(values) - 1)
            study.add_trial(
                optuna.create_trial(
                    value=value,
                    params={"lr": 1e-3 * 100**place, "gamma": 1e-4 * 100 ** (index * 7 % 20 / 20)},
                    distributions=SPACE.distributions(),
                )
            )
        return engine.importance(study, ["lr", "gamma"])

    found = shares([(index / 19 - 0.5) ** 2 for index in range(20)])
    assert found["lr"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert shares([1.0] * 20) == {}  # all alike
