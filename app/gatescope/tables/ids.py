"""Which column of a table says which sequence a row belongs to."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from gatescope.tables.columns import plain
from gatescope.tables.csv_text import is_missing
from gatescope.tables.table import Table
from gatescope.tables.times import Times

if TYPE_CHECKING:
    import pandas as pd

NAMES = (
    *("id", "uniqueid", "seriesid", "sequenceid", "itemid", "gaugeid", "basinid", "siteid", "stationid", "basin"),
    *("gauge", "site", "station", "series", "sequence"),
)
"""What columns of ids are called, but for case and what stands between words; the first that is there is taken."""


def find(table: Table, used: Collection[str], found: Times | None) -> str | None:
    """The column that is called as ids are, or that tells rows of one time apart; None where no other is.

    Of the second kind is none where fewer than half of the rows are of a time that another row has, too: in a series
    that has an hour twice, a column of the time zone would tell these hours apart.

    Args:
        table: to look at.
        used: columns that are something else.
        found: the times of the rows.
    """
    frame, taken = table.frame, {*used, *(() if found is None else found.columns)}
    others = [str(name) for name in frame.columns if name not in taken and _may_be_ids(frame[name])]
    if called := [name for name in others if plain(name) in NAMES and table.has_names]:
        return min(called, key=lambda name: NAMES.index(plain(name)))
    if found is None or 2 * found.series.duplicated(keep=False).sum() < len(frame):
        return None
    fitting = [name for name in others if not frame[[name]].assign(**{f"{name} ": found.series}).duplicated().any()]
    return fitting[0] if len(fitting) == 1 else None


def check(table: Table, column: str) -> None:
    """Refuse a column that cannot be ids; raises `InvalidInput`."""
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    if column not in table.frame.columns:
        raise table.refused(f"there is no column '{column}' for the ids; it has {', '.join(table.frame.columns)}")
    cells = table.frame[column]
    if not _are_plain(cells):
        raise table.refused("its cells are lists or structures, which are no ids", column=column)
    for each in cells.unique():
        if is_missing(str(each).strip("<>")):
            row = int(np.flatnonzero(cells.isna() if pd.isna(each) else cells == each)[0])
            raise table.refused("there is no id", row=row, column=column)


def _may_be_ids(cells: pd.Series) -> bool:
    """Whether they are texts or whole numbers, and each stands there twice or more on average: row numbers do not."""
    if cells.dtype.kind not in "OUiu" or not _are_plain(cells):
        return False
    return 2 * int(cells.nunique(dropna=False)) <= len(cells)


def _are_plain(cells: pd.Series) -> bool:
    """Whether cells can be compared: lists and structures of Parquet cannot."""
    return not any(isinstance(cell, list | dict | np.ndarray) for cell in cells.dropna().head(1))
