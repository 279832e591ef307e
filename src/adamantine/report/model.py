"""What a report shows, as plain data: the study fills it in, figures and page read it.

Kept free of any training code, so that a report can be drawn from a run folder on a machine without torch.
Arrays are indexed ``[lr, weight_decay, seed]``; every score is an error or a loss: lower is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamantine.report.separability_model import Separability
from adamantine.report.words import Words

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Curves:
    """Learning curves of one cell, one row per seed; a diverged seed's row ends in NaN.

    ``epoch`` has shape ``[points]``, everything else ``[seeds, points]``. ``train_loss`` is the mean loss
    over the epoch's batches, ``validation`` the task's score on the validation split (``NaN`` where not
    measured), ``norm`` the l2 norm of all weights that decay.
    """

    epoch: Floats
    train_loss: Floats
    validation: Floats
    norm: Floats


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its spread. ``std`` is the sample standard deviation (NaN for one seed),
    ``low`` and ``high`` bound the 95 % Student-t confidence interval of the mean (NaN for one seed)."""

    mean: float
    std: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Setting:
    """One setting of a method with its scores, ``[seed]`` each; NaN where a run diverged or is not done."""

    lr: float
    weight_decay: float
    validation: Floats
    test: Floats


@dataclass(frozen=True)
class MethodGrid:
    """One method on its own lr x weight_decay grid."""

    name: str  # what a table shows: "AdamW", "Adam + L2", "SGD + momentum + L2"
    spec: str  # what the command line took: "AdamW", "torch.optim:AdamW(eps=1e-6)"
    decay: str  # decay mode in adamantine's vocabulary, "" when the optimizer is not ours
    lrs: tuple[float, ...]  # ascending
    weight_decays: tuple[float, ...]  # ascending; the first may be 0 (no decay)
    seeds: tuple[int, ...]
    validation: Floats  # [lr, weight_decay, seed]; NaN where diverged or not run yet
    test: Floats  # same; never used to choose a setting
    diverged: Bools  # same
    best: tuple[int, int] | None  # of the grid, by the mean of `validation`; None when every cell diverged
    at_best: Estimate | None  # of the test scores of `chosen` that the method is judged by
    edges: tuple[str, ...]  # where `chosen` touches the grid's rim: "lr low", "weight_decay high", ...
    basin: Bools  # [lr, weight_decay]: as good as `best` within the tolerance that the analysis states
    curves: Curves | None  # of `chosen`
    fresh_seeds: tuple[int, ...] = ()  # that had no part in choosing the setting and judge it
    fresh: Floats = field(
        default_factory=lambda: np.empty(0)
    )  # [fresh_seed]: test score of `chosen`; NaN as above
    finer: tuple[Setting, ...] = ()  # settings between the grid's, tried around its best
    finest: Setting | None = None  # the best of `finer` where it beats the grid's best

    @property
    def chosen(self) -> Setting | None:
        """The best setting of all that were tried: `finest`, or that at `best`."""
        if self.finest is not None or self.best is None:
            return self.finest
        i, j = self.best
        return Setting(self.lrs[i], self.weight_decays[j], self.validation[i, j], self.test[i, j])

    @property
    def judged(self) -> dict[int, float]:
        """Seed → test score of `chosen`, of the seeds that judge the method: the fresh ones if the run has
        any, else those of the grid. A seed that diverged there is missing."""
        if self.chosen is None:
            return {}
        seeds, scores = self.seeds, self.chosen.test
        if self.fresh_seeds:
            seeds, scores = self.fresh_seeds, self.fresh
        return {seed: float(x) for seed, x in zip(seeds, scores, strict=True) if np.isfinite(x)}

    @property
    def unjudged(self) -> int:
        """How many of the seeds that judge it have no score of `chosen`: diverged, failed or not done."""
        return len(self.fresh_seeds or self.seeds) - len(self.judged)


@dataclass(frozen=True)
class Difference:
    """Test score of ``a`` minus that of ``b``, each at its own best setting, paired by seed."""

    a: str
    b: str
    estimate: Estimate
    verdict: str  # "a is better" | "b is better" | "not decided", with the names filled in


@dataclass(frozen=True)
class Comparison:
    """A whole ``adamantine compare`` run."""

    task: str  # "digits"
    task_title: str  # "handwritten digits (8 x 8), MLP 64-128-10"
    score_name: str  # "error" or "loss"
    score_unit: str  # "%" (scores are then fractions, to be shown x 100), "nats/character", ""
    methods: tuple[MethodGrid, ...]
    differences: tuple[Difference, ...]
    answer: Words  # one sentence: who is best, by how much, against what spread
    advice: tuple[Words, ...]  # which setting to use, which grid to grow, what stays open
    basin_rule: Words  # when a cell counts as inside the basin
    # command, configuration, versions, seeds, machine
    manifest: Mapping[str, Any] = field(default_factory=dict)
    steps_per_epoch: int | None = None  # None where the run did not record it
    separability: tuple[Separability, ...] = ()  # in λ and in γ, of each method in turn
