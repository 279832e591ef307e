"""The tasks: their splits, their nets, and what is said about bad ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adamantine.study.errors import StudyError
from adamantine.study.task import Data, Settings, Task, check, from_object
from adamantine.study.tasks import TASKS, load

BUILT_IN = ("digits", "digits-resnet", "digits-transformer", "modular", "text")


def rows(data: Data) -> list[set[bytes]]:
    return [{x.numpy().tobytes() for x in inputs} for inputs, _ in data]


@pytest.mark.parametrize("name", BUILT_IN)
def test_splits_are_drawn_by_the_seed_and_do_not_overlap(name: str) -> None:
    task = load(name, Settings())
    first, again, other = task.data(0), task.data(0), task.data(1)
    assert all(
        torch.equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert not torch.equal(first[0][0], other[0][0])
    train, validation, test = rows(first)
    if name == "text":  # the manual repeats a few passages word for word
        assert len(train & validation) + len(train & test) + len(validation & test) < 0.02 * len(train)
    else:
        assert not (train & validation)
        assert not (train & test)
        assert not (validation & test)


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_untrained_net_guesses(name: str) -> None:
    task = load(name, Settings())
    facts = check(task, 0)
    assert facts["parameters"] > 1000
    torch.manual_seed(0)
    inputs, targets = task.data(0).validation
    with torch.no_grad():
        outputs = task.model(0).eval()(inputs[:200])
    classes = outputs.shape[-1]
    assert float(task.loss(outputs, targets[:200])) == pytest.approx(np.log(classes), rel=0.25)


def test_the_transformer_does_not_look_ahead() -> None:
    task = load("text", Settings())
    model = task.model(0).eval()
    x = task.data(0).test[0][:1]
    changed = x.clone()
    changed[0, 40] = (changed[0, 40] + 1) % 128
    with torch.no_grad():
        before, after = model(x), model(changed)
    assert torch.equal(before[0, :40], after[0, :40])
    assert not torch.equal(before[0, 40:], after[0, 40:])


def test_text_targets_are_the_next_characters() -> None:
    inputs, targets = load("text", Settings()).data(0).train
    assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_a_text_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_text("天地玄黄，宇宙洪荒。" * 4000, encoding="utf-8")
    task = load("text", Settings(text=str(file)))
    assert "own.txt" in task.title
    assert check(task, 0)["train"] > 100
    file.write_bytes(b"abc\xff" * 20000)
    with pytest.raises(StudyError, match="not UTF-8 at byte 3"):
        load("text", Settings(text=str(file)))
    file.write_text("too short")
    with pytest.raises(StudyError, match="at least 16385 characters"):
        load("text", Settings(text=str(file)))
    with pytest.raises(StudyError, match="not a regular file"):
        load("text", Settings(text=str(tmp_path)))
    with pytest.raises(StudyError, match="No such file"):
        load("text", Settings(text=str(tmp_path / "none.txt")))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("digit", Settings(), "did you mean digits"),
        ("no.such:thing", Settings(), "cannot import no.such"),
        ("os:nothing", Settings(), "no attribute 'nothing'"),
        ("os", Settings(), "unknown task 'os'"),
        ("os.path", Settings(), "has no model and no data and no loss and no metric"),
        ("digits", Settings(text="x"), "--text is for the task 'text'"),
        ("digits", Settings(data_dir="x"), "--data-dir is for mnist"),
        ("digits", Settings(epochs=0), "--epochs must be at least 1"),
        ("digits", Settings(train_size=10**6), "--train-size 1000000: only 500"),
        ("mnist", Settings(), "needs --data-dir"),
        ("mnist", Settings(data_dir="/no/such/folder"), "no such folder"),
    ],
)
def test_what_is_wrong_with_a_task_is_said(name: str, settings: Settings, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        load(name, settings)


def test_settings_change_a_task(workshop: Path) -> None:
    task = load("tiny_task:", Settings(epochs=7, batch_size=3, train_size=11))
    assert (task.epochs, task.batch_size, task.title) == (7, 3, "two blobs, linear")
    assert len(task.data(0).train[0]) == 11
    with pytest.raises(StudyError, match="only 40"):
        load("tiny_task:", Settings(train_size=41)).data(0)


def test_a_class_a_factory_and_an_instance_are_tasks() -> None:
    class Own:
        epochs = 2

        def model(self, seed: int) -> torch.nn.Module:
            return torch.nn.Linear(2, 2)

        def data(self, seed: int) -> object: ...
        def loss(self, outputs: object, targets: object) -> object: ...
        def metric(self, outputs: object, targets: object) -> object: ...

    for thing in (Own, Own(), lambda: Own()):
        task = from_object("own", thing)
        assert (task.name, task.epochs, task.batch_size) == ("own", 2, 32)
        assert isinstance(task.model(0), torch.nn.Linear)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", "10"),
        ("epochs", 0),
        ("epochs", True),
        ("batch_size", 0),
        ("score_unit", None),
        ("title", 3),
    ],
)
def test_options_of_a_task_are_checked(option: str, value: object) -> None:
    class Own:
        def model(self, seed: int) -> object: ...
        def data(self, seed: int) -> object: ...
        def loss(self, outputs: object, targets: object) -> object: ...
        def metric(self, outputs: object, targets: object) -> object: ...

    setattr(Own, option, value)
    with pytest.raises(StudyError, match=f"task 'own': {option} must be"):
        from_object("own", Own)
    Own.title = None  # type: ignore[attr-defined]
    if option == "title":
        assert from_object("own", Own).title == "own"


def test_a_factory_that_raises_is_one_line() -> None:
    def factory() -> None:
        raise ValueError("no data here")

    with pytest.raises(StudyError, match="'own': making it raised ValueError: no data here"):
        from_object("own", factory)


def test_a_model_with_nothing_to_train_is_refused() -> None:
    digits = load("digits", Settings())
    with pytest.raises(StudyError, match="no parameters to train"):
        check(replace(digits, model=lambda seed: torch.nn.Flatten()), 0)


def test_broken_data_is_found_before_the_run() -> None:
    good = load("digits", Settings())
    pair = good.data(0).train

    def with_data(data: object) -> Task:
        return Task("own", "own", good.model, lambda seed: data, good.loss, good.metric)  # type: ignore[arg-type, return-value]

    with pytest.raises(StudyError, match="three"):
        check(with_data([pair, pair]), 0)
    with pytest.raises(StudyError, match="validation split has 400 inputs and 3 targets"):
        check(with_data([pair, (pair[0], pair[1][:3]), pair]), 0)
    broken = Task("own", "own", good.model, good.data, good.loss, lambda o, t: o)
    with pytest.raises(StudyError, match="metric must return one number"):
        check(broken, 0)


def test_every_entry_has_a_summary() -> None:
    assert all(entry.summary for entry in TASKS.values())


def test_what_a_users_code_raises_is_one_line(workshop: Path) -> None:
    (workshop / "broken_task.py").write_text(
        "def model(seed): ...\nloss = metric = model\ndef data(seed):\n    1 / 0\n"
    )
    task = load("broken_task:", Settings())
    with pytest.raises(StudyError, match=r"'broken_task:'.*broken_task\.py:4\): ZeroDivisionError"):
        check(task, 0)
    (workshop / "unreadable_task.py").write_text("def model(:")
    with pytest.raises(StudyError, match="cannot import unreadable_task: SyntaxError"):
        load("unreadable_task:", Settings())
