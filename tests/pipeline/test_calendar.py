"""Calendar features against pandas' own accessors."""

import numpy as np
import pandas as pd
import pytest

from gatescope.pipeline import calendar

TIMES = {
    "every half-hour of two years": pd.date_range("2023-01-01", "2024-12-31 23:30", freq="30min"),
    "odd minutes": pd.date_range("2000-02-28 00:07", periods=5000, freq="97min"),
    "over changes of the clock": pd.date_range("2024-01-01", periods=9000, freq="h", tz="Europe/London"),
    "before 1970": pd.date_range("1895-12-30", periods=500, freq="D"),
}


@pytest.mark.parametrize("name", TIMES)
def test_the_numbers_and_waves_are_those_of_pandas(name):
    times = TIMES[name]
    half_hour = times.hour * 2 + times.minute // 30
    numbers = {
        "hour": (times.hour, 24),
        "half_hour": (half_hour, 48),
        "half_hour_of_week": (times.day_of_week * 48 + half_hour, 336),
        "weekday": (times.day_of_week, 7),
        "month": (times.month, 12),
        "day_of_year": (times.day_of_year, 365.25),
    }
    given = dict(zip(calendar.NAMES, calendar.values(calendar.NAMES, list(times)).T, strict=True))
    assert given.keys() == {f"{unit}{wave}" for unit in numbers for wave in ("", "_sin", "_cos")}
    for unit, (expected, period) in numbers.items():
        np.testing.assert_array_equal(given[unit], expected)
        np.testing.assert_allclose(given[f"{unit}_sin"], np.sin(2 * np.pi * expected / period), rtol=0, atol=1e-12)
        np.testing.assert_allclose(given[f"{unit}_cos"], np.cos(2 * np.pi * expected / period), rtol=0, atol=1e-12)
