"""Every built-in task that needs no files trains: the loss falls, and the scores are those of a learner."""

from __future__ import annotations

from pathlib import Path

import pytest

from adamantine.study.cell import Cell
from adamantine.study.plan import Plan
from adamantine.study.task import Settings
from adamantine.study.trainer import Trainer

#: Task, settings that keep it short, learning rate, score that guessing gives.
SHORT = {
    "digits": (Settings(epochs=4, train_size=200), 1e-2, 0.9),
    "digits-resnet": (Settings(epochs=3, train_size=200), 1e-2, 0.9),
    "digits-transformer": (Settings(epochs=6, train_size=200), 1e-2, 0.9),
    "text": (Settings(epochs=5, train_size=128), 3e-3, 4.8),  # log of the number of symbols
    "modular": (Settings(epochs=40), 1e-2, None),  # what it generalizes to comes much later
}


def run(task: str, settings: Settings, lr: float) -> tuple[list[float], float]:
    result = Trainer(Plan(task, settings, (), (0,), "cosine", 0)).run(Cell("AdamW", lr, 0.1, 0))
    assert (result.status, result.message) == ("ok", "")
    return result.curves["train_loss"], result.test


@pytest.mark.parametrize("task", SHORT)
def test_a_built_in_task_learns(task: str) -> None:
    settings, lr, guess = SHORT[task]
    losses, test = run(task, settings, lr)
    assert losses[-1] < 0.8 * losses[1]  # of the first epoch; 0 is the start
    assert guess is None or test < 0.8 * guess


def test_a_text_of_ones_own_is_learnt(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 800, "utf-8")
    losses, test = run("text", Settings(epochs=8, train_size=128, text=str(path)), 3e-3)
    assert losses[-1] < 0.8 * losses[1]  # of the first epoch; 0 is the start
    assert test < 2.0
