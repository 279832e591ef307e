"""Peak memory of a whole training process, measured from outside the optimizer, against what is predicted.

    python benchmarks/peak_memory.py [--setup NAME ...] [--layers 128] [--width 1024] [--out DIR]

Every setup trains the same net for three steps in a fresh process: residual layers x + Linear(x)/10 of width
1024, 128 of them (134 million parameters), a batch of 16, one thread. Linux only.

    measured     VmHWM of /proc/self/status: the most memory that was ever resident, whoever asked for it,
                 minus the baseline
    baseline     what is resident after a net of two layers of width 64 was trained the same way and let go:
                 the interpreter, torch, code, thread pools
    predicted    `optimizer.memory_report()`, from shapes and options before the first step: weights,
                 gradients (all; with gradient release the largest one) and state; for torch.optim.AdamW four
                 times its float32 weights; plus activations
    activations  what autograd saves for backward beside the weights, counted in one forward pass by
                 `torch.autograd.graph.saved_tensors_hooks`

Goal: measured within 5 % of predicted, whole process, baseline included in neither (with it the error would
only look smaller). And the bytes per parameter of issue 6, counted by the report and measured.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from adamantine.report.files import write_atomic
from adamantine.torch import AdamW

BATCH, STEPS = 16, 3
CLOSE = 0.05  # of predicted, by which measured may miss it


@dataclass(frozen=True)
class Setup:
    """A way to train. ``goal``: bytes per parameter that weights, gradients and state may take."""

    dtype: torch.dtype = torch.float32
    options: Mapping[str, Any] = field(default_factory=dict)
    who: Literal["torch", "adamantine"] = "adamantine"
    gradients: Literal["kept", "released"] = "kept"
    goal: float | None = None


def _bf16(weights: str, state: str, **more: Any) -> Setup:
    return Setup(torch.bfloat16, {"weights": weights, "state": state}, **more)


SETUPS = {
    "torch.optim.AdamW, float32": Setup(who="torch"),
    "float32": Setup(),
    "float32, 8-bit state": Setup(options={"state": "8bit"}),
    "float32, 8-bit state, release": Setup(options={"state": "8bit"}, gradients="released"),
    "bf16 stochastic, 8-bit state": _bf16("stochastic", "8bit"),
    "bf16 split8, 8-bit state": _bf16("split8", "8bit", goal=7.1),
    "bf16 stochastic, 8-bit state, release": _bf16("stochastic", "8bit", gradients="released"),
    "bf16 split8, 8-bit state, release": _bf16("split8", "8bit", gradients="released", goal=5.1),
    "bf16 split8, 4-bit state, release": _bf16("split8", "4bit", gradients="released", goal=4.1),
    "bf16 stochastic, 4-bit state, release": _bf16("stochastic", "4bit", gradients="released"),
}


class Residual(nn.Module):
    """x + Linear(x)/10 so many times: activations of one size however deep it is."""

    def __init__(self, layers: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False, dtype=dtype) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + 0.1 * layer(x)
        return x


def train(setup: Setup, layers: int, width: int) -> dict[str, int]:
    """Three steps; what the report predicts and counts, and the activations, in bytes."""
    torch.manual_seed(0)
    model = Residual(layers, width, setup.dtype)
    x = torch.randn(BATCH, width, dtype=setup.dtype)
    parameters = sum(p.numel() for p in model.parameters())
    found = {"parameters": parameters}
    release: AbstractContextManager[Any] = nullcontext()
    if setup.who == "torch":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        found["predicted"] = 4 * sum(p.nbytes for p in model.parameters())
    else:
        optimizer = ours = AdamW(model.parameters(), lr=1e-4, **setup.options)
        report = ours.memory_report()
        found["predicted"] = report.predicted_bytes
        if setup.gradients == "released":
            found["predicted"] = report.predicted_bytes_released
            release = ours.release_gradients()
    with release:
        for _ in range(STEPS):
            saved = Activations(model)
            with saved:
                loss = model(x).square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
    return found | {"activations": saved.bytes}


class Activations(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that autograd saves inside, each memory once, without the model's parameters."""

    def __init__(self, model: nn.Module) -> None:
        self.bytes = 0
        seen = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def count(tensor: Tensor) -> Tensor:
            place = tensor.untyped_storage().data_ptr()
            if place not in seen:
                seen.add(place)
                self.bytes += tensor.untyped_storage().nbytes()
            return tensor

        super().__init__(count, lambda tensor: tensor)


def measure(setup: Setup, layers: int, width: int) -> dict[str, int]:
    """In a process of its own: rehearse small, let go, then train for real."""
    torch.set_num_threads(1)
    train(setup, 2, 64)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark becomes what is resident now
    baseline = _peak()
    found = train(setup, layers, width)
    return found | {"baseline": baseline, "peak": _peak()}


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("no VmHWM in /proc/self/status: this needs Linux")


def table(rows: dict[str, dict[str, int]]) -> Table:
    """Per setup: predicted and measured, in MB and per parameter."""
    parameters = next(iter(rows.values()))["parameters"]
    shown = Table(title=f"{parameters / 1e6:.0f} million parameters", title_justify="left", box=None)
    columns = ("", "baseline", "peak", "− baseline", "predicted", "measured ÷ predicted")
    for column in (*columns, "bytes per parameter, report", "measured"):
        shown.add_column(column, justify="right" if column else "left")
    for name, row in rows.items():
        measured, predicted = _measured(row), row["predicted"] + row["activations"]
        shown.add_row(
            name,
            *(f"{size / 1e6:.0f} MB" for size in (row["baseline"], row["peak"], measured, predicted)),
            f"{measured / predicted:.3f}",
            f"{row['predicted'] / parameters:.2f}",
            f"{measured / parameters:.2f}",
        )
    return shown


def goals(rows: dict[str, dict[str, int]]) -> list[str]:
    """A line per goal."""
    lines = []
    for name, row in rows.items():
        error = _measured(row) / (row["predicted"] + row["activations"]) - 1
        verdict = "reached" if abs(error) <= CLOSE else "NOT reached"
        lines.append(f"{name}: within {CLOSE:.0%} of predicted: {error:+.1%}, {verdict}")
        goal = SETUPS[name].goal
        if goal:
            counted = row["predicted"] / row["parameters"]
            verdict = "reached" if counted <= goal else "NOT reached"
            lines.append(f"{name}: ≤ {goal} bytes per parameter: {counted:.3f}, {verdict}")
    return lines


def _measured(row: dict[str, int]) -> int:
    return row["peak"] - row["baseline"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--setup", action="append", choices=list(SETUPS))
    parser.add_argument("--layers", type=int, default=128)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = (arguments.layers, arguments.width)
    if arguments.child:
        print(json.dumps(measure(SETUPS[arguments.child], *size)))
        return
    rows = {}
    for name in track(arguments.setup or SETUPS, console=Console(stderr=True)):
        command = [sys.executable, __file__, "--child", name, f"--layers={size[0]}", f"--width={size[1]}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows[name] = json.loads(done.stdout)
    console = Console(record=True, width=150)
    console.print(table(rows), "", "\n".join(goals(rows)))
    write_atomic(arguments.out / "peak_memory.txt", console.export_text().encode())
    about = {"torch": torch.__version__, "layers": size[0], "width": size[1], "batch": BATCH}
    write_atomic(arguments.out / "peak_memory.json", json.dumps({**about, "rows": rows}, indent=1).encode())


if __name__ == "__main__":
    main()
