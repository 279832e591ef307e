"""How the answers of ``adamantine checkpoint`` look in the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from adamantine.report.terminal import new_table, plain

if TYPE_CHECKING:
    from adamantine.checkpoint.convert.report import ConversionReport
    from adamantine.checkpoint.difference import Difference
    from adamantine.checkpoint.inspection import Inspection
    from adamantine.checkpoint.verification import Verification

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def show_inspection(found: Inspection, console: Console) -> None:
    """What is in a checkpoint."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    console.print(f"\n[bold]{plain(found.optimizer or 'unknown optimizer')}[/bold]  {plain(found.path)}")
    console.print(
        f"layout {found.layout}{f', saved with {plain(versions)}' if versions else ''}", highlight=False
    )
    steps = ""
    if found.steps is not None:
        low, high = found.steps
        steps = f", at step {low:g}" if low == high else f", at steps {low:g} to {high:g}"
    console.print(f"{found.parameters} parameters{steps}", highlight=False)
    table = new_table("Groups", "group", "parameters", "decay mode", "lr", "weight decay")
    others = []
    for number, group in enumerate(found.groups):
        hyper = dict(group["hyper"])
        rate, decay = _value(hyper.pop("lr", None)), _value(hyper.pop("weight_decay", None))
        cells = (str(number), str(group["parameters"]), group["decay"] or "unknown", rate, decay)
        table.add_row(*map(plain, cells))
        said = (f"{name}={_value(value)}" for name, value in hyper.items() if value not in (None, False))
        others.append(f"group {number}: {', '.join(said)}")
    console.print(table)
    for line in others:
        console.print(plain(line), highlight=False, style="dim")
    table = new_table("State", "slot", "dtype", "count", "elements", "bytes")
    for slot in found.slots:
        counts = (f"{slot.count:,}", f"{slot.elements:,}", _bytes(slot.nbytes))
        table.add_row(plain(slot.slot), ", ".join(slot.dtypes) or "no tensor", *counts)
    console.print(table)
    if found.largest:
        table = new_table("Largest tensors", "tensor", "dtype", "shape", "bytes")
        for at, dtype, shape, size in found.largest:
            table.add_row(plain(at), dtype, "×".join(map(str, shape)) or "scalar", _bytes(size))
        console.print(table)
    for name, (count, size) in found.beside.items():
        tensors = f": {count} tensors, {_bytes(size)}" if count else ""
        console.print(f"also holds {plain(name)}{tensors}", highlight=False)
    for words in found.not_saved:
        console.print(f"not in the file: {plain(words)}", highlight=False)
    for words in found.unread:
        console.print(f"beside that: {plain(words)}", highlight=False)
    if not found.suspicions:
        console.print("[green]no suspicious values[/green]")
    for each in found.suspicions:
        colour = _COLOURS[each.severity]
        words = f"{plain(each.at)}: {plain(each.what)}"
        console.print(
            f"[{colour}]{each.severity}[/{colour}] {each.code}  {words}", highlight=False, soft_wrap=True
        )


def show_verification(found: Verification, console: Console) -> None:
    """Whole, or every damage."""
    for problem in found.problems:
        console.print(f"[bold red]damaged[/bold red] {plain(problem)}", highlight=False, soft_wrap=True)
    files = "1 file" if found.files == 1 else f"{found.files} files"
    looked = f"{found.tensors} tensors, {_bytes(found.nbytes)}, in {files}"
    if not found.problems:
        console.print(
            f"[green]whole[/green]  {plain(str(found.path))}: {looked}", highlight=False, soft_wrap=True
        )
    elif found.tensors:
        console.print(f"looked at {looked}", highlight=False)


def show_difference(found: Difference, console: Console, *, most: int | None) -> None:
    """Bit-equal, or what differs; of long lists the first ``most``."""
    if found.is_none:
        console.print(
            f"[green]bit-equal[/green]: {found.equal} tensors and every other value", highlight=False
        )
        return
    if found.values:
        table = new_table("Values", "where", "first", "second")
        for at, one, other in found.values[:most]:
            table.add_row(plain(at), plain(_exact(one)), plain(_exact(other)))
        console.print(table)
    if found.tensors:
        table = new_table("Tensors, the most different first", "where", "form", "max |a-b|", "/ max |a|")
        for change in found.tensors[:most]:
            table.add_row(
                plain(change.at), plain(change.form), _number(change.largest), _number(change.relative)
            )
        console.print(table)
    for side, ways in (("first", found.only_first), ("second", found.only_second)):
        for way in _summed(ways)[:most]:
            console.print(f"only in the {side}: {plain(way)}", highlight=False, soft_wrap=True)
    lists = (found.values, found.tensors, _summed(found.only_first), _summed(found.only_second))
    hidden = sum(max(0, len(each) - most) for each in lists) if most is not None else 0
    if hidden:
        console.print(f"{hidden} more; --all shows them", highlight=False)
    console.print(f"[yellow]they differ[/yellow]; {found.equal} tensors are bit-equal", highlight=False)


def show_conversion(report: ConversionReport, target: Path, console: Console) -> None:
    """What was kept, changed and lost."""
    console.print(
        f"[bold]{report.source} → {report.target}[/bold], {report.parameters} parameters", highlight=False
    )
    for title, colour, sentences in (
        ("kept", "green", report.kept),
        ("changed", "yellow", report.changed),
        ("lost", "red", report.lost),
    ):
        for sentence in sentences:
            console.print(f"[{colour}]{title:<8}[/{colour}]{plain(sentence)}", highlight=False)
    console.print(f"\nWritten: {plain(str(target))}", highlight=False)


def _summed(ways: list[str]) -> list[str]:
    """Of what is beside the optimizer, one line per kind."""
    kinds = Counter(way.partition("/")[0] for way in ways)
    beside = [
        f"{kind} ({kinds[kind]} entries)"
        for kind in ("scheduler", "model", "model versions", "rng", "extra")
        if kinds[kind]
    ]
    return [way for way in ways if way.startswith(("state/", "group/", "other"))] + beside


def _value(value: Any) -> str:
    if hasattr(value, "numel") and value.numel() == 1:
        return _value(value.item())
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _exact(value: Any) -> str:
    """Every digit of a number, since this is about what differs."""
    return repr(value) if isinstance(value, float) else _value(value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
