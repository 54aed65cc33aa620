"""`POST …/backtest`: the same figures as the command line's, in parts that other requests come between."""

import io

import numpy as np
import pandas as pd
import pytest
import torch

from gatescope.server.api.schema.backtest_reply import BacktestReply
from gatescope.tables.backtest import Plan, backtest
from gatescope.tables.files import of_frame
from gatescope.tables.sequences import Wanted, interpret

PATH = "/v1/models/forecaster/backtest"


@pytest.fixture(scope="module")
def frame():
    steps = np.arange(60)
    times = pd.date_range("2024-01-01", periods=60, freq="h")
    return pd.DataFrame({"time": times, "level": 10 + np.sin(steps) + 0.1 * steps, "hour": steps % 24})


@pytest.fixture
def post(client):
    def post(frame, status=200, path=PATH, **query):
        headers = {"Content-Type": "text/csv"}
        reply = client.post(path, content=frame.to_csv(index=False), headers=headers, params=query)
        assert reply.status_code == status, reply.text
        return reply.json()

    return post


@pytest.mark.parametrize(
    "query", [{}, {"horizon": 6, "season": 24, "stride": 2, "window": 30}, {"horizon": 3, "start": 50}]
)
def test_it_is_the_backtest_of_the_library(post, client, frame, query):
    given = post(frame, **query)
    wanted = Wanted.of(client.get("/v1/models/forecaster").json())
    text = of_frame(frame.assign(time=frame["time"].astype(str)))
    expected = backtest(
        interpret(text, wanted),
        wanted,
        None,
        Plan(**query),
        lambda body: client.post("/v1/models/forecaster/predict", json=body).json(),
    )
    assert given["origins"] == expected.origins
    assert given["measures"]["model"] == pytest.approx(expected.model, rel=1e-5)
    assert given["measures"]["naive"] == pytest.approx(expected.baselines["naive"])
    assert ("seasonal_naive" in given["measures"]) == ("season" in query)
    np.testing.assert_allclose(
        [row["predicted"] for row in given["predictions"]], [row["predicted"] for row in expected.rows], rtol=1e-5
    )
    BacktestReply.model_validate(given)


def test_it_is_asked_in_parts_of_no_more_than_the_server_takes(serve_models, models_dir, post, frame):
    whole = post(frame, horizon=2, stride=1)
    with serve_models(models_dir, max_batch_steps=150) as small:
        headers = {"Content-Type": "text/csv"}
        query = {"horizon": 2, "stride": 1}
        reply = small.post(PATH, content=frame.to_csv(index=False), headers=headers, params=query)
    assert reply.status_code == 200, reply.text
    assert reply.json()["measures"]["model"] == pytest.approx(whole["measures"]["model"], rel=1e-5)


@pytest.mark.parametrize("lone", [True, False])
def test_a_predict_body_has_the_figures_of_the_same_table(client, post, frame, lone):
    query = {"horizon": 3, "season": 12, "stride": 2}
    expected = post(frame, **query)
    body = {"columns": ["hour", "level"], "timestamps": frame["time"].astype(str).tolist()}
    body |= {"inputs": frame[["hour", "level"]].to_numpy().tolist()}
    if not lone:
        body = {"columns": body["columns"]} | {name: [body[name]] for name in ("inputs", "timestamps")} | {"ids": ["a"]}
    reply = client.post(PATH, json=body, params=query)
    assert reply.status_code == 200, reply.text
    given = reply.json()
    for found, row in zip(given["predictions"], expected["predictions"], strict=True):
        assert (found["id"], pd.Timestamp(found["time"])) == (None if lone else "a", pd.Timestamp(row["time"]))
        assert found["predicted"] == pytest.approx(row["predicted"], rel=1e-5)
    assert given["measures"]["model"] == pytest.approx(expected["measures"]["model"], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "query", "loc"),
    [
        ({"horizon": 2}, {}, ["body", "horizon"]),
        ({"outputs": ["output"]}, {}, ["body", "outputs"]),
        ({"observed": {"level": [1.0]}}, {}, ["body", "observed", "level"]),
        ({"inputs": [[1.0, None]] * 4}, {}, ["body", "inputs", 0, 1]),
        ({}, {"map": "level=x"}, ["query", "map"]),
    ],
)
def test_what_does_not_go_with_a_predict_body_is_refused_with_its_place(client, change, query, loc):
    reply = client.post(PATH, json={"inputs": [[10.0, 1.0]] * 4} | change, params=query)
    assert reply.status_code == 422, reply.text
    assert reply.json()["errors"][0]["loc"] == loc


def test_gaps_and_what_was_filled_are_told(post, frame):
    frame = frame.copy()
    frame.loc[5, "hour"] = np.nan
    assert "line 7, column 'hour'" in post(frame, 422)["detail"]
    notes = post(frame, fill="hour=interpolate")["notes"]
    (filled,) = [note["message"] for note in notes if note["code"] == "filled"]
    assert filled.startswith("1 missing in 'hour'")


@pytest.mark.parametrize(
    ("query", "place", "said"),
    [
        ({"target": "price"}, "target", "no output 'price'"),
        ({"horizon": "0"}, "horizon", "1 or more"),
        ({"horizon": "-1"}, "horizon", "1 or more"),
        ({"stride": "two"}, "stride", "whole number"),
        ({"window": "99999999999"}, "window", "whole number"),
        ({"horizon": 40}, "start", "smaller window or horizon"),
        ({"horizen": 4}, "horizen", "did you mean 'horizon'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(post, frame, query, place, said):
    (error,) = post(frame, 422, **query)["errors"]
    assert error["loc"] == ["query", place]
    assert said in error["msg"]


def test_what_would_be_too_much_to_tell_is_refused(post):
    long = pd.DataFrame({"level": np.ones(3000), "hour": np.zeros(3000)})
    (error,) = post(long, 422, horizon=50, stride=1)["errors"]
    assert "take a larger stride" in error["msg"]


def test_a_model_that_is_no_regression_is_refused(client):
    reply = client.post("/v1/models/letters/backtest", content="a\n1\n", headers={"Content-Type": "text/csv"})
    assert reply.status_code == 422
    assert "a backtest takes a regression" in reply.text


def test_parquet_is_read_too(client, post, frame):
    written = io.BytesIO()
    frame.to_parquet(written)
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    reply = client.post(PATH, content=written.getvalue(), headers=headers)
    assert reply.json()["measures"] == post(frame)["measures"]


QUANTILES = """
format = 2
description = "two spreads"
input = {kind = "features", features = [{name = "a"}, {name = "b"}, {name = "c"}]}
layers = [{name = "lstm", type = "lstm"}, {name = "head.0", type = "linear"}]
heads = [{task = "quantile", names = ["low", "high"], quantiles = [0.1, 0.5, 0.9]}]
"""


def test_quantiles_have_a_pinball_loss_and_a_coverage(model_folder, serve_models):
    folder = model_folder(manifest=QUANTILES, head=(6,))
    rows = np.random.default_rng(1).normal(size=(40, 4))
    text = "a,b,c,high\n" + "\n".join(",".join(map(str, row)) for row in rows)
    with serve_models(folder.models_dir) as client:
        headers, query = {"Content-Type": "text/csv"}, {"target": "high", "window": 20, "horizon": 20}
        reply = client.post("/v1/models/tiny/backtest", content=text, headers=headers, params=query)
    assert reply.status_code == 200, reply.text
    given = reply.json()
    BacktestReply.model_validate(given)
    with torch.no_grad():
        predicted = folder.module(torch.tensor(rows[None, 20:, :3], dtype=torch.float32))[0, :, 3:].double().numpy()
    observed, measured = rows[20:, 3], given["measures"]["model"]
    np.testing.assert_allclose([each["quantiles"] for each in given["predictions"]], predicted, rtol=1e-5)
    assert (given["point"], given["quantiles"]) == ("median", [0.1, 0.5, 0.9])
    assert measured["mae"] == pytest.approx(np.abs(predicted[:, 1] - observed).mean(), rel=1e-5)
    missing = observed - predicted[:, 0]
    assert measured["pinball_0.1"] == pytest.approx(np.maximum(0.1 * missing, -0.9 * missing).mean(), rel=1e-5)
    inside = (predicted[:, 0] <= observed) & (observed <= predicted[:, 2])
    assert measured["coverage_0.8"] == pytest.approx(inside.mean())
    assert given["measures"]["naive"]["coverage_0.8"] is None
