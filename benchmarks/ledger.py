"""What `adamantine.audit.ledger.Ledger` costs: training iterations with and without it, at its own pace.

python benchmarks/ledger.py [--seconds 36] > benchmarks/results/ledger.txt

Two trainings of the same net are alive, one of them watched, and take turns of a quarter of a second, in
changing order: what the machine does meanwhile, and its drift, falls on both. The ledger's clock stands still
while the other trains. The work is in few iterations, so a plain mean would be decided by what else happened
to be running in those. Iterations are therefore told apart by what the ledger did in them (nothing, a look
through the gradients, a measurement) and whether it had just worked (it leaves cold caches behind). Each kind
counts with its median, as a multiple of the median without the ledger in the neighbouring turn, and as often
as it occurred. The interval is the bootstrap's over pairs of turns (95 %, 2000 resamples).

Beside it: what the ledger counts as its own time, which is what its pace rests on, and how long attaching
takes (once, in no overhead).
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import adamantine.torch as ours
from adamantine.audit.ledger import Ledger
from adamantine.audit.ledger_pace import Pace
from adamantine.study.nets import CharTransformer, mlp, residual_net

Clock = Callable[[], float]

CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
LIMIT = 0.05  # of the training time: what the audit promises
TURN = 0.25  # seconds
RESAMPLES = 2000
KINDS = ("nothing", "after work", "check", "measure")


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


class Stopwatch:
    """The clock of one training: it stands still while the other one trains."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._passed = clock, 0.0
        self._since: float | None = None

    def __call__(self) -> float:
        return self._passed + (0.0 if self._since is None else self._clock() - self._since)

    def go(self) -> None:
        self._since = self._clock()

    def stop(self) -> None:
        self._passed, self._since = self(), None


class Told(Pace):
    """The ledger's own pace, and what it did last."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(None, clock)
        self.did, self.counted = KINDS[0], 0.0

    def settle(self, work: str) -> None:
        self.sleep()
        self.did, self.counted = work, self.counted + self._work
        super().settle(work)


@dataclass
class Turns:
    """Pairs of turns: seconds of each iteration without the ledger; with it, the kind of each as well."""

    bare: list[list[float]] = field(default_factory=list)
    watched: list[list[tuple[str, float]]] = field(default_factory=list)
    counted: float = 0.0  # seconds that the ledger takes for its own
    attaching: float = 0.0  # seconds, once

    def overhead(self) -> tuple[float, float, float]:
        """The estimate and its 95 % interval."""
        pairs = [
            [(kind, seconds / float(np.median(bare))) for kind, seconds in watched]
            for bare, watched in zip(self.bare, self.watched, strict=True)
        ]
        rng = np.random.default_rng(0)
        resampled = [
            _mean_of_kinds([pairs[k] for k in rng.integers(len(pairs), size=len(pairs))])
            for _ in range(RESAMPLES)
        ]
        low, high = np.quantile(resampled, (0.025, 0.975))
        return _mean_of_kinds(pairs) - 1, float(low) - 1, float(high) - 1

    def iterations(self, kind: str = "") -> int:
        return sum(found.startswith(kind) for turn in self.watched for found, _ in turn)


def _mean_of_kinds(pairs: list[list[tuple[str, float]]]) -> float:
    by_kind = {kind: [ratio for pair in pairs for found, ratio in pair if found == kind] for kind in KINDS}
    count = sum(map(len, by_kind.values()))
    return sum(len(ratios) / count * float(np.median(ratios)) for ratios in by_kind.values() if ratios)


def take_turns(
    training: Training, make: Callable[[Any], torch.optim.Optimizer], clock: Clock, seconds: float
) -> Turns:
    """Trains with and without the ledger for so long, together."""

    def prepared() -> tuple[Callable[[], None], torch.optim.Optimizer, nn.Module]:
        torch.manual_seed(0)
        model = training.net()
        optimizer = make(model.parameters())

        def iterate() -> None:
            optimizer.zero_grad()
            training.loss(model).backward()
            optimizer.step()

        for _ in range(3):
            iterate()
        return iterate, optimizer, model

    plain, _, _ = prepared()
    watched, optimizer, model = prepared()
    found, watch = Turns(), Stopwatch(clock)
    ledger = Ledger(optimizer, model)
    pace = ledger._pace = Told(watch)  # its share is one of the time that is measured here
    start = clock()
    ledger.attach()
    found.attaching = clock() - start

    start = clock()
    watch.go()
    for _ in range(3):  # the first measurement is dear, and for free
        watched()
    watch.stop()
    for _ in range(3):
        plain()
    count = max(2, round(TURN * 6 / (clock() - start)))
    counted_before = pace.counted

    def with_ledger() -> None:
        turn: list[tuple[str, float]] = []
        watch.go()
        worked = False
        for _ in range(count):
            pace.did = KINDS[0]
            start = clock()
            watched()
            spent = clock() - start
            kind = "after work" if worked and pace.did == KINDS[0] else pace.did
            turn.append((kind, spent))
            worked = pace.did != KINDS[0]
        watch.stop()
        found.watched.append(turn)

    def without() -> None:
        turn = []
        for _ in range(count):
            start = clock()
            plain()
            turn.append(clock() - start)
        found.bare.append(turn)

    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for part in (with_ledger, without) if len(found.bare) % 2 else (without, with_ledger):
            part()
    found.counted = pace.counted - counted_before
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=36.0, help="for each net and optimizer")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: for machines with other work; give --threads 1"
    )
    parser.add_argument("--only", default="", help="nets whose names contain this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs, "
        f"{options.threads} threads\n"
        f"{options.seconds:g} s each, {options.clock} clock, without and with the ledger at its own pace"
    )
    heads = ("iteration", "overhead", "95 % interval", "counted", "measured", "attaching", f"<= {LIMIT:.0%}")
    print("{:51}{:>11}  {:>8}  {:>17}  {:>7}  {:>10}  {:>9}  {}".format("", *heads))
    for net_name, training in trainings().items():
        if options.only not in net_name:
            continue
        for optimizer_name, make in OPTIMIZERS.items():
            turns = take_turns(training, make, CLOCKS[options.clock], options.seconds)
            middle, low, high = turns.overhead()
            verdict = "yes" if high <= LIMIT else "no" if low > LIMIT else "not decided"
            one = float(np.median([seconds for turn in turns.bare for seconds in turn]))
            spent = sum(seconds for turn in turns.watched for _, seconds in turn)
            every = turns.iterations() / max(turns.iterations("measure"), 1)
            print(
                f"{net_name:36}{optimizer_name:15}{1e3 * one:8.2f} ms  {middle:+8.1%}  "
                f"{low:+7.1%} to {high:+6.1%}  {turns.counted / spent:7.1%}  1 in {every:5.1f}  "
                f"{1e3 * turns.attaching:6.1f} ms  {verdict}",
                flush=True,
            )


if __name__ == "__main__":
    main()
