"""`Ragged`: values of sequences that may differ in length, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def ragged(values: np.ndarray, lengths: list[int]) -> np.ndarray | Ragged:
    """Values (batch, time, …) as they are where no sequence is shorter than another."""
    return values if min(lengths) == values.shape[1] else Ragged(values, lengths)


@dataclass(frozen=True)
class Ragged:
    """Values (batch, time, …), NaN where a sequence has ended."""

    padded: np.ndarray
    lengths: list[int]

    def rows(self) -> list[np.ndarray]:
        """One array per sequence, without the padding."""
        return [row[:length] for row, length in zip(self.padded, self.lengths, strict=True)]
