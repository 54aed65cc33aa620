"""Backtests of tables: the figures that the same table has as CSV, in frames with its times and ids."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from gatescope.client import Backtest
from gatescope.client.reading import tables_of
from gatescope.errors import InvalidInput

PLAN = {"horizon": 4, "season": 12, "stride": 3, "window": 20}
TIMES = pd.date_range("2000-10-28T12:00", periods=60, freq="h", tz="Europe/London", name="time")
"""With the hour in it that clocks show twice."""


@pytest.fixture(scope="module")
def zones(shipped):
    """Two series below each other, hour by hour."""
    info = shipped.get("/v1/models/demand").json()
    values = np.array(info["examples"][1]["request"]["inputs"][0], dtype=float)
    frame = pd.DataFrame(values, columns=info["input"]["feature_names"])
    parts = [frame.iloc[:60].assign(zone="west", time=TIMES), frame.iloc[60:110].assign(zone="east", time=TIMES[:50])]
    return pd.concat(parts, ignore_index=True).sort_values(["time", "zone"], ascending=[True, False])


@pytest.fixture
def as_csv(shipped, zones):
    """What the API says of the same table as a text."""
    text = zones.to_csv(index=False)
    query = {**PLAN, "id": "zone", "timestamps": "time"}
    headers = {"Content-Type": "text/csv"}
    return shipped.post("/v1/models/demand/backtest", content=text, params=query, headers=headers).json()


def test_it_has_the_figures_of_the_same_table_as_csv(client, as_csv, zones):
    found = client.backtest("demand", zones, id="zone", timestamps="time", **PLAN)
    assert (found.origins, found.pairs, found.target) == (as_csv["origins"], as_csv["pairs"], "demand_mw")
    assert list(found.scores.index) == ["model", "naive", "seasonal_naive", "mean"]
    for name, measures in as_csv["measures"].items():
        assert found.scores.loc[name].to_dict() == pytest.approx(measures, rel=1e-5)
    assert found.by_step == pytest.approx(as_csv["by_step"], rel=1e-5)
    frame = found.to_frame()
    expected = pd.DataFrame(as_csv["predictions"])
    assert list(frame["zone"]) == list(expected["id"])
    assert frame["time"].dt.tz_convert("UTC").tolist() == pd.to_datetime(expected["time"], utc=True).tolist()
    assert frame["time"].dtype == zones["time"].dtype
    for name in ("predicted", "observed", "naive", "seasonal_naive", "mean", "origin", "step"):
        np.testing.assert_allclose(frame[name], expected[name], rtol=1e-5)
    assert list(found.frames) == ["west", "east"]


@pytest.mark.parametrize("kind", ["dictionary", "polars"])
def test_it_takes_what_predict_takes(client, zones, kind):
    expected = client.backtest("demand", zones, id="zone", timestamps="time", **PLAN)
    if kind == "polars":
        found = client.backtest("demand", pl.from_pandas(zones), id="zone", timestamps="time", **PLAN)
        assert found.to_frame().equals(pl.from_pandas(expected.to_frame()))
        assert found.scores["forecast"].to_list() == list(expected.scores.index)
    else:
        own = {zone: frame.set_index("time").drop(columns="zone") for zone, frame in zones.groupby("zone", sort=False)}
        found = client.backtest("demand", own, **PLAN)
        assert found.to_frame().index.names == ["id", "time"]
        assert found.frames["east"].index.tolist() == expected.frames["east"]["time"].tolist()
    assert found.measures == expected.measures


def test_a_lone_frame_is_compared_with_what_was_observed(client, shipped):
    info = shipped.get("/v1/models/river").json()
    values = np.array(info["examples"][0]["request"]["inputs"][0], dtype=float)
    days = pd.date_range("2001-10-01", periods=len(values))
    frame = pd.DataFrame(values, columns=info["input"]["feature_names"], index=days)
    measured = np.linspace(0, 2, len(values))
    found = client.backtest("river", frame.assign(discharge_mm=measured), observed=["discharge_mm"], stride=5)
    own = found.to_frame()
    assert own.index.equals(days[len(days) // 2 :: 5])
    np.testing.assert_array_equal(own["observed"], measured[len(days) // 2 :: 5])
    whole = client.predict("river", values).values[0, :, 0]
    np.testing.assert_allclose(own["predicted"], whole[len(days) // 2 :: 5], rtol=1e-4)
    assert found.scores.loc["model", "mae"] == pytest.approx(np.abs(own["predicted"] - own["observed"]).mean())
    assert found.verified
    plain = client.backtest("river", values, observed={"discharge_mm": measured.tolist()}, stride=5)
    assert plain.measures == found.measures
    with pytest.raises(ValueError, match="give a data frame"):
        _ = plain.scores


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"observed": None}, r"query\.target: 'discharge_mm' is not measured"),
        ({"target": "flow"}, "no output 'flow'"),
        ({"horizon": 0}, r"query\.horizon: must be a whole number"),
        ({"static_inputs": [[1.0]]}, r"static_inputs: is no field of a backtest"),
    ],
)
def test_what_does_not_go_with_a_backtest_is_refused(client, shipped, asked, said):
    info = shipped.get("/v1/models/river").json()
    values = np.array(info["examples"][0]["request"]["inputs"][0], dtype=float)
    given = {"observed": {"discharge_mm": [1.0] * len(values)}} | asked
    with pytest.raises(InvalidInput, match=said):
        client.backtest("river", values, **given)


def test_one_series_that_is_wrong_is_named(client, zones):
    own = {zone: frame.set_index("time").drop(columns="zone") for zone, frame in zones.groupby("zone", sort=False)}
    with pytest.raises(InvalidInput, match=r"body\.timestamps\.east"):
        client.backtest("demand", own | {"east": own["east"].iloc[::-1]}, **PLAN)


def test_quantiles_have_columns_of_their_own():
    tables, _ = tables_of(pd.DataFrame({"x": [1.0, 2.0]}), {})
    row = {
        "id": None,
        "origin": 1,
        "step": 0,
        "time": None,
        "predicted": None,
        "quantiles": [1.0, 3.0],
        "observed": 2.0,
    }
    said = {"model": {"name": "m", "version": "1"}, "target": "y", "origins": 1, "pairs": 1, "by_step": [None]}
    said |= {"measures": {}, "predictions": [row], "quantiles": [0.1, 0.9], "point": None}
    frame = Backtest.of(said, tables).to_frame()
    told = {"origin": 1, "step": 0, "predicted": np.nan, "observed": 2.0, "predicted_0.1": 1.0, "predicted_0.9": 3.0}
    pd.testing.assert_frame_equal(frame, pd.DataFrame(told, index=[1]))
