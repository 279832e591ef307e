"""``adamantine checkpoint``: inspect, verify, diff, convert."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from adamantine.cli.app import app, flowing
from adamantine.cli.errors import errors_in_one_line

checkpoint = typer.Typer(
    name="checkpoint",
    help="Looks into optimizer checkpoints, checks them, compares them, translates them. Never runs code "
    "from a file.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(checkpoint)

PATIENCE = 2.0  # seconds without a progress bar

File = Annotated[
    Path, typer.Argument(help="A checkpoint: safetensors of ours, .pt, MessagePack, or a folder.")
]
Key = Annotated[
    str | None,
    typer.Option(help="Where a training checkpoint has the optimizer's state, levels joined by dots."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


@checkpoint.command()
def inspect(
    file: File,
    key: Key = None,
    largest: Annotated[int, typer.Option(help="How many of the largest tensors to list.", min=0)] = 5,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """What is in a checkpoint: groups, decay modes, slots, sizes, and [bold]suspicious values[/bold].

    Suspicious are NaN and infinities, negative second moments, second moments that underflowed, all-zero
    slots, step counts that differ, a learning rate of 0. Exit code 0 whatever is found; 2 for a file that
    cannot be read or is damaged.
    """
    from adamantine.checkpoint.inspection import inspect as look
    from adamantine.cli.checkpoint_tables import show_inspection

    with errors_in_one_line():
        with _progress("reading", file, quiet=quiet) as done:
            found = look(file, key=key, largest=largest, done=done)
        if as_json:
            _print_json(asdict(found))
        else:
            show_inspection(found, Console())


@checkpoint.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A checkpoint of ours: the file, or the index beside shards.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Is a checkpoint whole? Compares [bold]every byte[/bold] with the checksums it was saved with.

    Exit code 0: it will load exactly what was saved. 1: damaged, and every damage is listed. 2: no such file,
    or one of another format.
    """
    from adamantine.checkpoint.verification import verify as check
    from adamantine.cli.checkpoint_tables import show_verification

    with errors_in_one_line():
        with _progress("checking", file, quiet=quiet) as done:
            found = check(file, done=done)
        if as_json:
            _print_json(asdict(found))
        else:
            show_verification(found, Console())
    if found.problems:
        raise typer.Exit(1)


@checkpoint.command()
def diff(
    first: File,
    second: Annotated[Path, typer.Argument(help="Another.")],
    key: Key = None,
    show_all: Annotated[bool, typer.Option("--all", help="Every tensor, not the first twenty.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """What differs between two checkpoints: hyperparameters, steps, tensors with their largest difference.

    Exit code 0: bit-equal. 1: they differ. 2: one cannot be read or is damaged.
    """
    from adamantine.checkpoint.difference import diff as compare
    from adamantine.cli.checkpoint_tables import show_difference

    with errors_in_one_line():
        with _progress("comparing", first, quiet=quiet) as done:
            found = compare(first, second, key=key, done=done)
        if as_json:
            _print_json({**asdict(found), "bit_equal": found.is_none})
        else:
            show_difference(found, Console(), most=None if show_all else 20)
    if not found.is_none:
        raise typer.Exit(1)


@checkpoint.command()
def convert(
    source: File,
    target: Annotated[Path, typer.Argument(help="The file, or folder, to write.")],
    to: Annotated[str, typer.Option(help="adamantine, torch, optax, deepspeed-universal or bitsandbytes.")],
    key: Key = None,
    model: Annotated[
        Path | None, typer.Option(help="The model's weights: names for numbered parameters.", metavar="FILE")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="JSON: a list of names, or {old: new}.", metavar="FILE")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="The class to write for, as in torch.optim.AdamW.", metavar="CLASS")
    ] = None,
    decay: Annotated[
        str | None, typer.Option(help="The decay mode to write; λ is converted exactly, or refused.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A hyperparameter, as in lr=1e-3; repeatable.", metavar="NAME=VALUE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Translates a checkpoint between layouts, and says [bold]what is kept, changed and lost[/bold].

    Which layouts, and what each has no place for: docs/convert.md.
    """
    from adamantine.checkpoint.convert.api import convert as translate
    from adamantine.cli.checkpoint_tables import show_conversion

    with errors_in_one_line(stopped="Stopped; what was at the target is still there."):
        hyper = dict(_setting(text) for text in settings or [])
        report = translate(
            source,
            target,
            to=to,
            key=key,
            model=model,
            names=names,
            optimizer=optimizer,
            decay=decay,
            hyper=hyper,
        )
        if as_json:
            _print_json(report.as_json())
        else:
            show_conversion(report, target, Console())


for command in checkpoint.registered_commands:
    assert command.callback is not None
    command.help = flowing(command.callback.__doc__ or "")


def _setting(text: str) -> tuple[str, Any]:
    """``"betas=[0.9, 0.99]"`` to its name and value."""
    from adamantine.checkpoint.errors import CheckpointError

    name, equals, value = text.partition("=")
    try:
        if not equals or not name:
            raise ValueError
        parsed = json.loads(value)
    except ValueError:
        raise CheckpointError(
            f"--set {text!r}: give NAME=VALUE with a number, true, false, null or a list"
        ) from None
    return name, tuple(parsed) if isinstance(parsed, list) else parsed


def _print_json(value: Any) -> None:
    """As it is, but for what JSON has no form for, which becomes text."""
    print(json.dumps(_plain(value), ensure_ascii=False, indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return repr(value)
    if hasattr(value, "numel") and value.numel() == 1:
        return _plain(value.item())
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


@contextmanager
def _progress(doing: str, file: Path, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for what takes longer than `PATIENCE`."""
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet)
    task = bar.add_task(doing, total=_size(file))

    def done(count: int) -> None:
        bar.advance(task, count)
        if not bar.live.is_started and time.monotonic() - started > PATIENCE:
            bar.start()

    try:
        yield done
    finally:
        if bar.live.is_started:
            bar.stop()


def _size(path: Path) -> int | None:
    """Bytes of the files behind a path, about; None if there is no telling."""
    stem = path.name.removesuffix(".index.json").removesuffix(".safetensors")
    shards = (
        list(path.parent.glob("*.safetensors")) if not path.is_file() or path.suffix == ".json" else [path]
    )
    sizes = [file.stat().st_size for file in shards if file.name.startswith(stem) and file.is_file()]
    return sum(sizes) or None
