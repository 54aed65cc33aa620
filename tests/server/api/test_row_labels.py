"""Times, ids and measured values of sequences: checked, told again, and carried on to what predictions are for."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from gatescope.tables.further_times import carried_on

DAYS = ["2001-10-01", "2001-10-02", "2001-10-03"]
HOURS = ["2001-10-01T00:00:00+02:00", "2001-10-01T01:00:00+02:00", "2001-10-01T02:00:00+02:00"]
ROWS = [[10.0, 0.0], [11.0, 1.0], [12.0, 2.0]]


def ask(client, status=200, what="predict", model="forecaster", **fields):
    reply = client.post(f"/v1/models/{model}/{what}", json={"inputs": [ROWS]} | fields)
    assert reply.status_code == status, reply.text
    return reply.json()


def test_they_are_told_again(client):
    observed = {"level": [[10.5, None, 12.5]]}
    told = ask(client, timestamps=[DAYS], ids=["a"], observed=observed)
    assert (told["timestamps"], told["ids"], told["observed"]) == ([DAYS], ["a"], observed)


def test_they_change_no_number(client):
    plain = ask(client)["prediction"]["values"]
    assert ask(client, timestamps=DAYS, ids=["a"])["prediction"]["values"] == plain


def test_a_prediction_of_the_next_step_is_of_the_next_time(client):
    assert ask(client, timestamps=[DAYS])["prediction"]["timestamps"] == [["2001-10-02", "2001-10-03", "2001-10-04"]]
    hours = ask(client, timestamps=[HOURS])["prediction"]["timestamps"][0]
    assert hours[-1] == "2001-10-01T03:00:00+02:00"
    assert ask(client, timestamps=[[1, 2.5, 4]])["prediction"]["timestamps"] == [[2.5, 4, 5.5]]


def test_a_horizon_carries_them_on(client):
    told = ask(client, timestamps=[DAYS], horizon=2, future_inputs=[[None, 3.0], [None, 4.0]])
    assert told["prediction"]["timestamps"] == [["2001-10-04", "2001-10-05"]]
    assert told["timestamps"] == [[*DAYS, "2001-10-04", "2001-10-05"]]


def test_the_times_of_further_steps_may_be_stated(client):
    stated = [*DAYS, "2001-10-05", "2001-10-08"]
    further = {"horizon": 2, "future_inputs": [[None, 3.0], [None, 4.0]]}
    told = ask(client, timestamps=[stated], **further)
    assert (told["timestamps"], told["prediction"]["timestamps"]) == ([stated], [stated[3:]])
    (error,) = ask(client, 422, timestamps=[stated[:4]], **further)["errors"]
    assert "4 entries for 3 time steps" in error["msg"]


@pytest.mark.parametrize(
    ("known", "further"),
    [
        (["2001-01-31", "2001-02-28", "2001-03-31"], ["2001-04-30", "2001-05-31"]),
        (["2001-07-01", "2001-08-01", "2001-09-01"], ["2001-10-01", "2001-11-01"]),
        (["1999-02-28", "2000-02-29"], ["2001-02-28", "2002-02-28"]),
        (["2001-01-04", "2001-02-01", "2001-03-01"], ["2001-03-29", "2001-04-26"]),  # four weeks
        (["2001-10-15T06:00:00Z", "2001-11-15T06:00:00Z"], ["2001-12-15T06:00:00+00:00", "2002-01-15T06:00:00+00:00"]),
        (["9999-12-30", "9999-12-31"], []),
        (["9999-11-30", "9999-12-31"], []),
    ],
)
def test_times_are_carried_on_by_months_where_they_are_months_apart(known, further):
    assert carried_on(known, 2) == further


def test_one_time_alone_tells_no_next_one(client):
    told = ask(client, inputs=[ROWS[:1]], timestamps=[["2001-10-01"]])
    assert "timestamps" not in told["prediction"]


def test_traces_and_stored_traces_tell_them(client):
    assert ask(client, what="trace", timestamps=[DAYS], ids=["a"])["ids"] == ["a"]
    body = {"model": "forecaster", "inputs": [ROWS], "timestamps": [DAYS], "ids": ["a"]}
    stored = client.post("/v1/traces", json=body)
    assert stored.status_code == 201, stored.text
    told = client.get(f"/v1/traces/{stored.json()['trace_id']}").json()
    assert (told["ids"], told["timestamps"]) == (["a"], [DAYS])


def test_a_streamed_trace_tells_them_in_its_first_line(client):
    headers = {"Accept": "application/x-ndjson"}
    reply = client.post("/v1/models/forecaster/trace", json={"inputs": [ROWS], "ids": ["a"]}, headers=headers)
    assert json.loads(reply.text.splitlines()[0])["ids"] == ["a"]


def test_binary_bodies_and_replies_have_them_as_text(client, tmp_path):
    body = save({"inputs": np.array([ROWS])}, metadata={"ids": '["a"]', "timestamps": json.dumps([DAYS])})
    kind = "application/vnd.safetensors"
    for number in (1, 2):  # the second may not be read by a template of the first
        reply = client.post(
            "/v1/models/forecaster/predict", content=body, headers={"Content-Type": kind, "Accept": kind}
        )
        (tmp_path / f"{number}").write_bytes(reply.content)
        with safe_open(tmp_path / f"{number}", "numpy") as file:
            assert json.loads(file.metadata()["ids"]) == ["a"]


def test_a_session_tells_them_with_each_step(client):
    name = client.post("/v1/sessions", json={"model": "forecaster"}).json()["session_id"]
    reply = client.post(f"/v1/sessions/{name}/steps", json={"inputs": ROWS, "timestamps": DAYS})
    assert reply.status_code == 200, reply.text
    assert reply.json()["timestamps"] == [DAYS]


@pytest.mark.parametrize(
    ("fields", "loc", "message"),
    [
        ({"ids": ["a", "b"]}, ["ids"], "2 ids for 1 sequence"),
        ({"timestamps": [DAYS[:2]]}, ["timestamps", 0], "2 entries for 3 time steps"),
        ({"timestamps": [DAYS, DAYS]}, ["timestamps"], "2 lists for 1 sequence"),
        ({"timestamps": [[DAYS[0], DAYS[0], DAYS[1]]]}, ["timestamps", 0, 1], "must come behind 2001-10-01"),
        ({"timestamps": [DAYS[::-1]]}, ["timestamps", 0, 1], "must come behind 2001-10-03"),
        ({"timestamps": [[*DAYS[:2], "soon"]]}, ["timestamps", 0, 2], "'soon' is no time in ISO 8601"),
        ({"timestamps": [[*DAYS[:2], 3]]}, ["timestamps"], "texts and numbers"),
        ({"timestamps": [["2001-10-01T00:00", *HOURS[1:]]]}, ["timestamps", 0], "some have a time zone"),
        ({"timestamps": [[1, True, 3]]}, ["timestamps", 0, 1], "a text in ISO 8601 or a number"),
        ({"observed": {"levels": [[1, 2, 3]]}}, ["observed", "levels"], "did you mean 'level'"),
        ({"observed": {"level": [[1, 2]]}}, ["observed", "level", 0], "2 entries for 3 time steps"),
        ({"observed": {"level": [[1, "x", 3]]}}, ["observed", "level", 0, 1], "must be a number, or null"),
    ],
)
def test_what_does_not_fit_is_refused_at_its_place(client, fields, loc, message):
    (error,) = ask(client, 422, **fields)["errors"]
    assert error["loc"] == ["body", *loc]
    assert message in error["msg"]


def test_an_id_that_stands_there_twice_is_refused(client):
    (error,) = ask(client, 422, inputs=[ROWS, ROWS], ids=["a", "a"])["errors"]
    assert (error["loc"], error["msg"]) == (["body", "ids", 1], "'a' stands there twice")
