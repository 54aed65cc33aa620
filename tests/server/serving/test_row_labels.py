"""Times are carried on as pandas' date ranges go on."""

import pandas as pd
import pytest

from gatescope.server.serving.row_labels import carried_on

RANGES = {
    "hours": pd.date_range("2024-02-28 22:30", periods=7, freq="h"),
    "days over a leap day": pd.date_range("2024-02-26", periods=7, freq="D"),
    "weeks over a year's end": pd.date_range("2024-12-08", periods=7, freq="7D"),
    "four weeks of February": pd.date_range("2023-02-01", periods=7, freq="28D"),
    "months": pd.date_range("2023-10-01", periods=7, freq="MS"),
    "ends of months": pd.date_range("2023-11-30", periods=7, freq="ME"),
    "quarters": pd.date_range("2023-12-31", periods=7, freq="QE"),
    "years": pd.date_range("2020-02-29", periods=7, freq="YE-FEB"),
    "days at home before the clock changes": pd.date_range("2024-03-25", periods=7, freq="D", tz="Europe/Berlin"),
    "hours when the clock changed": pd.date_range("2024-10-27", periods=7, freq="h", tz="Europe/Berlin"),
    "days when the clock changed": pd.date_range("2024-03-30", periods=7, freq="D", tz="Europe/Berlin"),
}


@pytest.mark.parametrize("name", RANGES)
def test_regular_times_go_on_as_they_are(name):
    stamps = [time.isoformat() for time in RANGES[name]]
    known = 3 if name != "hours when the clock changed" else 5
    expected = [pd.Timestamp(each) for each in stamps[known:]]
    further = [pd.Timestamp(each) for each in carried_on(stamps[:known], len(expected))]
    if name == "days at home before the clock changes":  # an offset does not tell when it changes
        assert [each.tz_localize(None) for each in further] == [each.tz_localize(None) for each in expected]
    else:
        assert further == expected


def test_other_times_go_on_as_far_apart_as_the_last_two():
    assert carried_on(["2024-01-01", "2024-01-05", "2024-01-06"], 2) == ["2024-01-07", "2024-01-08"]
    assert carried_on([1.0, 4.0, 6.0], 2) == [8.0, 10.0]
    assert carried_on(["2024-01-01"], 2) == []
    assert carried_on(["9998-12-31", "9999-12-31"], 2) == []
