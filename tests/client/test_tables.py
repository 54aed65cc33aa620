"""Tables in, tables out: the same times and ids, and the numbers that plain arrays give."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from gatescope.client import Prediction, pandas_tables, polars_tables
from gatescope.client.prediction_frames import Answered
from gatescope.client.reading import tables_of
from gatescope.errors import InvalidInput

OVER_SPRING = pd.date_range("2000-03-25T12:00", periods=60, freq="h", tz="Europe/London", name="time")
"""With the hour in it that clocks leave out."""


def of_model(shipped, name, example, steps):
    info = shipped.get(f"/v1/models/{name}").json()
    values = np.array(info["examples"][example]["request"]["inputs"][0][:steps], dtype=float)
    return pd.DataFrame(values, columns=info["input"]["feature_names"])


@pytest.fixture(scope="module")
def week(shipped):
    """Of `demand`, which predicts the next step."""
    return of_model(shipped, "demand", 1, 60).set_axis(OVER_SPRING)


@pytest.fixture(scope="module")
def days(shipped):
    """Of `river`, which predicts the same step."""
    frame = of_model(shipped, "river", 0, 40)
    return frame.assign(date=pd.date_range("2001-10-01", periods=len(frame)))


@pytest.fixture
def basins(days):
    """Two basins below each other, day by day, whose ids are numbers."""
    parts = [days.assign(basin=9), days.head(30).assign(basin=7)]
    frame = pd.concat(parts).sort_values(["date", "basin"], ascending=[True, False])
    return frame.set_axis(np.arange(100, 100 + len(frame)) * 2)


def arrays(days, *steps):
    return [days.drop(columns="date").to_numpy()[:count] for count in steps]


def test_a_frame_comes_back_with_the_times_its_values_are_for(client, week):
    found = client.predict("demand", week[week.columns[::-1]])
    frame = found.to_frame()
    assert frame.index.equals(pd.date_range(OVER_SPRING[1], periods=60, freq="h", name="time"))
    assert (frame.index.dtype, frame.index.freq, frame.index.name) == (OVER_SPRING.dtype, OVER_SPRING.freq, "time")
    assert [stamp.isoformat() for stamp in frame.index] == found.prediction_timestamps[0]
    assert found.timestamps == [[stamp.isoformat() for stamp in OVER_SPRING]]
    expected = client.predict("demand", week.to_numpy()).values[0, :, 0]
    np.testing.assert_array_equal(frame["demand_mw"], expected)


@pytest.mark.parametrize(
    "index",
    [pd.RangeIndex(40), pd.Index(list("ab") * 20, name="letter"), pd.period_range("2001-01", periods=40, freq="M")],
)
def test_an_index_comes_back_as_it_is(client, days, index):
    found = client.predict("river", days.drop(columns="date").set_axis(index))
    pd.testing.assert_index_equal(found.to_frame().index, index)
    np.testing.assert_array_equal(
        found.to_frame()["discharge_mm"], client.predict("river", arrays(days, 40)).values[0, :, 0]
    )
    assert list(found.frames) == [None]


def test_a_range_counts_on(client, week):
    frame = client.predict("demand", week.reset_index(drop=True)).to_frame()
    assert frame.index.equals(pd.RangeIndex(1, 61))


def test_a_forecast_carries_the_index_on(client, week):
    known, future = week.iloc[:50], week.iloc[50:].assign(demand_mw=np.nan)
    expected = client.predict("demand", known.to_numpy(), horizon=10, future_inputs=future.to_numpy()).values[0, :, 0]
    for further in (future, future.reset_index(drop=True), future.to_numpy()):
        frame = client.predict("demand", known, horizon=10, future_inputs=further).to_frame()
        assert frame.index.equals(OVER_SPRING[50:])
        np.testing.assert_array_equal(frame["demand_mw"], expected)


@pytest.mark.parametrize("kind", ["frames", "arrays"])
def test_a_forecast_of_several_series_is_that_of_each(client, week, kind):
    known, future = week.iloc[:50], week.iloc[50:].assign(demand_mw=np.nan)
    series, further = {"a": known, "b": known.iloc[9:]}, {"b": future, "a": future[future.columns[::-1]]}
    if kind == "arrays":
        further = {name: frame[week.columns].to_numpy() for name, frame in further.items()}
    found = client.predict("demand", series, horizon=10, future_inputs=further)
    plain = [frame.to_numpy() for frame in series.values()]
    alike = client.predict("demand", plain, horizon=10, future_inputs=[future.to_numpy()] * 2).values[..., 0]
    for row, frame in enumerate(found.frames.values()):
        np.testing.assert_array_equal(frame["demand_mw"], alike[row])
        assert frame.index.equals(OVER_SPRING[50:])
    with pytest.raises(InvalidInput, match="future_inputs: sequences have 9 to 10 further steps"):
        client.predict("demand", series, horizon=10, future_inputs=further | {"a": further["a"][:9]})
    with pytest.raises(InvalidInput, match="future_inputs: 'c' is a sequence of either this or inputs"):
        client.predict("demand", series, horizon=10, future_inputs=further | {"c": further["a"]})


def test_an_irregular_index_is_carried_on_by_given_times_only(client, network, week):
    known, future = week.drop(OVER_SPRING[30]).iloc[:49], week.iloc[50:].assign(demand_mw=np.nan)
    with pytest.raises(InvalidInput, match=r"^inputs.east: its steps are not equally far apart.*asfreq"):
        client.predict("demand", {"east": known}, horizon=10, future_inputs={"east": future.to_numpy()})
    assert not network.requests
    frame = client.predict("demand", known, horizon=10, future_inputs=future).to_frame()
    assert frame.index.equals(OVER_SPRING[50:])
    assert client.predict("demand", known).to_frame().index.isna()[-1]
    with pytest.raises(InvalidInput, match="future_inputs: its times do not come behind"):
        client.predict("demand", known, horizon=10, future_inputs=future.shift(-11, freq="h"))


TIMES = {
    "months": pd.to_datetime(["2000-01-31", "2000-02-29", "2000-03-31"]),
    "first of months": pd.to_datetime(["2000-11-01", "2000-12-01", "2001-01-01"]),
    "days over spring": pd.date_range("2000-03-24", periods=3, tz="Europe/Berlin"),
    "hours over autumn": pd.date_range("2000-10-28T22:00", periods=5, freq="h", tz="Europe/Berlin"),
    "nanoseconds": pd.date_range("2000-01-01", periods=4, freq="250ns"),
    "two": pd.to_datetime(["2000-01-01T00:00", "2000-01-01T00:15"]),
}


FREQUENCIES = dict(zip(TIMES, ("ME", "MS", "D", "h", "250ns", "15min"), strict=True))


@pytest.mark.parametrize("name", TIMES)
def test_times_are_carried_on_by_clock_and_calendar(name):
    times = TIMES[name]
    whole = pd.date_range(times[0], periods=len(times) + 3, freq=FREQUENCIES[name])
    found = pandas_tables.Axis(times).carried_on(3)
    assert found.index.equals(whole)
    in_polars = polars_tables.Axis(pl.Series("time", times)).carried_on(3)
    assert in_polars.times.to_list() == pl.Series("time", whole).to_list()
    assert in_polars.stamps() == found.stamps()


@pytest.mark.parametrize("days_between", [[0, 1, 3], [0, 31, 59, 91]])
def test_irregular_times_are_not_carried_on(days_between):
    times = pd.Timestamp("2001-01-31") + pd.to_timedelta(days_between, unit="D")
    assert pandas_tables.Axis(times).carried_on(1) is None
    assert polars_tables.Axis(pl.Series("time", times)).carried_on(1) is None


def test_rows_of_several_sequences_come_back_in_their_places(client, basins, days):
    found = client.predict("river", basins, id="basin", timestamps="date")
    assert found.ids == ["9", "7"]
    assert found.timestamps[1][:2] == ["2001-10-01", "2001-10-02"]
    frame = found.to_frame()
    pd.testing.assert_frame_equal(frame[["basin", "date"]], basins[["basin", "date"]])
    values = client.predict("river", arrays(days, 40, 30)).values[..., 0]
    for basin, expected in ((9, values[0]), (7, values[1, :30])):
        np.testing.assert_array_equal(frame.loc[frame["basin"] == basin, "discharge_mm"], expected)
        np.testing.assert_array_equal(found.frames[basin]["discharge_mm"], expected)
        assert found.frames[basin]["date"].equals(days["date"].head(len(expected)))


def test_levels_of_an_index_are_ids_and_times_too(client, basins):
    expected = client.predict("river", basins, id="basin", timestamps="date").to_frame()
    levels = basins.set_index(["date", "basin"])
    frame = client.predict("river", levels, id="basin").to_frame()
    pd.testing.assert_frame_equal(frame, expected.set_index(["date", "basin"]))
    with pytest.raises(InvalidInput, match=r"levels date, basin: say which is the id"):
        client.predict("river", levels)


def test_a_frame_of_polars_is_answered_with_one(client, basins, week):
    given = pl.from_pandas(basins)
    frame = client.predict("river", given, id="basin", timestamps="date").to_frame()
    assert frame.schema["basin"] == given.schema["basin"]
    expected = client.predict("river", basins, id="basin", timestamps="date").to_frame()
    assert frame.equals(pl.from_pandas(expected))
    lone = client.predict("demand", pl.from_pandas(week.reset_index()), timestamps="time").to_frame()
    expected = client.predict("demand", week).to_frame().reset_index()
    assert lone.equals(pl.from_pandas(expected))
    numbered = client.predict("demand", pl.from_pandas(week)).to_frame()
    assert numbered["step"].to_list() == list(range(1, 61))


def test_a_dictionary_of_series_is_answered_series_by_series(client, week):
    series = {"east": week.iloc[:20], "west": week[week.columns[::-1]]}
    found = client.predict("demand", series)
    assert found.ids == list(found.frames) == ["east", "west"]
    alike = client.predict("demand", [frame[week.columns].to_numpy() for frame in series.values()]).values[..., 0]
    np.testing.assert_array_equal(found.frames["east"]["demand_mw"], alike[0, :20])
    np.testing.assert_array_equal(found.frames["west"]["demand_mw"], alike[1])
    assert found.frames["east"].index.equals(OVER_SPRING[1:21])
    whole = found.to_frame()
    assert whole.index.names == ["id", "time"]
    pd.testing.assert_frame_equal(whole.loc["east"], found.frames["east"], check_freq=False)
    plain = client.predict("demand", {name: frame[week.columns].to_numpy() for name, frame in series.items()})
    np.testing.assert_array_equal(plain.values, found.values)
    with pytest.raises(ValueError, match="give data frames"):
        plain.to_frame()


def test_what_was_measured_stands_beside_what_was_predicted(client, days):
    measured = np.linspace(0, 1, 40)
    measured[3] = np.nan
    frame = days.assign(discharge_mm=measured)
    found = client.predict("river", frame, timestamps="date", observed=["discharge_mm"])
    np.testing.assert_array_equal(found.to_frame()["discharge_mm_observed"], measured)
    np.testing.assert_array_equal(
        found.to_frame()["discharge_mm"], client.predict("river", arrays(days, 40)).values[0, :, 0]
    )


def test_a_missing_value_is_refused_with_its_series(client, days):
    frame = days.set_index("date")
    gap = frame.copy()
    gap.iloc[5, 2] = np.nan
    with pytest.raises(InvalidInput, match=r"body\.inputs\.wet\.5\.2") as refused:
        client.predict("river", {"dry": frame, "wet": gap})
    assert refused.value.places[0].loc == ("body", "inputs", "wet", 5, 2)


@pytest.mark.parametrize(
    ("change", "asked", "said"),
    [
        (lambda frame: frame.iloc[::-1], {}, r"body\.timestamps\.b\.1: must come behind"),
        (lambda frame: frame.iloc[[0, 0, 1]], {}, r"body\.timestamps\.b\.1: must come behind"),
        (lambda frame: frame.iloc[:0], {}, r"inputs\.b: it has no rows"),
        (lambda frame: frame.rename(columns={"tmax_c": "x"}), {}, r"inputs\.b: .*'tmax_c' differs"),
        (lambda frame: frame.assign(gauge="a"), {}, r"inputs\.b: a frame holds what is no number"),
        (lambda frame: frame.reset_index(drop=True), {}, "some of the tables have times, and some have none"),
        (lambda frame: frame.set_axis(frame.index.where(frame.index != frame.index[1])), {}, "no time in row 1"),
        (lambda frame: frame, {"timestamps": "when"}, r"inputs\.a: there is no column 'when'"),
        (lambda frame: frame, {"observed": ["flow"]}, r"inputs\.a: there is no column 'flow'"),
        (lambda frame: frame, {"id": "basin"}, "the keys of the dictionary tell sequences apart"),
        (lambda frame: frame, {"ids": ["a", "b"]}, "ids: tables say that themselves"),
        (pl.from_pandas, {}, "frames of several kinds"),
    ],
)
def test_a_series_that_is_wrong_is_refused_by_name(client, days, change, asked, said):
    frame = days.set_index("date")
    with pytest.raises(InvalidInput, match=said):
        client.predict("river", {"a": frame, "b": change(frame)}, **asked)


def test_what_names_columns_needs_a_table(client, week):
    with pytest.raises(InvalidInput, match="id: 'basin' is to name a column"):
        client.predict("demand", week.to_numpy(), id="basin")
    with pytest.raises(InvalidInput, match="id: there is no column 'basin'; there are demand_mw"):
        client.predict("demand", week, id="basin")
    with pytest.raises(InvalidInput, match="to name columns, but sequences are arrays"):
        client.predict("demand", {"a": week.to_numpy()}, timestamps="time")
    with pytest.raises(ValueError, match="give a data frame"):
        client.predict("demand", week.to_numpy()).to_frame()


def test_static_inputs_are_matched_by_id():
    series = {"b": np.zeros((2, 1)), "a": np.ones((2, 1))}
    rows = pd.DataFrame({"area": [1.0, 2.0, 3.0]}, index=["a", "c", "b"])
    for given in (rows, pl.from_pandas(rows.reset_index(names="id")), {"a": [1.0], "b": [3.0]}):
        _, fields = tables_of(series, {"static_inputs": given})
        np.testing.assert_array_equal(fields["static_inputs"], [[3.0], [1.0]])
    with pytest.raises(InvalidInput, match="static_inputs: there is no row for 'b'"):
        tables_of(series, {"static_inputs": rows.head(2)})


def test_quantiles_and_labels_have_columns_of_their_own():
    tables, _ = tables_of({"a": pd.DataFrame({"x": [1.0, 2.0]})}, {})
    said = {"model": {"name": "m", "version": "1"}, "sequence_lengths": [2]}
    values = np.array([[[1, 2], [3, 4]]], dtype=np.float32)
    quantiles = {"names": ["y"], "quantiles": [0.1, 0.9], "predicts": "same_step"}
    found = Prediction.of(said | {"prediction": {"values": values}}, answered=Answered(tables, quantiles))
    pd.testing.assert_frame_equal(found.frames["a"], pd.DataFrame({"y_0.1": [1.0, 3.0], "y_0.9": [2.0, 4.0]}))
    chosen = {"values": values[:, 0], "labels": ["high"], "probabilities": values[:, 0]}
    about = Answered(tables, {"names": None, "labels": ["low", "high"], "predicts": None})
    frame = Prediction.of(said | {"prediction": chosen}, answered=about).frames["a"]
    expected = pd.DataFrame({"label": ["high"], "probability_low": [1.0], "probability_high": [2.0]}, index=[1])
    pd.testing.assert_frame_equal(frame, expected)
