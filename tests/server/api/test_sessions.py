"""`/v1/sessions`, over HTTP and over a WebSocket."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from safetensors.numpy import load, save
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gatescope.pipeline.pipeline import Pipeline
from tests.server.api.helpers import count, until

pytestmark = pytest.mark.usefixtures("on_device")

SAFETENSORS = "application/vnd.safetensors"
ROWS = [[10.0 + hour % 3, float(hour % 24)] for hour in range(12)]


@pytest.fixture
def opened(client):
    """A session of the forecaster, by name."""
    reply = client.post("/v1/sessions", json={"model": "forecaster"})
    assert reply.status_code == 201, reply.text
    yield reply.json()["session_id"]
    client.delete(f"/v1/sessions/{reply.json()['session_id']}")


def take(client, name, rows, **fields):
    return client.post(f"/v1/sessions/{name}/steps", json={"inputs": rows} | fields)


def whole(call, **fields):
    return call("forecaster/predict", {"inputs": ROWS} | fields)


def title(reply):
    return reply.status_code, reply.json()["title"]


def test_opening_says_what_there_is(client):
    reply = client.post("/v1/sessions", json={"model": "forecaster", "version": "1", "session_id": "mine"})
    assert reply.status_code == 201
    assert reply.headers["Location"] == "/v1/sessions/mine"
    told = reply.json()
    assert (told["session_id"], told["model"]) == ("mine", {"name": "forecaster", "version": "1"})
    assert (told["steps"], told["time_steps"]) == (0, 0)
    assert told["expires_at"] - told["created_at"] == pytest.approx(3600)
    assert abs(told["created_at"] - time.time()) < 60
    assert client.get("/v1/sessions/mine").json() == told
    assert told in client.get("/v1/sessions").json()["sessions"]
    assert title(client.post("/v1/sessions", json={"model": "forecaster", "session_id": "mine"})) == (
        409,
        "SessionExists",
    )
    ended = client.delete("/v1/sessions/mine")
    assert (ended.status_code, ended.content) == (204, b"")
    assert title(client.delete("/v1/sessions/mine")) == (404, "SessionNotFound")


def test_chunks_give_the_numbers_of_the_whole(client, call, opened):
    expected = whole(call, outputs=["prediction", "output", "final_state"])
    values, output = [], []
    for start, stop in ((0, 1), (1, 6), (6, 12)):
        reply = take(client, opened, ROWS[start:stop], outputs=["prediction", "output"]).json()
        values += reply["prediction"]["values"][0]
        output += reply["output"][0]
    assert values == pytest.approx(np.array(expected.prediction["values"][0]), abs=1e-6)
    assert np.array(output) == pytest.approx(np.array(expected.output[0]), abs=1e-6)
    assert (reply["session_id"], reply["steps"], reply["sequence_lengths"]) == (opened, 3, [6])
    state = client.get(f"/v1/sessions/{opened}/state").json()
    for name, numbers in expected.final_state.items():
        assert np.array(state[name]) == pytest.approx(np.array(numbers), abs=1e-6)


def test_text_is_streamed_as_it_comes(client, call):
    client.post("/v1/sessions", json={"model": "letters", "session_id": "text"})
    whole = call("letters/predict", {"text": "abc cab"})
    values = []
    for part in ("ab", "c", " cab"):
        reply = client.post("/v1/sessions/text/steps", json={"text": part}).json()
        assert reply["tokens"] == [list(part)]
        values += reply["prediction"]["values"][0]
    assert np.array(values) == pytest.approx(np.array(whole.prediction["values"][0]), abs=1e-6)
    client.delete("/v1/sessions/text")


def test_a_step_comes_with_its_trace(client, call, opened):
    expected = call("forecaster/trace", {"inputs": ROWS})
    take(client, opened, ROWS[:5])
    reply = take(
        client, opened, ROWS[5:], trace={"signals": ["cell_state"], "units": "0:3", "time": {"step": 2}}
    ).json()
    traced = reply["trace"]
    assert traced["axes"] == ["batch", "layer", "direction", "time", "unit"]
    assert (traced["units"], traced["time_steps"]) == ([0, 1, 2], [0, 2, 4, 6])
    cell = np.array(expected.signals["cell_state"])[:, :, :, 5::2, :3]
    assert np.array(traced["signals"]["cell_state"]) == pytest.approx(cell, abs=2e-6)
    assert traced["residual"] < 1e-6
    assert reply["prediction"]["values"][0] == pytest.approx(np.array(expected.prediction["values"][0])[5:], abs=1e-6)


def test_in_safetensors_there_and_back(client, call, opened):
    expected = whole(call)
    body = save({"inputs": np.array(ROWS, dtype=np.float32)}, {"trace": json.dumps({"signals": ["forget_gate"]})})
    headers = {"Content-Type": SAFETENSORS, "Accept": SAFETENSORS}
    reply = client.post(f"/v1/sessions/{opened}/steps", content=body, headers=headers)
    assert reply.headers["content-type"] == SAFETENSORS
    arrays = load(reply.content)
    assert arrays["prediction.values"] == pytest.approx(np.array(expected.prediction["values"]), abs=1e-6)
    assert arrays["trace.signals.forget_gate"].shape == (1, 1, 1, 12, 8)


def test_a_stream_begins_and_goes_on_where_it_is_told(client, call, opened):
    state = whole(call, outputs=["final_state"]).final_state
    opening = {"model": "forecaster", "session_id": "elsewhere", "initial_state": state}
    assert client.post("/v1/sessions", json=opening).status_code == 201
    moved = client.put(f"/v1/sessions/{opened}/state", json=state)
    assert (moved.status_code, moved.json()["session_id"]) == (200, opened)
    expected = call("forecaster/predict", {"inputs": [[11.0, 3.0]], "initial_state": state}).prediction["values"]
    for name in (opened, "elsewhere"):
        assert take(client, name, [[11.0, 3.0]]).json()["prediction"]["values"] == expected
    client.delete("/v1/sessions/elsewhere")


def test_a_numbered_step_is_taken_once(client, opened):
    first = take(client, opened, ROWS[:2], step_number=0).json()
    again = take(client, opened, ROWS[:2], step_number=0).json()
    assert again == first
    assert title(take(client, opened, ROWS[:1], step_number=0)) == (409, "StepConflict")
    assert title(take(client, opened, ROWS[:1], step_number=5)) == (409, "StepConflict")
    assert client.get(f"/v1/sessions/{opened}").json()["steps"] == 1


def test_concurrent_steps_of_one_session_are_taken_one_after_another(client, call, opened):
    with ThreadPoolExecutor(8) as pool:
        steps = list(pool.map(lambda _: take(client, opened, [[10.0, 0.0]]).json(), range(24)))
    assert sorted(step["steps"] for step in steps) == list(range(1, 25))
    expected = call("forecaster/predict", {"inputs": [[10.0, 0.0]] * 24}).prediction["values"][0]
    ordered = [step["prediction"]["values"][0][0] for step in sorted(steps, key=lambda step: step["steps"])]
    assert np.array(ordered) == pytest.approx(np.array(expected), abs=1e-5)


class TestRefused:
    @pytest.mark.parametrize(
        ("body", "loc", "said"),
        [
            ({}, ["body", "model"], "'model' is missing"),
            ({"model": 3}, ["body", "model"], "must be the name of a model"),
            ({"model": "both-ways"}, ["body", "model"], "is bidirectional"),
            ({"model": "mood"}, ["body", "model"], "from all steps of a sequence at once"),
            ({"model": "forecaster", "session_id": "a/b"}, ["body", "session_id"], "must be 1 to 128 letters"),
            ({"model": "forecaster", "sesion_id": "a"}, ["body", "sesion_id"], "did you mean 'session_id'?"),
            ({"model": "forecaster", "version": 1}, ["body", "version"], "valid string"),
            (
                {
                    "model": "forecaster",
                    "initial_state": {"hidden_state": [[[0.0] * 8] * 2], "cell_state": [[[0.0] * 8] * 2]},
                },
                ["body", "initial_state", "hidden_state"],
                "has a batch of 2, but a session is one stream",
            ),
            (
                {"model": "forecaster", "initial_state": {"hidden_state": [[[0.0] * 7]], "cell_state": [[[0.0] * 8]]}},
                ["body", "initial_state", "hidden_state", 0, 0],
                "takes 8",
            ),
        ],
    )
    def test_openings(self, client, body, loc, said):
        reply = client.post("/v1/sessions", json=body)
        assert reply.status_code == 422
        assert reply.json()["errors"][0]["loc"] == loc
        assert said in reply.json()["errors"][0]["msg"]

    @pytest.mark.parametrize(
        ("fields", "loc", "said"),
        [
            ({"inputs": [ROWS[:1], ROWS[:1]]}, ["body", "inputs"], "there are 2 sequences; a session is one stream"),
            ({"inputs": [[1.0]]}, ["body", "inputs", 0], "1 feature; model 'forecaster' takes 2"),
            ({"inputs": []}, ["body", "inputs"], "no sequences"),
            ({"inputs": ROWS, "trace": {"units": [99]}}, ["body", "trace", "units", 0], "this model has 0 to 7"),
            ({"inputs": ROWS, "trace": {"unit": [0]}}, ["body", "trace", "unit"], "did you mean 'units'?"),
            ({"inputs": ROWS, "step_number": -1}, ["body", "step_number"], "greater than or equal to 0"),
            (
                {"inputs": ROWS, "initial_state": {"hidden_state": [[[0.0] * 8]], "cell_state": [[[0.0] * 8]]}},
                ["body", "initial_state"],
                "begins where the session stands",
            ),
        ],
    )
    def test_steps(self, client, opened, fields, loc, said):
        reply = client.post(f"/v1/sessions/{opened}/steps", json=fields)
        assert reply.status_code == 422, reply.text
        assert reply.json()["errors"][0]["loc"] == loc
        assert said in reply.json()["errors"][0]["msg"]
        assert client.get(f"/v1/sessions/{opened}").json()["steps"] == 0

    def test_a_session_that_is_not_there(self, client):
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/steps"), ("GET", "/state"), ("PUT", "/state")):
            body = {"json": {"inputs": ROWS}} if method in ("POST", "PUT") else {}
            assert title(client.request(method, f"/v1/sessions/none{path}", **body)) == (404, "SessionNotFound")

    def test_a_state_of_several_streams(self, client, opened):
        state = {"hidden_state": [[[0.0] * 8] * 2], "cell_state": [[[0.0] * 8] * 2]}
        reply = client.put(f"/v1/sessions/{opened}/state", json=state)
        assert (reply.status_code, reply.json()["errors"][0]["loc"]) == (422, ["body", "hidden_state"])

    def test_more_sessions_than_are_kept(self, serve):
        with serve(max_sessions=1) as client:
            assert client.post("/v1/sessions", json={"model": "forecaster"}).status_code == 201
            refused = client.post("/v1/sessions", json={"model": "forecaster"})
            assert title(refused) == (429, "TooManySessions")
            assert int(refused.headers["Retry-After"]) >= 1

    def test_one_that_was_idle(self, serve):
        with serve(session_idle_timeout_s=0.05) as client:
            name = client.post("/v1/sessions", json={"model": "forecaster"}).json()["session_id"]
            time.sleep(0.1)
            assert title(take(client, name, ROWS)) == (404, "SessionNotFound")

    def test_a_store_that_is_away(self, serve, redis_server):
        with serve(session_store=redis_server.url) as client:
            name = client.post("/v1/sessions", json={"model": "forecaster"}).json()["session_id"]
            first = take(client, name, ROWS[:3], step_number=0).json()
            redis_server.stop()
            refused = take(client, name, ROWS[3:], step_number=1)
            assert title(refused) == (503, "StoreUnavailable")
            assert "does not answer" in refused.json()["detail"]
            assert client.post("/v1/models/forecaster/predict", json={"inputs": ROWS}).status_code == 200
            redis_server.start()
            assert title(take(client, name, ROWS[3:], step_number=1)) == (
                404,
                "SessionNotFound",
            )  # it forgot everything
            again = client.post("/v1/sessions", json={"model": "forecaster"}).json()["session_id"]
            assert take(client, again, ROWS[:3]).json()["prediction"] == first["prediction"]


@pytest.fixture
def url(client):
    """Of the WebSocket of a session."""
    return lambda name, server=client: str(server.base_url).replace("http", "ws") + f"/v1/sessions/{name}/stream"


class TestStream:
    def test_one_message_in_one_out_as_text_and_as_bytes(self, client, call, opened, url):
        expected = np.array(whole(call).prediction["values"])
        with connect(url(opened)) as stream:
            stream.send(json.dumps({"inputs": ROWS[:5]}))
            first = json.loads(stream.recv())
            assert np.array(first["prediction"]["values"]) == pytest.approx(expected[:, :5], abs=1e-6)
            stream.send(save({"inputs": np.array(ROWS[5:], dtype=np.float32)}))
            assert load(stream.recv())["prediction.values"] == pytest.approx(expected[:, 5:], abs=1e-6)
        assert client.get(f"/v1/sessions/{opened}").json()["steps"] == 2

    def test_messages_that_are_sent_ahead_are_answered_in_order(self, opened, url):
        with connect(url(opened)) as stream:
            for row in ROWS:
                stream.send(json.dumps({"inputs": [row]}))
            assert [json.loads(stream.recv())["steps"] for _ in ROWS] == list(range(1, len(ROWS) + 1))

    @pytest.mark.parametrize(
        ("message", "title"),
        [
            ("{", "InvalidJSON"),
            ("[]", "InvalidInput"),
            ('{"inputs": [[1.0]]}', "InvalidInput"),
            (b"", "InvalidInput"),
            (b"\xff" * 40, "InvalidInput"),
            (save({"outputs": np.zeros(2, dtype=np.float32)}), "InvalidInput"),
            (save({"inputs": np.zeros((2, 3), dtype=np.float32)}), "InvalidInput"),
            (save({"inputs": np.zeros((2, 2), dtype=np.float32)}, {"outputs": "["}), "InvalidInput"),
        ],
    )
    def test_what_is_wrong_is_said_and_the_stream_goes_on(self, opened, url, message, title):
        with connect(url(opened)) as stream:
            stream.send(message)
            problem = json.loads(stream.recv())
            assert problem["title"] == title
            assert problem["detail"]
            stream.send(json.dumps({"inputs": ROWS}))
            assert json.loads(stream.recv())["steps"] == 1

    def test_when_the_session_ends_it_is_closed(self, client, opened, url):
        with connect(url(opened)) as stream:
            client.delete(f"/v1/sessions/{opened}")
            stream.send(json.dumps({"inputs": ROWS}))
            assert json.loads(stream.recv())["title"] == "SessionNotFound"
            with pytest.raises(ConnectionClosed) as closed:
                stream.recv()
            assert closed.value.rcvd.code == 4404

    def test_a_session_that_is_not_there_has_none(self, url):
        with pytest.raises(InvalidStatus) as refused:
            connect(url("none")).close()
        assert refused.value.response.status_code == 404
        assert json.loads(refused.value.response.body)["title"] == "SessionNotFound"

    def test_it_needs_a_key_where_the_server_has_keys(self, serve, url):
        with serve(api_keys=("secret",)) as client:
            headers = {"Authorization": "Bearer secret"}
            opened = client.post("/v1/sessions", json={"model": "forecaster"}, headers=headers).json()["session_id"]
            with pytest.raises(InvalidStatus) as refused:
                connect(url(opened, client)).close()
            assert refused.value.response.status_code == 401
            with connect(url(opened, client), additional_headers=headers) as stream:
                stream.send(json.dumps({"inputs": ROWS}))
                assert json.loads(stream.recv())["steps"] == 1

    def test_a_page_of_somebody_else_may_not_open_it(self, client, opened, url):
        with pytest.raises(InvalidStatus) as refused:
            connect(url(opened), origin="https://example.org").close()
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body)["title"] == "ForeignOrigin"
        with connect(url(opened), origin=str(client.base_url)) as stream:
            stream.send(json.dumps({"inputs": ROWS}))
            assert json.loads(stream.recv())["steps"] == 1


class TestSafetensorsBody:
    """A predict request as a safetensors file."""

    def post(self, client, arrays, metadata=None, path="forecaster/predict", accept="application/json"):
        headers = {"Content-Type": SAFETENSORS, "Accept": accept}
        return client.post(f"/v1/models/{path}", content=save(arrays, metadata), headers=headers)

    def test_is_answered_as_in_json(self, client, call):
        rows = np.array([ROWS, ROWS[::-1]], dtype=np.float32)
        given = {"inputs": rows, "sequence_lengths": np.array([12, 5])}
        reply = self.post(client, given, {"outputs": json.dumps(["prediction", "output"])})
        expected = call("forecaster/predict", {"inputs": [ROWS, ROWS[::-1][:5]], "outputs": ["prediction", "output"]})
        assert reply.json()["prediction"] == expected.prediction
        assert reply.json()["output"] == expected.output

    def test_with_a_state_and_a_horizon(self, client, call):
        state = {
            "hidden_state": np.full((1, 1, 8), 0.5, np.float32),
            "cell_state": np.full((1, 1, 8), -0.5, np.float32),
        }
        future = np.array([[[np.nan, 3.0], [12.0, 4.0]]], dtype=np.float32)
        arrays = {"inputs": np.array(ROWS, np.float32), "future_inputs": future}
        arrays |= {f"initial_state.{name}": value for name, value in state.items()}
        expected = call(
            "forecaster/predict",
            {
                "inputs": ROWS,
                "horizon": 2,
                "future_inputs": [[[None, 3.0], [12.0, 4.0]]],
                "initial_state": {name: value.tolist() for name, value in state.items()},
            },
        )
        assert self.post(client, arrays, {"horizon": "2"}).json()["prediction"] == expected.prediction

    def test_with_token_ids(self, client, call):
        expected = call("ids/predict", {"inputs": [[1, 2, 3]]})
        reply = self.post(client, {"inputs": np.array([[1, 2, 3]])}, path="ids/predict")
        assert reply.json()["prediction"] == expected.prediction

    def test_the_reply_has_every_array_under_its_path(self, client, call):
        metadata = {"outputs": json.dumps(["prediction", "output", "final_state"])}
        arrays = {"inputs": np.array([ROWS, ROWS], np.float32), "sequence_lengths": np.array([12, 4])}
        reply = self.post(client, arrays, metadata, accept=SAFETENSORS)
        given = load(reply.content)
        assert set(given) == {
            "sequence_lengths",
            "prediction.values",
            "output",
            "final_state.hidden_state",
            "final_state.cell_state",
        }
        expected = call("forecaster/predict", {"inputs": [ROWS, ROWS[:4]], "outputs": ["prediction", "output"]})
        assert given["prediction.values"][0].tolist() == np.float32(expected.prediction["values"][0]).tolist()
        assert given["prediction.values"][1, :4].tolist() == np.float32(expected.prediction["values"][1]).tolist()
        assert np.isnan(given["prediction.values"][1, 4:]).all()
        assert given["sequence_lengths"].tolist() == [12, 4]
        size = int.from_bytes(reply.content[:8], "little")
        about = json.loads(reply.content[8 : 8 + size])["__metadata__"]
        assert json.loads(about["model"]) == {"name": "forecaster", "version": "1", "verified": False}
        assert [note["code"] for note in json.loads(about["notes"])] == ["unverified"]

    @pytest.mark.parametrize(
        ("arrays", "loc", "said"),
        [
            ({"inputs": np.zeros((1, 3, 5), np.float32)}, ["body", "inputs"], "5 features; model 'forecaster' takes 2"),
            ({"inputs": np.zeros((1, 1, 3, 2), np.float32)}, ["body", "inputs"], "its axes are (batch, time, feature)"),
            ({"inputs": np.zeros((1, 0, 2), np.float32)}, ["body", "inputs"], "has 0 time steps"),
            ({"inputs": np.full((1, 3, 2), np.nan, np.float32)}, ["body", "inputs", 0, 0, 0], "finite float32"),
            ({"inputs": np.full((1, 3, 2), 1e300)}, ["body", "inputs", 0, 0, 0], "finite float32"),
            ({"inputs": np.zeros((1, 3, 2), np.uint8)}, ["body"], "'inputs' holds U8"),
            ({"values": np.zeros((1, 3, 2), np.float32)}, ["body"], "holds a tensor 'values'"),
            ({}, ["body", "inputs"], "'inputs' is missing"),
        ],
    )
    def test_what_does_not_fit_is_named(self, client, arrays, loc, said):
        reply = self.post(client, arrays)
        assert reply.status_code == 422
        assert reply.json()["errors"][0]["loc"] == loc
        assert said in reply.json()["errors"][0]["msg"]

    @pytest.mark.parametrize(
        ("ids", "said"),
        [(np.array([[1, 6]]), "token id 6 is outside"), (np.array([[0.5]], np.float32), "whole numbers")],
    )
    def test_token_ids_are_checked(self, client, ids, said):
        reply = self.post(client, {"inputs": ids}, path="ids/predict")
        assert reply.status_code == 422
        assert said in reply.json()["detail"]

    def test_a_file_that_lies_about_itself_is_refused(self, client):
        good = save({"inputs": np.array([ROWS], np.float32)})
        for bad in (good[:-1], good + b"x", b"\xff" * 8 + good[8:], b"", good[:20]):
            reply = client.post("/v1/models/forecaster/predict", content=bad, headers={"Content-Type": SAFETENSORS})
            assert (reply.status_code, reply.json()["errors"][0]["loc"]) == (422, ["body"])


def test_openapi_describes_the_sessions(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths["/v1/sessions/{session_id}"]) == {"get", "delete"}
    step = paths["/v1/sessions/{session_id}/steps"]["post"]
    assert step["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/StepRequest")
    assert SAFETENSORS in step["requestBody"]["content"]
    assert set(step["responses"]["200"]["content"]) == {"application/json", SAFETENSORS}


def test_a_client_that_leaves_while_its_step_waits_has_not_taken_it(client, opened, monkeypatch):
    answer, is_over, route = Pipeline.answer, threading.Event(), "/v1/sessions/{session_id}/steps"
    monkeypatch.setattr(Pipeline, "answer", lambda self, query: is_over.wait(20) and answer(self, query))
    before = count(client, 499, route)
    with pytest.raises(httpx.ReadTimeout):
        client.post(f"/v1/sessions/{opened}/steps", json={"inputs": ROWS}, timeout=0.2)
    until(lambda: count(client, 499, route) == before + 1)
    is_over.set()
    assert take(client, opened, ROWS[:1]).json()["steps"] == 1
