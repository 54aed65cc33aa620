"""Calendar features: the hour, weekday, month or day of the year of each time step, from its time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np


class Unit(NamedTuple):
    """A number of the calendar."""

    of: Callable[[datetime], int]
    period: float
    """After so many it begins again."""


def _half_hour(moment: datetime) -> int:
    return moment.hour * 2 + moment.minute // 30


UNITS: Mapping[str, Unit] = {
    "hour": Unit(lambda moment: moment.hour, 24),
    "half_hour": Unit(_half_hour, 48),
    "half_hour_of_week": Unit(lambda moment: moment.weekday() * 48 + _half_hour(moment), 336),
    "weekday": Unit(lambda moment: moment.weekday(), 7),
    "month": Unit(lambda moment: moment.month, 12),
    "day_of_year": Unit(lambda moment: moment.timetuple().tm_yday, 365.25),
}
"""Hours count from 0 to 23, half-hours from 0 to 47 and in a week from 0 (Monday, 00:00) to 335, weekdays from 0
(Monday) to 6, months from 1 to 12, days of the year from 1 to 366: as pandas counts them."""

NAMES = tuple(f"{unit}{wave}" for unit in UNITS for wave in ("", "_sin", "_cos"))
"""What a feature may be: a number of `UNITS`, or the sine or cosine of 2π · number / period."""


def values(names: Sequence[str], moments: Sequence[datetime]) -> np.ndarray:
    """(time, name) float64: these of `NAMES` at each moment, by the clock and calendar of its own time zone."""
    return np.stack([_column(name, moments) for name in names], axis=-1)


def _column(name: str, moments: Sequence[datetime]) -> np.ndarray:
    """(time,)."""
    unit = UNITS[name.removesuffix("_sin").removesuffix("_cos")]
    numbers = np.array([unit.of(moment) for moment in moments], dtype=np.float64)
    phase = numbers * (2 * math.pi / unit.period)
    return np.sin(phase) if name.endswith("_sin") else np.cos(phase) if name.endswith("_cos") else numbers
