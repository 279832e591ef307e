"""``adamantine compare``."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from adamantine.cli.app import app
from adamantine.cli.errors import errors_in_one_line
from adamantine.cli.options import (
    RUN,
    WHAT,
    BatchSize,
    DataDir,
    Epochs,
    Fresh,
    Quiet,
    ScheduleName,
    TaskName,
    TextFile,
    TrainSize,
    folder,
    formats_of,
    language_of,
    per_method,
    seeds_of,
    settings_of,
)

GRID = "Grid"

EXAMPLES = """
[bold]Examples[/bold]

  adamantine compare
  [dim]SGD + momentum, Adam + L2 and AdamW on handwritten digits[/dim]

  adamantine compare --task text --method AdamW --method 'AdamW(decay="cautious")'
  [dim]two decay modes on text[/dim]

  adamantine compare --lr AdamW=1e-4:1e-2:5 --weight-decay 'AdamW=0,0.01:1:5' --seeds 10
  [dim]a grid of your own for one method, more seeds[/dim]

  adamantine compare --method AdamW --method 'torch.optim:AdamW'
  [dim]ours against another implementation[/dim]

  adamantine compare --task mypackage.tasks:MyTask
  [dim]your own network and data (see [bold]adamantine tasks[/bold])[/dim]
"""


@app.command(epilog=EXAMPLES)
def compare(
    task: TaskName = "digits",
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="An optimizer, repeated: AdamW, 'AdamW(decay=\"cautious\")',"
            " 'torch.optim:RMSprop(alpha=0.9)'. Default: SGD(momentum=0.9), Adam (with L2), AdamW.",
            metavar="SPEC",
            rich_help_panel=WHAT,
        ),
    ] = None,
    data_dir: DataDir = None,
    text: TextFile = None,
    lr: Annotated[
        list[str] | None,
        typer.Option(
            help="Learning rates, for all methods or one, repeated: numbers and low:high:count (logarithmic),"
            " separated by commas.",
            metavar="[METHOD=]GRID",
            rich_help_panel=GRID,
        ),
    ] = None,
    weight_decay: Annotated[
        list[str] | None,
        typer.Option(
            "--weight-decay",
            "--wd",
            help="Weight decays likewise; 0 as the first means no decay. Default: each method's usual range.",
            metavar="[METHOD=]GRID",
            rich_help_panel=GRID,
        ),
    ] = None,
    grow: Annotated[
        int,
        typer.Option(
            help="How often a grid may grow by one value on a side where the optimum touches the rim.",
            rich_help_panel=GRID,
        ),
    ] = 2,
    refine: Annotated[
        int,
        typer.Option(
            help="How often the steps around the best setting are halved, once the grid is done.",
            rich_help_panel=GRID,
        ),
    ] = 1,
    seeds: Annotated[
        str, typer.Option(help="How many (0, 1, 2, …), or which: 3,7,11.", rich_help_panel=GRID)
    ] = "3",
    confirm: Annotated[
        int,
        typer.Option(
            help="How many fresh seeds, which had no part in the search, judge each method's best setting."
            " 0: the seeds of the grid do.",
            rich_help_panel=GRID,
        ),
    ] = 7,
    schedule: ScheduleName = "cosine",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    train_size: TrainSize = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Run folder. Default: runs/TASK-CODE; the code tells every different run apart.",
            metavar="DIR",
            rich_help_panel=RUN,
        ),
    ] = None,
    fresh: Fresh = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Worker processes. Default: all cores. Results do not depend on it.", rich_help_panel=RUN
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="local: processes of this machine. ray: a cluster. Results do not depend on it.",
            rich_help_panel=RUN,
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="Of the Ray cluster: auto, host:port or ray://host:port. Default: RAY_ADDRESS, else a"
            " cluster of this machine's cores.",
            rich_help_panel=RUN,
        ),
    ] = None,
    lang: Annotated[str, typer.Option(help="Of the report: en or zh.", rich_help_panel=RUN)] = "en",
    formats: Annotated[
        str,
        typer.Option("--format", help="Of the report: html, md, png, svg, with commas.", rich_help_panel=RUN),
    ] = "html,png,svg",
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard", help="Also write TensorBoard files, into the run folder.", rich_help_panel=RUN
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Which optimizer is best at [bold]its own best[/bold] learning rate and weight decay, and by how much?

    Trains the same network over an lr × weight-decay grid with several seeds on real data. Prints a table
    and writes a run folder with results.csv, manifest.json, figures and report.html. Killed at any
    moment, the same command goes on where it was.
    """
    from adamantine.report import render
    from adamantine.report.numbers import printable
    from adamantine.study import compare as study
    from adamantine.study.console import show
    from adamantine.study.methods import DEFAULTS
    from adamantine.study.watch.display import Display

    console = Console()
    with errors_in_one_line():
        language, kinds = language_of(lang), formats_of(formats)
        run = study.prepare(
            task,
            tuple(method or DEFAULTS),
            lrs=per_method(lr, "--lr"),
            weight_decays=per_method(weight_decay, "--weight-decay"),
            seeds=seeds_of(seeds),
            schedule=schedule,
            grow=grow,
            confirm=confirm,
            refine=refine,
            settings=settings_of(epochs, batch_size, train_size, data_dir, text),
            out=folder(out),
            command=shlex.join(["adamantine", *sys.argv[1:]]),
        )
        console.print(f"[bold]{escape(printable(run.task.title))}[/bold] → {escape(str(run.out))}")
        if run.solitary:
            console.print(
                f"[dim]Trained one by one: {escape(printable(run.solitary))}[/dim]", highlight=False
            )
        with ExitStack() as stack:
            watchers: list[study.Watcher] = []
            if not quiet:
                display = Display(run.plan, run.task.score_name, run.task.score_unit, console)
                watchers.append(stack.enter_context(display))
            if tensorboard:
                from adamantine.study.watch.tensorboard import TensorBoard

                watchers.append(TensorBoard(run))
            outcome = study.compare(
                run, jobs=jobs, fresh=fresh, watcher=study.Watchers(watchers), engine=engine, address=address
            )
        render(outcome.comparison, run.out, language=language, formats=kinds)
        show(outcome.comparison, console, language)
        for kind, name in (("html", "report.html"), ("md", "report.md")):
            if kind in kinds:
                console.print(f"Report: {escape(str(run.out / name))}")
        if outcome.failed:
            raise typer.Exit(1)
