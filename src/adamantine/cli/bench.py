"""``adamantine bench``."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from adamantine.cli.app import app
from adamantine.cli.errors import errors_in_one_line
from adamantine.cli.options import folder as folder_of


@app.command()
def bench(
    case: Annotated[
        list[str] | None,
        typer.Option(
            help="tensor, gpt2, resnet18, many, one, clip, mlp, deep-mlp, bfloat16, memory, formats,"
            " format-peers, rules, or one rule as rules/lion; repeated. Default: all.",
            metavar="NAME",
        ),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            help="Of fused, default, foreach (torch's), deepspeed, optimi, pytorch_optimizer, schedulefree,"
            " bitsandbytes, torchao8, torchao4, torchaofp8, compile, separated by commas. Default: all that"
            " are installed, without compile.",
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
    with errors_in_one_line("Stopped; nothing was written."):
        plan = bench_run.prepare(
            cases=tuple(case or ()),
            peers=tuple(part.strip() for part in (peers or "").split(",") if part.strip()),
            threads=threads,
            quick=quick,
        )
        folder = folder_of(out) or bench_run.default_folder()
        bench_report.claim(folder)
        shown = Display(len(plan.cases), console)
        with nullcontext(Silent()) if quiet else shown as watcher:
            results = bench_run.run(plan, watcher, command=shlex.join(["adamantine", *sys.argv[1:]]))
        bench_report.write(results, folder)
        show(results, console)
        console.print(f"Written: {escape(str(folder))}")
