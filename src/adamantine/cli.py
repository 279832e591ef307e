"""The command line: argument parsing only; the work is in :mod:`adamantine.study` and
:mod:`adamantine.bench`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adamantine import __version__
from adamantine.bench.errors import BenchError
from adamantine.study.errors import StudyError

app = typer.Typer(
    name="adamantine",
    help="[bold]AdamW done right[/bold], and the experiments that show what its weight decay does.",
    epilog="Start with [bold]adamantine compare[/bold]: about a minute on two cores.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

WHAT, GRID, TRAINING, RUN = "What is compared", "Grid", "Training", "Run"

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


def _show_version(asked: bool) -> None:
    if asked:
        with _errors_in_one_line():
            print(f"adamantine {__version__}", flush=True)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Keeps the commands as subcommands."""


@app.command(epilog=EXAMPLES)
def compare(
    task: Annotated[
        str,
        typer.Option(
            help="One of [bold]adamantine tasks[/bold], or your own as module:object.", rich_help_panel=WHAT
        ),
    ] = "digits",
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="An optimizer, repeated: AdamW, 'AdamW(decay=\"cautious\")',"
            " 'torch.optim:RMSprop(alpha=0.9)'. Default: SGD(momentum=0.9), Adam (with L2), AdamW.",
            metavar="SPEC",
            rich_help_panel=WHAT,
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder with the files of mnist, fashion-mnist or cifar10.", rich_help_panel=WHAT),
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 file for the task text.", metavar="FILE", rich_help_panel=WHAT)
    ] = None,
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
    schedule: Annotated[
        str,
        typer.Option(help="cosine, linear, constant, warmup-cosine or wsd.", rich_help_panel=TRAINING),
    ] = "cosine",
    epochs: Annotated[int | None, typer.Option(help="Default: the task's.", rich_help_panel=TRAINING)] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Default: the task's.", rich_help_panel=TRAINING)
    ] = None,
    train_size: Annotated[
        int | None, typer.Option(help="Training examples. Default: the task's.", rich_help_panel=TRAINING)
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Run folder. Default: runs/TASK-CODE; the code tells every different run apart.",
            metavar="DIR",
            rich_help_panel=RUN,
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Start over in that folder instead of resuming.", rich_help_panel=RUN),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Worker processes. Default: all cores. Results do not depend on it.", rich_help_panel=RUN
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bar.", rich_help_panel=RUN)
    ] = False,
) -> None:
    """Which optimizer is best at [bold]its own best[/bold] learning rate and weight decay, and by how much?

    Trains the same network over an lr × weight-decay grid with several seeds on real data. Prints a table
    and writes a run folder with results.csv, manifest.json, figures and report.html. Killed at any
    moment, the same command goes on where it was.
    """
    from adamantine.report import render
    from adamantine.report.numbers import printable
    from adamantine.study import compare as study
    from adamantine.study.console import Display, show
    from adamantine.study.methods import DEFAULTS
    from adamantine.study.task import Settings
    from adamantine.study.workers import cores

    console = Console()
    with _errors_in_one_line():
        run = study.prepare(
            task,
            tuple(method or DEFAULTS),
            lrs=_per_method(lr, "--lr"),
            weight_decays=_per_method(weight_decay, "--weight-decay"),
            seeds=_seeds(seeds),
            schedule=schedule,
            grow=grow,
            confirm=confirm,
            settings=Settings(
                epochs,
                batch_size,
                train_size,
                str(data_dir) if data_dir else None,
                str(text) if text else None,
            ),
            out=_folder(out),
            command=shlex.join(["adamantine", *sys.argv[1:]]),
        )
        console.print(f"[bold]{escape(printable(run.task.title))}[/bold] → {escape(str(run.out))}")
        shown = Display(run.plan, run.task.score_name, run.task.score_unit, console)
        with nullcontext(study.Silent()) if quiet else shown as watcher:
            outcome = study.compare(run, jobs=cores() if jobs is None else jobs, fresh=fresh, watcher=watcher)
        render(outcome.comparison, run.out)
        show(outcome.comparison, console)
        console.print(f"\nReport: {escape(str(run.out / 'report.html'))}")
        if outcome.failed:
            raise typer.Exit(1)


@app.command()
def bench(
    case: Annotated[
        list[str] | None,
        typer.Option(
            help="tensor, gpt2, resnet18, many, one, clip, mlp, deep-mlp, bfloat16, memory, rules, or one"
            " rule as rules/lion; repeated. Default: all.",
            metavar="NAME",
        ),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            help="Of fused, default, foreach (torch's), deepspeed, optimi, pytorch_optimizer, schedulefree,"
            " compile, separated by commas. Default: all that are installed, without compile.",
            metavar="NAMES",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Default: torch.get_num_threads().")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes: shows in seconds that everything runs.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option("--out", "--output", help="Default: runs/bench-DATE-TIME.", metavar="DIR"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """How fast is a step on [bold]this machine[/bold], next to torch, to other packages and to its memory?

    All contestants of a case take turns in one process; what counts are the medians of their ratios. Prints a
    table per case and the goals, and writes results.json with every round, summary.txt and a figure.
    """
    from adamantine.bench import report as bench_report
    from adamantine.bench import run as bench_run
    from adamantine.bench.console import Display, Silent, show

    console = Console()
    with _errors_in_one_line("Stopped; nothing was written."):
        plan = bench_run.prepare(
            cases=tuple(case or ()),
            peers=tuple(part.strip() for part in (peers or "").split(",") if part.strip()),
            threads=threads,
            quick=quick,
        )
        folder = _folder(out) or bench_run.default_folder()
        bench_report.claim(folder)
        shown = Display(len(plan.cases), console)
        with nullcontext(Silent()) if quiet else shown as watcher:
            results = bench_run.run(plan, watcher, command=shlex.join(["adamantine", *sys.argv[1:]]))
        bench_report.write(results, folder)
        show(results, console)
        console.print(f"Written: {escape(str(folder))}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder of [bold]adamantine compare[/bold].")],
) -> None:
    """Draws figures and report.html of a run folder again, and prints its tables. Trains nothing."""
    from adamantine.report import render
    from adamantine.study.analysis import read
    from adamantine.study.console import show

    with _errors_in_one_line():
        comparison = read(folder)
        render(comparison, folder)
        show(comparison, Console())


@app.command()
def tasks() -> None:
    """Lists the tasks, and how to write your own."""
    from adamantine.study import task
    from adamantine.study.tasks import TASKS

    console = Console()
    with _errors_in_one_line():
        table = Table(caption="Time: the default comparison on two cores, about.", caption_justify="left")
        for heading in ("task", "what it is", "time", "from you"):
            table.add_column(heading)
        for name, entry in TASKS.items():
            table.add_row(f"[bold]{name}[/bold]", escape(entry.summary), entry.duration, entry.needs)
        console.print(table)
        console.print("\n[bold]Your own[/bold]\n")
        protocol = (task.__doc__ or "").partition("\n\n")[2].replace("``", "").replace("::", ":")
        console.print(escape(protocol.strip()), highlight=False)


def _folder(text: str | None) -> Path | None:
    if text == "":  # which Path takes for the current folder
        raise StudyError("--out '': give a folder, or '.' for the current one")
    return None if text is None else Path(text)


def _per_method(given: list[str] | None, option: str) -> dict[str, str]:
    """``["AdamW=1e-3:1e-1:5", "1e-4,1e-3"]`` to ``{"AdamW": "1e-3:1e-1:5", "": "1e-4,1e-3"}``."""
    axes: dict[str, str] = {}
    for text in given or []:
        method, _, axis = text.rpartition("=")
        if method in axes:
            raise StudyError(f"{option} {text!r}: given twice for {method or 'all methods'}")
        axes[method] = axis
    return axes


def _seeds(text: str) -> tuple[int, ...]:
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


@contextmanager
def _errors_in_one_line(
    stopped: str = "Stopped; what is finished is kept. Resume with the same command.",
) -> Iterator[None]:
    """What the user can mend ends as one red line and exit code 2; Ctrl-C ends with what to do next."""
    errors = Console(stderr=True, soft_wrap=True)
    try:
        yield
    except BrokenPipeError:  # the reader of our output has seen enough; click ends quietly
        raise
    except (StudyError, BenchError, OSError) as error:
        said = str(error)
        if isinstance(error, OSError) and error.strerror:
            said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        errors.print(f"[bold red]error:[/bold red] {escape(' '.join(said.split()))}", highlight=False)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        errors.print(f"\n{stopped}", highlight=False)
        raise typer.Exit(130) from None
