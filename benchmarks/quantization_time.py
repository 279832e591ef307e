"""What a step costs with each store: CPU time of one thread per parameter, into results/quantization.json.

    python benchmarks/quantization_time.py     # with bitsandbytes and torchao installed, theirs too

All contestants step in turn in one process; the least of the rounds counts, for other programs only add.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["TORCHDYNAMO_DISABLE"] = "0"  # torchao is measured as it is meant to run: compiled

import torch
from quantization import RESULTS
from quantization_peers import optimizers

from adamantine.torch import AdamW

ELEMENTS = 1 << 20
ROUNDS = 40

STATES: dict[str, Any] = {
    "float32": None,
    "8/8": "8bit",
    "4/8": {"exp_avg": "4bit", "exp_avg_sq": "8bit"},
    "4/4": "4bit",
    "bfloat16": "bfloat16",
}


def contestants() -> dict[str, Callable[[list[Any]], Any]]:
    """Ours, and the peers that are installed."""
    ours = {name: lambda p, state=state: AdamW(p, lr=1e-3, state=state) for name, state in STATES.items()}
    return ours | optimizers()


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """Nanoseconds of CPU time per parameter and step."""
    torch.set_num_threads(1)
    steps, least = {}, {}
    for name, make in contestants().items():
        p = torch.nn.Parameter(torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(0)))
        p.grad = torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(1))
        optimizer = make([p])
        optimizer.step()
        if name in STATES:
            assert "generic" not in str(optimizer.explain()), "no compiled kernel here"
        steps[name], least[name] = optimizer.step, float("inf")
    for _ in range(rounds):
        for name, step in steps.items():
            began = time.process_time()
            step()
            least[name] = min(least[name], (time.process_time() - began) / ELEMENTS * 1e9)
    return least


if __name__ == "__main__":
    path = RESULTS / "quantization.json"
    results = json.loads(path.read_text())
    results["nanoseconds"] = measure()
    if "--print" not in sys.argv:
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    for name, ns in results["nanoseconds"].items():
        print(f"{name:22}{ns:8.2f} ns per parameter")
