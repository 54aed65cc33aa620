"""Requests made to hurt: large, deep, strange or broken off. Each gets a small answer, and the server goes on."""

import re
import socket
import time

import orjson
import pytest

STEP = "[1,2,3,4,5]"
GOOD = {"inputs": [[1.0, 2.0, 3.0, 4.0, 5.0]]}
PREDICT = "/v1/models/founding/predict"
LONG = "9" * 5000


def many(item, count):
    return ",".join([item] * count)


def fields(count):
    return ",".join(f'"f{index}":1' for index in range(count))


NULLS = many("[null]", 70_000)

LARGE = {
    "unknown fields": ("founding", f"{{{fields(20_000)}}}", ["f0"]),
    "unknown fields in a field": ("founding", f'{{"inputs":[{STEP}],"time":{{{fields(20_000)}}}}}', ["time", "f0"]),
    "a field with a long name": ("founding", f'{{"{"x" * 2_000_000}":1}}', ["x" * 64 + "…"]),
    "numbers as text": ("letters", f'{{"text":[{many("1", 200_000)}]}}', ["text", 0]),
    "a number behind many texts": ("letters", f'{{"text":[{many(chr(34) * 2, 200_000)},1]}}', ["text", 200_000]),
    "empty texts": ("letters", f'{{"text":[{many(chr(34) * 2, 200_000)}]}}', ["text", 0]),
    "outputs": ("founding", f'{{"inputs":[{STEP}],"outputs":[{many(chr(34) + "a" + chr(34), 200_000)}]}}', ["outputs"]),
    "layers": ("founding", f'{{"inputs":[{STEP}],"layers":[{many("0", 200_000)}]}}', ["layers"]),
    "layers that are none": ("founding", f'{{"inputs":[{STEP}],"layers":[{many("null", 200_000)}]}}', ["layers", 0]),
    "units": ("founding", f'{{"inputs":[{STEP}],"units":[{many("1", 200_000)}]}}', ["units"]),
    "a unit that is none": (
        "founding",
        f'{{"inputs":[{STEP}],"units":[{many("1", 200_000)},"a"]}}',
        ["units", 200_000],
    ),
    "lengths": (
        "founding",
        f'{{"inputs":[{STEP}],"sequence_lengths":[{many("null", 200_000)}]}}',
        ["sequence_lengths", 0],
    ),
    "wrong at the end": ("founding", f'{{"inputs":[[{many(STEP, 90_000)},[1,2,3,4,"5"]]]}}', ["inputs", 0, 90_000, 4]),
    "NaN at the end": ("founding", f'{{"inputs":[[{many(STEP, 90_000)},[1,2,3,4,NaN]]]}}', ["inputs", 0, 90_000, 4]),
    "narrow at the end": ("founding", f'{{"inputs":[{many(f"[{STEP}]", 90_000)},[[1]]]}}', ["inputs", 90_000, 0]),
    "no category at the end": ("river", f'{{"inputs":[{many("[[1,7]]", 90_000)},[[1,8]]]}}', ["inputs", 90_000, 0, 1]),
    "no token at the end": ("letters", f'{{"inputs":[[{many("1", 90_000)},4]]}}', ["inputs", 0, 90_000]),
    "too many sequences": ("founding", f'{{"inputs":[{many("[[null]]", 200_001)}]}}', ["inputs"]),
    "too many time steps": ("founding", f'{{"inputs":[[{many("[null]", 100_001)}]]}}', ["inputs", 0]),
    "too many in all": ("founding", f'{{"inputs":[{many(f"[{NULLS}]", 3)}]}}', ["inputs"]),
    "a wide step": ("founding", f'{{"inputs":[[[{many("null", 1_000_000)}]]]}}', ["inputs", 0, 0]),
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_body_with_something_wrong_gets_a_small_answer(client, kind):
    model, body, place = LARGE[kind]
    reply = client.post(f"/v1/models/{model}/trace", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 422, reply.text[:500]
    assert len(reply.content) < 4000
    assert len(reply.json()["errors"]) <= 10
    assert reply.json()["errors"][0]["loc"] == ["body", *place]


@pytest.mark.parametrize(
    ("model", "body", "status", "message"),
    [
        ("letters", r'{"text": "\ud800"}', 400, "not JSON"),
        ("letters", r'{"text": "\ud800", "x": NaN}', 400, "not JSON"),
        ("letters", b'{"text": "\xed\xa0\x80", "x": NaN}', 400, "not JSON"),
        ("founding", f'{{"inputs": [[[1, 2, 3, {"9" * 400}, NaN]]]}}', 422, "inputs.0.0.3: must be a finite float32"),
        ("founding", f'{{"inputs": [[[1, 2, 3, 4, {LONG}]]]}}', 422, "inputs.0.0.4: must be a finite float32"),
        ("founding", f'{{"inputs": [{STEP}], "horizon": {LONG}}}', 422, "horizon"),
        ("founding", f'{{"inputs": [{STEP}], "units": "0:{LONG}"}}', 422, 'a slice such as "0:16"'),
        ("founding", f'{{"inputs": [{STEP}], "time": {{"start": {LONG}}}}}', 422, "time.start"),
        ("forecaster", '{"inputs": [[1, 2]], "horizon": 1, "future_inputs": [[NaN, 3]]}', 422, "not nan"),
    ],
)
def test_numbers_and_letters_that_nothing_can_hold_are_refused(client, model, body, status, message):
    reply = client.post(f"/v1/models/{model}/trace", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    assert message in reply.json()["detail"]


def test_a_deadline_of_thousands_of_digits_is_refused(client):
    reply = client.post(PREDICT, json=GOOD, headers={"X-Request-Timeout-Ms": LONG})
    assert reply.status_code == 422
    assert len(reply.content) < 500


def test_a_compressed_body_is_refused_by_name(client):
    reply = client.post(PREDICT, json=GOOD, headers={"Content-Encoding": "gzip"})
    assert (reply.status_code, reply.json()["title"]) == (415, "UnsupportedMediaType")
    assert "gzip" in reply.json()["detail"]
    assert client.post(PREDICT, json=GOOD, headers={"Content-Encoding": "identity"}).status_code == 200


def test_a_client_that_leaves_during_its_upload_is_no_error(serve):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with serve() as client:
        with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
            connection.sendall(head.encode() + b'{"inputs":')
            time.sleep(0.2)
        count = 'gatescope_requests_total{method="POST",route="/v1/models/{name}/predict",status="499"} 1.0'
        deadline = time.monotonic() + 10
        while count not in client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert 'status="500"' not in client.get("/metrics").text


@pytest.mark.parametrize(
    ("model", "body", "place"),
    [
        ("founding", {"inputs": [[1, 2, 3, 4, 5], [1, 2, 3, 4, "5"]]}, ["inputs", 1, 4]),
        ("founding", {"inputs": [[1, 2, 3, 4, 5], [1, 2]]}, ["inputs", 1]),
        ("river", {"inputs": [[1, 7], [1, 8]]}, ["inputs", 1, 1]),
        ("river", {"inputs": [[[1, 7]], [[1, 7], [1, 9], [1, 8]]]}, ["inputs", 1, 2, 1]),
        (
            "river",
            {"inputs": [[[1, 7], [1, 7]], [[1, 7], [1, 8]], [[1, 7], [1, 7]]], "layout": "time_batch_feature"},
            ["inputs", 1, 1, 1],
        ),
        (
            "river",
            {"inputs": [[[1, 7], [1, 7]], [[1, 7], [1, 7]], [[1, 8], [1, 7]]], "layout": "time_batch_feature"},
            ["inputs", 2, 0, 1],
        ),
        ("river", {"inputs": [[1, 7]], "horizon": 2, "future_inputs": [[1, 7], [1, None]]}, ["future_inputs", 1, 1]),
        ("river", {"inputs": [[1, 7]], "horizon": 2, "future_inputs": [[1, 7], [1, 8]]}, ["future_inputs", 1, 1]),
        ("river", {"inputs": [[1, 7]], "horizon": 1, "future_inputs": [[[1, None]]]}, ["future_inputs", 0, 0, 1]),
        ("letters", {"inputs": [0, 4]}, ["inputs", 1]),
        ("letters", {"text": "abz"}, ["text"]),
        ("letters", {"text": ["abz"]}, ["text", 0]),
        ("letters", {"text": ""}, ["text"]),
        ("letters", {"text": 5}, ["text"]),
        ("letters", {"text": ["a", None]}, ["text", 1]),
        ("founding", GOOD | {"units": ["a"]}, ["units", 0]),
        ("founding", GOOD | {"units": 3}, ["units"]),
    ],
)
def test_a_place_leads_to_what_was_sent(client, model, body, place):
    reply = client.post(f"/v1/models/{model}/trace", json=body)
    assert reply.status_code == 422
    assert [error["loc"] for error in reply.json()["errors"]] == [["body", *place]]


def test_sequences_too_long_are_placed_where_they_were_sent(serve):
    with serve(max_time_steps=2) as client:
        alone = client.post("/v1/models/letters/predict", json={"text": "abc"})
        listed = client.post("/v1/models/letters/predict", json={"text": ["a", "abc"]})
        inputs = client.post("/v1/models/letters/predict", json={"inputs": [0, 1, 2]})
    locs = [reply.json()["errors"][0]["loc"] for reply in (alone, listed, inputs)]
    assert locs == [["body", "text"], ["body", "text", 1], ["body", "inputs"]]


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ({"time": {"strat": 1}}, "did you mean 'start'?"),
        ({"time": {"qqq": 1}}, "known are start, step, stop"),
        ({"initial_state": {"hiden_state": []}}, "did you mean 'hidden_state'?"),
    ],
)
def test_an_unknown_field_in_a_field_is_told_the_names_there(client, body, hint):
    reply = client.post("/v1/models/founding/trace", json=GOOD | body)
    assert reply.status_code == 422
    assert hint in reply.json()["errors"][0]["msg"]


def test_an_empty_text_has_no_tokens(client):
    assert "the text has no tokens" in client.post("/v1/models/letters/predict", json={"text": ""}).json()["detail"]


def test_a_horizon_may_go_without_its_prediction(call):
    body = {"inputs": [[10.0, 0.0], [11.0, 1.0]], "horizon": 2, "future_inputs": [[None, 2.0], [None, 3.0]]}
    with_it = call("forecaster/predict", body | {"outputs": ["prediction", "output"]})
    without = call("forecaster/predict", body | {"outputs": ["output"]})
    assert without.output == with_it.output
    assert len(without.output[0]) == 4
    assert not hasattr(without, "prediction")


def test_a_page_of_another_origin_can_read_an_unforeseen_error(serve, monkeypatch):
    from gatescope.pipeline.pipeline import Pipeline  # noqa: PLC0415

    def fail(self, query):
        raise RuntimeError

    with serve(cors_origins=("https://a.example",)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Pipeline, "answer", fail)
            reply = client.post(PREDICT, json=GOOD, headers={"Origin": "https://a.example"})
        assert 'status="500"} 1.0' in client.get("/metrics").text
    assert reply.status_code == 500
    assert reply.headers["access-control-allow-origin"] == "https://a.example"
    exposed = reply.headers["access-control-expose-headers"]
    assert {name.strip() for name in exposed.split(",")} == {"X-Request-ID", "Retry-After"}
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/founding", "/health/live", "/metrics", "/openapi.json"])
def test_whatever_can_be_got_has_a_head(client, path):
    reply = client.head(path)
    assert (reply.status_code, reply.content) == (200, b"")
    assert int(reply.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/models", "GET, HEAD"),
        (PREDICT, "POST"),
        ("/v1/models/founding", "GET, HEAD, PUT"),
        ("/v1/sessions", "GET, HEAD, POST"),
        ("/v1/sessions/one/state", "GET, HEAD, PUT"),
        ("/v1/traces/one", "DELETE, GET, HEAD"),
        ("/v2/models/founding/infer", "POST"),
        ("/", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_told_all_that_it_takes(client, path, allowed):
    reply = client.patch(path)
    assert reply.status_code == 405
    assert ", ".join(sorted(reply.headers["allow"].split(", "))) == allowed


def test_no_path_is_redirected_to_another(client):
    reply = client.get("/v1/models/")
    assert (reply.status_code, reply.json()["title"]) == (404, "NotFound")


def test_a_version_stands_in_the_path_alone(client):
    document = orjson.loads(client.get("/openapi.json").content)
    for path, methods in document["paths"].items():
        for operation in (operation for method, operation in methods.items() if method != "put"):
            named = {item["name"]: item for item in operation["parameters"] if item.get("in") == "path"}
            assert named.keys() == set(re.findall(r"{(\w+)}", path))
            assert all(item["schema"]["type"] == "string" for item in named.values())
            in_query = {item["name"] for item in operation["parameters"] if item.get("in") == "query"}
            assert "version" not in in_query or "model" in in_query  # an upload says all of it there
    assert client.get("/v1/models/founding", params={"version": "9"}).json()["version"] == "1"


def test_the_document_describes_headers_keys_and_what_is_no_json(client):
    document = client.get("/openapi.json").json()
    assert document["components"]["parameters"].keys() == {"X-Request-ID", "X-Request-Timeout-Ms"}
    assert {"type": "apiKey", "in": "header", "name": "X-API-Key"}.items() <= document["components"]["securitySchemes"][
        "key"
    ].items()
    predict = document["paths"]["/v1/models/{name}/predict"]["post"]["parameters"]
    assert {"$ref": "#/components/parameters/X-Request-Timeout-Ms"} in predict
    assert "pos-tagger" in predict[0]["examples"]
    assert document["paths"]["/metrics"]["get"]["responses"]["200"]["content"].keys() == {"text/plain"}
    assert not any("head" in methods for methods in document["paths"].values())
    future = document["components"]["schemas"]["PredictRequest"]["properties"]["future_inputs"]
    assert {"batch × step × feature", "step × feature"} <= {choice.get("title") for choice in future["anyOf"]}
