"""`Bins`: a range of time steps cut into parts, each of which becomes one number per unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

REDUCTIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda steps: steps.mean(axis=1, dtype=np.float64),  # a float32 sum over 100,000 steps loses digits
    "min": lambda steps: steps.min(axis=1),
    "max": lambda steps: steps.max(axis=1),
}
"""(bin, step, unit) -> (bin, unit)."""


@dataclass(frozen=True, eq=False)
class Bins:
    """Neighbouring bins of time steps: bin i has the steps `edges[i]` up to `edges[i + 1]`."""

    edges: np.ndarray  # (bin + 1,)

    @classmethod
    def cut(cls, steps: range, count: int) -> Bins:
        """So many bins of equal length, or of one for each step where there are fewer steps.

        Lengths that do not come out even differ by one step, and the last bin is one of the shorter ones.
        """
        count = min(count, len(steps))
        return cls(steps.start - -np.arange(count + 1) * len(steps) // count)

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def time_steps(self) -> list[int]:
        """The first step of each bin."""
        steps: list[int] = self.edges[:-1].tolist()
        return steps

    def part(self, first: int, last: int) -> Bins:
        """The bins from `first` up to `last`."""
        return Bins(self.edges[first : last + 1])

    def of(self, values: np.ndarray) -> np.ndarray:
        """All steps of all bins, uncopied, from (batch, layer, direction, time, unit)."""
        return values[:, :, :, self.edges[0] : self.edges[-1]]

    def reduce(self, values: np.ndarray, lengths: Sequence[int], how: str) -> np.ndarray:
        """One number for each bin, from those of its steps that a row has.

        Args:
            values: (batch, layer, direction, time, unit), all time steps.
            lengths: how many steps each row has.
            how: one of `REDUCTIONS`.

        Returns:
            (batch, layer, direction, bin, unit), NaN where a row has no step of a bin.
        """
        reduced = np.full((*values.shape[:3], len(self), values.shape[4]), np.nan, dtype=np.float32)
        for row, length in enumerate(lengths):
            groups = self._groups(length)
            for layer, direction in np.ndindex(values.shape[1:3]):
                into, steps = reduced[row, layer, direction], values[row, layer, direction]
                for which, members in groups:
                    into[which] = REDUCTIONS[how](steps[members])  # (bin, step, unit) -> (bin, unit)
        return reduced

    def _groups(self, length: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Bins that have equally many of a row's steps: which ones, and their steps (bin, step)."""
        edges = np.minimum(self.edges, length)
        sizes = np.diff(edges)
        found = []
        for size in np.unique(sizes[sizes > 0]):
            which = np.flatnonzero(sizes == size)
            found.append((which, edges[which, None] + np.arange(size)))
        return found
