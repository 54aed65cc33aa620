"""`Table`: rows of named columns as they stand in a file or a data frame, before anybody says what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gatescope.errors import InvalidInput, Place

if TYPE_CHECKING:
    import pandas as pd


MOST_PLACES = 20
"""Of what is wrong with one column, that are told one by one."""


@dataclass(frozen=True)
class Table:
    """A data frame and where its rows stand."""

    frame: pd.DataFrame
    """A row a time step; of a text file every cell is a text, stripped of blanks around it."""

    source: str
    """What it was read from, for messages."""

    has_names: bool = True
    """Whether its columns have names; else they are numbered."""

    lines: Sequence[int] | None = None
    """The line of each row in a text file, counted from 1; None of what has no lines."""

    decimal: str = "."
    """What stands before the decimals of its numbers, where cells are texts."""

    notes: tuple[str, ...] = field(default=())
    """What was found when it was read, a sentence each."""

    rows_before: int = 0
    """Of a part of a table: how many rows come before it."""
    blank: int | None = None
    """Of a text of one column the first blank line between its rows, which may be a missing value."""

    def place(self, row: int, column: str | None = None) -> str:
        """Where a row stands, for messages."""
        where = f"row {self.rows_before + row + 1}" if self.lines is None else f"line {self.lines[row]}"
        return where if column is None else f"{where}, column '{column}'"

    def part(self, first: int, stop: int) -> Table:
        """Some of its rows."""
        return replace(
            self,
            frame=self.frame.iloc[first:stop].reset_index(drop=True),
            lines=None if self.lines is None else self.lines[first:stop],
            rows_before=self.rows_before + first,
        )

    def refused_cells(self, said: Sequence[tuple[int, str]], column: str) -> InvalidInput:
        """What is wrong with cells of a column, to be raised: of each its row and a sentence."""
        row, message = said[0]
        more = f" (and {len(said) - 1:,} more)" if len(said) > 1 else ""
        places = tuple(Place(("table", row, column), message) for row, message in said[:MOST_PLACES])
        if len(said) > MOST_PLACES:
            places += (Place(("table", column), f"and {len(said) - MOST_PLACES:,} more cells of '{column}'"),)
        return InvalidInput(f"{self.source}, {self.place(row, column)}: {message}{more}", places)

    def refused(self, message: str, *, row: int | None = None, column: str | None = None) -> InvalidInput:
        """What is wrong with it, to be raised: with a row or column alone, or with a cell."""
        where = [self.source]
        if row is not None:
            where.append(self.place(row, column))
        elif column is not None:
            where.append(f"column '{column}'")
        loc = tuple(part for part in ("table", row, column) if part is not None)
        return InvalidInput(f"{', '.join(where)}: {message}", (Place(loc, message),))


def all_of(problems: Sequence[InvalidInput]) -> InvalidInput:
    """Several things that are wrong with one table, to be raised: the first in words, all of them as places."""
    first, *others = problems
    if not others:
        return first
    more = "problem" if len(others) == 1 else "problems"
    return InvalidInput(
        f"{first} ({len(others):,} more {more})", tuple(place for each in problems for place in each.places)
    )
