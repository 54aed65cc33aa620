"""`RowLabels`: what a request says about its sequences that no model reads: their names, times and measured values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gatescope.tables.further_times import Stamp, carried_on


class RowLabels(NamedTuple):
    """Of each sequence of a batch; None of what is not said."""

    ids: list[str] | None = None
    timestamps: list[list[Stamp]] | None = None
    """Of each step, strictly increasing."""
    observed: Mapping[str, list[list[float | None]]] | None = None
    """By the name of an output, of each step; null where nothing was measured."""
    further: list[list[Stamp]] | None = None
    """The times of the steps of the horizon, where the request says them."""

    def extended(self, steps: int) -> RowLabels:
        """The same with the times of so many further steps, as far as they are said or the times before tell them."""
        if self.timestamps is None or not steps:
            return self
        known = [row + more for row, more in zip(self.timestamps, self.after(steps), strict=True)]
        return self._replace(timestamps=known)

    def after(self, steps: int) -> list[list[Stamp]]:
        """The times of so many steps behind the last of each sequence, as far as they are known."""
        if self.further is not None:
            return [row[:steps] for row in self.further]
        return [carried_on(row, steps) for row in self.timestamps or ()]


NO_LABELS = RowLabels()
