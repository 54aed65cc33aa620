"""`RowLabels`: what a request says about its sequences that no model reads: their names, times and measured values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

Stamp = str | float
"""When a step is: ISO 8601, or a number."""

_DATE = len("2001-10-01")


class RowLabels(NamedTuple):
    """Of each sequence of a batch; None of what is not said."""

    ids: list[str] | None = None
    timestamps: list[list[Stamp]] | None = None
    """Of each step, strictly increasing."""
    observed: Mapping[str, list[list[float | None]]] | None = None
    """By the name of an output, of each step; null where nothing was measured."""

    def extended(self, steps: int) -> RowLabels:
        """The same with the times of so many further steps, as far as the last two times tell them."""
        if self.timestamps is None or not steps:
            return self
        further = [carried_on(row, steps) for row in self.timestamps]
        known = [row + more for row, more in zip(self.timestamps, further, strict=True)]
        return self._replace(timestamps=known)


NO_LABELS = RowLabels()


def carried_on(row: Sequence[Stamp], steps: int) -> list[Stamp]:
    """The times of so many steps behind the last, as far apart as the last two; none where there are fewer than two.

    Times of months and years are carried on by the days between the last two.
    """
    if len(row) < 2:  # noqa: PLR2004 - a step lies between two
        return []
    before, last = row[-2], row[-1]
    if not isinstance(last, str) or not isinstance(before, str):
        return [last + (last - before) * (step + 1) for step in range(steps)]  # type: ignore[operator] # numbers
    end = datetime.fromisoformat(last)
    width = end - datetime.fromisoformat(before)
    try:
        moments = [end + width * (step + 1) for step in range(steps)]
    except OverflowError:  # behind the year 9999
        return []
    return [moment.date().isoformat() if len(last) == _DATE else moment.isoformat() for moment in moments]
