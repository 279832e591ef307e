"""Which code for the moments? Measures what docs/quantization.md says, into benchmarks/results/quantization.json.

    python benchmarks/quantization.py                  # everything but the peers, about ten minutes
    python benchmarks/quantization.py --quick          # one seed, synthetic gradients, into quantization-quick.json
    python benchmarks/quantization.py blocks rounding  # only these studies, anew
    python benchmarks/quantization.py peers            # in an environment with bitsandbytes and torchao

A study is a set of stores by a set of cases (quantization_cases.py, quantization_codes.py). Figures:
quantization_figures.py.
"""

from __future__ import annotations

import datetime
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from quantization_cases import CASES, SPREADS, Case, Store, errors
from quantization_predictions import PREDICTIONS
from quantization_stores import STUDIES

RESULTS = Path(__file__).parent / "results"
SEEDS = 3  # of synthetic gradients; recorded ones have one
RECORDED = ("text", "digits")


def cases_of(names: Sequence[str]) -> list[Case]:
    """By name, with "spread 0" … "spread 6" beside those of `CASES`."""
    known = CASES | {case.name: case for case in SPREADS.values()}
    return [known[name] for name in names]


def measure(name: str, *, quick: bool) -> dict[str, Any]:
    """Mean and largest error over the seeds, ``{store: {case: [mean, largest]}}``, and what was asked."""
    study = STUDIES[name]
    stores = study.stores()
    rows: dict[str, dict[str, list[float]]] = {store: {} for store in stores}
    for case in cases_of(study.cases):
        if quick and case.name in RECORDED:
            continue
        seeds = 1 if quick or case.name in RECORDED else SEEDS
        found = [errors(case, {k: s.store for k, s in stores.items()}, seed) for seed in range(seeds)]
        for store in stores:
            values = [one[store] for one in found]
            rows[store][case.name] = [float(np.mean(values)), float(np.max(values))]
    return {
        "question": study.question,
        "bytes": {store: s.bytes for store, s in stores.items()},
        "errors": rows,
    }
