"""`Columns`: which column of a table is which feature, and its numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from gatescope.tables.csv_text import MISSING, is_missing
from gatescope.tables.table import Table

_UNIT = re.compile(r"\s*[\[(][^\])]*[\])]\s*$")
_LONGEST_NAME = 64  # in messages


def plain(name: str) -> str:
    """A name without its case, its unit in brackets, and what stands between its words."""
    return re.sub(r"[\s_\-.]+", "", _UNIT.sub("", name)).casefold()


class Columns:
    """Columns found by name.

    Args:
        table: that has them.
        mapping: name that is wanted -> the column that has it, where they are called otherwise.

    Raises:
        InvalidInput: the mapping names a column that is not there.
    """

    def __init__(self, table: Table, mapping: Mapping[str, str] | None = None) -> None:
        self._table, self._mapping = table, dict(mapping or {})
        self._by_plain: dict[str, list[str]] = {}
        for name in table.frame.columns:
            self._by_plain.setdefault(plain(name), []).append(name)
        self.notes: list[str] = []
        for wanted, given in self._mapping.items():
            if given not in table.frame.columns:
                raise table.refused(f"there is no column '{given}', which is to be '{wanted}'; {self._nearest(given)}")

    def find(self, wanted: str) -> str | None:
        """The column of this name: the one that is mapped, that is called so, or that is but for case and unit."""
        if wanted in self._mapping:
            return self._mapping[wanted]
        if wanted in self._table.frame.columns:
            return wanted
        found = self._by_plain.get(plain(wanted), [])
        if len(found) != 1 or found[0] in self._mapping.values():
            return None
        self.notes.append(f"The column '{found[0]}' is read as '{wanted}'.")
        return found[0]

    def found(self, names: Sequence[str], what: str) -> list[str]:
        """The columns of all these names.

        Raises:
            InvalidInput: one is missing; the nearest columns are named, and what would map one.
        """
        columns = {name: self.find(name) for name in names}
        if missing := [name for name, column in columns.items() if column is None]:
            free = [name for name in self._table.frame.columns if name not in columns.values()]
            near = get_close_matches(missing[0][:_LONGEST_NAME], free, n=1, cutoff=0.4) or free[:1]
            remedy = f"; if '{near[0]}' is it: --map {missing[0]}={near[0]}" if near else ""
            listed = ", ".join(f"'{name}'" for name in missing[:6])
            has = ", ".join(f"'{name}'" for name in list(self._table.frame.columns)[:12])
            raise self._table.refused(f"{what} needs {listed}, which the table lacks; it has {has}{remedy}")
        return [column for column in columns.values() if column is not None]

    def _nearest(self, name: str) -> str:
        names = list(self._table.frame.columns)
        near = get_close_matches(name[:_LONGEST_NAME], names, n=1, cutoff=0.4)
        return f"did you mean '{near[0]}'?" if near else f"it has {', '.join(map(repr, names[:12]))}"


def numbers(table: Table, column: str) -> np.ndarray:
    """The numbers of a column, (row,) float64; NaN where a cell holds none.

    Raises:
        InvalidInput: a cell is no number; its place is named.
    """
    values = table.frame[column]
    if values.dtype.kind in "iufb":
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    if (known := _at_once(values, table.decimal)) is not None:
        return known
    made = np.full(len(values), np.nan)
    for row, cell in enumerate(values):
        if cell is None or (isinstance(cell, float) and np.isnan(cell)):
            continue
        number = _number(cell, table.decimal)
        if number is None and not is_missing(str(cell)):
            raise table.refused(f"{str(cell)[:_LONGEST_NAME]!r} is not a number", row=row, column=column)
        made[row] = np.nan if number is None else number
    return made


def _at_once(values: Any, decimal: str) -> np.ndarray | None:
    """The numbers of a column of plain texts; None where they must be looked at one by one."""
    import pyarrow as pa  # noqa: PLC0415 - an extra, loaded when it is needed
    from pyarrow import compute  # noqa: PLC0415

    if values.dtype != "str":
        return None
    texts = pa.array(values, from_pandas=True)
    gaps = compute.is_in(compute.utf8_lower(texts), pa.array(sorted(MISSING), texts.type))
    texts = compute.if_else(gaps, None, texts)
    if decimal == ",":
        texts = compute.replace_substring(compute.replace_substring(texts, ".", ""), ",", ".")
    try:
        made = compute.cast(texts, pa.float64())
    except pa.ArrowInvalid:
        return None
    found = made.to_numpy(zero_copy_only=False) if isinstance(made, pa.Array) else made.to_numpy()
    return found if np.count_nonzero(np.isfinite(found)) == len(found) - made.null_count else None


def _number(cell: Any, decimal: str) -> float | None:
    if not isinstance(cell, str):
        return float(cell) if isinstance(cell, int | float | np.number) else None
    text = cell.replace(" ", "").replace("\u00a0", "").replace("'", "")
    text = text.replace(".", "").replace(",", ".") if decimal == "," else text.replace(",", "")
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
