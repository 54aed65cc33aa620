"""Features that follow from the times of the steps, held against pandas' own accessors and the same columns typed."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import save_file
from torch import nn

from gatescope.tables.requests import read_body

FEATURES = [
    '{ name = "load", mean = 10.0, std = 2.0 }',
    '{ name = "h", calendar = "hour", period = 24 }',
    '{ name = "weekday", calendar = "weekday", categories = [0, 1, 2, 3, 4, 5, 6] }',
    '{ name = "month", calendar = "month", mean = 6.5, std = 3.5 }',
    '{ name = "rain" }',
    '{ name = "year_sin", calendar = "day_of_year_sin" }',
    '{ name = "year_cos", calendar = "day_of_year_cos" }',
    '{ name = "slot", calendar = "half_hour_of_week", mean = 168.0, std = 97.0 }',
]
NAMES = ["load", "h", "weekday", "month", "rain", "year_sin", "year_cos", "slot"]
STATED = [0, 4]
MANIFEST = """format = 2
description = "load from itself, the rain and the calendar"
[input]
kind = "features"
features = [
  %s
]
[[layers]]
name = "lstm"
type = "lstm"
[[layers]]
name = "head"
type = "linear"
[[heads]]
task = "regression"
names = ["load"]
predicts = "next_step"
"""
ZONES = {
    "naive": pd.date_range("2023-12-31 21:10", periods=9, freq="h"),
    "leap day": pd.date_range("2024-02-28 18:40", periods=9, freq="6h"),
    "spring": pd.date_range("2024-03-31 00:00", periods=9, freq="30min", tz="Europe/Berlin"),
    "autumn": pd.date_range("2024-10-27 00:00", periods=9, freq="h", tz="Europe/Berlin"),
    "days": pd.date_range("2024-03-28", periods=9, freq="D", tz="Europe/Berlin"),
    "months": pd.date_range("2023-06-30", periods=9, freq="ME"),
    "utc": pd.date_range("2020-12-31 20:00", periods=9, freq="h", tz="UTC"),
    "west": pd.date_range("2020-12-31 20:00", periods=9, freq="h", tz="America/Caracas"),
}


def by_pandas(times):
    """(time, 6): what the calendar features are, in the order of the manifest."""
    year = 2 * np.pi * times.day_of_year / 365.25
    slot = times.day_of_week * 48 + times.hour * 2 + times.minute // 30
    return np.stack([times.hour, times.day_of_week, times.month, np.sin(year), np.cos(year), slot], axis=1)


def full(values, times):
    """(time, 8): the stated values with the calendar between them."""
    made = np.empty((len(values), len(NAMES)))
    made[:, STATED] = values
    made[:, [index for index in range(len(NAMES)) if index not in STATED]] = by_pandas(times)
    return made


@pytest.fixture(scope="module")
def client(tmp_path_factory, serve_models):
    root = tmp_path_factory.mktemp("calendar")
    torch.manual_seed(0)
    module = nn.ModuleDict({"lstm": nn.LSTM(15, 6), "head": nn.Linear(6, 1)})
    (root / "calendar" / "1").mkdir(parents=True)
    (root / "calendar" / "model.toml").write_text(MANIFEST % ",\n  ".join(FEATURES))
    save_file(module.state_dict(), root / "calendar" / "1" / "model.safetensors")
    with serve_models(root) as client:
        yield client


@pytest.fixture
def post(client):
    def post(path, body, status=200, **headers):
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        reply = client.post(f"/v1/{path}", **sent, headers=headers)
        assert reply.status_code == status, reply.text
        return reply.json()

    return post


def stated(steps, seed=0):
    return np.random.default_rng(seed).normal(10, 2, size=(steps, 2)).round(2)


def iso(times):
    return [time.isoformat() for time in times]


def test_model_info_tells_which_features_follow_from_the_times(client):
    told = client.get("/v1/models/calendar").json()["input"]
    assert told["feature_names"] == NAMES
    assert told["derived"] == {
        "h": "hour",
        "weekday": "weekday",
        "month": "month",
        "year_sin": "day_of_year_sin",
        "year_cos": "day_of_year_cos",
        "slot": "half_hour_of_week",
    }


@pytest.mark.parametrize("zone", ZONES)
def test_derived_columns_are_those_of_pandas(post, zone):
    times, values = ZONES[zone], stated(9)
    derived = post("models/calendar/predict", {"inputs": values.tolist(), "timestamps": iso(times)})
    typed = post("models/calendar/predict", {"inputs": full(values, times).tolist()})
    np.testing.assert_allclose(derived["prediction"]["values"], typed["prediction"]["values"], rtol=0, atol=1e-6)
    assert derived["timestamps"] == [iso(times)]


@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone not in {"spring", "autumn"}])
def test_a_forecast_needs_nothing_typed(post, zone):
    times, values = ZONES[zone], stated(9)
    known, future = times[:5], times[5:]
    rows = [[None, float(rain)] for rain in values[5:, 1]]
    derived = post(
        "models/calendar/predict",
        {"inputs": values[:5].tolist(), "timestamps": iso(known), "horizon": 4, "future_inputs": rows},
    )
    further = full(np.array(rows, dtype=float), future)
    typed = post(
        "models/calendar/predict",
        {
            "inputs": full(values[:5], known).tolist(),
            "horizon": 4,
            "future_inputs": [[None, *row[1:]] for row in further.tolist()],
        },
    )
    np.testing.assert_allclose(derived["prediction"]["values"], typed["prediction"]["values"], rtol=0, atol=1e-5)
    assert [pd.Timestamp(each) for each in derived["prediction"]["timestamps"][0]] == list(future)
    offset = [note["message"] for note in derived["notes"] if note["code"] == "calendar"]
    assert bool(offset) == (zone in {"days", "west"})


def test_given_times_of_the_horizon_follow_a_change_of_the_clock(post):
    times, values = ZONES["spring"], stated(9)
    rows = [[None, float(rain)] for rain in values[3:, 1]]
    body = {"inputs": values[:3].tolist(), "horizon": 6, "future_inputs": rows, "timestamps": iso(times)}
    derived = post("models/calendar/predict", body)
    further = full(np.array(rows, dtype=float), times[3:])
    typed = {
        "inputs": full(values[:3], times[:3]).tolist(),
        "horizon": 6,
        "future_inputs": [[None, *row[1:]] for row in further.tolist()],
    }
    expected = post("models/calendar/predict", typed)["prediction"]["values"]
    np.testing.assert_allclose(derived["prediction"]["values"], expected, rtol=0, atol=1e-5)
    assert derived["prediction"]["timestamps"] == [iso(times[3:])]
    assert derived["timestamps"] == [iso(times)]
    assert "calendar" not in {note["code"] for note in derived["notes"]}


def test_columns_match_by_name_in_any_order_and_gaps_keep_their_place(post):
    times, values = ZONES["naive"], stated(9)
    body = {"inputs": values[:, ::-1].tolist(), "columns": ["rain", "load"], "timestamps": iso(times)}
    expected = post("models/calendar/predict", {"inputs": values.tolist(), "timestamps": iso(times)})
    assert post("models/calendar/predict", body)["prediction"] == expected["prediction"]
    order = [5, 3, 0, 7, 6, 2, 4, 1]
    typed = {"inputs": full(values, times)[:, order].tolist(), "columns": [NAMES[index] for index in order]}
    given = post("models/calendar/predict", typed)["prediction"]["values"]
    np.testing.assert_allclose(given, expected["prediction"]["values"], rtol=0, atol=1e-6)
    refused = post("models/calendar/predict", body | {"columns": ["rain", "month"]}, 422)
    assert refused["errors"][0]["loc"] == ["body", "columns", 1]


def test_given_columns_are_taken_as_given(post):
    times, values = ZONES["naive"], stated(9)
    typed = {"inputs": full(values, times).tolist()}
    expected = post("models/calendar/predict", typed)["prediction"]["values"]
    shifted = iso(times + pd.Timedelta("5h"))
    assert post("models/calendar/predict", typed | {"timestamps": shifted})["prediction"]["values"] == expected


def test_binary_bodies_carry_their_times_in_the_metadata(client, post):
    times, values = ZONES["west"], stated(9)
    content = save({"inputs": values[None].astype(np.float32)}, {"timestamps": json.dumps([iso(times)])})
    given = post("models/calendar/predict", content, **{"Content-Type": "application/vnd.safetensors"})
    expected = post("models/calendar/predict", {"inputs": values.tolist(), "timestamps": iso(times)})
    np.testing.assert_allclose(given["prediction"]["values"], expected["prediction"]["values"], rtol=0, atol=1e-5)


def test_steps_of_a_session_have_their_times(post):
    times, values = ZONES["naive"], stated(9)
    session = post("sessions", {"model": "calendar"}, 201)["session_id"]
    streamed = []
    for first, stop in pairwise([0, 1, 4, 9]):
        step = {"inputs": values[first:stop].tolist(), "timestamps": iso(times[first:stop])}
        streamed += post(f"sessions/{session}/steps", step)["prediction"]["values"][0]
    whole = post("models/calendar/predict", {"inputs": values.tolist(), "timestamps": iso(times)})
    np.testing.assert_allclose(streamed, whole["prediction"]["values"][0], rtol=0, atol=1e-6)


def test_a_stored_trace_holds_the_derived_inputs(client, post):
    times, values = ZONES["leap day"], stated(9)
    body = {"model": "calendar", "inputs": values.tolist(), "timestamps": iso(times)}
    stored = client.get(f"/v1/traces/{post('traces', body, 201)['trace_id']}").json()
    np.testing.assert_allclose(stored["inputs"][0], full(values, times), rtol=1e-6, atol=1e-6)


def test_tensors_of_v2_carry_their_times_in_a_parameter(client, post):
    times, values = ZONES["autumn"], stated(9)
    tensor = {"name": "inputs", "shape": [1, 9, 2], "datatype": "FP64", "data": values.ravel().tolist()}
    body = {"inputs": [tensor], "parameters": {"timestamps": json.dumps([iso(times)])}}
    given = client.post("/v2/models/calendar/infer", json=body).json()["outputs"][0]["data"]
    expected = post("models/calendar/predict", {"inputs": values.tolist(), "timestamps": iso(times)})
    np.testing.assert_array_equal(given, np.ravel(expected["prediction"]["values"]))
    assert (
        "takes (batch, time, feature = 8)" in client.post("/v2/models/calendar/infer", json={"inputs": [tensor]}).text
    )


def table(zone, future=3, *, offsets=True):
    """A table whose last rows lack the load."""
    times, values = ZONES[zone], stated(9)
    frame = pd.DataFrame({"time": iso(times) if offsets else times, "rain": values[:, 1], "load": values[:, 0]})
    frame.loc[len(frame) - future :, "load"] = np.nan
    return frame, values, times


@pytest.mark.parametrize("kind", ["text/csv", "application/vnd.apache.parquet"])
@pytest.mark.parametrize("zone", ["spring", "autumn", "leap day", "months"])
def test_a_table_needs_no_calendar_columns(post, kind, zone):
    is_csv = kind == "text/csv"
    frame, values, times = table(zone, offsets=is_csv)
    content = frame.to_csv(index=False).encode() if is_csv else frame.to_parquet()
    if is_csv and len({time.utcoffset() for time in times}) > 1:  # a column of texts has no clock of its own
        refused = post("models/calendar/predict", content, 422, **{"Content-Type": kind})
        assert "moved to UTC, from which 'h', 'weekday'" in refused["detail"]
        return
    given = post("models/calendar/predict", content, **{"Content-Type": kind})
    future = [[None, *row[1:]] for row in full(values, times)[6:].tolist()]
    typed = {"inputs": full(values, times)[:6].tolist(), "horizon": 3, "future_inputs": future}
    expected = post("models/calendar/predict", typed)
    np.testing.assert_allclose(given["prediction"]["values"], expected["prediction"]["values"], rtol=0, atol=1e-5)
    assert [pd.Timestamp(each) for each in given["prediction"]["timestamps"][0]] == list(times[6:])


def test_a_table_may_have_all_calendar_columns_and_leaves_some_aside(post):
    times, values = ZONES["naive"], stated(9)
    expected = post("models/calendar/predict", {"inputs": values.tolist(), "timestamps": iso(times)})
    own = pd.DataFrame(full(values, times), columns=NAMES)
    for there in (NAMES, ["load", "rain", "month"]):
        content = own[there].assign(time=iso(times)).to_csv(index=False).encode()
        given = post("models/calendar/predict", content, **{"Content-Type": "text/csv"})
        np.testing.assert_allclose(given["prediction"]["values"], expected["prediction"]["values"], rtol=0, atol=1e-6)
        aside = [note["message"] for note in given["notes"] if "left aside" in note["message"]]
        assert len(aside) == (there != NAMES)
    for content in (own[["load", "rain"]], own[["load", "rain"]].assign(time=range(9))):
        sent = content.to_csv(index=False).encode()
        refused = post("models/calendar/predict", sent, 422, **{"Content-Type": "text/csv"})
        assert "from which 'h', 'weekday'" in refused["detail"]


def test_tables_are_read_alike_from_model_info_and_from_the_model(client, tmp_path):
    frame, _, times = table("west")
    frame.to_csv(tmp_path / "table.csv", index=False)
    info = client.get("/v1/models/calendar").json()
    body = read_body(tmp_path / "table.csv", info).sequences.request()
    reply = client.post("/v1/models/calendar/predict", json=body)
    sent = {"content": (tmp_path / "table.csv").read_bytes(), "headers": {"Content-Type": "text/csv"}}
    assert reply.json()["prediction"] == client.post("/v1/models/calendar/predict", **sent).json()["prediction"]
    assert body["timestamps"] == [iso(times)]


def test_a_backtest_follows_the_calendar(client, post):
    frame, values, times = table("west", future=0)
    sent = {"content": frame.to_csv(index=False), "headers": {"Content-Type": "text/csv"}}
    path = "/v1/models/calendar/backtest"
    derived = client.post(path, **sent, params={"horizon": 2, "start": 3, "stride": 2}).json()["predictions"]
    own = pd.DataFrame(full(values, times), columns=NAMES).assign(time=iso(times))
    sent = {"content": own.to_csv(index=False), "headers": {"Content-Type": "text/csv"}}
    typed = client.post(path, **sent, params={"horizon": 2, "start": 3, "stride": 2}).json()["predictions"]
    assert [row["time"] for row in derived] == [row["time"] for row in typed]
    np.testing.assert_allclose([row["predicted"] for row in derived], [row["predicted"] for row in typed], atol=1e-5)


REFUSED = {
    "no times": ({"timestamps": None}, "timestamps", "follow from the time of each step"),
    "numbers": ({"timestamps": list(range(9))}, "timestamps", "must be dates in ISO 8601"),
    "too few": ({"timestamps": iso(ZONES["naive"][:4])}, "timestamps", "4 entries for 9 time steps"),
    "irregular": (
        {"timestamps": iso(ZONES["naive"][:-1].append(ZONES["naive"][-1:] + pd.Timedelta("1min"))), "horizon": 2},
        "timestamps",
        "not equally far apart",
    ),
    "other width": ({"horizon": 1, "future_inputs": [[None] * 8]}, "future_inputs", "has 8 columns"),
    "no rain": ({"horizon": 1}, "future_inputs", "needs rain of each future step"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_tell_the_calendar_is_refused(post, case):
    changes, place, said = REFUSED[case]
    body = {"inputs": stated(9).tolist(), "timestamps": iso(ZONES["naive"])} | changes
    if case == "irregular":
        body["future_inputs"] = [[None, 1.0]] * 2
    (error,) = post("models/calendar/predict", {k: v for k, v in body.items() if v is not None}, 422)["errors"]
    assert error["loc"][1] == place
    assert said in error["msg"]


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ('calendar = "weekdy"', "did you mean 'weekday'?"),
        ('calendar = "hour", missing = "hold"', "cannot be missing"),
    ],
)
def test_a_calendar_that_means_nothing_is_refused_when_the_model_is_loaded(tmp_path, serve_models, feature, said):
    (tmp_path / "wrong" / "1").mkdir(parents=True)
    (tmp_path / "wrong" / "model.toml").write_text(MANIFEST % f'{{ name = "a", {feature} }}')
    save_file({"lstm.weight": torch.ones(1)}, tmp_path / "wrong" / "1" / "model.safetensors")
    with serve_models(tmp_path) as client:
        assert said in client.get("/v1/models/wrong").json()["reason"]
