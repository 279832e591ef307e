"""What a task is: a network, its data, a loss and a score.

A task of your own is a module, a class or an object with four functions, named
on the command line as ``module:object`` (or ``module:`` for the module itself)::

    def model(seed):             # a freshly initialised torch.nn.Module
        return torch.nn.Linear(20, 2)

    def data(seed):              # three pairs of tensors, [examples, ...] each
        return (x_train, y_train), (x_val, y_val), (x_test, y_test)

    def loss(outputs, targets):    # a scalar tensor to minimise
        return torch.nn.functional.cross_entropy(outputs, targets)

    def metric(outputs, targets):  # mean score of the examples, lower is better
        return (outputs.argmax(-1) != targets).float().mean()

and, where the defaults do not fit, ``title``, ``batch_size`` (32), ``epochs`` (20),
``score_name`` ("error") and ``score_unit`` ("%": a fraction, shown times 100).

``seed`` decides everything random: the split, the initialisation, and (in the
trainer) the order of the batches. The same seed gives every method and every
setting the same start, so that differences can be paired by seed.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from adamantine.study.errors import StudyError

if TYPE_CHECKING:
    from torch import Tensor, nn

    Split = tuple[Tensor, Tensor]


#: Parts of the path of code that is not the user's: the line to look at is the last one outside of it.
_NOT_THEIRS = {"site-packages", "dist-packages", "adamantine"}


class Data(NamedTuple):
    """Inputs and targets, ``[examples, ...]`` each. The test split is never used to choose anything."""

    train: Split
    validation: Split
    test: Split


@dataclass(frozen=True)
class Task:
    """A network with real data. Scores are means over examples and lower is better."""

    name: str
    title: str
    model: Callable[[int], nn.Module]
    data: Callable[[int], Data]
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Callable[[Tensor, Tensor], Tensor | float]
    batch_size: int = 32
    epochs: int = 20
    score_name: str = "error"
    score_unit: str = "%"


@dataclass(frozen=True)
class Settings:
    """What the user may change about a task; ``None`` keeps the task's own value."""

    epochs: int | None = None
    batch_size: int | None = None
    train_size: int | None = None
    data_dir: str | None = None
    text: str | None = None


def from_object(name: str, thing: Any) -> Task:
    """The task that a user's module, class or object describes."""
    if isinstance(thing, type) or (callable(thing) and not hasattr(thing, "model")):
        try:
            thing = thing()
        except Exception as error:  # the user's code
            raise StudyError(f"task {name!r}: making it raised {type(error).__name__}: {error}") from error
    if isinstance(thing, Task):
        return _checked(thing)
    missing = [
        part for part in ("model", "data", "loss", "metric") if not callable(getattr(thing, part, None))
    ]
    if missing:
        raise StudyError(
            f"task {name!r} has no {' and no '.join(missing)}; a task needs model(seed), data(seed), "
            "loss(outputs, targets) and metric(outputs, targets)"
        )
    options = {
        key: getattr(thing, key)
        for key in ("batch_size", "epochs", "score_name", "score_unit")
        if hasattr(thing, key)
    }
    title = getattr(thing, "title", None) or name
    return _checked(Task(name, title, thing.model, thing.data, thing.loss, thing.metric, **options))


def _checked(task: Task) -> Task:
    for option in ("batch_size", "epochs"):
        value = getattr(task, option)
        if type(value) is not int or value < 1:
            raise StudyError(f"task {task.name!r}: {option} must be a whole number from 1, not {value!r}")
    for option in ("title", "score_name", "score_unit"):
        value = getattr(task, option)
        if not isinstance(value, str):
            raise StudyError(f"task {task.name!r}: {option} must be text, not {value!r}")
    return task


def check(task: Task, seed: int) -> dict[str, Any]:
    """Runs one batch forward to find a broken task before the grid starts; returns facts for the manifest.

    The SHA-256 is over the bytes of all six tensors, so that a resumed run is known to see the same data.
    Raises :class:`StudyError`, also for what the task's own code raises.
    """
    with task_errors(task):
        return _facts(task, seed)


@contextmanager
def task_errors(task: Task) -> Iterator[None]:
    """Turns whatever the task's code raises into a :class:`StudyError` that says where."""
    try:
        yield
    except StudyError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [frame for frame in frames if not set(Path(frame.filename).parts) & _NOT_THEIRS]
        place = (theirs or frames)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        raise StudyError(f"task {task.name!r} ({where}): {type(error).__name__}: {error}") from error


def _facts(task: Task, seed: int) -> dict[str, Any]:
    import torch

    splits = task.data(seed)
    try:
        data = Data(*((inputs, targets) for inputs, targets in splits))
    except (TypeError, ValueError):
        raise StudyError(
            f"task {task.name!r}: data(seed) must return three (inputs, targets) pairs"
        ) from None
    digest = hashlib.sha256()
    for split, (inputs, targets) in zip(data._fields, data, strict=True):
        if len(inputs) != len(targets) or len(inputs) == 0:
            raise StudyError(
                f"task {task.name!r}: the {split} split has {len(inputs)} inputs and {len(targets)} targets"
            )
        for tensor in (inputs, targets):
            digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    model = task.model(seed).eval()
    if not any(p.requires_grad for p in model.parameters()):
        raise StudyError(f"task {task.name!r}: its model has no parameters to train")
    with torch.no_grad():
        inputs, targets = data.validation
        outputs = model(inputs[:2])
        scores = {"loss": task.loss(outputs, targets[:2]), "metric": task.metric(outputs, targets[:2])}
    for part, score in scores.items():
        if torch.as_tensor(score).numel() != 1:
            raise StudyError(f"task {task.name!r}: {part} must return one number per batch")
    return {
        "sha256": digest.hexdigest(),
        "train": len(data.train[0]),
        "validation": len(data.validation[0]),
        "test": len(data.test[0]),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
