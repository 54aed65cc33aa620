"""`Interval`: a mean ratio and its 95 % confidence interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""The 97.5 % quantile of Student's t distribution for 1, 2, … degrees of freedom; for more than 30 the last is used."""


class Interval(NamedTuple):
    """Of ratios whose logarithms are normal: their geometric mean, and where it lies with a probability of 95 %."""

    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Interval:
        """Of independent measurements, two or more."""
        logarithms = [math.log(ratio) for ratio in ratios]
        mean = statistics.fmean(logarithms)
        error = statistics.stdev(logarithms) / math.sqrt(len(ratios))
        margin = _T[min(len(ratios) - 1, len(_T)) - 1] * error
        return cls(math.exp(mean), math.exp(mean - margin), math.exp(mean + margin))
