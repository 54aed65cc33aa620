"""What clients get wrong: each a 4xx that names the place, and the server goes on."""

import json
import math

import pytest

GOOD = {"inputs": [[[1.0, 2.0, 3.0, 4.0, 5.0]]]}
STATE = {"hidden_state": [[[0.0] * 6]] * 2, "cell_state": [[[0.0] * 6]] * 2}


def step(**changed):
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    for index, value in changed.items():
        values[int(index[1:])] = value
    return values


BODIES = {
    "wrong width": (
        {"inputs": [[step()], [step()], [step()], [step()] * 17 + [[1.0, 2.0]]]},
        ["inputs", 3, 17],
        "time step has 2 features; model 'founding' takes 5",
    ),
    "ragged features": ({"inputs": [[step(), step()[:4]]]}, ["inputs", 0, 1], "has 4 features"),
    "one feature": ({"inputs": [[[1.0]]]}, ["inputs", 0, 0], "time step has 1 feature; model 'founding' takes 5"),
    "string": ({"inputs": [[step(_2="3.0")]]}, ["inputs", 0, 0, 2], "must be a number, not the string '3.0'"),
    "boolean": ({"inputs": [[step(_4=True)]]}, ["inputs", 0, 0, 4], "not true"),
    "null": ({"inputs": [[step(_0=None)]]}, ["inputs", 0, 0, 0], "not null"),
    "object": ({"inputs": [[step(_1={"a": 1})]]}, ["inputs", 0, 0, 1], "not an object"),
    "too large for float32": ({"inputs": [[step(_3=1e39)]]}, ["inputs", 0, 0, 3], "finite float32"),
    "huge integer": ({"inputs": [[step(_3=10**40)]]}, ["inputs", 0, 0, 3], "finite float32"),
    "too deep": ({"inputs": [[[step()]]]}, ["inputs", 0, 0], "time step has 1 feature"),
    "not nested": ({"inputs": [1.0, 2.0]}, ["inputs", 0], "must be a list of time steps, not 1.0"),
    "inputs no list": ({"inputs": "abc"}, ["inputs"], "must be a list of sequences"),
    "no sequences": ({"inputs": []}, ["inputs"], "inputs has no sequences"),
    "no time steps": ({"inputs": [[step()], []]}, ["inputs", 1], "sequence has no time steps"),
    "no features": ({"inputs": [[[]]]}, ["inputs", 0, 0], "time step has no features"),
    "nothing given": ({}, ["inputs"], "'inputs' is missing"),
    "unknown field": ({"inptus": [[step()]]}, ["inptus"], "unknown field 'inptus'; did you mean 'inputs'?"),
    "text for a model of features": ({"text": "hello"}, ["text"], "reads features, not text"),
    "unknown layout": (GOOD | {"layout": "time_major"}, ["layout"], "time_batch_feature"),
    "ragged with time first": (
        {"inputs": [[step(), step()], [step()]], "layout": "time_batch_feature"},
        ["inputs", 1],
        "time step has 1 sequence; the first one has 2",
    ),
    "state with the wrong number of layers": (
        GOOD | {"initial_state": STATE | {"hidden_state": [[[0.0] * 6]]}},
        ["initial_state", "hidden_state"],
        "takes 2",
    ),
    "state of the wrong width": (
        GOOD | {"initial_state": STATE | {"cell_state": [[[0.0] * 6], [[0.0] * 5]]}},
        ["initial_state", "cell_state", 1, 0],
        "has 5 cell units; model 'founding' takes 6",
    ),
    "state of another batch": (
        {"inputs": [[step()], [step()]], "initial_state": STATE},
        ["initial_state", "hidden_state"],
        "has a batch of 1, but there are 2 sequences",
    ),
    "half a state": (
        GOOD | {"initial_state": {"hidden_state": STATE["hidden_state"]}},
        ["initial_state", "cell_state"],
        "missing",
    ),
    "length beyond the padding": (GOOD | {"sequence_lengths": [2]}, ["sequence_lengths", 0], "lies outside 1 to 1"),
    "length of zero": (GOOD | {"sequence_lengths": [0]}, ["sequence_lengths", 0], "lies outside"),
    "length as a string": (GOOD | {"sequence_lengths": ["1"]}, ["sequence_lengths", 0], "integer"),
    "too many lengths": (GOOD | {"sequence_lengths": [1, 1]}, ["sequence_lengths"], "2 lengths for 1 sequences"),
    "lengths beside ragged inputs": (
        {"inputs": [[step(), step()], [step()]], "sequence_lengths": [2, 1]},
        ["sequence_lengths"],
        "rectangular",
    ),
    "unknown output": (GOOD | {"outputs": ["logits"]}, ["outputs", 0], "prediction"),
    "prediction without a head": (GOOD | {"outputs": ["prediction"]}, ["outputs", 0], "without a head"),
    "horizon without a head": (GOOD | {"horizon": 3}, ["horizon"], "no prediction that could run on"),
    "horizon of zero": (GOOD | {"horizon": 0}, ["horizon"], "greater than or equal to 1"),
    "a list as the body": ([[1.0]], [], "must be a JSON object"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_does_not_fit_is_refused_with_its_place(client, kind):
    body, place, message = BODIES[kind]
    reply = client.post("/v1/models/founding/predict", json=body)
    problem = reply.json()
    assert (reply.status_code, problem["title"], problem["status"]) == (422, "InvalidInput", 422)
    assert reply.headers["content-type"] == "application/problem+json"
    assert problem["errors"][0]["loc"] == ["body", *place]
    assert message in problem["errors"][0]["msg"]
    assert client.post("/v1/models/founding/predict", json=GOOD).status_code == 200


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused_with_their_place(client, number):
    body = b'{"inputs": [[[1, 2, 3, 4, ' + number.encode() + b"]]]}"
    reply = client.post("/v1/models/founding/predict", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["loc"] == ["body", "inputs", 0, 0, 4]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"inputs": [[[1, 2, 3, 4, 5,]]]}', b"\xff\xfe", b"[" * 5000, b'{"inputs": ' + b"[" * 100_000],
    ids=["empty", "cut", "comma", "not utf-8", "deep", "very deep"],
)
def test_what_is_not_json_is_refused(client, body):
    reply = client.post("/v1/models/founding/predict", content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["title"]) == (400, "InvalidJSON")


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_another_media_type_is_refused(client, media_type):
    headers = {"Content-Type": media_type} if media_type else {}
    reply = client.post("/v1/models/founding/predict", content=json.dumps(GOOD).encode(), headers=headers)
    assert (reply.status_code, reply.json()["title"]) == (415, "UnsupportedMediaType")
    assert "application/json" in reply.json()["detail"]


def test_json_with_a_charset_is_json(client):
    headers = {"Content-Type": "application/json; charset=utf-8"}
    reply = client.post("/v1/models/founding/predict", content=json.dumps(GOOD).encode(), headers=headers)
    assert reply.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "title", "detail"),
    [
        ("POST", "/v1/models/foundin/predict", 404, "ModelNotFound", "did you mean 'founding'?"),
        ("POST", "/v1/models/founding/versions/9/predict", 404, "VersionNotFound", "has no version '9'; it has 1"),
        ("POST", "/v1/models/contradicting/predict", 503, "ModelUnavailable", "hidden_size = 7"),
        ("GET", "/v1/models/foundin", 404, "ModelNotFound", "did you mean 'founding'?"),
        ("GET", "/v1/models/founding/versions/9", 404, "VersionNotFound", "it has 1"),
        ("GET", "/v1/models/founding/predict", 405, "MethodNotAllowed", "does not take GET"),
        ("GET", "/nowhere", 404, "NotFound", "/docs lists every route"),
        ("POST", "/v1/models/..%2f..%2fetc/predict", 404, None, ""),
    ],
)
def test_what_is_not_there_is_a_problem_too(client, method, path, status, title, detail):
    reply = client.request(method, path, json=GOOD if method == "POST" else None)
    problem = reply.json()
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert title in (None, problem["title"])
    assert detail in problem["detail"]


@pytest.mark.parametrize(
    ("model", "body", "place", "message"),
    [
        ("letters", {"text": "abz"}, ["text"], "character 'z' at position 2"),
        ("letters", {"text": ["ab", ""]}, ["text", 1], "no tokens"),
        ("letters", {"text": []}, ["text"], "no sequences"),
        ("letters", {"text": "a", "inputs": [[0]]}, ["text"], "not both"),
        ("letters", {"inputs": [[0, 4]]}, ["inputs", 0, 1], "token id 4 is outside the vocabulary"),
        ("letters", {"inputs": [[-1]]}, ["inputs", 0, 0], "outside the vocabulary"),
        ("letters", {"inputs": [[0.5]]}, ["inputs", 0, 0], "whole number"),
        ("letters", {"inputs": [[2**70]]}, ["inputs", 0, 0], "must be a token id"),
        ("letters", {"text": "a", "sequence_lengths": [1]}, ["sequence_lengths"], "not beside 'text'"),
        ("letters", {"text": "a", "horizon": 2, "future_inputs": [[[1]]]}, ["future_inputs"], ""),
        ("ids", {"text": "1 2"}, ["text"], "model 'ids' reads token ids, not text: give 'inputs'"),
        ("ids", {"inputs": [[6]]}, ["inputs", 0, 0], "token id 6 is outside the vocabulary"),
        ("ids", {}, ["inputs"], "'inputs' is missing"),
        ("river", {"inputs": [[[1.0, 8.0]]]}, ["inputs", 0, 0, 1], "'gauge' is 8; the model knows 7, 9"),
        ("river", {"inputs": [[[1.0, 7]]], "horizon": 1}, ["future_inputs"], "needs rain, gauge of each future step"),
        (
            "river",
            {"inputs": [[[1.0, 7]]], "horizon": 1, "future_inputs": [[None, 7]]},
            ["future_inputs", 0, 0],
            "'rain' is null",
        ),
        (
            "forecaster",
            {"inputs": [[1.0, 7]], "horizon": 2, "future_inputs": [[None, 7]]},
            ["future_inputs"],
            "has 1 steps, but the horizon is 2",
        ),
        ("forecaster", {"inputs": [[1.0, 7]], "future_inputs": [[None, 7]]}, ["future_inputs"], "goes with 'horizon'"),
        ("mood", {"text": "sun", "horizon": 1}, ["horizon"], "classification"),
    ],
)
def test_fields_that_do_not_suit_the_model_are_refused(client, model, body, place, message):
    reply = client.post(f"/v1/models/{model}/predict", json=body)
    assert reply.status_code == 422, reply.text
    error = reply.json()["errors"][0]
    assert error["loc"] == ["body", *place]
    assert message in error["msg"]


def test_many_errors_are_told_at_once_but_not_thousands(client):
    reply = client.post("/v1/models/founding/predict", json={"inputs": [[["x"] * 5] * 1000]})
    assert 1 < len(reply.json()["errors"]) <= 10


def test_a_body_larger_than_the_server_takes_is_refused(serve):
    with serve(max_body_bytes=1000) as client:
        reply = client.post("/v1/models/founding/predict", json={"inputs": [[step()] * 100]})
        chunked = client.post(
            "/v1/models/founding/predict",
            content=(b"x" * 600 for _ in range(3)),
            headers={"Content-Type": "application/json"},
        )
        assert client.post("/v1/models/founding/predict", json=GOOD).status_code == 200
    for refused in (reply, chunked):
        assert (refused.status_code, refused.json()["title"]) == (413, "BodyTooLarge")
        assert "1,000 bytes" in refused.json()["detail"]


def test_sequences_and_batches_have_a_largest_size(serve):
    with serve(max_time_steps=10, max_batch_steps=20) as client:
        long = client.post("/v1/models/founding/predict", json={"inputs": [[step()], [step()] * 11]})
        ahead = client.post("/v1/models/letters/predict", json={"text": "abc", "horizon": 8})
        padded = client.post("/v1/models/founding/predict", json={"inputs": [[step()]] * 9 + [[step()] * 10]})
    assert long.json()["errors"][0]["loc"] == ["body", "inputs", 1]
    assert "11 time steps; this server takes at most 10" in long.json()["detail"]
    assert "8 of the horizon" in ahead.json()["detail"]
    assert "100 steps; this server takes at most 20" in padded.json()["detail"]


def test_a_nan_inside_a_reply_never_breaks_it(call):
    reply = call("founding/predict", {"inputs": [[3e38] * 5, [-3e38] * 5]})
    assert all(value is None or math.isfinite(value) for row in reply.output[0] for value in row)
