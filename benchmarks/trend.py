"""`Trend`: the slope of a straight line through measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Trend(NamedTuple):
    """By least squares. Neighbouring measurements resemble each other, so the true error is larger than this one."""

    slope: float
    error: float  # its standard error

    @classmethod
    def of(cls, times: Sequence[float], values: Sequence[float]) -> Trend | None:
        """Of three measurements or more at different times; None of fewer."""
        if len(set(times)) < 3:
            return None
        x, y = np.array(times) - np.mean(times), np.array(values) - np.mean(values)
        spread = float(x @ x)
        slope = float(x @ y) / spread
        rest = y - slope * x
        return cls(slope, math.sqrt(float(rest @ rest) / (len(x) - 2) / spread))
