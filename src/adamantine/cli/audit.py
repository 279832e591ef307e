"""``adamantine audit``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from rich.console import Console
from rich.text import Text

from adamantine.cli.app import app
from adamantine.cli.errors import errors_in_one_line
from adamantine.cli.options import language_of

if TYPE_CHECKING:
    from adamantine.audit.load import Loaded
    from adamantine.audit.model import AuditReport
    from adamantine.report.words import Language

RUN, SHOWN, CI = "The run", "What is shown", "For scripts and CI"

EXAMPLES = """
[bold]Examples[/bold]

  adamantine audit train:build --steps 10000
  [dim]build() of train.py returns (model, optimizer) or (model, optimizer, scheduler)[/dim]

  adamantine audit src/train.py:build --html audit.html --lang zh
  [dim]a page with figures, in Chinese[/dim]

  adamantine audit train:build --fix > groups.py
  [dim]the program that mends what is found[/dim]

  adamantine audit train:build --ignore decays-table --ignore 'decays-bias:head.*' --fail-on error
  [dim]in CI: exit code 1 on errors only, some findings accepted[/dim]

  adamantine audit --explain l2-in-adaptive
  [dim]what a finding means, and where it is known from[/dim]
"""


@app.command(epilog=EXAMPLES)
def audit(
    target: Annotated[
        str | None,
        typer.Argument(help="module:function or path/to/file.py:function.", metavar="TARGET"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Optimizer steps of the run. Default: as the scheduler says.", rich_help_panel=RUN),
    ] = None,
    steps_per_epoch: Annotated[
        int | None, typer.Option(help="For timescales in epochs.", rich_help_panel=RUN)
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(
            help="step or epoch: how often scheduler.step() is called. Default: judged by its length.",
            rich_help_panel=RUN,
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            help="A finding to leave out, for all or some parameters; repeated.",
            metavar="CODE[:GLOB]",
            rich_help_panel=SHOWN,
        ),
    ] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="Every parameter on a row of its own.", rich_help_panel=SHOWN)
    ] = False,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Print the program that mends the findings.", rich_help_panel=SHOWN),
    ] = False,
    fix_torch: Annotated[
        bool,
        typer.Option(
            "--fix-torch", help="The same without adamantine where that can be.", rich_help_panel=SHOWN
        ),
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option(help="What a finding means; 'all' lists them.", metavar="CODE", rich_help_panel=SHOWN),
    ] = None,
    lang: Annotated[str, typer.Option(help="en or zh.", rich_help_panel=SHOWN)] = "en",
    html: Annotated[
        str | None, typer.Option(help="Write the page with figures.", metavar="FILE", rich_help_panel=CI)
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(help="Write the audit as JSON; - for the output.", metavar="FILE", rich_help_panel=CI),
    ] = None,
    fail_on: Annotated[
        str,
        typer.Option(
            help="error, warning, note or never: from which severity on the exit code is 1.",
            rich_help_panel=CI,
        ),
    ] = "warning",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No tables.", rich_help_panel=CI)] = False,
) -> None:
    """Does the weight decay of [bold]your training script[/bold] do what you think?

    Calls the function, which returns a model and its optimizer, and looks at every parameter: what decays,
    how, by how much per step and over the run, and what is wrong with it. Nothing is trained and nothing of
    yours is changed. Exit code 0: nothing found, 1: findings, 2: could not be audited.
    """
    from adamantine.audit import audit as audited
    from adamantine.audit import to_json
    from adamantine.audit.console import show
    from adamantine.audit.load import ScriptError

    out, errors = Console(), Console(stderr=True)
    with errors_in_one_line(stopped="Stopped."):
        language = language_of(lang)
        if explain is not None:
            _explain(explain, language, out)
            return
        _must_be_sensible(target, fail_on)
        assert target is not None
        try:
            with errors.status(Text(f"Loading {target} …")):
                loaded = _loaded(target)
        except ScriptError as error:
            errors.print(Text(error.shown), soft_wrap=True)
            raise
        with errors.status("Looking at every parameter …"):
            result = audited(
                loaded.optimizer,
                loaded.model,
                steps=steps,
                steps_per_epoch=steps_per_epoch,
                scheduler=loaded.scheduler,
                interval=cast("Literal['step', 'epoch'] | None", interval),  # which audit checks
                ignore=ignore or [],
            )
            report = result.report
        style: Literal["adamantine", "torch"] = "torch" if fix_torch else "adamantine"
        program = _program(loaded, report, style) if fix or fix_torch or html else ""
        alone = fix or fix_torch or json == "-"  # the output is to be used by something else
        if not quiet:
            show(report, errors if alone else out, language, grouped="one by one" if show_all else "by layer")
        if html:
            from adamantine.audit.page import page

            command = shlex.join(["adamantine", *sys.argv[1:]])
            _write(html, page(report, language, command=command, fix=program))
        if json:
            _write(json, to_json(report) + "\n")
        if fix or fix_torch:
            print(program, end="")
        if not (quiet or alone):
            _hint(report, target, language, out)
        if any(finding.severity in _failing(fail_on) for finding in report.findings):
            raise typer.Exit(1)


def _loaded(target: str) -> Loaded:
    from adamantine.audit.load import load

    return load(target)


def _program(loaded: Loaded, report: AuditReport, style: Literal["adamantine", "torch"]) -> str:
    from adamantine.audit.fix import fixed

    return fixed(report, loaded.optimizer, loaded.model, style=style).program


def _must_be_sensible(target: str | None, fail_on: str) -> None:
    from adamantine.audit.errors import AuditError

    if target is None:
        raise AuditError("nothing to audit: give module:function, such as train:build (or --explain CODE)")
    if fail_on not in (*_SEVERITIES, "never"):
        raise AuditError(f"--fail-on {fail_on!r}: choose error, warning, note or never")


_SEVERITIES = ("error", "warning", "note")


def _failing(fail_on: str) -> tuple[str, ...]:
    return () if fail_on == "never" else _SEVERITIES[: _SEVERITIES.index(fail_on) + 1]


def _write(file: str, text: str) -> None:
    from adamantine.audit.errors import AuditError
    from adamantine.report.files import write_atomic

    if file == "-":
        print(text, end="")
    else:
        path = Path(file)
        if not path.parent.is_dir():
            raise AuditError(f"{file}: there is no folder {path.parent}; make it first")
        write_atomic(path, text.encode(errors="replace"))


def _hint(report: AuditReport, target: str, language: Language, out: Console) -> None:
    """What to do next, where there is something to mend."""
    from adamantine.report.phrases import fill
    from adamantine.report.words import Words

    if report.findings:
        next_words = Words(
            "To mend: adamantine audit {target} --fix. What a finding means: --explain {code}",
            "修正：adamantine audit {target} --fix。问题的含义：--explain {code}",
        )
        said = fill(next_words, target=shlex.quote(target), code=report.findings[0].code).of(language)
        out.print(Text(f"\n{said}", style="dim"), soft_wrap=True)


def _explain(code: str, language: Language, out: Console) -> None:
    """An entry of the catalogue, or one line for each."""
    import difflib

    from adamantine.audit.checks import CATALOGUE
    from adamantine.audit.console import catalogue, explained
    from adamantine.audit.errors import AuditError

    if code == "all":
        out.print(catalogue(list(CATALOGUE.values()), out.width, language), highlight=False)
        return
    if code not in CATALOGUE:
        close = difflib.get_close_matches(code, CATALOGUE, n=1)
        hint = f"did you mean {close[0]}?" if close else "--explain all lists them"
        raise AuditError(f"--explain {code!r}: there is no such finding; {hint}")
    out.print(explained(CATALOGUE[code], language), highlight=False)
