"""``adamantine transfer``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from adamantine.cli.app import app
from adamantine.cli.errors import errors_in_one_line
from adamantine.cli.options import must_be_a_comparison
from adamantine.study.errors import StudyError

if TYPE_CHECKING:
    from adamantine.study.transfer import LrRule, Regime, Setting, Start

FROM, TO, HOW = "What is known", "Where it is to be used (what is not given stays)", "Rules"

EXAMPLES = """
[bold]Examples[/bold]

  adamantine transfer runs/digits-1a2b3c4d --to-batch-size 80
  [dim]from the best settings of a comparison[/dim]

  adamantine transfer --lr 1e-3 --weight-decay 0.1 --batch-size 128 --train-size 50000 --epochs 100
  --to-batch-size 512 --to-epochs 300
  [dim]from numbers[/dim]
"""


@app.command(epilog=EXAMPLES)
def transfer(
    folder: Annotated[
        Path | None, typer.Argument(help="A run folder of [bold]adamantine compare[/bold].")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.", rich_help_panel=FROM)] = None,
    weight_decay: Annotated[
        float | None, typer.Option("--weight-decay", "--wd", help="Weight decay λ.", rich_help_panel=FROM)
    ] = None,
    decay: Annotated[
        str | None,
        typer.Option(
            help="Decay mode, which gives λ its unit: decoupled (torch's AdamW), independent, corrected,"
            " cautious, l2, none. Default: decoupled.",
            rich_help_panel=FROM,
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="SGD, or any Adam-like method. Default: AdamW.", rich_help_panel=FROM),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step.", rich_help_panel=FROM)] = None,
    train_size: Annotated[int | None, typer.Option(help="Training examples.", rich_help_panel=FROM)] = None,
    epochs: Annotated[float | None, typer.Option(help="Times through them.", rich_help_panel=FROM)] = None,
    to_batch_size: Annotated[
        int | None, typer.Option(help="Examples per step, there.", rich_help_panel=TO)
    ] = None,
    to_train_size: Annotated[
        int | None, typer.Option(help="Training examples, there.", rich_help_panel=TO)
    ] = None,
    to_epochs: Annotated[
        float | None, typer.Option(help="Times through them, there.", rich_help_panel=TO)
    ] = None,
    lr_rule: Annotated[
        str | None,
        typer.Option(
            help="keep, sqrt or linear in the batch size. Default: linear for SGD, else sqrt.",
            rich_help_panel=HOW,
        ),
    ] = None,
) -> None:
    """Which lr and weight decay for another [bold]batch size, number of epochs or data size[/bold]?

    Two published rules side by side, each named. They are starting points: check them with a small grid.
    """
    from adamantine.report.numbers import counted
    from adamantine.report.terminal import plain
    from adamantine.study import transfer as study

    console = Console()
    with errors_in_one_line():
        if to_batch_size is to_train_size is to_epochs is None:
            raise StudyError("nothing changes: give --to-batch-size, --to-train-size or --to-epochs")
        if lr_rule not in (None, *study.LR_RULES):
            raise StudyError(f"--lr-rule {lr_rule!r}: there are {', '.join(study.LR_RULES)}")
        numbers = {
            "--lr": lr,
            "--weight-decay": weight_decay,
            "--batch-size": batch_size,
            "--train-size": train_size,
            "--epochs": epochs,
        }
        named = {"--decay": decay, "--optimizer": optimizer}
        if folder is not None:
            if given := [option for option, value in (numbers | named).items() if value is not None]:
                raise StudyError(f"{given[0]}: the folder says that; give the folder or the numbers")
            must_be_a_comparison(folder)
            found = study.found_in(folder)
            source, starts = found.regime, found.starts
            if found.unfinished:
                console.print(
                    f"[yellow]{counted(found.unfinished, 'run')} still to do:[/yellow] the best may change."
                )
        else:
            if (
                lr is None
                or weight_decay is None
                or batch_size is None
                or train_size is None
                or epochs is None
            ):
                missing = ", ".join(option for option, value in numbers.items() if value is None)
                raise StudyError(f"{missing}: missing; give it, or a run folder of compare")
            source = study.Regime(batch_size, train_size, epochs)
            spec = optimizer or "AdamW"
            starts = (study.Start(spec, spec, decay or "decoupled", lr, weight_decay),)
        target = study.Regime(
            source.batch_size if to_batch_size is None else to_batch_size,
            source.train_size if to_train_size is None else to_train_size,
            source.epochs if to_epochs is None else to_epochs,
        )
        console.print(_regimes(source, target), highlight=False)
        for start in starts:
            rule: LrRule = lr_rule or study.USUAL[study.family_of(start.spec)]
            try:
                _show(start, study.side_by_side(start, source, target, rule), target, rule, console)
            except study.NoRule as reason:
                if folder is None:
                    raise
                console.print(f"\n{plain(start.name)}: [yellow]no suggestion[/yellow]. {plain(str(reason))}")


def _regimes(source: Regime, target: Regime) -> str:
    names = ("batch size", "training examples", "epochs")
    pairs = zip(names, vars(source).values(), vars(target).values(), strict=True)
    return ", ".join(
        f"{name} {old:g}" + (f" → [bold]{new:g}[/bold]" if new != old else "") for name, old, new in pairs
    )


def _show(
    start: Start, columns: dict[str, Setting], target: Regime, lr_rule: LrRule, console: Console
) -> None:
    from adamantine.study.transfer import LR_RULES, RULES, decay_of

    # Momentum μ multiplies the rate of L2 in SGD by 1/(1-μ): it cancels from the rules, which are ratios, but
    # not from τ.
    has_memory = decay_of(start.spec, start.decay) != "l2"
    console.print()
    console.print(_table(start, columns, has_memory))
    console.print(f"[dim]lr: {LR_RULES[lr_rule]}[/dim]", highlight=False)
    for rule, text in RULES.items():
        console.print(f"[dim]{rule}: {text}[/dim]", highlight=False)
    for remark in _remarks(columns, target if has_memory else None):
        console.print(f"• {remark}", highlight=False)


def _table(start: Start, columns: dict[str, Setting], has_memory: bool) -> Table:
    from adamantine.report.numbers import setting
    from adamantine.report.terminal import new_table, plain

    decay = f", decay {start.decay}" if start.decay else ""
    table = new_table(f"{plain(start.name)}{decay}", "", *columns)
    memory = {
        "τ in steps": [_count(s.tau_steps) for s in columns.values()],
        "τ in epochs": [_count(s.tau_epochs) for s in columns.values()],
        "λ_norm": [setting(s.lambda_norm) for s in columns.values()],
    }
    for heading, values in {
        "[bold]lr[/bold]": [setting(s.lr) for s in columns.values()],
        "[bold]weight decay λ[/bold]": [setting(s.weight_decay) for s in columns.values()],
        **(memory if has_memory else {}),
    }.items():
        table.add_row(heading, *values)
    return table


def _remarks(columns: dict[str, Setting], target: Regime | None) -> list[str]:
    """``target``: where τ is known, for a word on it."""
    one, other = columns["timescale"], columns["normalized"]
    if one.weight_decay == 0:
        return ["No decay: only lr is carried over."]
    ratio = max(one.weight_decay, other.weight_decay) / min(one.weight_decay, other.weight_decay)
    found = [
        "Both rules agree."
        if math.isclose(ratio, 1.0, rel_tol=1e-3)
        else f"The rules differ by a factor of {ratio:.3g} in λ: try both, and what lies between."
    ]
    if target and (
        outside := [rule for rule in ("timescale", "normalized") if not columns[rule].plausible(target)]
    ):
        found.append(
            f"With {' and '.join(outside)}, τ is not between one epoch and the whole training, where Wang & "
            "Aitchison's best ones lay."
        )
    return found


def _count(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}" if value < 1000 else f"{value:.0f}"
