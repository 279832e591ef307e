"""Four places for the same λθ in Adam, trained as one batch: where does the harm come from?

    g_m = g + a·λθ,  g_v = g + b·λθ          m, v: moments of g_m and of g_v
    θ ← θ − η·[(m̂ + c·λθ)/(√v̂ + ε) + d·λθ]    on weights; biases do not decay

One of four (a, b, c, d) per arm, in :data:`ARMS`. Adam's constants are torch's defaults, lr follows a cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adamantine.study.ensemble import Ensemble
from adamantine.study.recipe import Recipe, decay_weights, single_threaded
from adamantine.study.task import Data, Task

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
TOGETHER = 32  # members of a batch: their state then stays in a core's cache


@dataclass(frozen=True)
class Arm:
    """Where λθ enters: into what m sees, into what v sees, divided by √v̂, or plain."""

    in_m: bool = False
    in_v: bool = False
    divided: bool = False
    plain: bool = False


#: (i) is Adam + L2, (iv) is AdamW.
ARMS = {
    "i": Arm(in_m=True, in_v=True),
    "ii": Arm(in_m=True),
    "iii": Arm(divided=True),
    "iv": Arm(plain=True),
}


@dataclass(frozen=True)
class Member:
    """One training run of an arm."""

    arm: str
    lr: float
    weight_decay: float
    seed: int


def train(task: Task, members: Sequence[Member]) -> NDArray[np.float64]:
    """Validation and test score of every member, ``[member, 2]``; NaN where its outputs are not finite."""
    scores = np.full((len(members), 2), np.nan)
    data = {seed: Data(*task.data(seed)) for seed in {member.seed for member in members}}
    with single_threaded():
        for arm in ARMS:
            mine = [index for index, member in enumerate(members) if member.arm == arm]
            for first in range(0, len(mine), TOGETHER):
                part = mine[first : first + TOGETHER]
                scores[part] = _train(task, ARMS[arm], [members[index] for index in part], data)
    return scores


def _train(task: Task, arm: Arm, members: list[Member], data: dict[int, Data]) -> NDArray[np.float64]:
    seeds = [member.seed for member in members]
    ensemble = Ensemble(task, seeds)
    recipe = Recipe.of(task, len(data[seeds[0]].train[0]), "cosine")
    orders = {seed: recipe.order(seed) for seed in set(seeds)}
    decays = decay_weights(task.model(seeds[0]))
    lr = torch.tensor([member.lr for member in members])
    weight_decay = torch.tensor([member.weight_decay for member in members])
    m = {name: torch.zeros_like(p) for name, p in ensemble.parameters.items()}
    v = {name: torch.zeros_like(p) for name, p in ensemble.parameters.items()}
    step = 0
    for _ in range(recipe.epochs):
        shuffled = {seed: torch.from_numpy(recipe.shuffled(order)) for seed, order in orders.items()}
        for first in range(0, recipe.batches * recipe.batch_size, recipe.batch_size):
            part = {seed: chosen[first : first + recipe.batch_size] for seed, chosen in shuffled.items()}
            x, y = (torch.stack([data[seed].train[side][part[seed]] for seed in seeds]) for side in (0, 1))
            eta = lr * recipe.schedule(step)
            step += 1
            ensemble.loss(x, y).sum().backward()  # type: ignore[no-untyped-call]
            for name, theta in ensemble.parameters.items():
                rows = (-1, *[1] * (theta.dim() - 1))
                rate = (weight_decay * decays[name]).view(rows)
                move(arm, theta, m[name], v[name], step, eta.view(rows), rate)
    splits = [
        [torch.stack([getattr(data[seed], split)[side] for seed in seeds]) for side in (0, 1)]
        for split in ("validation", "test")
    ]
    return torch.stack([ensemble.scores(x, y) for x, y in splits], 1).numpy()


@torch.no_grad()
def move(arm: Arm, theta: Tensor, m: Tensor, v: Tensor, step: int, eta: Tensor, rate: Tensor) -> None:
    """One step, in place: ``theta`` with its gradient, ``m``, ``v``: ``[members, ...]``; ``eta`` (the lr now)
    and ``rate`` (λ): a row each, ``[members, 1, ...]``; ``step`` counts from 1."""
    g = theta.grad
    assert g is not None
    penalty = theta * rate
    g_m = g + penalty if arm.in_m else g
    g_v = g_m if arm.in_v else g
    m.lerp_(g_m, 1 - BETA1)
    v.mul_(BETA2).addcmul_(g_v, g_v, value=1 - BETA2)
    u = m / (1 - BETA1**step)
    if arm.divided:
        u += penalty
    u /= v.div(1 - BETA2**step).sqrt_().add_(EPS)
    if arm.plain:
        u += penalty
    theta.sub_(u.mul_(eta))
    theta.grad = None
