"""Data frames of polars as sequences, and back. polars is imported by whoever gives one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gatescope.client.times import iso
from gatescope.errors import InvalidInput

if TYPE_CHECKING:
    import polars as pl

DAY = np.timedelta64(1, "D")


def is_frame(value: Any) -> bool:
    """Whether it is a data frame of polars."""
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(value, polars.DataFrame)


class Axis:
    """What the steps of one sequence are called: a column of times.

    Args:
        times: the time of each step.
    """

    is_time = True

    def __init__(self, times: pl.Series) -> None:
        self.times, self.column = times, times.name

    def stamps(self) -> list[str | float] | None:
        """The times as a request has them.

        Raises:
            ValueError: one is missing.
        """
        if self.times.null_count():
            raise ValueError(f"there is no time in row {self.times.is_null().arg_max()}")
        if not _are_dates(self.times):
            return self.times.to_list()
        return [*iso(_wall(self.times), None if _zone(self.times) is None else self.times.to_numpy())]

    def carried_on(self, steps: int) -> Axis | None:
        """With so many further steps, as far apart as those that are known; None where that is not known."""
        further = _further(self.times, steps)
        return None if further is None else self.followed_by(Axis(further))

    def is_before(self, other: Axis) -> bool:
        """Whether its last time is before the first of another one; raises `TypeError` where only one has a zone."""
        if (_zone(self.times) is None) != (_zone(other.times) is None):
            raise TypeError("some of the times have a time zone, and some have none")
        return bool(self.times[-1] < other.times[0])

    def followed_by(self, other: Axis) -> Axis:
        """With the times of further steps."""
        import polars as pl  # noqa: PLC0415 - whoever gave a frame has it

        further, zone = other.times, _zone(self.times)
        further = further if zone is None else further.dt.convert_time_zone(zone)
        return Axis(pl.concat([self.times, further.cast(self.times.dtype).rename(self.times.name)]))

    def between(self, start: int, stop: int) -> pl.Series:
        """The times of these steps; missing behind the last that is known."""
        missing = stop - len(self.times)
        if missing <= 0:
            return self.times[start:stop]
        longer = self.carried_on(missing)
        if longer is not None:
            return longer.times[start:stop]
        return self.times[start:].extend_constant(None, missing)

    def at(self, places: np.ndarray) -> pl.Series:
        """The times of these steps."""
        return self.times[places]

    def moments(self, stop: int) -> np.ndarray | None:
        """The times of the first steps as xarray has them, in UTC where they have a zone; None where they are none."""
        times = self.between(0, stop)
        return times.to_numpy() if _are_dates(times) else None


def _are_dates(times: pl.Series) -> bool:
    import polars as pl  # noqa: PLC0415 - whoever gave a frame has it

    return times.dtype in (pl.Date, pl.Datetime)


def _zone(times: pl.Series) -> str | None:
    return getattr(times.dtype, "time_zone", None)


def _wall(times: pl.Series) -> np.ndarray:
    """(time,) datetime64 as clocks there show it."""
    return (times if _zone(times) is None else times.dt.replace_time_zone(None)).to_numpy()


def _further(times: pl.Series, steps: int) -> pl.Series | None:
    """The times of further steps: equally many days or months apart by the clock there, or equally long."""
    if len(times) < 2 or not _are_dates(times):  # noqa: PLR2004 - a step lies between two
        return _further_numbers(times, steps)
    wall = _wall(times)
    distances, counted = np.diff(wall), np.arange(1, steps + 1)
    if (distances == distances[0]).all() and distances[0] % DAY == np.timedelta64(0, "D"):
        return _zoned(wall[-1] + distances[0] * counted, times)
    moments = times.to_numpy()
    apart = np.diff(moments)
    if (apart == apart[0]).all():
        return _of(moments[-1] + apart[0] * counted, times, "UTC")
    months = np.diff(wall.astype("M8[M]").astype(int))
    if not (months == months[0]).all() or months[0] <= 0:
        return None
    within, to_end = wall - wall.astype("M8[M]"), (wall.astype("M8[M]") + 1).astype("M8[D]") - wall.astype("M8[D]")
    begun = wall[-1].astype("M8[M]") + months[0] * counted
    if (within == within[0]).all():
        return _zoned(begun + within[0], times) if within[0] < 28 * DAY else None
    is_at_end = (to_end == DAY).all() and (wall == wall.astype("M8[D]")).all()
    return _zoned((begun + 1).astype("M8[D]") - DAY, times) if is_at_end else None


def _further_numbers(times: pl.Series, steps: int) -> pl.Series | None:
    import polars as pl  # noqa: PLC0415

    if len(times) < 2 or not times.dtype.is_numeric():  # noqa: PLR2004
        return None
    values = times.to_numpy()
    apart = np.diff(values)
    return pl.Series(times.name, values[-1] + apart[0] * np.arange(1, steps + 1)) if (apart == apart[0]).all() else None


def _zoned(wall: np.ndarray, like: pl.Series) -> pl.Series:
    return _of(wall, like, _zone(like))


def _of(values: np.ndarray, like: pl.Series, zone: str | None) -> pl.Series:
    import polars as pl  # noqa: PLC0415

    made = pl.Series(like.name, values.astype(f"M8[{getattr(like.dtype, 'time_unit', 'ms')}]"))
    if (own := _zone(like)) is not None and zone is not None:
        made = made.dt.replace_time_zone(zone, ambiguous="earliest").dt.convert_time_zone(own)
    return made.cast(like.dtype)


def columns(frame: pl.DataFrame) -> list[str]:
    """The names of its columns."""
    return list(frame.columns)


def levels(_: pl.DataFrame) -> list[str]:
    """Of an index: polars has none."""
    return []


def numbers(frame: pl.DataFrame, place: int) -> np.ndarray:
    """The column at this place, (row,) float64, NaN where a value is missing; raises `TypeError`."""
    import polars as pl  # noqa: PLC0415

    column = frame.to_series(place)
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise TypeError(f"{column.dtype} is no number")
    return column.cast(pl.Float64).to_numpy().copy()


def axis(frame: pl.DataFrame, timestamps: str | None, *, is_part: bool) -> Axis | None:  # noqa: ARG001 - as of pandas
    """What its rows are called; None where no column says it."""
    return None if timestamps is None else Axis(frame[timestamps])


def split(frame: pl.DataFrame, name: str) -> Iterator[tuple[Any, pl.DataFrame, np.ndarray]]:
    """Each id in the column of this name, its rows, and where they stand, in their order.

    Raises:
        InvalidInput: a row has no id.
    """
    if frame[name].null_count():
        raise InvalidInput(f"inputs: row {frame[name].is_null().arg_max()} has no id in '{name}'")
    for each, rows in frame[name].to_frame().with_row_index("row").group_by(name, maintain_order=True):
        places = rows["row"].to_numpy()
        yield each[0], frame[places], places


def without(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The frame without these columns."""
    return frame.select([name for name in frame.columns if name not in names])


def made(labels: pl.Series | None, axis_of: Axis | None, values: Mapping[str, Any]) -> pl.DataFrame:
    """A frame of these columns, whose rows are called so."""
    import polars as pl  # noqa: PLC0415

    first = {} if axis_of is None or labels is None else {axis_of.column: labels}
    return pl.DataFrame({**first, **values})


def named_rows(names: Sequence[str], what: str, values: Mapping[str, Any]) -> pl.DataFrame:
    """A frame of these columns, whose rows have names in the first one; `what` is what they name."""
    import polars as pl  # noqa: PLC0415

    return pl.DataFrame({what: names, **values})


def joined(
    frames: Mapping[Any, pl.DataFrame],
    name: str,
    *,
    as_level: bool,  # noqa: ARG001 - as of pandas
    like: pl.DataFrame | None,
) -> pl.DataFrame:
    """One frame of several: the ids are its first column, of the type that they have in another frame."""
    import polars as pl  # noqa: PLC0415

    dtype = None if like is None else like.schema[name]
    return pl.concat([frame.select(pl.lit(each, dtype).alias(name), pl.all()) for each, frame in frames.items()])


def reordered(frame: pl.DataFrame, rows: np.ndarray, like: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG001
    """The rows of a frame back in the places that they have in another one."""
    return frame[np.argsort(rows, kind="stable")]


def row_names(frame: pl.DataFrame, name: str) -> list[str]:
    """What its rows are called: in the column of this name; nothing where there is none."""
    return [str(each) for each in frame[name]] if name in frame.columns else []
