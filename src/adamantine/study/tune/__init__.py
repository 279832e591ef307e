"""Search of learning rate and weight decay for one's own training, with Optuna as the engine.

>>> from adamantine.study.tune import tune
>>> def valley(lr, weight_decay, seed, report):  # best at lr = 0.01, γ = lr·λ = 1e-3
...     from math import log10
...     return (log10(lr) + 2) ** 2 + (log10(lr * weight_decay) + 3) ** 2 + 1e-4 * seed
>>> found = tune(objective=valley, trials=12, batch=4, seeds=(0,), sampler="grid", confirm=0).findings[0]
>>> found.best.setting.lr
0.01
"""

from __future__ import annotations

from adamantine.study.tune.api import tune
from adamantine.study.tune.result import Finding, Tried, Tuning
from adamantine.study.tune.space import Setting, Space
from adamantine.study.tune.training import Pruned, Runner

__all__ = ["Finding", "Pruned", "Runner", "Setting", "Space", "Tried", "Tuning", "tune"]
