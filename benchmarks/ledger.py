"""What `adamantine.audit.ledger.Ledger` costs: training iterations with and without it, at its own pace.

python benchmarks/ledger.py [--seconds 3] [--rounds 10] > benchmarks/results/ledger.txt

A round trains each net for some seconds without and with the ledger, in turns and in changing order, so
that what else the machine does falls on both. The time of an iteration is the mean over a round's part,
since the ledger's work is in few iterations. Its attachment (sampling, reading the optimizers) is in the
time. Given is the mean over rounds of the ratio with/without, minus 1, with its 95 % confidence interval
(Student's t over rounds).
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import adamantine.torch as ours
from adamantine.audit.ledger import Ledger
from adamantine.audit.ledger_pace import Pace
from adamantine.study.nets import CharTransformer, mlp, residual_net

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
LIMIT = 0.05  # of the training time: what the audit promises


@dataclass(frozen=True)
class Training:
    """A net with its batches."""

    net: Callable[[], nn.Module]
    inputs: Tensor
    targets: Tensor

    def loss(self, model: nn.Module) -> Tensor:
        """Of one batch, always the same."""
        return cross_entropy(model(self.inputs).flatten(0, -2), self.targets.flatten())


def trainings() -> dict[str, Training]:
    """An MLP on small images, a residual net on color images, a Transformer on text."""
    g = torch.Generator().manual_seed(0)
    text = torch.randint(64, (16, 65), generator=g)
    return {
        "MLP 784-256-10, batch 128": Training(
            lambda: mlp(784, 256, 10),
            torch.randn(128, 784, generator=g),
            torch.randint(10, (128,), generator=g),
        ),
        "CNN 16-32-64, batch 32 of 32x32": Training(
            lambda: residual_net(3, (16, 32, 64), 10),
            torch.randn(32, 3, 32, 32, generator=g),
            torch.randint(10, (32,), generator=g),
        ),
        "Transformer 4 x 128, batch 16 x 64": Training(
            lambda: CharTransformer(64, 64, 128, 4, 4), text[:, :-1].contiguous(), text[:, 1:].contiguous()
        ),
    }


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "torch foreach": lambda p: torch.optim.AdamW(p, lr=1e-3, foreach=True),
    "torch fused": lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True),
    "adamantine": lambda p: ours.AdamW(p, lr=1e-3, weight_decay=0.01),
}


def iteration_seconds(
    training: Training,
    make: Callable[[Any], torch.optim.Optimizer],
    clock: Callable[[], float],
    seconds: float,
    *,
    watched: bool,
) -> tuple[float, int, int]:
    """Mean time of an iteration, the number of iterations, and how many were measured."""
    torch.manual_seed(0)
    model = training.net()
    optimizer = make(model.parameters())

    def iterate() -> None:
        optimizer.zero_grad()
        training.loss(model).backward()
        optimizer.step()

    for _ in range(3):
        iterate()
    ledger = Ledger(optimizer, model)
    ledger._pace = Pace(None, clock)  # its share is one of the time that is measured here
    count, start = 0, clock()
    with ledger if watched else nullcontext():
        while (now := clock()) < start + seconds:
            iterate()
            count += 1
    return (now - start) / count, count, ledger.report().measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each part of a round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: for machines with other work; give --threads 1"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs, "
        f"{options.threads} threads\n"
        f"{options.rounds} rounds of {options.seconds:g} s, {options.clock} clock, "
        "without and with the ledger at its own pace"
    )
    heads = ("iteration", "overhead", "95 % interval", "measured", f"at most {LIMIT:.0%}")
    print(f"{'':51}{heads[0]:>11}  {heads[1]:>8}  {heads[2]:>18}  {heads[3]:>10}  {heads[4]}")
    for net_name, training in trainings().items():
        for optimizer_name, make in OPTIMIZERS.items():
            ratios, bare_times = [], []
            measured = seen = 0
            for round_ in range(options.rounds):
                spent = {}
                for watched in (False, True) if round_ % 2 else (True, False):
                    spent[watched], count, found = iteration_seconds(
                        training, make, CLOCKS[options.clock], options.seconds, watched=watched
                    )
                    if watched:
                        measured, seen = measured + found, seen + count
                ratios.append(spent[True] / spent[False] - 1)
                bare_times.append(spent[False])
            mean = float(np.mean(ratios))
            half = (
                float(student.ppf(0.975, len(ratios) - 1))
                * float(np.std(ratios, ddof=1))
                / math.sqrt(len(ratios))
                if len(ratios) > 1
                else math.nan
            )
            verdict = "yes" if mean + half <= LIMIT else "no" if mean - half > LIMIT else "not decided"
            print(
                f"{net_name:36}{optimizer_name:15}{1e3 * np.median(bare_times):8.2f} ms  {mean:+8.1%}  "
                f"{mean - half:+8.1%} to {mean + half:+6.1%}  1 in {seen / max(measured, 1):5.1f}  {verdict}",
                flush=True,
            )


if __name__ == "__main__":
    main()
