"""The built-in tasks by name, and how a task's name becomes a task."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass, replace

from adamantine.study.errors import StudyError
from adamantine.study.origin import import_here
from adamantine.study.task import Data, Settings, Task, from_object


@dataclass(frozen=True)
class Entry:
    """Where a built-in task lives and what ``adamantine tasks`` says about it."""

    factory: str  # "module:function", imported only when asked for
    summary: str
    duration: str  # of the default grid and three seeds on two cores, about
    needs: str = ""  # what the user must bring


FILES = "--data-dir DIR"

TASKS: dict[str, Entry] = {
    "digits": Entry("digits:digits", "handwritten digits of scikit-learn (8 x 8), MLP", "30 s"),
    "digits-resnet": Entry("digits:digits_resnet", "the same digits, small residual CNN", "5 min"),
    "digits-transformer": Entry(
        "digits:digits_transformer", "the same digits, Transformer over their rows", "3 min"
    ),
    "text": Entry("text:text", "next character of Python's manual, small Transformer", "30 min"),
    "modular": Entry("modular:modular", "grokking: (a + b) mod 53 from 40 % of the pairs", "15 min"),
    "mnist": Entry("images:mnist", "MNIST digits (28 x 28), MLP", "6 min", FILES),
    "fashion-mnist": Entry("images:fashion_mnist", "Fashion-MNIST clothing (28 x 28), MLP", "6 min", FILES),
    "cifar10": Entry("images:cifar10", "CIFAR-10 photographs, small residual CNN", "2 h", FILES),
}


def load(name: str, settings: Settings) -> Task:
    """The task called ``name``, a built-in one or ``module:object``, with the user's settings applied."""
    entry = TASKS.get(name)
    if settings.text is not None and name != "text":
        raise StudyError(f"--text is for the task 'text', not for {name!r}")
    if settings.data_dir is not None and (entry is None or entry.needs != FILES):
        raise StudyError(f"--data-dir is for mnist, fashion-mnist and cifar10, not for {name!r}")
    for option in ("epochs", "batch_size", "train_size"):
        value = getattr(settings, option)
        if value is not None and value < 1:
            raise StudyError(f"--{option.replace('_', '-')} must be at least 1, not {value}")
    task = _user_task(name, settings) if entry is None else _built_in(entry, settings)
    changes = {
        key: getattr(settings, key) for key in ("epochs", "batch_size") if getattr(settings, key) is not None
    }
    return replace(task, **changes)


def _built_in(entry: Entry, settings: Settings) -> Task:
    module, function = entry.factory.split(":")
    factory = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    task: Task = factory(settings)
    return task


def _user_task(name: str, settings: Settings) -> Task:
    if ":" not in name and "." not in name:
        near = difflib.get_close_matches(name, TASKS, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise StudyError(
            f"unknown task {name!r}: {hint}there are {', '.join(TASKS)}, or your own as module:object"
        )
    module_name, _, path = name.partition(":")
    try:
        thing = import_here(module_name)
        for part in filter(None, path.split(".")):
            thing = getattr(thing, part)
    except Exception as error:  # the module is the user's code
        what = f"{type(error).__name__}: {error}"
        raise StudyError(
            f"task {name!r}: cannot import {module_name}{':' if path else ''}{path}: {what}"
        ) from error
    task = from_object(name, thing)
    if settings.train_size is None:
        return task
    return replace(task, data=_Shortened(task, settings.train_size))


@dataclass(frozen=True)
class _Shortened:
    """The same data with the first ``size`` training examples."""

    task: Task
    size: int

    def __call__(self, seed: int) -> Data:
        train, validation, test = self.task.data(seed)
        check_train_size(self.size, len(train[0]))
        return Data((train[0][: self.size], train[1][: self.size]), validation, test)


def check_train_size(size: int, available: int) -> None:
    """Raises a :class:`StudyError` when more training examples are asked for than there are."""
    if size > available:
        raise StudyError(f"--train-size {size}: only {available} examples are there to train on")
