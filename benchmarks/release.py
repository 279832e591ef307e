"""How far clipping with released gradients ends from exact clipping: real tasks, paired by seed.

    python benchmarks/release.py              # five minutes on one idle core
    python benchmarks/release.py --seeds 1    # a look

Writes results/release.json and results/release.txt beside this file. The bounds were chosen from one run
without clipping (seed 100): the larger one clips some steps, the smaller one nearly all.

Predicted before measuring. Margin: the standard deviation of exact clipping's loss between seeds; within it,
the choice of the mode matters less than the choice of the seed.

- two-pass: the same bits as ordinary clipping (checked here on the first seed of the text).
- delayed: the mean difference is within the margin in all four cases.
- per-parameter: within the margin with AdamW, where a factor that is the same in every step cancels in
  m/√v; outside with SGD and the small bound, where every gradient is cut to C/√n and the steps are shorter.
- last norm alone (what "delayed" would be without the norm seen so far): within the margin, as after the
  first steps of these smooth tasks the two hardly differ.
- C for each (per-parameter clipping to C instead of C/√n): closer to exact than C/√n with SGD: it cuts less.

The third case was added after the first two were measured, since the second one's loss depends so much on the
seed that it decides little; the predictions are the same.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import adamantine.torch as at
from adamantine.report.files import write_atomic
from adamantine.study.task import Settings, Task
from adamantine.study.tasks import load
from adamantine.torch.norm import clip_factor
from adamantine.torch.release.clipping import LAST_NORM, Delayed, PerParameter

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Case:
    """One training, but for the clipping."""

    task: str
    optimizer: str
    options: dict[str, Any]
    epochs: int
    bounds: tuple[float, float]


CASES = (
    Case("text", "AdamW", {"lr": 3e-3, "weight_decay": 0.01}, 2, (1.0, 0.35)),
    Case("digits-resnet", "SGD", {"lr": 0.1, "momentum": 0.9}, 10, (1.0, 0.2)),
    Case("digits-transformer", "SGD", {"lr": 0.1, "momentum": 0.9}, 10, (2.0, 0.5)),
)
MODES = ("delayed", "per-parameter", "last norm alone", "C for each")


class LastNormAlone(Delayed):
    def factor(self, sum_of_squares: float) -> float:
        last = self._optimizer.param_groups[0].get(LAST_NORM, 0.0)
        return clip_factor(last, self._optimizer.max_norm)


class WholeBoundForEach(PerParameter):
    def factor(self, sum_of_squares: float) -> float:
        return clip_factor(math.sqrt(sum_of_squares), self._optimizer.max_norm)


@dataclass(frozen=True)
class Run:
    """One training's end: cross-entropy on the test split, and how many of its steps the bound would clip."""

    mode: str
    bound: float | None
    seed: int
    loss: float
    clipped: float


def train(case: Case, task: Task, mode: str, bound: float | None, seed: int) -> Run:
    data = task.data(seed)
    torch.manual_seed(seed)
    model = task.model(seed)
    order = torch.Generator().manual_seed(seed)
    kind = at.OPTIMIZERS[case.optimizer]
    optimizer = kind(model.parameters(), max_norm=bound, on_nonfinite="skip", **case.options)
    if mode in {"delayed", "per-parameter", "two-pass"}:
        optimizer.release_gradients(mode)
    elif mode == "last norm alone":
        optimizer.release_gradients("delayed")._judge.clipping = LastNormAlone(optimizer)
    elif mode == "C for each":
        optimizer.release_gradients("per-parameter")._judge.clipping = WholeBoundForEach(optimizer)
    inputs, targets = data.train
    norms: list[float] = []
    for _ in range(case.epochs):
        for batch in torch.randperm(len(inputs), generator=order).split(task.batch_size):

            def closure(batch: torch.Tensor = batch) -> float:
                optimizer.zero_grad()
                loss = task.loss(model(inputs[batch]), targets[batch])
                loss.backward()
                return loss.item()

            optimizer.step(closure)
            norms.append(optimizer.last_norm or 0.0)
    model.eval()
    with torch.no_grad():
        loss = task.loss(model(data.test[0]), data.test[1]).item()
    return Run(mode, bound, seed, loss, float(np.mean([n > bound for n in norms])) if bound else 0.0)


def measure(seeds: int, names: list[str]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for case in CASES:
        if case.task not in names:
            continue
        task = load(case.task, Settings())
        runs = found[case.task] = list[Run]()
        for seed in range(seeds):
            runs.append(train(case, task, "none", None, seed))
            for bound in case.bounds:
                runs += [train(case, task, mode, bound, seed) for mode in ("exact", *MODES)]
                if seed == 0 and task.name != "digits-resnet":  # whose BatchNorm would see every batch twice
                    assert train(case, task, "two-pass", bound, seed).loss == runs[-1 - len(MODES)].loss
                print(
                    f"{case.task}, seed {seed}, bound {bound}: "
                    + ", ".join(f"{r.mode} {r.loss:.4f}" for r in runs[-5:])
                )
    return found


def table(found: dict[str, list[Run]]) -> str:
    lines = []
    for case in CASES:
        runs = found.get(case.task, [])
        if not runs:
            continue
        lines.append(
            f"{case.task}, {case.optimizer} {case.options}, {case.epochs} epochs; test cross-entropy"
        )
        for bound in case.bounds:
            exact = [r for r in runs if (r.mode, r.bound) == ("exact", bound)]
            losses = np.array([r.loss for r in exact])
            margin = losses.std(ddof=1) if len(losses) > 1 else math.nan
            lines.append(
                f"  C = {bound:<5} exact {losses.mean():.4f}, margin {margin:.4f}, "
                f"{np.mean([r.clipped for r in exact]):.0%} of its steps clipped"
            )
            for mode in ("none", *MODES):
                of_mode = [r for r in runs if r.mode == mode and r.bound in {bound, None}]
                apart = np.array([r.loss for r in of_mode]) - losses
                error = apart.std(ddof=1) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan
                verdict = "within" if abs(apart.mean()) <= margin else "outside"
                lines.append(f"    {mode:<16} {apart.mean():+.4f} ± {error:.4f} (standard error), {verdict}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    names = [case.task for case in CASES]
    parser.add_argument("--task", choices=names, help="measure this one; the others stay as they were")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(arguments.seeds, [arguments.task] if arguments.task else names)
    file = RESULTS / "release.json"
    if arguments.task and file.exists():
        kept = json.loads(file.read_text())
        found = {name: [Run(**run) for run in runs] for name, runs in kept.items()} | found
    print(text := table(found))
    if arguments.seeds >= 5:
        data = {name: [asdict(run) for run in found[name]] for name in names if name in found}
        write_atomic(file, (json.dumps(data, indent=1) + "\n").encode())
        write_atomic(file.with_suffix(".txt"), text.encode())
