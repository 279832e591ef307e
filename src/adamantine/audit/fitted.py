"""Tables for the terminal that leave columns out rather than tear a word or a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_BETWEEN = 2  # blanks between two columns


@dataclass(frozen=True)
class Column:
    """One column; ``keep`` ranks it: the lowest of a table that is too wide goes first."""

    heading: str
    cells: Sequence[str | Text]
    keep: int
    holds: Literal["numbers", "terms", "words"] = "numbers"  # words are broken between where they must be

    @property
    def width(self) -> int:
        """Without a line break."""
        return max(_width(cell) for cell in (self.heading, *self.cells))

    @property
    def least(self) -> int:
        """The longest word of a column of words; of any other, its width."""
        if self.holds != "words":
            return self.width
        return max(
            (cell_len(word) for cell in (self.heading, *self.cells) for word in str(cell).split()), default=0
        )


def fitted(columns: Sequence[Column], width: int) -> tuple[Table, list[str]]:
    """The table, and the headings of the columns for which there was no room.

    >>> name = Column("name", ["conv.weight"], 3, holds="words")
    >>> columns = [name, Column("λ", ["0.1"], 2), Column("why", ["x"], 1)]
    >>> fitted(columns, 20)[1], fitted(columns, 80)[1]
    (['why'], [])
    """
    kept, dropped = list(columns), []
    while len(kept) > 1 and _room(kept) > width:
        least = min(kept, key=lambda column: column.keep)
        kept.remove(least)
        dropped.append(least.heading)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, _BETWEEN - 1, 0, 0), show_edge=False)
    spare = width - _room(kept)
    for column in kept:
        extra = min(column.width - column.least, max(spare, 0))
        spare -= extra
        table.add_column(
            column.heading,
            justify="right" if column.holds == "numbers" else "left",
            no_wrap=column.holds != "words",
            overflow="fold",
            min_width=column.least,
            max_width=column.least + extra,
        )
    for row in zip(*(column.cells for column in kept), strict=True):
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return table, dropped


def _width(cell: str | Text) -> int:
    return max((cell_len(line) for line in str(cell).splitlines()), default=0)


def _room(columns: Sequence[Column]) -> int:
    return sum(column.least for column in columns) + _BETWEEN * (len(columns) - 1)
