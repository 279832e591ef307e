"""A task so small that a cell takes milliseconds, as a user would write it: a module with four functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adamantine.study.compare import Run, prepare

TASK = """
import os, time
import torch

title = "two blobs, linear"
batch_size = 16
epochs = 3
PAUSE = float(os.environ.get("TINY_PAUSE", "0"))

def model(seed):
    time.sleep(PAUSE)
    if PAUSE:
        with open("pids", "a") as file:
            file.write(f"{os.getpid()}\\n")
    return torch.nn.Linear(4, 2)

def data(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (96,), generator=generator)
    inputs = torch.randn(96, 4, generator=generator) + labels[:, None]
    cut = [slice(0, 40), slice(40, 68), slice(68, 96)]
    return [(inputs[part], labels[part]) for part in cut]

def loss(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets)

def metric(outputs, targets):
    return (outputs.argmax(-1) != targets).float().mean()
"""

OPTIMIZERS = """
import os
import torch

class Late(torch.optim.SGD):  # the first step works: it is taken before the grid starts
    steps = 0
    def step(self, closure=None):
        self.steps += 1
        if self.steps > 1:
            self.fail()

class Raises(Late):
    def fail(self):
        raise RuntimeError("no step today")

class Dies(Late):
    def fail(self):
        os._exit(7)

class NeverSteps(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("no step at all")

class NotAnOptimizer:
    pass
"""


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path with ``tiny_task.py`` and ``tiny_optimizers.py``."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "tiny_task.py").write_text(TASK)
    (folder / "tiny_optimizers.py").write_text(OPTIMIZERS)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in ("tiny_task", "tiny_optimizers"):
        sys.modules.pop(name, None)


@pytest.fixture
def tiny(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Prepares a run of the tiny task in ``tmp_path / out``: two methods on 2 x 2 settings with two seeds."""
    monkeypatch.chdir(tmp_path)

    def run(out: str | None = "run", **changes: object) -> Run:
        arguments: dict[str, object] = {
            "task": "tiny_task:",
            "specs": ("Adam", "AdamW"),
            "lrs": {"": "0.01,0.1"},
            "weight_decays": {"": "0,0.1"},
            "seeds": (0, 1),
            "grow": 0,
            "refine": 0,
            "confirm": 0,
            "out": tmp_path / out if out else None,
            **changes,
        }
        return prepare(**arguments)  # type: ignore[arg-type]

    return run
