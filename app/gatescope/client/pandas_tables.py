"""Data frames of pandas as sequences, and back. pandas is imported by whoever gives one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gatescope.client.times import iso
from gatescope.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

KNOWN_TO_INFER = 3
"""Times that tell a frequency, at least; of two it is the distance."""


def is_frame(value: Any) -> bool:
    """Whether it is a data frame of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


class Axis:
    """What the steps of one sequence are called: its frame's index, or a column of times.

    Args:
        index: the label of each step.
        column: the name of the column of times, where they are no index.
        is_time: whether the labels were said to be times, whatever their type.
    """

    def __init__(self, index: pd.Index, column: str | None = None, *, is_time: bool = False) -> None:
        self.index, self.column = index, column
        self.is_time = is_time or index.inferred_type in {"datetime64", "period"}

    def stamps(self) -> list[str | float] | None:
        """The times as a request has them; None where the labels are no times.

        Raises:
            ValueError: one is missing.
        """
        if not self.is_time:
            return None
        if (missing := np.flatnonzero(self.index.isna())).size:
            raise ValueError(f"there is no time in row {missing[0]}")
        index: Any = self.index.to_timestamp() if self.index.inferred_type == "period" else self.index
        if index.dtype.kind != "M":
            return [each.isoformat() if hasattr(each, "isoformat") else each for each in index.tolist()]
        if index.tz is None:
            return [*iso(index.to_numpy())]
        return [*iso(index.tz_localize(None).to_numpy(), index.tz_convert(None).to_numpy())]

    def carried_on(self, steps: int) -> Axis | None:
        """With so many further steps, as its frequency has them; None where that is not known."""
        further = _further(self.index, steps)
        return None if further is None else self.followed_by(Axis(further))

    def is_before(self, other: Axis) -> bool:
        """Whether its last time is before the first of another one; raises `TypeError` where only one has a zone."""
        return bool(self.index[-1] < other.index[0])

    def followed_by(self, other: Axis) -> Axis:
        """With the labels of further steps."""
        further: Any = other.index
        if self.index.dtype.kind == "M":
            zone = getattr(self.index, "tz", None)
            further = (further if zone is None else further.tz_convert(zone)).as_unit(self.index.unit)
        whole: Any = self.index.append(further)
        freq = getattr(self.index, "freq", None)
        if freq is not None and self.index.dtype.kind == "M":
            whole = _with_freq(whole, freq)
        return Axis(whole.rename(self.index.name), self.column, is_time=self.is_time)

    def between(self, start: int, stop: int) -> pd.Index:
        """The labels of these steps; missing behind the last that is known, by one step at most."""
        if stop <= len(self.index):
            return self.index[start:stop]
        longer = self.carried_on(stop - len(self.index))
        if longer is not None:
            return longer.index[start:stop]
        missing: Any = np.datetime64("NaT") if self.index.dtype.kind == "M" else np.nan
        return self.index[start:].insert(len(self.index) - start, missing)

    def at(self, places: np.ndarray) -> pd.Index:
        """The labels of these steps."""
        return self.index[places]

    def moments(self, stop: int) -> np.ndarray | None:
        """The times of the first steps as xarray has them, in UTC where they have a zone; None where they are none."""
        index: Any = self.between(0, stop)
        index = index.to_timestamp() if index.inferred_type == "period" else index
        if index.dtype.kind != "M":
            return None
        return np.asarray((index if index.tz is None else index.tz_convert(None)).to_numpy())


def _with_freq(index: Any, freq: Any) -> Any:
    try:
        return type(index)(index, freq=freq)
    except ValueError:  # further times were given, and lie otherwise
        return index


def _further(index: Any, steps: int) -> Any:
    """The labels of further steps behind an index."""
    import pandas as pd  # noqa: PLC0415 - whoever gave a frame has it

    if isinstance(index, pd.PeriodIndex):
        return pd.period_range(index[-1], periods=steps + 1, freq=index.freq)[1:]
    if isinstance(index, pd.DatetimeIndex):
        freq = index.freq or _frequency(index)
        return None if freq is None else pd.date_range(index[-1], periods=steps + 1, freq=freq)[1:].as_unit(index.unit)
    if isinstance(index, pd.RangeIndex):
        return pd.RangeIndex(index.stop, index.stop + steps * index.step, index.step)
    if index.dtype.kind not in "iuf" or len(index) < 2:  # noqa: PLR2004 - a step lies between two
        return None
    distances = np.diff(index.to_numpy())
    if not (distances == distances[0]).all():
        return None
    return pd.Index(index[-1] + distances[0] * np.arange(1, steps + 1), dtype=index.dtype)


def _frequency(index: Any) -> Any:
    import pandas as pd  # noqa: PLC0415

    if len(index) >= KNOWN_TO_INFER:
        return pd.DatetimeIndex(index, freq="infer").freq
    return index[1] - index[0] if len(index) == KNOWN_TO_INFER - 1 else None


def columns(frame: pd.DataFrame) -> list[str]:
    """The names of its columns."""
    return [str(name) for name in frame.columns]


def levels(frame: pd.DataFrame) -> list[str]:
    """The names of its index, or of the levels of it."""
    return [str(name) for name in frame.index.names if name is not None]


def numbers(frame: pd.DataFrame, place: int) -> np.ndarray:
    """The column at this place, (row,) float64, NaN where a value is missing; raises `TypeError`, `ValueError`."""
    column = frame.iloc[:, place]
    if column.dtype.kind not in "iufbO":
        raise TypeError(f"{column.dtype} is no number")
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))


def axis(frame: pd.DataFrame, timestamps: str | None, *, is_part: bool) -> Axis | None:
    """What its rows are called; None where nothing tells it.

    Args:
        frame: of one sequence.
        timestamps: the column of times, or the name of an index of times.
        is_part: whether it is a part of a frame of several sequences, whose row numbers say nothing.
    """
    import pandas as pd  # noqa: PLC0415

    if timestamps is not None and timestamps in columns(frame):
        return Axis(pd.Index(frame[timestamps], name=timestamps), timestamps, is_time=True)
    found = Axis(frame.index, is_time=timestamps is not None)
    return None if is_part and not found.is_time else found


def split(frame: pd.DataFrame, name: str) -> Iterator[tuple[Any, pd.DataFrame, np.ndarray]]:
    """Each id in the column or the level of this name, its rows, and where they stand, in their order.

    Raises:
        InvalidInput: a row has no id.
    """
    by = frame.index.get_level_values(name) if name in frame.index.names else frame[name]
    if (missing := np.flatnonzero(np.asarray(by.isna()))).size:
        raise InvalidInput(f"inputs: row {missing[0]} has no id in '{name}'")
    places, rest = frame.groupby(by.to_numpy(), sort=False).indices, without(frame, [name])
    for each in by.unique():
        rows = places[each]
        part = rest.iloc[rows]
        yield each, part.droplevel(name) if part.index.nlevels > 1 else part, rows


def without(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The frame without these columns."""
    return frame.loc[:, [str(name) not in names for name in frame.columns]]


def made(labels: pd.Index | None, axis_of: Axis | None, values: Mapping[str, Any]) -> pd.DataFrame:
    """A frame of these columns, whose rows are called so."""
    import pandas as pd  # noqa: PLC0415

    if axis_of is None or labels is None:
        return pd.DataFrame(dict(values))
    if axis_of.column is None:
        return pd.DataFrame(dict(values), index=labels)
    return pd.DataFrame({axis_of.column: labels.array, **values})


def named_rows(names: Sequence[str], what: str, values: Mapping[str, Any]) -> pd.DataFrame:
    """A frame of these columns, whose rows have names; `what` is what they name."""
    import pandas as pd  # noqa: PLC0415

    return pd.DataFrame(dict(values), index=pd.Index(names, name=what))


def joined(frames: Mapping[Any, pd.DataFrame], name: str, *, as_level: bool, like: pd.DataFrame | None) -> pd.DataFrame:
    """One frame of several: the ids are the first level of its index, or its first column.

    Args:
        frames: by id.
        name: of the ids.
        as_level: whether they are a level.
        like: a frame with the ids, whose type they have.
    """
    import pandas as pd  # noqa: PLC0415

    if as_level:
        any_frame = next(iter(frames.values()))
        return pd.concat(frames, names=[name, *any_frame.index.names])
    is_numbered = all(isinstance(frame.index, pd.RangeIndex) for frame in frames.values())
    made = pd.concat(frames.values(), ignore_index=is_numbered)
    ids = pd.Series([each for each, frame in frames.items() for _ in range(len(frame))], index=made.index)
    made.insert(0, name, ids if like is None else ids.astype(like[name].dtype))
    return made


def reordered(frame: pd.DataFrame, rows: np.ndarray, like: pd.DataFrame) -> pd.DataFrame:
    """The rows of a frame back in the places, and with the index, that they have in another one."""
    ordered = frame.iloc[np.argsort(rows, kind="stable")]
    return ordered.set_axis(like.index, axis=0)


def row_names(frame: pd.DataFrame, name: str) -> list[str]:
    """What its rows are called: in the column of this name, or in the index."""
    return [str(each) for each in (frame[name] if name in columns(frame) else frame.index)]
