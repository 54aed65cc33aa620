"""Static features, one value in each sequence: from columns of the table itself, or from a second table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from gatescope.tables import ids
from gatescope.tables.columns import Columns, numbers, plain, sentinels
from gatescope.tables.table import Table

_MOST_TOLD = 6


def of_columns(
    table: Table, columns: Mapping[str, str], groups: Sequence[tuple[Any, np.ndarray]], values: Mapping[str, np.ndarray]
) -> np.ndarray:
    """The values of each sequence, (sequence, feature), from columns of the table that has the sequences.

    Args:
        table: with the rows of all sequences.
        columns: feature -> column.
        groups: of each sequence its id and its rows.
        values: feature -> (row,), NaN where a cell holds none; blank cells of a sequence that has a value are left out.

    Raises:
        InvalidInput: a sequence has several values or none; the place is named.
    """
    made = np.empty((len(groups), len(columns)))
    for index, (name, column) in enumerate(columns.items()):
        for sequence, (each, rows) in enumerate(groups):
            own = values[name][rows]
            known = own[~np.isnan(own)]
            of = "the sequence" if each is None else f"'{each}'"
            if not len(known):
                raise table.refused(f"there is no value for {of}", row=int(rows[0]), column=column)
            if len(odd := np.flatnonzero(own[~np.isnan(own)] != known[0])):
                row = int(rows[~np.isnan(own)][odd[0]])
                raise table.refused(
                    f"{of} has {known[0]:g} and {known[odd[0]]:g}; '{name}' is one value for a whole sequence",
                    row=row,
                    column=column,
                )
            made[sequence, index] = known[0]
    return made


def of_table(
    table: Table,
    names: Sequence[str],
    sequences: Sequence[str] | None,
    id_column: str | None,
    mapping: Mapping[str, str],
) -> tuple[np.ndarray, list[str]]:
    """The values of each sequence, (sequence, feature), from a second table with a row for each id.

    Args:
        table: the second one.
        names: of the static features.
        sequences: the ids that are wanted; None of a table of one sequence.
        id_column: what the column of ids is called in the first table.
        mapping: static feature -> the column of the second table that it is.

    Returns:
        The values, and what was found, a sentence each.

    Raises:
        InvalidInput: a feature has no column, an id no row or several, a cell no number; the place is named.
    """
    if not table.has_names:
        raise table.refused("its columns have no names: name them in a first line")
    columns = Columns(table, mapping)
    found = columns.found(names, "the model")
    rows = _rows(table, sequences, id_column, found)
    every = np.stack([numbers(table, column) for column in found], axis=1)
    made = np.where(np.apply_along_axis(sentinels, 0, every), np.nan, every)[rows]
    if len(missing := np.argwhere(np.isnan(made))):
        row, index = missing[0].tolist()
        raise table.refused("there is no value", row=rows[row], column=found[index])
    return made, [f"Static features are read from {table.source}.", *columns.notes]


def _rows(table: Table, sequences: Sequence[str] | None, id_column: str | None, used: Sequence[str]) -> list[int]:
    """The row of each sequence."""
    if sequences is None:
        if len(table.frame) != 1:
            raise table.refused(
                f"it has {len(table.frame)} rows for one sequence; name the column of ids in the other table "
                "(--id COLUMN)"
            )
        return [0]
    column = _id_column(table, id_column, used)
    own = [str(cell) for cell in table.frame[column]]
    places: dict[str, int] = {}
    wanted = set(sequences)
    for row, each in enumerate(own):
        if each in wanted and each in places:
            raise table.refused(
                f"the id '{each}' stands there twice; leave one of the rows out", row=row, column=column
            )
        places[each] = row
    if missing := [each for each in sequences if each not in places]:
        told = ", ".join(f"'{each}'" for each in missing[:_MOST_TOLD])
        more = f" and {len(missing) - _MOST_TOLD} more" if len(missing) > _MOST_TOLD else ""
        near = get_close_matches(missing[0], own, n=1)
        hint = f"; '{missing[0]}' is much like '{near[0]}'" if near else ""
        raise table.refused(f"there is no row for {told}{more}{hint}", column=column)
    return [places[each] for each in sequences]


def _id_column(table: Table, name: str | None, used: Sequence[str]) -> str:
    """The column of ids: called as in the other table, or as ids are called."""
    free = [str(each) for each in table.frame.columns if each not in used]
    wanted = [plain(name or ""), *ids.NAMES]
    if called := [each for each in free if plain(each) in wanted]:
        column = min(called, key=lambda each: wanted.index(plain(each)))
        ids.check(table, column)
        return column
    raise table.refused(
        f"there is no column '{name}' of ids, as the other table has; it has {', '.join(map(str, table.frame.columns))}"
    )
