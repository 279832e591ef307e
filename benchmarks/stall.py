"""Pure bfloat16 weights at a small learning rate: torch.optim.AdamW stands still, ours does not.

    python benchmarks/stall.py [--seed N ...] [--out DIR] [--images DIR]

A bfloat16 has 8 significant bits: what a step adds to a weight w is lost if it is below half a unit in w's
last place, between 2⁻⁹·|w| and 2⁻⁸·|w|. AdamW's step is about lr (less where gradients disagree), so a
weight above 2⁹·lr hears nothing at all. With lr = 3e-5 that is every weight above 0.015: of a Transformer
of width 64 with PyTorch's initial values, most.

The task: the character Transformer of `adamantine.study`, trained in float32 for 4 epochs and then on
at that small, constant lr for 6 more, as a fine-tuning goes. Every arm begins with the same weights, rounded
to bfloat16, has the same batches, and computes forward and backward in bfloat16; only the storage of weights
and state differs. The reference is torch.optim.AdamW in float32.

Expected before the first run of ours: torch in bfloat16 and ours to nearest gain less than half of what
float32 gains in test loss; stochastic rounding, Kahan and both splits at least 90 % of it.

The score is the test loss (nats per character) in float32 arithmetic, with the weights as they are stored.
stall.json (kept run by run, and not run again) and stall.txt go to DIR (benchmarks/results), stall-light.png
and stall-dark.png to docs/images.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from adamantine.report.files import write_atomic
from adamantine.report.svg import themed
from adamantine.report.theme import Theme, stroke
from adamantine.study.recipe import SCORED, Recipe, grouped, single_threaded
from adamantine.study.task import Data, Settings, Task
from adamantine.study.tasks import load
from adamantine.torch import AdamW

PRETRAINING = (4, 3e-3)  # epochs, peak lr
EPOCHS, LR, WEIGHT_DECAY = 6, 3e-5, 0.1
EVERY = 32  # steps between two points of a curve


@dataclass(frozen=True)
class Arm:
    """Who steps, and in which dtype the model is."""

    build: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
    dtype: torch.dtype = torch.bfloat16


def _ours(weights: str) -> Arm:
    return Arm(lambda groups: AdamW(groups, weights=weights, state="8bit"))


ARMS = {
    "float32, torch": Arm(torch.optim.AdamW, torch.float32),
    "bf16, torch": Arm(torch.optim.AdamW),
    "bf16 to nearest, 8-bit state": _ours("nearest"),
    "bf16 stochastic, 8-bit state": _ours("stochastic"),
    "bf16 Kahan, 8-bit state": _ours("kahan"),
    "bf16 split8, 8-bit state": _ours("split8"),
    "bf16 split16, 8-bit state": _ours("split16"),
}


def pretrained(task: Task, data: Data, seed: int) -> nn.Module:
    """The float32 model that all arms of the seed go on with."""
    torch.manual_seed(seed)
    epochs, lr = PRETRAINING
    model = task.model(seed)
    recipe = Recipe.of(task, len(data.train[0]), "warmup-cosine")
    optimizer = torch.optim.AdamW(_groups(model, lr))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.schedule)
    for batch in _batches(recipe, seed, epochs):
        _step(task, model, data, batch, optimizer)
        schedule.step()
    return model


def run(task: Task, data: Data, start: nn.Module, arm: Arm, seed: int) -> dict[str, Any]:
    """Test losses along the way, and the share of weights that the training has changed."""
    model = copy.deepcopy(start).bfloat16().to(arm.dtype)
    begin = [p.detach().clone() for p in model.parameters()]
    optimizer = arm.build(_groups(model, LR))
    recipe = Recipe.of(task, len(data.train[0]), "constant")
    losses = [_test(task, model, data)]
    for step, batch in enumerate(_batches(recipe, seed + 1000, EPOCHS), 1):
        _step(task, model, data, batch, optimizer)
        if step % EVERY == 0:
            losses.append(_test(task, model, data))
    moved = sum(int((p != b).sum()) for p, b in zip(model.parameters(), begin, strict=True))
    return {"losses": losses, "moved": moved / sum(p.numel() for p in begin)}


def _groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    groups, _ = grouped(model, lr, WEIGHT_DECAY)
    return [{**group, "params": [p for _, p in group["params"]], "lr": lr} for group in groups]


def _batches(recipe: Recipe, seed: int, epochs: int) -> list[torch.Tensor]:
    order = recipe.order(seed)
    shuffled = [torch.from_numpy(recipe.shuffled(order)) for _ in range(epochs)]
    return [batch for epoch in shuffled for batch in epoch.split(recipe.batch_size)]


def _step(
    task: Task, model: nn.Module, data: Data, batch: torch.Tensor, optimizer: torch.optim.Optimizer
) -> None:
    inputs, targets = data.train
    task.loss(model(inputs[batch]).float(), targets[batch]).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def _test(task: Task, model: nn.Module, data: Data) -> float:
    scored = copy.deepcopy(model).float().eval()
    inputs, targets = data.test
    with torch.no_grad():
        parts = zip(inputs.split(SCORED), targets.split(SCORED), strict=True)
        return sum(float(task.loss(scored(x), y)) * len(x) for x, y in parts) / len(inputs)


Found = dict[str, dict[str, dict[str, Any]]]  # arm → seed → run


def gain(runs: dict[str, dict[str, Any]]) -> NDArray[np.float64]:
    """By how much the test loss fell, per seed."""
    return np.array([runs[seed]["losses"][0] - runs[seed]["losses"][-1] for seed in sorted(runs)])


def table(found: Found) -> Table:
    """What every arm has gained, as a share of float32's gain."""
    seeds = len(found["float32, torch"])
    shown = Table(
        title=f"lr {LR:g}, λ {WEIGHT_DECAY:g}, {EPOCHS} epochs after {PRETRAINING[0]} in float32; "
        f"mean ± std of {seeds} seeds",
        title_justify="left",
        box=None,
    )
    for column in ("", "test loss, before", "after", "gain ÷ float32's", "weights that moved"):
        shown.add_column(column, justify="right" if column else "left", no_wrap=True)
    whole = gain(found["float32, torch"])
    for name, runs in found.items():
        share = gain(runs) / whole
        before, after = (np.mean([run["losses"][end] for run in runs.values()]) for end in (0, -1))
        moved = np.mean([run["moved"] for run in runs.values()])
        spread = f" ± {share.std(ddof=1):.2f}" if seeds > 1 else ""
        shown.add_row(name, f"{before:.4f}", f"{after:.4f}", f"{share.mean():.2f}{spread}", f"{moved:.0%}")
    return shown


def draw(found: Found, theme: Theme) -> Figure:
    """Test loss over steps, the mean of the seeds. Curves that coincide take turns with their marks."""
    figure = Figure((7.2, 4.6), layout="constrained")
    ax = figure.subplots()
    for place, (name, runs) in enumerate(found.items()):
        look = stroke(place)
        mean = np.mean([run["losses"] for run in runs.values()], axis=0)
        steps = EVERY * np.arange(len(mean))
        if ARMS[name].dtype == torch.float32:  # what the others are to follow: a band behind them
            ax.plot(steps, mean, color=look.colour, linewidth=7, alpha=0.35, label=name)
            continue
        turn = (place % (len(ARMS) - 2), len(ARMS) - 2)
        ax.plot(steps, mean, color=look.colour, linewidth=1.2, marker=look.marker, markevery=turn, label=name)
    ax.set_title("Rounded to nearest, bf16 weights learn a third of what float32 ones do")
    ax.set_xlabel(f"step, at lr {LR:g}")
    ax.set_ylabel("test loss (nats per character)")
    ax.grid(True, axis="y")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="center right", bbox_to_anchor=(1.0, 0.43), fontsize=9.5, labelcolor=theme.ink)
    return figure


def main() -> None:
    root = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, action="append", help="may be repeated; without it 0, 1 and 2")
    parser.add_argument("--out", type=Path, default=root / "benchmarks" / "results")
    parser.add_argument("--images", type=Path, default=root / "docs" / "images")
    arguments = parser.parse_args()
    task = load("text", Settings())
    file = arguments.out / "stall.json"
    found: Found = json.loads(file.read_text())["runs"] if file.exists() else {name: {} for name in ARMS}
    with single_threaded():
        for seed in arguments.seed or range(3):
            missing = [name for name in ARMS if str(seed) not in found[name]]
            data = task.data(seed)
            start = pretrained(task, data, seed) if missing else None
            for name in track(missing, f"seed {seed}", console=Console(stderr=True)):
                assert start is not None
                found[name][str(seed)] = run(task, data, start, ARMS[name], seed)
                about = {"torch": torch.__version__, "lr": LR, "every": EVERY}
                write_atomic(file, json.dumps({**about, "runs": found}, indent=1).encode())
    console = Console(record=True, width=110)
    console.print(table(found))
    write_atomic(arguments.out / "stall.txt", console.export_text().encode())
    for name, content in themed("stall", lambda theme: draw(found, theme), kinds=["png"]):
        write_atomic(arguments.images / name, content)


if __name__ == "__main__":
    main()
