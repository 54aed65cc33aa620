"""When each row of a table is: the column that says it, read, and the step between rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from gatescope.tables.columns import numbers, plain
from gatescope.tables.csv_text import MISSING
from gatescope.tables.table import Table

if TYPE_CHECKING:
    import pandas as pd

NAMES = (
    *("time", "timestamp", "timestamps", "date", "datetime", "ds", "day", "datum", "zeit", "valid", "datetimeutc"),
    *("utctimestamp", "zeitstempel", "messdatum", "dateheure"),
)
"""What columns of times are called, but for case and what stands between words; the first that is there is taken."""

_CLOCK_NAMES = ("time", "timeofday", "clock", "hour", "hhmm", "zeit", "uhrzeit", "heure")
"""What columns of times of day are called, which stand beside one of dates."""

_PARTS = {
    "year": ("year", "yr", "yyyy", "jahr"),
    "month": ("month", "mnth", "mo", "mm", "monat"),
    "day": ("day", "dd", "tag"),
    "hour": ("hour", "hr", "hh", "stunde"),
}
"""What columns of parts of a time are called; the first three must be there."""

_SLASHED = re.compile(
    r"^(?P<date>(?P<first>\d{1,2})(?P<mark>[/.\-])(?P<second>\d{1,2})[/.\-](?P<year>\d{4}|\d{2}))(?P<rest>\D.*)?$"
)
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{8}")
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[ap]m)?", re.IGNORECASE)
_ZONE = re.compile(r"(?:[\d ](Z|UTC|GMT)|[T :]\d{2}(?:[.,]\d+)?\s?([+-]\d{2}(?::?\d{2})?))$")
_ISO = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?)?$"
_DATE_BEGINS = re.compile(r"(?:\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}).*")
_COMPACT = {10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""Dates of so many digits, where all are dates."""
_LOOKED_AT = 20


@dataclass(frozen=True)
class Times:
    """The time of each row."""

    column: str
    series: pd.Series
    """Times with a zone or all without, or numbers; never missing."""
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    """Columns of parts of a time, beside it."""
    day_first: bool | None = None
    """Whether dates had the day first; None where none was such a date."""
    is_moved: bool = False
    """Whether times had several offsets, so that they are told in UTC, not by the clock by which they were written."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All that say when a row is."""
        return (self.column, *self.others)

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


def index_of(stamps: Any) -> pd.Index:
    """The times of a sequence as an index."""
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    return stamps.moments if isinstance(stamps, Stamps) else pd.Index(stamps)


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
    named_so = [name for name in free if plain(name) in NAMES and table.has_names]
    named_so.sort(key=lambda each: NAMES.index(plain(each)))
    whole = [name for name in named_so if not _are(_CLOCK, table.frame[name])]
    dates = [name for name in free if _are(_DATE, table.frame[name])]
    clocks = [name for name in free if plain(name) in _CLOCK_NAMES and _are(_CLOCK, table.frame[name])]
    if dates and clocks and whole[:1] in ([], dates[:1]):
        return _joined(table, dates[0], clocks[0], day_first=day_first)
    if parts := _parts(free):
        return _of_parts(table, parts)
    typed = [name for name in free if table.frame[name].dtype.kind == "M"]
    looking_so = [name for name in free if _are(_DATE_BEGINS, table.frame[name])]
    for name in (*whole, *typed, *looking_so, *named_so):
        return _read(table, name, day_first=day_first)
    return None


def _are(form: re.Pattern[str], cells: pd.Series) -> bool:
    """Whether the first cells that are texts have this form, and there are some."""
    shown = [cell for cell in cells.head(_LOOKED_AT) if isinstance(cell, str) and cell]
    return bool(shown) and all(form.fullmatch(cell) for cell in shown)


def _joined(table: Table, date: str, clock: str, *, day_first: bool | None) -> Times:
    """Times of a column of dates and one of times of day."""
    texts = table.frame[date].astype("str") + " " + table.frame[clock].astype("str")
    found = _read(replace(table, frame=table.frame.assign(**{date: texts})), date, day_first=day_first)
    notes = (f"The time of day is read from the column '{clock}'.", *found.notes)
    return replace(found, notes=notes, others=(clock,))


def _parts(free: Sequence[str]) -> dict[str, str]:
    """Part of a time -> the column that has it; empty where year, month and day are not all there."""
    by_plain = {plain(name): name for name in free}
    found = {
        part: column
        for part, names in _PARTS.items()
        if (column := next((by_plain[name] for name in names if name in by_plain), None)) is not None
    }
    return found if {"year", "month", "day"} <= set(found) else {}


def _of_parts(table: Table, parts: Mapping[str, str]) -> Times:
    import pandas as pd  # noqa: PLC0415

    day = parts["day"]
    values = pd.to_datetime(
        pd.DataFrame({part: numbers(table, column) for part, column in parts.items()}), errors="coerce"
    )
    if missing := np.flatnonzero(values.isna() | (values.dt.year < 1)).tolist():
        raise table.refused("there is no such day", row=missing[0], column=day)
    others = tuple(column for part, column in parts.items() if part != "day")
    told = ", ".join(f"'{column}'" for column in others)
    return Times(day, values, (f"The rest of a time is read from the columns {told}.",), others)


def _read(table: Table, column: str, *, day_first: bool | None) -> Times:
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    cells = table.frame[column]
    is_text = cells.dtype.kind not in "Miuf"
    missing = pd.isna(cells)
    if is_text:
        missing |= cells.astype("str").str.lower().isin(MISSING)
    if rows := np.flatnonzero(missing).tolist():
        raise table.refused_cells([(row, "there is no time; leave the row out") for row in rows], column)
    if not is_text:
        return Times(column, cells, _OF_NUMBERS if cells.dtype.kind != "M" else ())
    notes: list[str] = []
    texts = cells.astype("str")
    if (plain_times := _at_once(texts)) is not None:
        return Times(column, plain_times)
    if texts.str.fullmatch(r"-?\d+(\.\d+)?").all() and not texts.str.fullmatch(r"\d{8}").all():
        values = _compact(texts)
        return Times(column, texts.astype("float64"), _OF_NUMBERS) if values is None else Times(column, values)
    is_day_first = _day_first(table, column, texts, notes, stated=day_first)
    values = _parsed(table, column, texts, notes, day_first=is_day_first)
    return Times(column, values, tuple(notes), day_first=is_day_first, is_moved=_IN_UTC in notes)


def _at_once(texts: pd.Series) -> pd.Series | None:
    """Times that are all written as 2020-12-31 or 2020-12-31T23:00; None where they must be looked at one by one."""
    import pandas as pd  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415 - an extra, loaded when it is needed
    from pyarrow import compute  # noqa: PLC0415

    given = pa.array(texts)
    if not compute.all(compute.match_substring_regex(given, _ISO)).as_py():
        return None
    try:
        moments = compute.cast(given, pa.timestamp("us"))
    except pa.ArrowInvalid:
        return None
    return pd.Series(moments.to_numpy(), index=texts.index)


_IN_UTC = "Times have several offsets; they are told in UTC."
_OF_NUMBERS = ("Times are numbers, and are told as such; for dates write 2020-12-31.",)


def _compact(texts: pd.Series) -> pd.Series | None:
    """Times such as 2020123123, which have digits alone; None where they are other numbers."""
    import pandas as pd  # noqa: PLC0415

    form = _COMPACT.get(len(texts.iloc[0]))
    if form is None or not texts.str.fullmatch(rf"(?:1[6-9]|20|21)\d{{{len(texts.iloc[0]) - 2}}}").all():
        return None
    values = pd.to_datetime(texts, format=form, errors="coerce")
    return None if values.isna().any() else values


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
    if any(match["mark"] == "-" and len(match["year"]) < 4 for match in found):  # noqa: PLR2004 - a year of two digits
        raise table.refused(
            f"it cannot be told whether '{found[0][0]}' has the year first: state --day-first or --month-first, or "
            "write 2001-12-31",
            column=column,
        )
    first, second = (max(int(match[part]) for match in found) for part in ("first", "second"))
    if first > 12 and second > 12:  # noqa: PLR2004 - months
        raise table.refused(
            "days and months stand there in both orders, or one is none: write 2001-12-31",
            row=_odd_order(texts),
            column=column,
        )
    if first <= 12 and second <= 12:  # noqa: PLR2004
        raise table.refused(
            f"it cannot be told whether '{found[0][0]}' has the day or the month first: "
            "state --day-first or --month-first, or write 2001-12-31",
            column=column,
        )
    notes.append(f"Dates have the {'day' if first > 12 else 'month'} first.")  # noqa: PLR2004
    return first > 12  # noqa: PLR2004


def _odd_order(texts: pd.Series) -> int:
    """The row of the first date whose order is not that of an earlier one."""
    seen = None
    for row, match in enumerate(map(_SLASHED.fullmatch, texts)):
        larger = () if match is None else [part for part in ("first", "second") if int(match[part]) > 12]  # noqa: PLR2004
        shown = larger[0] if larger else None
        if seen is not None and shown is not None and shown != seen:
            return row
        seen = shown if seen is None else seen
    return 0


def _parsed(table: Table, column: str, texts: pd.Series, notes: list[str], *, day_first: bool | None) -> pd.Series:
    import pandas as pd  # noqa: PLC0415

    found = texts.str.extract(_ZONE)
    zones = found[0].fillna(found[1])
    zoned = zones.notna()
    if zoned.any() and not zoned.all():
        odd = int(np.flatnonzero(zoned != zoned.iloc[0])[0])
        raise table.refused(
            f"{texts.iloc[odd]!r} {'has a' if zoned.iloc[odd] else 'has no'} time zone, unlike those before it",
            row=odd,
            column=column,
        )
    has_several = zoned.any() and (zones != zones.iloc[0]).any()
    if has_several:
        notes.append(_IN_UTC)
    years_first = texts if day_first is None else _years_first(texts, day_first=day_first)
    try:
        values = pd.to_datetime(years_first, format="mixed", errors="coerce", utc=bool(has_several))
    except (ValueError, OverflowError) as error:
        raise table.refused(f"there are no times: {str(error)[:100]}", column=column) from None
    # pandas takes the words now, today and May for times, and 10:00 for one of today
    is_none = values.isna() | (values.dt.year < 1) | ~texts.str.contains(r"\d") | texts.str.fullmatch(_CLOCK)
    if rows := np.flatnonzero(is_none).tolist():
        said = [(row, f"{texts.iloc[row][:64]!r} is no time{_remedy(texts.iloc[row])}") for row in rows]
        raise table.refused_cells(said, column)
    return values


def _years_first(texts: pd.Series, *, day_first: bool) -> pd.Series:
    """Times such as 31.12.2020 23:00 as 2020-12-31 23:00; missing where one has not the form of the first."""
    import pandas as pd  # noqa: PLC0415

    parts = texts.str.extract(_SLASHED)
    mark, year = parts["mark"].dropna().iloc[0], parts["year"].dropna().iloc[0]
    order = ("%d", "%m") if day_first else ("%m", "%d")
    form = mark.join((*order, "%y" if len(year) == 2 else "%Y"))  # noqa: PLR2004
    dates = pd.to_datetime(parts["date"], format=form, errors="coerce")
    return dates.dt.strftime("%Y-%m-%d") + parts["rest"].fillna("")


def _remedy(text: str) -> str:
    if _CLOCK.fullmatch(text):
        return ": it has no date"
    if re.search(r"\d ?[A-Z]{2,5}$", text):
        return ": write its time zone as an offset, such as 2020-12-31T23:00+01:00"
    return ": write 2020-12-31 or 2020-12-31T23:00, or leave the row out"
