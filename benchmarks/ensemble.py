"""How fast a grid of 64 members trains: one after the other, side by side, as batches.

    python benchmarks/ensemble.py [--task NAME ...] [--rounds N] [--quick] [--out DIR]

A member has its own learning rate, weight decay and seed. The contestants, in steps of one member:

    sequential     a loop with torch.optim.AdamW(fused=True), torch on all cores
    side by side   the same loop in one single-threaded process per core
    batched        adamantine's Ensemble and Stacked optimizer, torch on all cores
    batched, side by side  the same in one single-threaded process per core: what `adamantine compare` does

They take turns in every round, all on the same data, and the medians of the per-round ratios are shown:
what drifts from round to round cancels. A step is forward, backward, the loss's value and the optimizer;
evaluation is left out. A batch holds as many members as `adamantine.study.ensemble.size` says. Other
programs on the machine falsify all of it: threads then wait for each other. --quick takes seconds on an
idle machine and writes nothing; otherwise ensemble.txt and ensemble.json are written to --out
(benchmarks/results).
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from adamantine.bench.machine import machine, versions
from adamantine.bench.statistics import Estimate, ratio
from adamantine.report.files import write_atomic
from adamantine.study.ensemble import Ensemble
from adamantine.study.ensemble.size import members_at_once
from adamantine.study.recipe import decay_weights, grouped
from adamantine.study.task import Settings, Task
from adamantine.study.tasks import load
from adamantine.torch import AdamW, Stacked

GRID = [(lr, decay) for lr in np.geomspace(1e-4, 1e-2, 8) for decay in np.geomspace(1e-3, 1, 8)]
SEEDS = 4
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
GOALS = {  # contestant → reference → times faster (issue 4)
    "digits": {"sequential": 6.0, "side by side": 2.0},
    "digits-resnet": {"sequential": 4.0},
    "digits-transformer": {"sequential": 4.0},
    "text": {"sequential": 4.0},
}
SHARE = 0.15  # of a batched step, for the optimizer, at most


class Training(Protocol):
    """Members that train on. ``advance`` returns the seconds that the optimizer took."""

    members: int

    def advance(self, steps: int) -> float: ...


class Alone:
    """One member in a loop as everyone writes it."""

    members = 1

    def __init__(self, task: Task) -> None:
        lr, decay = GRID[len(GRID) // 2]
        torch.manual_seed(0)
        self.task, self.model = task, task.model(0).train()
        (self.x, self.y), _, _ = task.data(0)
        groups, _ = grouped(self.model, lr, decay)
        for group in groups:
            group["params"] = [parameter for _, parameter in group["params"]]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, fused=True)
        self.batches = _batches(task, len(self.x))

    def advance(self, steps: int) -> float:
        stepping = 0.0
        for batch in itertools.islice(self.batches, steps):
            self.optimizer.zero_grad()
            loss = self.task.loss(self.model(self.x[batch]), self.y[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            loss.item()
            began = perf_counter()
            self.optimizer.step()
            stepping += perf_counter() - began
        return stepping


class Together:
    """A batch of members with a setting each."""

    def __init__(self, task: Task) -> None:
        self.members = min(members_at_once(task, 0), len(GRID))
        settings = GRID[: self.members]
        seeds = [member % SEEDS for member in range(self.members)]
        trains = [task.data(seed)[0] for seed in range(SEEDS)]
        self.x, self.y = (torch.stack([trains[seed][side] for seed in seeds]) for side in (0, 1))
        self.ensemble = Ensemble(task, seeds)
        weights = decay_weights(task.model(0))
        decays = np.array([decay for _, decay in settings])
        groups = [
            {
                "params": [self.ensemble.parameters[name] for name, its in weights.items() if its == weight],
                "weight_decay": weight * decays,
            }
            for weight in sorted(set(weights.values()))
        ]
        self.optimizer = Stacked(AdamW, groups, [lr for lr, _ in settings])
        self.batches = _batches(task, self.x.shape[1])

    def advance(self, steps: int) -> float:
        stepping = 0.0
        for batch in itertools.islice(self.batches, steps):
            losses = self.ensemble.loss(self.x[:, batch], self.y[:, batch])
            losses.sum().backward()  # type: ignore[no-untyped-call]
            losses.tolist()
            began = perf_counter()
            self.optimizer.step()
            for parameter in self.ensemble.parameters.values():
                parameter.grad = None
            stepping += perf_counter() - began
        return stepping


def _batches(task: Task, examples: int) -> itertools.cycle[torch.Tensor]:
    size = min(task.batch_size, examples)
    order = torch.randperm(examples, generator=torch.Generator().manual_seed(0))
    return itertools.cycle(torch.split(order[: examples // size * size], size))


KINDS: dict[str, type[Alone] | type[Together]] = {"alone": Alone, "together": Together}


def serve(name: str, pipe: Connection) -> None:
    """A single-threaded process that advances what it is told to."""
    torch.set_num_threads(1)
    task = load(name, Settings())
    trainings = {kind: make(task) for kind, make in KINDS.items()}
    pipe.send(None)
    while (order := pipe.recv()) is not None:
        kind, steps = order
        pipe.send(trainings[kind].advance(steps))


class Here:
    """Advances in this process, with torch on all cores."""

    def __init__(self, training: Training) -> None:
        self.training, self.members = training, training.members

    def advance(self, steps: int) -> float:
        return self.training.advance(steps)


class Beside:
    """Advances in all the workers at once; ``members`` are those of all."""

    def __init__(self, pipes: list[Connection], kind: str, members: int) -> None:
        self.pipes, self.kind, self.members = pipes, kind, members * len(pipes)

    def advance(self, steps: int) -> float:
        for pipe in self.pipes:
            pipe.send((self.kind, steps))
        return float(np.mean([pipe.recv() for pipe in self.pipes]))


def measure(name: str, rounds: int, seconds: float, console: Console) -> dict[str, Any]:
    """Seconds per member and step, ``[rounds]``, of every contestant, and the optimizer's part of them."""
    torch.set_num_threads(CORES)
    task = load(name, Settings())
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(CORES):
        mine, its = spawn.Pipe()
        processes.append(spawn.Process(target=serve, args=(name, its), daemon=True))
        processes[-1].start()
        pipes.append(mine)
    alone, together = Alone(task), Together(task)
    contestants: dict[str, Training] = {
        "sequential": Here(alone),
        "side by side": Beside(pipes, "alone", 1),
        "batched": Here(together),
        "batched, side by side": Beside(pipes, "together", together.members),
    }
    for pipe in pipes:
        pipe.recv()
    steps = {contestant: _steps_in(seconds, training) for contestant, training in contestants.items()}
    times: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    shares: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    order = list(contestants)
    for turn in track(range(rounds), f"{name}", console=console, transient=True):
        for contestant in order[turn % len(order) :] + order[: turn % len(order)]:
            began = perf_counter()
            stepping = contestants[contestant].advance(steps[contestant])
            took = perf_counter() - began
            times[contestant].append(took / steps[contestant] / contestants[contestant].members)
            shares[contestant].append(stepping / took)
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join()
    return {"task": name, "title": task.title, "batch": together.members, "times": times, "shares": shares}


def _steps_in(seconds: float, training: Training) -> int:
    training.advance(2)  # the first rehearses
    began = perf_counter()
    training.advance(2)
    return max(2, round(2 * seconds / (perf_counter() - began)))


def table(row: dict[str, Any]) -> Table:
    """Of one task: times, ratios to both references, the optimizer's share."""
    times = {contestant: np.array(found) for contestant, found in row["times"].items()}
    shown = Table(title=f"{row['title']}: batches of {row['batch']}", title_justify="left", box=None)
    columns = ("", "µs per member and step", "× sequential", "95 %", "× side by side", "95 %", "optimizer")
    for column in columns:
        shown.add_column(column, justify="right" if column else "left", no_wrap=not column)
    for contestant, found in times.items():
        cells = [contestant, f"{np.median(found) * 1e6:.0f}"]
        for reference in ("sequential", "side by side"):
            cells += _ratio(ratio(times[reference], found)) if contestant != reference else ["–", "–"]
        shown.add_row(*cells, f"{np.median(row['shares'][contestant]):.0%}")
    return shown


def _ratio(estimate: Estimate) -> list[str]:
    return [f"{estimate.median:.2f}", f"{estimate.low:.2f} to {estimate.high:.2f}"]


def goals(row: dict[str, Any]) -> list[str]:
    """A line per goal of the task: asked, measured, reached or not. The better way of batching counts."""
    times = {contestant: np.array(found) for contestant, found in row["times"].items()}
    ways = ("batched", "batched, side by side")
    lines = []
    for reference, asked in GOALS.get(row["task"], {}).items():
        best = max(ratio(times[reference], times[way]).median for way in ways)
        verdict = "reached" if best >= asked else "not reached"
        lines.append(f"{row['task']}: ≥ {asked:g} × {reference}: {best:.2f}, {verdict}")
    share = max(float(np.median(row["shares"][way])) for way in ways)
    verdict = "reached" if share <= SHARE else "not reached"
    return [*lines, f"{row['task']}: optimizer ≤ {SHARE:.0%} of a batched step: {share:.1%}, {verdict}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--task", action="append", help="a built-in task, may be repeated")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="three short rounds, nothing written")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    rounds, seconds = (3, 0.05) if arguments.quick else (arguments.rounds, 0.5)
    console = Console(record=True, width=110)
    about: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine() | {"load before": os.getloadavg()},
        "threads": CORES,
        "versions": versions(()) | {"torch": torch.__version__},
    }
    console.print(
        f"{about['machine']['processor']}, {CORES} cores; torch {torch.__version__}; {about['when']}"
    )
    rows = []
    for name in arguments.task or list(GOALS):
        rows.append(measure(name, rounds, seconds, console))
        console.print(table(rows[-1]))
        console.print("\n".join(goals(rows[-1])), "")
    if not arguments.quick:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_atomic(arguments.out / "ensemble.txt", console.export_text().encode())
        found = json.dumps({**about, "rows": rows}, indent=1)
        write_atomic(arguments.out / "ensemble.json", found.encode())


if __name__ == "__main__":
    main()
