"""`RowLabels`: what a request says about its sequences that no model reads: their names, times and measured values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gatescope.tables.further_times import Stamp, carried_on


class RowLabels(NamedTuple):
    """Of each sequence of a batch; None of what is not said."""

    ids: list[str] | None = None
    timestamps: list[list[Stamp]] | None = None
    """Of each step, strictly increasing; of the steps of a horizon, too, where they are known."""
    observed: Mapping[str, list[list[float | None]]] | None = None
    """By the name of an output, of each step; null where nothing was measured."""

    def extended(self, lengths: Sequence[int]) -> RowLabels:
        """The same with times for so many steps of each sequence, as far as those before them tell them."""
        if self.timestamps is None:
            return self
        rows = zip(self.timestamps, lengths, strict=True)
        return self._replace(timestamps=[[*row, *carried_on(row, steps - len(row))][:steps] for row, steps in rows])


NO_LABELS = RowLabels()
