"""`Tables`: the sequences of a request that came as tables, with the names, times and ids that they have there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gatescope.errors import InvalidInput, Place

ID = "id"


class Given(NamedTuple):
    """One sequence as it was given."""

    key: Any
    """What it is called; None of a lone one."""
    frame: Any
    """A data frame, or an array."""
    rows: np.ndarray | None = None
    """Where its rows stand in a frame of several sequences."""


@dataclass(frozen=True)
class Series:
    """One sequence."""

    values: np.ndarray
    """(time, feature) float64; or what was given for a sequence that is no frame."""
    axis: Any = None
    """What its steps are called, those of the horizon included; None where nothing tells it."""
    stamps: list[str | float] | None = None
    """Their times, those of the horizon not included."""
    observed: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(time,) of outputs that were measured, by name."""
    future: np.ndarray | None = None
    """(horizon, feature)."""
    rows: np.ndarray | None = None

    @property
    def steps(self) -> int:
        """How many there are, without those of the horizon."""
        return len(self.values)


@dataclass(frozen=True)
class Tables:
    """The sequences of a request, and what is needed to answer with tables."""

    kind: Any
    """The module for frames like those that were given; None of arrays by id."""
    series: tuple[Series, ...]
    keys: tuple[Any, ...] | None
    """What they are called, as it was given; None where they have no names."""
    columns: tuple[str, ...] | None
    horizon: int = 0
    name: str = ID
    """What tells sequences apart: the name of a column, a level of an index or a dimension."""
    whole: Any = None
    """The frame of several sequences."""
    is_lone: bool = False
    """Whether one sequence was given, and not a list or a dictionary of them."""

    @property
    def ids(self) -> list[str] | None:
        """The names as a request has them."""
        return None if self.keys is None else [str(key) for key in self.keys]

    def joined(self, frames: Mapping[Any, Any]) -> Any:
        """One frame of several by id: the ids are a column, or the first level of an index of times."""
        axis, whole = self.series[0].axis, self.whole
        is_level = whole is None or self.name in self.kind.levels(whole)
        as_level = is_level and axis is not None and axis.column is None
        return self.kind.joined(frames, self.name, as_level=as_level, like=whole)

    def spans(self, most_numbers: int) -> Iterator[slice]:
        """Some sequences at a time that have together no more numbers than this, or one."""
        first = numbers = 0
        for row, each in enumerate(self.series):
            size = int(np.size(each.values))
            if row > first and numbers + size > most_numbers:
                yield slice(first, row)
                first, numbers = row, 0
            numbers += size
        yield slice(first, len(self.series))

    def fields(self, rows: slice = slice(None)) -> dict[str, Any]:
        """The fields of a request of these sequences."""
        series, ids = self.series[rows], self.ids
        made: dict[str, Any] = {"inputs": [each.values for each in series]}
        if self.is_lone:
            made["inputs"] = series[0].values
        if self.columns is not None:
            made["columns"] = list(self.columns)
        if ids is not None:
            made["ids"] = ids[rows]
        if series[0].stamps is not None:
            made["timestamps"] = [each.stamps for each in series]
        if series[0].observed:
            names = series[0].observed
            made["observed"] = {name: [_with_null(each.observed[name]) for each in series] for name in names}
        if series[0].future is not None:
            made["future_inputs"] = series[0].future if self.is_lone else [each.future for each in series]
        return made


class Named(NamedTuple):
    """The columns that are no features."""

    id: str | None
    timestamps: str | None
    observed: tuple[str, ...]

    @property
    def apart(self) -> tuple[str, ...]:
        """All of them."""
        return (*(each for each in (self.id, self.timestamps) if each is not None), *self.observed)


def rows_of(fields: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """The fields of a request, but for its inputs, of some of its sequences."""
    made = dict(fields)
    for name in ("timestamps", "ids", "static_inputs", "future_inputs"):
        if fields.get(name) is not None:
            made[name] = fields[name][rows]
    if fields.get("observed") is not None:
        made["observed"] = {name: values[rows] for name, values in fields["observed"].items()}
    if fields.get("initial_state") is not None:
        made["initial_state"] = _states(fields["initial_state"], rows)
    return made


def _states(given: Any, rows: slice) -> Any:
    """Of each state, (layers · directions, batch, unit), that of some sequences."""
    if isinstance(given, Mapping):
        return {name: _states(each, rows) for name, each in given.items()}
    return (given if hasattr(given, "shape") else np.asarray(given))[:, rows]


def _with_null(values: np.ndarray) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]  # noqa: PLR0124 - NaN


def refused_of(part: Given, field_name: str, message: str) -> InvalidInput:
    """What is wrong with one sequence, by its name."""
    return InvalidInput.at(Place((field_name,) if part.key is None else (field_name, str(part.key)), message))


def refused(field_name: str, message: str) -> InvalidInput:
    """What is wrong with a field."""
    return InvalidInput.at(Place((field_name,), message))
