"""`Ragged`: values of sequences that may differ in length, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """Values (batch, time, …), NaN where a sequence has ended."""

    padded: np.ndarray
    lengths: list[int]

    def rows(self) -> list[np.ndarray]:
        """One array per sequence, without the padding."""
        return [row[:length] for row, length in zip(self.padded, self.lengths, strict=True)]
