"""Event files of TensorBoard: scalars, and the messages of its HPARAMS tab.

TensorBoard's own protocol buffers are written directly, a file as a whole when its run is over:
``torch.utils.tensorboard`` keeps a thread and an open file per run, and a comparison has hundreds.
"""

from __future__ import annotations

import importlib
import io
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamantine.report.files import write_atomic
from adamantine.study.errors import StudyError

PREFIX, SUFFIX = "events.out.tfevents.", ".adamantine"  # TensorBoard looks for "tfevents" in a name
PATTERN = f"{PREFIX}*{SUFFIX}"  # of our files, and of nobody else's


@dataclass(frozen=True)
class Event:
    """One record of an event file: a step, a time in seconds since 1970, and a ``Summary`` message."""

    step: int
    time: float
    summary: Any


def part(name: str) -> Any:
    """A module of TensorBoard; raises :class:`StudyError` where it is not installed."""
    try:
        return importlib.import_module(f"tensorboard.{name}")
    except ImportError as error:
        raise StudyError(
            f"--tensorboard: TensorBoard cannot be imported ({error}); "
            'run: pip install "adamantine[tensorboard]"'
        ) from error


def write(file: Path, events: Iterable[Event]) -> None:
    """Writes an event file as a whole; under a name that TensorBoard does not read until it is there."""
    message = part("compat.proto.event_pb2").Event
    content = io.BytesIO()
    records = part("summary.writer.record_writer").RecordWriter(content)
    records.write(message(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
    for event in events:
        record = message(step=event.step, wall_time=event.time, summary=event.summary)
        records.write(record.SerializeToString())
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name("written")
    write_atomic(beside, content.getvalue())
    beside.replace(file)


def scalar(tag: str, value: float) -> Any:
    """A ``Summary`` with one number."""
    summary = part("compat.proto.summary_pb2").Summary
    return summary(value=[summary.Value(tag=tag, simple_value=value)])


def experiment(
    description: str, methods: Iterable[str], numbers: Mapping[str, str], metrics: Mapping[str, str]
) -> Any:
    """What the HPARAMS tab offers: the hyperparameter ``method`` with its values, hyperparameters that are
    ``numbers``, and tags of scalars as ``metrics``; of each name what is shown."""
    api = part("plugins.hparams.api_pb2")
    method = api.HParamInfo(name="method", display_name="method", type=api.DATA_TYPE_STRING)
    method.domain_discrete.extend(methods)
    data = api.Experiment(
        description=description,
        hparam_infos=[
            method,
            *(
                api.HParamInfo(name=name, display_name=shown, type=api.DATA_TYPE_FLOAT64)
                for name, shown in numbers.items()
            ),
        ],
        metric_infos=[
            api.MetricInfo(name=api.MetricName(tag=tag), display_name=shown) for tag, shown in metrics.items()
        ],
    )
    return _message("EXPERIMENT_TAG", experiment=data)


def session_start(group: str, hyperparameters: Mapping[str, str | float], begin: float) -> Any:
    """The hyperparameters of one run, which began ``begin`` seconds after 1970."""
    info = part("plugins.hparams.plugin_data_pb2").SessionStartInfo(group_name=group, start_time_secs=begin)
    for name, value in hyperparameters.items():
        if isinstance(value, str):
            info.hparams[name].string_value = value
        else:
            info.hparams[name].number_value = value
    return _message("SESSION_START_INFO_TAG", session_start_info=info)


def session_end(*, status: str, end: float) -> Any:
    """That a run is over; any ``status`` but ``"ok"`` counts as a failure."""
    api, plugin = part("plugins.hparams.api_pb2"), part("plugins.hparams.plugin_data_pb2")
    code = api.STATUS_SUCCESS if status == "ok" else api.STATUS_FAILURE
    info = plugin.SessionEndInfo(status=code, end_time_secs=end)
    return _message("SESSION_END_INFO_TAG", session_end_info=info)


def _message(tag: str, **content: Any) -> Any:
    """A message of the HPARAMS plugin, which lies in the metadata of an otherwise empty value."""
    summary = part("compat.proto.summary_pb2").Summary
    metadata = part("plugins.hparams.metadata")
    data = part("plugins.hparams.plugin_data_pb2").HParamsPluginData(**content)
    value = summary.Value(tag=getattr(metadata, tag), metadata=metadata.create_summary_metadata(data))
    return summary(value=[value])
