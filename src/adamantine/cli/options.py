"""Options that several commands read alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from adamantine.report.words import Language
from adamantine.study.errors import StudyError
from adamantine.study.task import Settings

WHAT, TRAINING, RUN = "What", "Training", "Run"  # panels of the help

TaskName = Annotated[
    str,
    typer.Option(
        help="One of [bold]adamantine tasks[/bold], or your own as module:object.", rich_help_panel=WHAT
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder with the files of mnist, fashion-mnist or cifar10.", rich_help_panel=WHAT),
]
TextFile = Annotated[
    Path | None, typer.Option(help="UTF-8 file for the task text.", metavar="FILE", rich_help_panel=WHAT)
]
ScheduleName = Annotated[
    str, typer.Option(help="cosine, linear, constant, warmup-cosine or wsd.", rich_help_panel=TRAINING)
]
Epochs = Annotated[int | None, typer.Option(help="Default: the task's.", rich_help_panel=TRAINING)]
BatchSize = Annotated[int | None, typer.Option(help="Default: the task's.", rich_help_panel=TRAINING)]
TrainSize = Annotated[
    int | None, typer.Option(help="Training examples. Default: the task's.", rich_help_panel=TRAINING)
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over instead of resuming.", rich_help_panel=RUN)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.", rich_help_panel=RUN)]


def settings_of(
    epochs: int | None,
    batch_size: int | None,
    train_size: int | None,
    data_dir: Path | None,
    text: Path | None,
) -> Settings:
    """What the user changes about the task."""
    files = (str(path) if path else None for path in (data_dir, text))
    return Settings(epochs, batch_size, train_size, *files)


def folder(text: str | None) -> Path | None:
    if text == "":  # which Path takes for the current folder
        raise StudyError("--out '': give a folder, or '.' for the current one")
    return None if text is None else Path(text)


def must_be_a_comparison(folder: Path) -> None:
    """Refuses what `adamantine tune` wrote, which has a manifest too, of another shape."""
    from adamantine.study.folder import read_manifest

    try:
        manifest = read_manifest(folder)
    except StudyError:
        return  # told by whoever reads the folder
    if "budget" in manifest:
        raise StudyError(
            f"{folder} is a run of adamantine tune, not of compare; its best settings are in results.json,"
            " and its own command prints them again"
        )


def per_method(given: list[str] | None, option: str) -> dict[str, str]:
    """``["AdamW=1e-3:1e-1:5", "1e-4,1e-3"]`` to ``{"AdamW": "1e-3:1e-1:5", "": "1e-4,1e-3"}``."""
    axes: dict[str, str] = {}
    for text in given or []:
        method, _, axis = text.rpartition("=")
        if method in axes:
            raise StudyError(f"{option} {text!r}: given twice for {method or 'all methods'}")
        axes[method] = axis
    return axes


def seeds_of(text: str) -> tuple[int, ...]:
    """``"3"`` to ``(0, 1, 2)``; ``"3,"`` to ``(3,)``; ``"3,7"`` to ``(3, 7)``."""
    from adamantine.study.compare import MANY

    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise StudyError(f"--seeds {text!r}: expected a count such as 3, or a list such as 3,7,11") from None
    if "," in text:
        return tuple(numbers)
    if not numbers or numbers[0] < 1:
        raise StudyError(f"--seeds {text!r}: at least one seed is needed")
    return tuple(range(min(numbers[0], MANY + 1)))  # one too many is refused like a million too many


def language_of(text: str) -> Language:
    """``--lang``."""
    if text not in get_args(Language):
        raise StudyError(f"--lang {text!r}: there are {', '.join(get_args(Language))}")
    return cast("Language", text)


def formats_of(text: str) -> tuple[str, ...]:
    """``--format``: ``"html,md"`` to ``("html", "md")``."""
    from adamantine.report import FORMATS

    formats = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise StudyError(f"--format {text!r}: give some of {','.join(FORMATS)}")
    return formats
