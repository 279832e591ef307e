"""Does searching lr × γ (γ = lr·λ) instead of lr × λ save trials? AdamW on the digits, a real landscape.

python benchmarks/coordinates.py measure     # two landscapes of 2937 trainings: 15 minutes on one core
python benchmarks/coordinates.py search      # repeated searches on it, for each sampler × coordinates
python benchmarks/coordinates.py figure      # docs/tune-coordinates-{light,dark}.svg from the results

**Landscapes.** Mean validation error of three seeds on a lattice of twelfths of a decade in lr and λ: task `digits`
with its 30 epochs (300 steps) and with 150 epochs (1500 steps, so that decay has time to act), cosine schedule. Between lattice points: bilinear in (log lr, log λ). A search sees this surface,
so a repeat costs no training and differs from another by its sampler's seed only.

**Areas.** λ coordinates: the rectangle of `study/ranges.py`, lr 1e-3 to 1e-1, λ 5e-3 to 1.28. γ coordinates: the
same lr, and γ as wide as λ with the middle at (middle lr)·(middle λ). (log lr, log λ) → (log lr, log lr + log λ) is
a shear: its determinant is 1, so that the parallelogram that the γ search covers in the λ plane has the same area
and the same middle, but it is not the same set. Random search is the control for that: whatever it gains is
due to the area and not to the coordinates, and gains of other samplers count only beyond it.

**What counts.** Trials until the best error so far is within 10 % (relative) of the lowest on the whole lattice;
a search that does not get there counts as LIMIT + 1. The main number is, per sampler, the ratio of the mean numbers
of trials, γ over λ, with a bootstrap 95 % interval over repeats, divided by the ratio of the random control.

**Predictions**, written before anything was measured:

1. Random search: a ratio of 0.8 to 1.25, as many good settings in the one area as in the other.
2. TPE one coordinate at a time (Optuna 4's default), which cannot follow a slanted valley: ratio beyond
   the control's of 0.6 to 0.9, its interval below 1.
3. TPE multivariate (ours): it can follow a little; 0.75 to 1.0.
4. GP, with a length scale per axis, none for a slant: 0.7 to 0.95, its interval below 1.

These were written for 30 epochs. The second landscape was added after a look at the first, in which the valley
hardly slants, and before its own measurement: the same predictions, and

5. With 150 epochs the control-corrected ratio of each sampler of 2 to 4 is lower than with 30.

A confirmed 2 and 4 is the case for γ as default. With fewer, γ stays the default only as the number that means
something by itself (1/γ is the decay's memory in steps), and the documentation says so.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from adamantine.report.files import write_atomic
from adamantine.report.model import Floats
from adamantine.study.cell import Cell
from adamantine.study.methods import parse
from adamantine.study.ranges import default_lrs, default_weight_decays

RESULTS = Path(__file__).parent / "results"
EPOCHS = (30, 150)
STEP = 1 / 12  # of a decade, of both lattice axes
SEEDS = (0, 1, 2)

LR = default_lrs(parse("AdamW"))
DECAY = [value for value in default_weight_decays(parse("AdamW"), "decoupled") if value]
WIDTH = {"lr": math.log10(LR[-1] / LR[0]), "decay": math.log10(DECAY[-1] / DECAY[0])}  # decades
MIDDLE = {
    "lr": math.log10(LR[-1] * LR[0]) / 2,
    "decay": math.log10(DECAY[-1] * DECAY[0]) / 2,
}


def landscape_file(epochs: int) -> Path:
    """Where the landscape of so many epochs is kept."""
    return RESULTS / f"coordinates-{epochs}-epochs.json"


def lattice() -> tuple[Floats, Floats]:
    """Distances from the middle in decades, of log10 lr and log10 λ, to beyond the rim of both areas."""
    return tuple(  # type: ignore[return-value]
        STEP * np.arange(-(count := math.ceil(half / STEP - 1e-9)), count + 1)
        for half in (WIDTH["lr"] / 2, (WIDTH["decay"] + WIDTH["lr"]) / 2)
    )


def needed(x: float, y: float) -> bool:
    """Whether a search in one of the two areas may ask for this point or for one of its neighbours."""
    half = WIDTH["decay"] / 2 + 2 * STEP
    return abs(y) < half or abs(x + y) < half


def measure() -> None:
    """Trains every lattice point that is needed, with every seed: a row of one lr is one batch."""
    from adamantine.study.ensemble import train
    from adamantine.study.task import Settings
    from adamantine.study.tasks import load

    xs, ys = lattice()
    decays = [float(f"{10 ** (MIDDLE['decay'] + y):.6g}") for y in ys]
    lrs = [float(f"{10 ** (MIDDLE['lr'] + x):.6g}") for x in xs]
    for epochs in EPOCHS:
        task = load("digits", Settings(epochs=epochs))
        scores: list[list[list[float] | None]] = []
        started = time.monotonic()
        for x, lr in zip(xs, lrs, strict=True):
            asked = [j for j, y in enumerate(ys) if needed(x, y)]
            cells = [Cell("AdamW", lr, decays[j], seed) for j in asked for seed in SEEDS]
            found = [run.validation if run.status == "ok" else 1.0 for run in train(task, cells)]
            row: list[list[float] | None] = [None] * len(ys)
            for place, j in enumerate(asked):
                row[j] = found[place * len(SEEDS) : (place + 1) * len(SEEDS)]
            scores.append(row)
            took = time.monotonic() - started
            print(f"{epochs} epochs: {len(scores)} of {len(xs)} rows, {took:.0f} s", flush=True)
        content: dict[str, Any] = {
            "what": "validation error [lr, weight decay, seed]; null where no search looks; 1 where diverged",
            "command": "python benchmarks/coordinates.py measure",
            "task": "digits",
            "epochs": epochs,
            "seeds": SEEDS,
            "lr": lrs,
            "weight_decay": decays,
            "validation": scores,
        }
        RESULTS.mkdir(exist_ok=True)
        write_atomic(landscape_file(epochs), json.dumps(content).encode() + b"\n")


if __name__ == "__main__":
    {"measure": measure}[sys.argv[1]]()
