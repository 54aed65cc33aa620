"""`Columns`: which column of a table is which feature, and its numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

import numpy as np

from gatescope.tables.csv_text import MISSING, is_missing
from gatescope.tables.numerals import number
from gatescope.tables.table import Table

_UNIT = re.compile(r"\s*[\[(][^\])]*[\])]\s*$")
_LONGEST_NAME = 64  # in messages
_FILL_VALUE = 1e20
_CODES = [float(f"{'9' * whole}{decimals}") for whole in (3, 4, 5) for decimals in ("", ".9", ".99")]


def plain(name: str) -> str:
    """A name without its case, its unit in brackets, and what stands between its words."""
    return re.sub(r"[\s_\-.]+", "", _UNIT.sub("", name)).casefold()


def _differ_in_unit(one: str, other: str) -> bool:
    """Whether both names have something in brackets behind them, such as [°C] and [°F], and not the same."""
    units = [re.sub(r"\W", "", found[0]).casefold() if (found := _UNIT.search(name)) else "" for name in (one, other)]
    return all(units) and units[0] != units[1]


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
        found = [name for name in self._by_plain.get(plain(wanted), []) if not _differ_in_unit(wanted, name)]
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
        if near := self.missing(names):
            remedy = ",".join(f"{name}={each[0]}" for name, each in near.items() if each)
            listed = ", ".join(f"'{name}'" for name in list(near)[:6])
            has = ", ".join(f"'{name}'" for name in list(self._table.frame.columns)[:12])
            which = f"'{next(iter(near.values()))[0]}' is it" if len(near) == 1 and remedy else "they are there"
            hint = f"; if {which}: --map {remedy}" if remedy else ""
            raise self._table.refused(f"{what} needs {listed}, which the table lacks; it has {has}{hint}")
        return [column for column in columns.values() if column is not None]

    def missing(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Those of these names that have no column -> the columns that may be it, the likeliest first."""
        columns = {name: self.find(name) for name in names}
        taken = [column for column in columns.values() if column is not None]
        return self._near([name for name, column in columns.items() if column is None], taken)

    def _near(self, missing: Sequence[str], taken: Collection[str]) -> dict[str, list[str]]:
        """Each name -> the columns that are not taken whose names are like it; the likest is that of no other name."""
        free = [name for name in self._table.frame.columns if name not in taken]
        made: dict[str, list[str]] = {}
        for name in missing:
            made[name] = get_close_matches(name[:_LONGEST_NAME], free, n=3, cutoff=0.4)
            if not made[name] and len(missing) == 1:
                made[name] = free[:1]
            free = [column for column in free if column not in made[name][:1]]
        return made

    def _nearest(self, name: str) -> str:
        names = list(self._table.frame.columns)
        near = get_close_matches(name[:_LONGEST_NAME], names, n=1, cutoff=0.4)
        return f"did you mean '{near[0]}'?" if near else f"it has {', '.join(map(repr, names[:12]))}"


def numbers(table: Table, column: str) -> np.ndarray:
    """The numbers of a column, (row,) float64; NaN where a cell holds none.

    Raises:
        InvalidInput: cells are no numbers, or infinite; their places are named.
    """
    values = table.frame[column]
    if values.dtype.kind in "iufb":
        made = np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
        cells = made
    elif (plain_numbers := _at_once(values, table.decimal)) is not None:
        return plain_numbers
    else:
        cells = values.to_numpy(dtype=object)
        made = np.array([_number(cell, table.decimal) for cell in cells], dtype=np.float64)
    if odd := np.flatnonzero(np.isinf(made)).tolist():
        mark = " (numbers have a decimal comma here)" if table.decimal == "," else ""
        said = [(row, f"{str(cells[row])[:_LONGEST_NAME]!r} is not a number{mark}") for row in odd]
        raise table.refused_cells(said, column)
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
        if compute.any(compute.match_substring(texts, ".")).as_py():
            return None  # a mark before thousands
        texts = compute.replace_substring(texts, ",", ".")
    try:
        made = compute.cast(texts, pa.float64())
    except pa.ArrowInvalid:
        return None
    found = np.asarray(made.to_pandas())
    return found if np.count_nonzero(np.isfinite(found)) == len(found) - made.null_count else None


def _number(cell: Any, decimal: str) -> float:
    """The number in a cell, NaN where there is none; infinity for what is not a number."""
    if isinstance(cell, str):
        made = number(cell, decimal)
        return made if made is not None else np.nan if is_missing(cell) else np.inf
    if isinstance(cell, int | float | np.number | Decimal):
        return float(cell)
    return np.nan if cell is None or is_missing(str(cell).strip("<>")) else np.inf


def sentinels(values: np.ndarray) -> np.ndarray:
    """Which numbers stand for no value, (row,): -999, -9999.9 and the like, or 1e20 and more, far from all others."""
    size = np.abs(values)
    is_code = (size >= _FILL_VALUE) | ((values < 0) & np.isin(np.round(size * 100) / 100, _CODES))
    others = size[~is_code & ~np.isnan(values)]
    return np.asarray(is_code & (size > 2 * (others.max() if len(others) else 0.0)))
