"""Do the rules of ``adamantine transfer`` land in the basin of the regime they point at? AdamW on the digits.

python benchmarks/transfer.py    # 2 500 trainings; writes benchmarks/results/transfer.json, resumes in runs/

**What is done.** AdamW is tuned in a source regime (batch size 40, 400 examples, 100 epochs, cosine): lr 5e-4
to 3.2e-2 and λ 0.08 to 20.48 in steps of 2, three seeds, a grid that grows where its optimum touches the rim.
Each rule then makes a setting for six other regimes, without seeing them. Each of these is also tuned by the
same grid. *unchanged* keeps lr and λ as they are: what a rule has to beat.

**What counts.** (a) Is the suggested setting in the basin: its validation error, paired by the grid's seeds,
on average no more above that of the regime's own best than the noise between seeds (as in every report,
``statistics.paired_spread``)? For comparison, the share of all settings of the grid that are. (b) Its test
error minus that of the regime's own best over 20 seeds that no choice has seen: mean and 95 % interval.

**Predictions**, written before anything was measured:

1. *timescale* is in the basin in at least 5 of 6 regimes, and over all six its mean excess in test error is
   below 0.3 percentage points.
2. *normalized* is in the basin in at least 4 of 6.
3. *unchanged* is in the basin in at most 4 of 6, and its mean excess is larger than that of both rules.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from adamantine.report.files import write_atomic
from adamantine.study import statistics
from adamantine.study.cell import Cell
from adamantine.study.compare import Run, compare, prepare
from adamantine.study.folder import read_results
from adamantine.study.plan import grown, validation_scores
from adamantine.study.stages import best_setting
from adamantine.study.task import Settings
from adamantine.study.transfer import RULES, Regime, transferred

SOURCE = Regime(batch_size=40, train_size=400, epochs=100)
TARGETS = (
    Regime(10, 400, 100),
    Regime(20, 400, 100),
    Regime(80, 400, 100),
    Regime(40, 400, 25),
    Regime(40, 400, 400),
    Regime(40, 100, 100),
)
GRID = "0.0005,0.001,0.002,0.004,0.008,0.016,0.032", "0.08,0.16,0.32,0.64,1.28,2.56,5.12,10.24,20.48"
FRESH = 20
RUNS = Path("runs/transfer")
RESULTS = Path(__file__).parent / "results" / "transfer.json"


def trained(regime: Regime, lrs: str, weight_decays: str, grow: int) -> Run:
    """A comparison of AdamW with itself, run to its end."""
    settings = Settings(int(regime.epochs), regime.batch_size, regime.train_size)
    name = "-".join(f"{x:g}" for x in vars(regime).values())
    if not grow:
        name += f"-{lrs}-{weight_decays}"
    run = prepare(
        specs=("AdamW",),
        lrs={"": lrs},
        weight_decays={"": weight_decays},
        grow=grow,
        confirm=FRESH,
        settings=settings,
        out=RUNS / name,
    )
    compare(run)
    return run


def fresh_scores(run: Run, lr: float, weight_decay: float) -> np.ndarray:
    """Test error with each fresh seed."""
    results = read_results(run.out)
    return np.array([results[Cell("AdamW", lr, weight_decay, s)].test for s in run.plan.fresh_seeds])


def tuned(regime: Regime) -> dict[str, Any]:
    """The regime's own best setting, its basin, and what it scores."""
    run = trained(regime, *GRID, grow=2)
    results, plan = read_results(run.out), run.plan
    method = grown(plan.methods[0], plan, results)
    grid = validation_scores(method, plan.seeds, results)
    lr, weight_decay = best_setting(method, plan, results) or (np.nan, np.nan)
    best = statistics.choose(grid)
    assert best is not None
    tolerance = statistics.paired_spread([grid])
    return {
        "lr": lr,
        "weight_decay": weight_decay,
        "edges": statistics.edges(best, method.lrs, method.weight_decays),
        "validation": grid[best],
        "tolerance": tolerance,
        "share": float(np.mean((grid - grid[best]).mean(axis=2) <= tolerance + statistics.SAME)),
        "test": fresh_scores(run, lr, weight_decay),
    }


def tried(regime: Regime, lr: float, weight_decay: float, own: dict[str, Any]) -> dict[str, Any]:
    """A suggested setting, trained as it is, against the regime's own best."""
    run = trained(regime, repr(lr), repr(weight_decay), grow=0)
    results, plan = read_results(run.out), run.plan
    validation = validation_scores(plan.methods[0], plan.seeds, results)[0, 0]
    behind = float((validation - own["validation"]).mean())
    excess = statistics.estimate(fresh_scores(run, lr, weight_decay) - own["test"])
    return {
        "lr": lr,
        "weight_decay": weight_decay,
        "validation_excess": behind,
        "in_basin": bool(behind <= own["tolerance"] + statistics.SAME),
        "test_excess": excess.mean,
        "low": excess.low,
        "high": excess.high,
    }


def main() -> None:
    source = tuned(SOURCE)
    start = source["lr"], source["weight_decay"]
    record: dict[str, Any] = {"source": plain(SOURCE, source), "targets": []}
    print("source", record["source"])
    for regime in TARGETS:
        own = tuned(regime)
        suggested = {rule: transferred(*start, SOURCE, regime, rule=rule) for rule in RULES}
        settings = {rule: (found.lr, found.weight_decay) for rule, found in suggested.items()}
        found = {
            rule: tried(regime, *setting, own) for rule, setting in {**settings, "unchanged": start}.items()
        }
        record["targets"].append({**plain(regime, own), "suggested": found})
        print(json.dumps(record["targets"][-1], indent=1), flush=True)
    write_atomic(RESULTS, (json.dumps(record, indent=1) + "\n").encode())


def plain(regime: Regime, own: dict[str, Any]) -> dict[str, Any]:
    kept = {key: own[key] for key in ("lr", "weight_decay", "edges", "tolerance", "share")}
    return {**vars(regime), **kept, "test": float(own["test"].mean())}


if __name__ == "__main__":
    main()
