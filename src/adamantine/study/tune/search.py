"""Asks Optuna for settings and tells it what came of them, so that a kill at any moment changes no result.

Trials are asked, trained and told in batches. Three things make a resumed search equal an unbroken one:

- every trial has its own seeded sampler (:func:`adamantine.study.tune.engine.make_sampler`);
- before the first trial of a batch is told, the outcomes of all of them are in the storage: a batch that was
  killed between two tells is told to its end;
- a batch that was killed earlier is failed, and its settings are asked again, in their order.

Exact for every sampler with the pruners ``median`` and ``none``. Successive halving and Hyperband compare
with what failed trials had reported, and Hyperband goes by the trial's number: there a resumed search may
prune differently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from adamantine.study.tune import engine
from adamantine.study.tune.space import Space

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

Status = Literal["complete", "pruned", "diverged", "failed"]
AGAIN = "again of"  # user attribute of a trial that repeats an interrupted one: its number
OUTCOME = "outcome"


@dataclass(frozen=True)
class Outcome:
    """What came of a trial. ``scores`` are the validation scores of its seeds, if all of them have one."""

    status: Status
    scores: tuple[float, ...] = ()
    message: str = ""

    @property
    def value(self) -> float:
        """The mean over seeds; infinite when one diverged: to a sampler that is very bad, and not unknown."""
        return math.fsum(self.scores) / len(self.scores) if self.scores else math.inf


class Search:
    """One study with its space, sampler and seed; ``trials`` is how many are to be finished."""

    def __init__(self, study: optuna.Study, space: Space, sampler: str, *, seed: int, trials: int) -> None:
        self.study = study
        self.space = space
        self.sampler = sampler
        self.seed = seed
        self.trials = trials

    def finished(self) -> list[FrozenTrial]:
        """The trials that count: complete (also diverged) or pruned, by their numbers."""
        from optuna.trial import TrialState

        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))

    def left(self) -> int:
        """How many are still to do."""
        return max(self.trials - len(self.finished()), 0)

    def recover(self) -> None:
        """Puts right what a killed process left behind. No other process may work on this study."""
        from optuna.trial import TrialState, create_trial

        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if running and all(OUTCOME in trial.user_attrs for trial in running):
            for trial in running:
                self._close(trial.number, _outcome(trial.user_attrs[OUTCOME]))
            return
        repeated = {trial.user_attrs.get(AGAIN) for trial in self.study.get_trials(deepcopy=False)}
        for trial in running:
            if self._drawn(trial) and trial.number not in repeated:
                kept = {k: v for k, v in trial.system_attrs.items() if not k.startswith("completed_rung")}
                self.study.add_trial(
                    create_trial(
                        state=TrialState.WAITING,
                        params=trial.params,
                        distributions=trial.distributions,
                        user_attrs={AGAIN: trial.number},
                        system_attrs=kept,
                    )
                )
            self.study.tell(trial.number, state=TrialState.FAIL)

    def ask(self, count: int) -> list[Trial]:
        """The next trials, those that were interrupted first."""
        asked = []
        for _ in range(count):
            with engine.quiet():
                self.study.sampler = self._next_sampler()
                trial = self.study.ask()
                self.space.suggest(trial)
            asked.append(trial)
        return asked

    def tell(self, trials: Sequence[Trial], outcomes: Sequence[Outcome]) -> None:
        """Closes a batch: first everything is written down, then the trials are told."""
        for trial, outcome in zip(trials, outcomes, strict=True):
            trial.set_user_attr(OUTCOME, asdict(outcome))
        for trial, outcome in zip(trials, outcomes, strict=True):
            self._close(trial.number, outcome)

    def _next_sampler(self) -> Any:
        from optuna.samplers import RandomSampler
        from optuna.trial import TrialState

        known = self.study.get_trials(deepcopy=False)
        if any(trial.state == TrialState.WAITING for trial in known):
            return RandomSampler(seed=0)  # is asked and not heard: the trial has its parameters
        repeated = {trial.user_attrs.get(AGAIN) for trial in known}
        index = sum(self._drawn(trial) and trial.number not in repeated for trial in known)
        return engine.make_sampler(self.sampler, self.space, seed=self.seed, index=index, trials=self.trials)

    def _drawn(self, trial: FrozenTrial) -> bool:
        """Whether it has all its parameters; else its process was killed while drawing them."""
        return trial.params.keys() >= self.space.axes().keys() and (
            not self.space.zero or "decay" in trial.params
        )

    def _close(self, number: int, outcome: Outcome) -> None:
        from optuna.trial import TrialState

        with engine.quiet():
            if outcome.status in ("complete", "diverged"):
                self.study.tell(number, outcome.value)
            else:
                state = TrialState.PRUNED if outcome.status == "pruned" else TrialState.FAIL
                self.study.tell(number, state=state)


def outcome_of(trial: FrozenTrial) -> Outcome:
    """The outcome of a finished trial; one told by others has its value alone."""
    if OUTCOME in trial.user_attrs:
        return _outcome(trial.user_attrs[OUTCOME])
    return Outcome("complete", (trial.value,) if trial.value is not None else ())


def _outcome(record: dict[str, Any]) -> Outcome:
    return Outcome(record["status"], tuple(record["scores"]), record["message"])
