"""Does training end where it would have ended in float32? AdamW with every way of storing, on real tasks.

    python benchmarks/low_memory_training.py [--task NAME ...] [--seeds N] [--arm NAME ...] [--out DIR]

Two tasks of `adamantine.study`, as they come: handwritten digits with the residual CNN, and the next
character of Python's manual with the Transformer, shortened to 4 epochs of its 10. One setting of lr and λ
for each, fixed beforehand and not tuned for any format. A seed decides the split of the data, the initial
weights and the order of the batches, alike for every arm, so that arms are paired by seed. A loss is the
mean cross-entropy in nats at the end, over the whole training and the whole test split, in float32
arithmetic with the weights as they are stored.

Arms whose name begins with "bf16" have a bfloat16 model: forward and backward pass in bfloat16 too, except
that BatchNorm stays in float32 as in any recipe for half precision. What that arithmetic costs by itself is
the arm "float32, bf16 arithmetic" (`torch.autocast`).

The margin, stated before the first run of any format: the standard error that the mean of five float32
seeds has, s/√5 with s their standard deviation. Five, since a smaller difference is one that a person
who compares five seeds with five seeds cannot see; all seeds that were run estimate s, and more seeds give
the test more power without moving the margin. The verdict is of two one-sided t-tests at 5 % each (TOST):
of the 90 % interval of the mean difference, paired by seed.

    equivalent    the interval lies within ± margin
    different     it lies outside of it
    not decided   anything else

Two controls show what the test can see. "float32, one ulp off" is the float32 arm with every initial weight
moved by one unit in its last place: chaos alone, no format is better than it. "bf16 to nearest" is
expected to be different. No correction is made for the number of arms: a "not decided" or "different" may be
the one in twenty.

Seeds: 5 for the Transformer. For the CNN 12 at first; then 24, since `seeds_needed` says 22 for the spread
of the paired differences that the bf16 arms had. The table of 12 had been seen by then (all arms but the
4-bit ones; one of split8 and one of Kahan were "not decided"), so the 24 are less innocent than the 12.
When the codes' ranges became powers of two and two weights came to share a random word, all arms but the
float32 ones were run anew with the same seeds, once; what the codes before had given is in git's history.

Results are kept run by run in DIR/low_memory_training-TASK.json (benchmarks/results) and are not run again;
the table goes to low_memory_training.txt. One thread; an arm's result does not depend on the machine's load.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from equivalence import equivalence, seeds_needed
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from adamantine.report.files import write_atomic
from adamantine.study.recipe import SCORED, Recipe, grouped, single_threaded
from adamantine.study.task import Settings, Task
from adamantine.study.tasks import load
from adamantine.torch import AdamW

Weights = Literal["float32", "float32, one ulp off", "bfloat16"]


@dataclass(frozen=True)
class Arm:
    """A way to store, and what the arithmetic of forward and backward pass is."""

    weights: Weights = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)
    autocast: bool = False


def _bf16(weights: str, state: Any = "8bit") -> Arm:
    return Arm("bfloat16", {"weights": weights, "state": state})


ARMS: dict[str, Arm] = {
    "float32": Arm(),
    "float32, one ulp off": Arm("float32, one ulp off"),
    "float32, bf16 arithmetic": Arm(autocast=True),
    "8-bit state": Arm(options={"state": "8bit"}),
    "4-bit m, 8-bit v": Arm(options={"state": {"exp_avg": "4bit", "exp_avg_sq": "8bit"}}),
    "4-bit state": Arm(options={"state": "4bit"}),
    "bf16 to nearest, 8-bit state": _bf16("nearest"),
    "bf16 stochastic, 8-bit state": _bf16("stochastic"),
    "bf16 Kahan, 8-bit state": _bf16("kahan"),
    "bf16 split8, 8-bit state": _bf16("split8"),
    "bf16 split16, 8-bit state": _bf16("split16"),
    "bf16 split8, 4-bit state": _bf16("split8", "4bit"),
}


@dataclass(frozen=True)
class Setting:
    """A task's own choice, made before any format was tried."""

    lr: float
    weight_decay: float
    epochs: int
    seeds: int


SETTINGS = {
    "digits-resnet": Setting(lr=1e-2, weight_decay=0.32, epochs=20, seeds=24),
    "text": Setting(lr=3e-3, weight_decay=0.1, epochs=4, seeds=5),
}


def train(task: Task, setting: Setting, arm: Arm, seed: int) -> dict[str, float]:
    """Final losses in nats, and the seconds that it took."""
    began = time.perf_counter()
    with single_threaded():
        data = task.data(seed)
        torch.manual_seed(seed)
        model = _stored(task.model(seed), arm.weights, seed)
        dtype = torch.bfloat16 if arm.weights == "bfloat16" else torch.float32
        groups, _ = grouped(model, setting.lr, setting.weight_decay)
        optimizer = AdamW(groups, lr=setting.lr, seed=seed, **arm.options) if arm.options else AdamW(groups)
        inputs, targets = data.train
        recipe = Recipe.of(task, len(inputs), "warmup-cosine")
        scheduler = LambdaLR(optimizer, recipe.schedule)
        order = recipe.order(seed)
        for _ in range(task.epochs):
            shuffled = torch.from_numpy(recipe.shuffled(order))
            model.train()
            for batch in torch.split(shuffled, recipe.batch_size):
                x = inputs[batch]
                with torch.autocast("cpu", torch.bfloat16, enabled=arm.autocast):
                    outputs = model(x.to(dtype) if x.is_floating_point() else x)
                task.loss(outputs.float(), targets[batch]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
        scored = copy.deepcopy(model).float().eval()
        found = {"train": _loss(task, scored, data.train), "test": _loss(task, scored, data.test)}
    return found | {"seconds": time.perf_counter() - began}


def _stored(model: nn.Module, weights: Weights, seed: int) -> nn.Module:
    """The initial model as the arm stores its weights."""
    if weights == "bfloat16":
        for module in model.modules():
            if not isinstance(module, nn.BatchNorm2d):
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.bfloat16()
    elif weights == "float32, one ulp off":
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            sign = torch.randint(2, parameter.shape, generator=generator) * 2.0 - 1.0
            parameter.data = torch.nextafter(parameter.data, sign * math.inf)
    return model


def _loss(task: Task, model: nn.Module, split: tuple[Tensor, Tensor]) -> float:
    inputs, targets = split
    with torch.no_grad():
        total = sum(
            float(task.loss(model(x), y)) * len(x)
            for x, y in zip(inputs.split(SCORED), targets.split(SCORED), strict=True)
        )
    return total / len(inputs)


Runs = dict[str, dict[str, dict[str, float]]]  # arm → seed → losses


def table(task: Task, setting: Setting, runs: Runs) -> Table:
    """All arms of one task against float32, on the training and the test split."""
    reference = runs["float32"]
    shown = Table(
        title=f"{task.title}; lr {setting.lr:g}, λ {setting.weight_decay:g}, {task.epochs} epochs, "
        f"{len(reference)} seeds",
        title_justify="left",
        box=None,
    )
    shown.add_column("")
    for split in ("train", "test"):
        for column in (f"{split} loss", "− float32", "90 %", "TOST"):
            shown.add_column(column, justify="right", no_wrap=True)
    for name in ARMS:
        if name not in runs:
            continue
        seeds = [seed for seed in reference if seed in runs[name]]
        cells = [name]
        for split in ("train", "test"):
            losses = [runs[name][seed][split] for seed in seeds]
            cells.append(f"{np.mean(losses):.5f}")
            if name == "float32":
                margin = equivalence(losses, losses).margin
                cells += ["margin", f"± {margin:.5f}", ""]
                continue
            found = equivalence(losses, [reference[seed][split] for seed in seeds])
            cells += [f"{found.difference:+.5f}", f"{found.low:+.5f} {found.high:+.5f}", found.verdict]
        shown.add_row(*cells)
    return shown


def power(runs: Runs) -> str:
    """What the control says about the number of seeds."""
    lines = []
    for split in ("train", "test"):
        a, b = (
            np.array([runs[name][seed][split] for seed in runs["float32, one ulp off"]])
            for name in ("float32, one ulp off", "float32")
        )
        paired, spread = float((a - b).std(ddof=1)), float(b.std(ddof=1))
        lines.append(
            f"{split}: chaos alone has paired standard deviation {paired:.4f}, float32 seeds {spread:.4f}; "
            f"{seeds_needed(paired, spread)} seeds for a power of 80 %"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--task", action="append", choices=list(SETTINGS))
    parser.add_argument("--arm", action="append", choices=list(ARMS))
    parser.add_argument("--seeds", type=int, help="the first N; as many as SETTINGS says")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    console = Console(record=True, width=150)
    for name in arguments.task or SETTINGS:
        setting = SETTINGS[name]
        task = load(name, Settings(epochs=setting.epochs))
        file = arguments.out / f"low_memory_training-{name}.json"
        runs: Runs = json.loads(file.read_text())["runs"] if file.exists() else {}
        wanted = [
            (arm, seed)
            for seed in range(arguments.seeds or setting.seeds)
            for arm in arguments.arm or ARMS
            if str(seed) not in runs.get(arm, {})
        ]
        for arm, seed in track(wanted, name, console=Console(stderr=True)):
            runs.setdefault(arm, {})[str(seed)] = train(task, setting, ARMS[arm], seed)
            about = {"torch": torch.__version__, "setting": vars(setting)}
            write_atomic(file, json.dumps({**about, "runs": runs}, indent=1).encode())
        console.print(table(task, setting, runs), "", power(runs), "")
    if not (arguments.task or arguments.arm):
        write_atomic(arguments.out / "low_memory_training.txt", console.export_text().encode())


if __name__ == "__main__":
    main()
