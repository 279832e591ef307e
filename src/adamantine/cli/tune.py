"""``adamantine tune``."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from adamantine.cli.app import app
from adamantine.cli.errors import errors_in_one_line
from adamantine.cli.options import (
    RUN,
    TRAINING,
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
    per_method,
    seeds_of,
    settings_of,
)

if TYPE_CHECKING:
    from adamantine.study.tune.cluster import ClusterTrials
    from adamantine.study.tune.space import Range

SEARCH = "Search"

EXAMPLES = """
[bold]Examples[/bold]

  adamantine tune
  [dim]AdamW on handwritten digits, 40 trials of three seeds[/dim]

  adamantine tune --task mypackage.tasks:MyTask --trials 100
  [dim]your own network and data (see [bold]adamantine tasks[/bold])[/dim]

  adamantine tune --method AdamW --method 'AdamW(decay="cautious")' --try-zero
  [dim]two methods, each by itself; no decay at all is a choice[/dim]

  adamantine tune --lr 1e-4:1e-1 --gamma 1e-6:1e-2 --sampler gp --pruner none
  [dim]ranges of your own, another sampler, nothing pruned[/dim]
"""


@app.command(epilog=EXAMPLES)
def tune(
    task: TaskName = "digits",
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="An optimizer, repeated; each is searched by itself. Default: AdamW.",
            metavar="SPEC",
            rich_help_panel=WHAT,
        ),
    ] = None,
    data_dir: DataDir = None,
    text: TextFile = None,
    trials: Annotated[
        int,
        typer.Option(
            help="Finished trials wanted per method; with a larger number the same command goes on.",
            rich_help_panel=SEARCH,
        ),
    ] = 40,
    batch: Annotated[
        int, typer.Option(help="Trials that are asked for and trained at once.", rich_help_panel=SEARCH)
    ] = 8,
    sampler: Annotated[
        str, typer.Option(help="tpe, gp, random, qmc, grid or cmaes (Optuna's).", rich_help_panel=SEARCH)
    ] = "tpe",
    pruner: Annotated[
        str, typer.Option(help="median, hyperband, halving or none.", rich_help_panel=SEARCH)
    ] = "median",
    coordinates: Annotated[
        str,
        typer.Option(
            help="gamma: lr and γ = lr·λ, for decoupled decay. lambda: lr and λ. L2 and independent decay are"
            " searched in λ as it is.",
            rich_help_panel=SEARCH,
        ),
    ] = "gamma",
    lr: Annotated[
        list[str] | None,
        typer.Option(
            help="Range of the learning rate, for all methods or one, repeated.",
            metavar="[METHOD=]LOW:HIGH",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    weight_decay: Annotated[
        list[str] | None,
        typer.Option(
            "--weight-decay",
            "--wd",
            help="Range of λ; in γ coordinates times the middle lr. 0: lr alone is searched. Default: each"
            " method's usual range.",
            metavar="[METHOD=]LOW:HIGH",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    gamma: Annotated[
        list[str] | None,
        typer.Option(
            help="Range of γ, instead of one of λ.", metavar="[METHOD=]LOW:HIGH", rich_help_panel=SEARCH
        ),
    ] = None,
    try_zero: Annotated[
        bool, typer.Option("--try-zero", help="No decay at all is a choice too.", rich_help_panel=SEARCH)
    ] = False,
    widen: Annotated[
        int,
        typer.Option(
            help="How often the ranges may grow where the best touches their rim, each time for half as many"
            " trials more.",
            rich_help_panel=SEARCH,
        ),
    ] = 0,
    sampler_seed: Annotated[int, typer.Option(help="Seed of the sampler.", rich_help_panel=SEARCH)] = 0,
    seeds: Annotated[
        str,
        typer.Option(
            help="Of a trial, whose score is their mean: how many (0, 1, …), or which: 3,7.",
            rich_help_panel=TRAINING,
        ),
    ] = "3",
    confirm: Annotated[
        int,
        typer.Option(
            help="How many fresh seeds judge the best setting on test data.", rich_help_panel=TRAINING
        ),
    ] = 7,
    schedule: ScheduleName = "cosine",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    train_size: TrainSize = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Run folder. Default: runs/tune-TASK-CODE; the code tells every different search apart.",
            metavar="DIR",
            rich_help_panel=RUN,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Any Optuna storage. Default: SQLite, study.db in the run folder. One process at a time.",
            metavar="URL",
            rich_help_panel=RUN,
        ),
    ] = None,
    fresh: Fresh = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Processes that share each batch, for tasks that take minutes. With the pruners median and"
            " none the results do not depend on it. Default: 1; with --engine ray, all cores of the cluster.",
            rich_help_panel=RUN,
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="local, or ray: a cluster trains the trials.", rich_help_panel=RUN)
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Of the Ray cluster; see adamantine compare.", rich_help_panel=RUN),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Which learning rate and weight decay are best for [bold]your[/bold] training?

    Searches both together with Optuna, all trials of a batch trained as one model, and judges the best on
    fresh seeds and test data. Prints the line to paste, and writes a run folder with study.db, results.json,
    results.csv and figures. Killed at any moment, the same command goes on where it was.
    """
    from adamantine.report.numbers import printable
    from adamantine.study.compare import check_engine
    from adamantine.study.tune import plan, run
    from adamantine.study.tune.console import Display, show
    from adamantine.study.tune.parallel import Parallel
    from adamantine.study.tune.space import COORDINATES

    console = Console()
    with errors_in_one_line():
        settings = settings_of(epochs, batch_size, train_size, data_dir, text)
        job = plan.prepare(
            task,
            methods_=tuple(method or ("AdamW",)),
            trials=trials,
            batch=batch,
            seeds=seeds_of(seeds),
            confirm=confirm,
            sampler=sampler,
            pruner=pruner,
            coordinates=next((known for known in COORDINATES if known == coordinates), coordinates),  # type: ignore[arg-type]
            lr=_ranges(lr, "--lr"),
            weight_decay=_ranges(weight_decay, "--weight-decay"),
            gamma=_ranges(gamma, "--gamma"),
            zero=try_zero,
            widen=widen,
            seed=sampler_seed,
            schedule=schedule,
            settings=settings,
            command=shlex.join(["adamantine", *sys.argv[1:]]),
        )
        where = folder(out) or job.folder
        about = job.manifest["task"]
        console.print(f"[bold]{escape(printable(about['title']))}[/bold] → {escape(str(where))}")
        shown = Display(about["score_name"], about["score_unit"], console)
        check_engine(engine, address)
        cluster: Parallel | ClusterTrials | None = None
        if engine == "ray":
            from adamantine.study.tune.cluster import ClusterTrials

            specs = [candidate.spec for candidate in job.config.candidates]
            cluster = ClusterTrials(task, settings, schedule, specs, address=address, jobs=jobs)
        elif jobs is not None and jobs != 1:
            cluster = Parallel(task, settings, schedule, jobs)
        with (
            cluster or nullcontext() as runner,
            nullcontext(run.Silent()) if quiet else shown as watcher,
        ):
            tuning = run.run(job, out=where, storage=storage, fresh=fresh, runner=runner, watcher=watcher)
        show(tuning, console)
        console.print(f"\nWritten: {escape(str(where))}")


def _ranges(given: list[str] | None, option: str) -> dict[str, Range]:
    from adamantine.study.tune.space import parse_range

    return {method: parse_range(text, option) for method, text in per_method(given, option).items()}
