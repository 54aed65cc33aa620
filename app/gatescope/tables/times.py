"""When each row of a table is: the column that says it, read, and the step between rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from gatescope.tables.columns import plain
from gatescope.tables.table import Table

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("time", "timestamp", "timestamps", "date", "datetime", "ds", "day", "datum", "zeit", "valid", "datetimeutc")
"""What columns of times are called, but for case and what stands between words; the first that is there is taken."""

_SLASHED = re.compile(r"(\d{1,2})[/.\-](\d{1,2})[/.\-](\d{4}|\d{2})(\D.*)?")
_LOOKED_AT = 20


@dataclass(frozen=True)
class Times:
    """The time of each row."""

    column: str
    series: pd.Series
    """Times with a zone or all without, or numbers; never missing."""
    notes: tuple[str, ...] = ()

    @cached_property
    def index(self) -> pd.Index:
        """The same as an index."""
        import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

        return pd.DatetimeIndex(self.series) if self.series.dtype.kind == "M" else pd.Index(self.series)

    @cached_property
    def numbers(self) -> np.ndarray:
        """The same as numbers, in whose order the times are: (row,) int64 or float64."""
        if self.series.dtype.kind == "M":
            return np.asarray(self.index.asi8)
        return np.asarray(self.series, dtype=np.float64 if self.series.dtype.kind == "f" else np.int64)


class Stamps(Sequence[str | float]):
    """The times of one sequence as a request has them, ISO 8601 or numbers; each is written when it is asked for.

    Args:
        moments: the times.
    """

    def __init__(self, moments: pd.Index) -> None:
        self.moments = moments

    def __len__(self) -> int:
        return len(self.moments)

    @overload
    def __getitem__(self, place: int) -> str | float: ...
    @overload
    def __getitem__(self, place: slice) -> Stamps: ...

    def __getitem__(self, place: int | slice) -> str | float | Stamps:
        return Stamps(self.moments[place]) if isinstance(place, slice) else self._written(self.moments[place])

    def __iter__(self) -> Iterator[str | float]:
        return map(self._written, self.moments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment] # as of a list

    def _written(self, value: Any) -> str | float:
        if self.moments.dtype.kind != "M":
            return float(value)
        written: str = value.date().isoformat() if self._are_days else value.isoformat()
        return written

    @cached_property
    def _are_days(self) -> bool:
        return are_days(self.moments)


def are_days(index: Any) -> bool:
    """Whether times without a zone are all at midnight: dates."""
    return index.tz is None and bool((index == index.normalize()).all())


def find(table: Table, named: str | None, *, day_first: bool | None = None, exclude: frozenset[str]) -> Times | None:
    """The times of a table, None where no column has any.

    Args:
        table: to look at.
        named: the column that has them; it is looked for when not given.
        day_first: whether 03/04/2020 is in April; what the other dates show when not given.
        exclude: columns that are something else.

    Raises:
        InvalidInput: the column that is named has no times, or one cannot be read; the place is named.
    """
    if named is not None:
        if named not in table.frame.columns:
            raise table.refused(f"there is no column '{named}' for the times; it has {', '.join(table.frame.columns)}")
        return _read(table, named, day_first=day_first)
    free = [name for name in table.frame.columns if name not in exclude]
    for name in sorted(free, key=lambda each: NAMES.index(plain(each)) if plain(each) in NAMES else len(NAMES)):
        if table.frame[name].dtype.kind == "M" or (plain(name) in NAMES and table.has_names):
            return _read(table, name, day_first=day_first)
    for name in free:
        if _are_dates(table.frame[name]):
            return _read(table, name, day_first=day_first)
    return None


def _are_dates(cells: pd.Series) -> bool:
    shown = [cell for cell in cells.head(_LOOKED_AT) if isinstance(cell, str) and cell]
    return bool(shown) and all(re.match(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}", cell) for cell in shown)


def _read(table: Table, column: str, *, day_first: bool | None) -> Times:
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    cells = table.frame[column]
    if cells.dtype.kind in "Miuf":
        values = cells
        if missing := np.flatnonzero(pd.isna(cells)).tolist():
            raise table.refused("there is no time", row=missing[0], column=column)
        return Times(column, values)
    notes: list[str] = []
    texts = cells.astype("str")
    if all(re.fullmatch(r"-?\d+(\.\d+)?", text) and not re.fullmatch(r"\d{8}", text) for text in texts):
        return Times(column, texts.astype("float64"))
    is_day_first = _day_first(table, column, texts, notes, stated=day_first)
    values = _parsed(table, column, texts, day_first=is_day_first)
    return Times(column, values, tuple(notes))


def _day_first(table: Table, column: str, texts: pd.Series, notes: list[str], *, stated: bool | None) -> bool | None:
    """Whether days come before months; None where years come first.

    Raises:
        InvalidInput: it cannot be told.
    """
    found = [match for match in map(_SLASHED.fullmatch, texts) if match]
    if not found:
        return None
    if stated is not None:
        return stated
    first, second = (max(int(match[part]) for match in found) for part in (1, 2))
    if first > 12 and second > 12:  # noqa: PLR2004 - months
        raise table.refused("days and months stand there in both orders", column=column)
    if first <= 12 and second <= 12:  # noqa: PLR2004
        raise table.refused(
            f"it cannot be told whether '{texts.iloc[0]}' has the day or the month first: "
            "state --day-first or --month-first, or write 2001-12-31",
            column=column,
        )
    notes.append(f"Dates have the {'day' if first > 12 else 'month'} first.")  # noqa: PLR2004
    return first > 12  # noqa: PLR2004


def _parsed(table: Table, column: str, texts: pd.Series, *, day_first: bool | None) -> pd.Series:
    import pandas as pd  # noqa: PLC0415

    zoned = texts.str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$", regex=True)
    if zoned.any() and not zoned.all():
        odd = int(np.flatnonzero(zoned != zoned.iloc[0])[0])
        raise table.refused(
            f"{texts.iloc[odd]!r} {'has a' if zoned.iloc[odd] else 'has no'} time zone, unlike those before it",
            row=odd,
            column=column,
        )
    options: dict[str, Any] = {"dayfirst": bool(day_first), "errors": "coerce", "utc": bool(zoned.all())}
    try:
        values = pd.to_datetime(texts, format=None if day_first is not None else "mixed", **options)
    except (ValueError, OverflowError) as error:
        raise table.refused(f"there are no times: {str(error)[:100]}", column=column) from None
    if missing := np.flatnonzero(values.isna()).tolist():
        raise table.refused(f"{texts.iloc[missing[0]][:64]!r} is no time", row=missing[0], column=column)
    return values
