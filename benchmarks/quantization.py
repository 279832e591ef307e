"""Which code for the moments? Measures what docs/quantization.md says: results/quantization.json.

    python benchmarks/quantization.py                  # everything but the peers, about ten minutes
    python benchmarks/quantization.py --quick          # one seed, synthetic gradients; only prints
    python benchmarks/quantization.py blocks rounding  # only these studies, anew
    python benchmarks/quantization.py peers            # with bitsandbytes and torchao installed

A study (quantization_stores.py) is a set of stores by a set of cases (quantization_cases.py); what stores
are made of: quantization_codes.py, quantization_curves.py. Figures: quantization_figures.py.
"""

from __future__ import annotations

import datetime
import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from quantization_cases import CASES, SPREADS, Case, errors
from quantization_predictions import PREDICTIONS
from quantization_rules import measure_rules
from quantization_stores import STUDIES

RESULTS = Path(__file__).parent / "results"
RECORDED = ("text", "digits")


def cases_of(names: Sequence[str]) -> list[Case]:
    """By name."""
    return [(CASES | SPREADS)[name] for name in names]


def measure(name: str, *, quick: bool) -> dict[str, Any]:
    """Mean and largest error over the seeds, ``{store: {case: [mean, largest]}}``, and what was asked."""
    study = STUDIES[name]
    stores = study.stores()
    rows: dict[str, dict[str, list[float]]] = {store: {} for store in stores}
    for case in cases_of(study.cases):
        if quick and case.name in RECORDED:
            continue
        seeds = 1 if quick or case.name in RECORDED else study.seeds
        found = [errors(case, {k: s.store for k, s in stores.items()}, seed) for seed in range(seeds)]
        for store in stores:
            values = [one[store] for one in found]
            rows[store][case.name] = [float(np.mean(values)), float(np.max(values))]
    return {
        "question": study.question,
        "bytes": {store: s.bytes for store, s in stores.items()},
        "errors": rows,
    }


def verdicts(studies: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every prediction with whether it came true; None where its study is missing."""

    def look_up(study: str, store: str, case: str) -> float:
        return float(studies[study]["errors"][store][case][0])

    found: dict[str, dict[str, Any]] = {}
    for key, prediction in PREDICTIONS.items():
        try:
            held: bool | None = bool(prediction.holds(look_up))
        except KeyError:
            held = None
        found[key] = {"prediction": prediction.text, "holds": held}
    return found


def text(results: dict[str, Any]) -> str:
    """The tables as plain text: errors in per cent, mean over the seeds."""
    lines = [f"Error of AdamW's displacement in %, {results['machine']}"]
    for name, study in results["studies"].items():
        cases = list(next(iter(study["errors"].values())))
        wide = max(map(len, study["errors"])) + 2
        lines += ["", f"{name}: {study['question']}", ""]
        lines.append(" " * wide + " bytes " + " ".join(f"{case:>14}" for case in cases))
        for store, row in study["errors"].items():
            cells = " ".join(f"{100 * row[case][0]:14.2f}" if case in row else " " * 14 for case in cases)
            lines.append(f"{store:<{wide}}{study['bytes'][store]:6.3f} {cells}")
    if "nanoseconds" in results:
        lines += [
            "",
            "CPU time of a step of 2^20 parameters, one thread, ns per parameter (quantization_time.py)",
            "",
        ]
        lines += [f"{store:<22}{ns:6.2f}" for store, ns in results["nanoseconds"].items()]
    lines += ["", "Predictions, written before"]
    for verdict in results["predictions"].values():
        mark = {True: "yes", False: "NO", None: "?"}[verdict["holds"]]
        lines.append(f"{mark:>4}  {verdict['prediction']}")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Measures the studies named, or all but the peers, and writes everything that is known by then."""
    quick = "--quick" in arguments
    path = RESULTS / "quantization.json"
    results = json.loads(path.read_text()) if path.exists() and not quick else {"studies": {}}
    results["machine"] = f"numpy {np.__version__}, {platform.machine()}"
    results["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
    for name in [a for a in arguments if not a.startswith("-")] or [*STUDIES, "rules"]:
        began = time.perf_counter()
        if name == "peers":
            from quantization_peers import measure_peers

            results["studies"][name] = measure_peers(quick=quick)
        elif name == "rules":
            results["studies"][name] = measure_rules(quick=quick)
        else:
            results["studies"][name] = measure(name, quick=quick)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        results["predictions"] = verdicts(results["studies"])
        if not quick:
            path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
            path.with_suffix(".txt").write_text(text(results))
    if quick:
        print(text(results))


if __name__ == "__main__":
    main(sys.argv[1:])
