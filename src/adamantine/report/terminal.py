"""How tables look in the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from adamantine.report.numbers import printable


def plain(text: str) -> str:
    """Text of others that neither rich nor the terminal takes for an instruction."""
    return escape(printable(text))


def new_table(title: str, *headings: str) -> Table:
    """Without rows yet; words in the first column, numbers in the others."""
    table = Table(title=title, title_justify="left", title_style="italic", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(headings[0], overflow="fold")
    for heading in headings[1:]:
        table.add_column(heading, justify="right", overflow="fold")
    return table
