"""Series that the user knows, such as a temperature or a snow cover, one value for each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from gatescope.analysis.analysis import Parameters
from gatescope.analysis.states import check_lengths
from gatescope.analysis.subject import Subject
from gatescope.errors import InvalidInput, Place


class Series(Parameters):
    """One series with its name."""

    name: str
    """What it is called in the result."""

    values: list[list[float | None]] | list[float | None]
    """[batch][time], or [time] of a lone sequence; null where nothing is known."""


class SeriesParameters(Parameters):
    """The series that units are compared with."""

    series: list[Series] = Field(min_length=1, max_length=64)
    """The series that units are compared with, each with a name of its own."""

    def check(self, subject: Subject) -> None:
        """Refuse series that `values_of` refuses."""
        values_of(self.series, subject.lengths)


def values_of(series: Sequence[Series], lengths: Sequence[int]) -> np.ndarray:
    """(series, step) of all sequences one after another, NaN where nothing is known.

    Raises:
        InvalidInput: a series has another number of sequences or steps, a value that is not finite, no two different
            values, or another one's name.
    """
    names = [each.name for each in series]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InvalidInput.at(Place(("series", index, "name"), f"there are two series '{name[:64]}'"))
    return np.stack([_values(each, lengths, index) for index, each in enumerate(series)])


def _values(series: Series, lengths: Sequence[int], index: int) -> np.ndarray:
    place = ("series", index, "values")
    is_lone = not series.values or not isinstance(series.values[0], list)
    rows = [series.values] if is_lone else series.values
    check_lengths(rows, lengths, *place)  # type: ignore[arg-type] # rows are lists
    values = np.concatenate([np.array(row, dtype=np.float64) for row in rows])
    if np.isinf(values).any():
        raise InvalidInput.at(Place(place, "holds an infinite number"))
    known = values[~np.isnan(values)]
    if len(known) < 3 or (known == known[0]).all():  # noqa: PLR2004 - two points are on a line whatever they are
        raise InvalidInput.at(Place(place, "holds no three numbers of which two differ: nothing can follow it"))
    return values
