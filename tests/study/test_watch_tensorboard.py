"""Event files as TensorBoard itself reads them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tensorboard", reason="needs tensorboard")

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import api_pb2, metadata

from adamantine.study.cell import Cell, Result
from adamantine.study.compare import Run, compare
from adamantine.study.errors import StudyError
from adamantine.study.folder import JOURNAL, read_results
from adamantine.study.watch.events import PATTERN
from adamantine.study.watch.tensorboard import TensorBoard

Prepare = Callable[..., Run]


def files(run: Run) -> dict[str, int]:
    """Every file below the run's event files by its path, with its inode: written again, it has another."""
    there = run.out / "tensorboard"
    return {str(file.relative_to(there)): file.stat().st_ino for file in there.rglob("*") if file.is_file()}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag."""
    found: dict[str, list[tuple[int, float]]] = {}
    (file,) = folder.glob("*tfevents*")
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                found.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    return found


def plugin_data(file: Path) -> dict[str, bytes]:
    return {
        value.tag: value.metadata.plugin_data.content
        for event in EventFileLoader(str(file)).Load()
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    }


def test_a_cell_s_curves_and_scores_are_there(tiny: Prepare) -> None:
    run = tiny()
    compare(run, jobs=1, watcher=TensorBoard(run))
    results = read_results(run.out)
    assert len(files(run)) == 16 + 1  # a file per cell, and the description of the hyperparameters
    result = results[Cell("AdamW", 0.01, 0.1, 1)]
    found = scalars(run.out / "tensorboard" / "AdamW" / "lr=0.01,wd=0.1,seed=1")
    assert found.keys() == {
        "train/loss",
        "validation/error",
        "weights/norm",
        "final/validation",  # and no test score
    }
    for tag, name, factor in (
        ("train/loss", "train_loss", 1.0),
        ("weights/norm", "norm", 1.0),
        ("validation/error", "validation", 100.0),
    ):
        points = zip(result.curves["epoch"], result.curves[name], strict=True)
        expected = [(int(epoch), value * factor) for epoch, value in points if math.isfinite(value)]
        assert [step for step, _ in found[tag]] == [step for step, _ in expected]
        assert [y for _, y in found[tag]] == pytest.approx([y for _, y in expected], rel=1e-6)  # float32
    assert found["final/validation"] == [(3, pytest.approx(100 * result.validation, rel=1e-6))]


def test_the_hparams_tab_has_every_setting_with_its_score(tiny: Prepare) -> None:
    run = tiny()
    compare(run, jobs=1, watcher=TensorBoard(run))
    there = run.out / "tensorboard"
    (described,) = there.glob("*tfevents*")
    about = metadata.parse_experiment_plugin_data(plugin_data(described)[metadata.EXPERIMENT_TAG])
    names = [info.name for info in about.hparam_infos]
    assert names == ["method", "lr", "weight_decay", "gamma", "seed"]
    assert list(about.hparam_infos[0].domain_discrete) == ["Adam", "AdamW"]
    assert [info.name.tag for info in about.metric_infos] == ["final/validation"]
    sessions = [plugin_data(there / name) for name in files(run) if "/" in name]
    starts = [
        metadata.parse_session_start_info_plugin_data(data[metadata.SESSION_START_INFO_TAG])
        for data in sessions
    ]
    assert {start.hparams["method"].string_value for start in starts} == {"Adam", "AdamW"}
    for start in starts:
        values = {name: start.hparams[name].number_value for name in names[1:]}
        assert values["gamma"] == values["lr"] * values["weight_decay"]
    ends = [
        metadata.parse_session_end_info_plugin_data(data[metadata.SESSION_END_INFO_TAG]) for data in sessions
    ]
    assert {end.status for end in ends} == {api_pb2.STATUS_SUCCESS}


def test_a_diverged_run_has_no_score_and_a_failed_one_no_file(tiny: Prepare) -> None:
    run = tiny(specs=("SGD", "tiny_optimizers:Raises"), lrs={"": "0.1,1e30"}, weight_decays={"": "0"})
    compare(run, jobs=1, watcher=TensorBoard(run))
    there = run.out / "tensorboard"
    assert {path.name for path in there.iterdir() if path.is_dir()} == {"SGD"}
    diverged = there / "SGD" / "lr=1e+30,wd=0,seed=0"
    assert "final/validation" not in scalars(diverged)
    (file,) = diverged.iterdir()
    end = metadata.parse_session_end_info_plugin_data(plugin_data(file)[metadata.SESSION_END_INFO_TAG])
    assert end.status == api_pb2.STATUS_FAILURE


def test_a_resumed_run_writes_what_is_missing_and_nothing_twice(tiny: Prepare) -> None:
    run = tiny()
    compare(run, jobs=1, watcher=TensorBoard(run))
    whole = files(run)
    journal = run.out / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(
        "".join(lines[:-3])
    )  # killed after some files were written, before the journal had them
    lost = next((run.out / "tensorboard" / "AdamW").rglob(PATTERN))
    lost.unlink()  # and one behind it
    again = tiny()
    compare(again, jobs=1, watcher=TensorBoard(again))
    now = files(again)
    assert now.keys() == whole.keys()
    missing = str(lost.relative_to(run.out / "tensorboard"))
    assert {name: i for name, i in now.items() if name != missing} == {
        name: i for name, i in whole.items() if name != missing
    }


def test_a_run_begun_without_it_gets_all_its_files(tiny: Prepare) -> None:
    compare(tiny(), jobs=1)
    run = tiny()
    compare(run, jobs=1, watcher=TensorBoard(run))
    assert len(files(run)) == 17


def test_another_plan_s_files_go_and_others_stay(tiny: Prepare) -> None:
    run = tiny()
    compare(run, jobs=1, watcher=TensorBoard(run))
    notes = run.out / "tensorboard" / "AdamW" / "notes.txt"
    notes.write_text("mine")
    other = tiny(specs=("AdamW",), lrs={"": "0.02"}, weight_decays={"": "0"}, seeds=(5,))
    compare(other, jobs=1, fresh=True, watcher=TensorBoard(other))
    assert len(files(other)) == 1 + 1 + 1
    assert notes.read_text() == "mine"


def test_methods_with_names_that_files_cannot_have_keep_apart(tiny: Prepare) -> None:
    run = tiny(specs=('AdamW(decay="cautious")', "torch.optim:AdamW", "AdamW(betas=(0.9, 0.99))"))
    watcher = TensorBoard(run)
    assert list(watcher.names.values()) == [
        "AdamW(decay=cautious)",
        "torch.optim.AdamW",
        "AdamW(betas=(0.9,0.99))",
    ]


def test_a_result_that_changes_replaces_its_file(tiny: Prepare) -> None:
    run = tiny()
    (method, *_) = run.plan.methods
    cell = Cell(method.spec, 0.01, 0.0, 0)
    curves = {"epoch": [1.0], "train_loss": [0.5], "validation": [0.3], "norm": [1.0]}
    for validation in (0.3, 0.2):
        result = Result(cell, "ok", validation, 0.4, curves=curves)
        TensorBoard(run).planned(method, 1, 1, {cell: result})
    place = run.out / "tensorboard" / "Adam" / "lr=0.01,wd=0,seed=0"
    assert scalars(place)["final/validation"] == [(3, pytest.approx(20.0))]


def test_without_tensorboard_the_error_says_what_to_install(
    tiny: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny()
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    with pytest.raises(StudyError, match=r'pip install "adamantine\[tensorboard\]"'):
        TensorBoard(run)
    assert not run.out.exists()
