"""`sampling` in requests, and tokens streamed as they are drawn, against a real uvicorn."""

import json
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors import safe_open
from websockets.sync.client import connect

from gatescope.pipeline.pipeline import Pipeline
from gatescope.pipeline.sampling import Sampler
from tests.server.api.helpers import count, until

pytestmark = pytest.mark.usefixtures("on_device")

EVENTS = {"Accept": "text/event-stream"}
SAFETENSORS = {"Accept": "application/vnd.safetensors"}
LETTERS = "/v1/models/letters/predict"
SAMPLING = {"temperature": 0.9, "top_k": 3, "top_p": 0.95, "seed": 5}


def predict(client, body, model="letters", **arguments):
    reply = client.post(f"/v1/models/{model}/predict", json=body, **arguments)
    assert reply.status_code == 200, reply.text
    return reply.json()


def refused(client, body, model="letters", **arguments):
    """What is wrong with a body, and where."""
    reply = client.post(f"/v1/models/{model}/predict", json=body, **arguments)
    assert (reply.status_code, reply.json()["title"]) == (422, "InvalidInput"), reply.text
    return [(error["loc"], error["msg"]) for error in reply.json()["errors"]]


def events_of(text):
    """Each event's name and data."""
    parts = [part.split("\n") for part in text.split("\n\n") if part]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in parts]


class TestFields:
    def test_the_manifest_gives_what_a_request_leaves_out_and_all_is_echoed(self, client):
        plain = predict(client, {"text": "ab", "horizon": 20})
        assert plain["sampling"] == {"temperature": 0.8, "top_k": None, "top_p": None, "seed": 3}
        same = predict(client, {"text": "ab", "horizon": 20, "sampling": {"temperature": 0.8, "seed": 3}})
        assert same == plain
        other = predict(client, {"text": "ab", "horizon": 20, "sampling": {"seed": 4}})
        assert other["sampling"] == plain["sampling"] | {"seed": 4}
        assert other["prediction"]["text"] != plain["prediction"]["text"]
        echoed = predict(client, {"text": "ab", "horizon": 20, "sampling": other["sampling"]})
        assert echoed == other

    def test_each_seed_writes_another_text_and_the_same_one_each_time(self, client):
        def text(seed):
            body = {"text": "a", "horizon": 30, "sampling": {"temperature": 1.5, "seed": seed}}
            return predict(client, body)["prediction"]["text"][0]

        assert len({text(seed) for seed in (*range(8), 2**32 - 1)}) == 9
        assert text(7) == text(7)

    def test_a_row_writes_the_same_text_in_any_batch_and_horizon(self, client):
        texts = ["abc", "b", "ca ac"]
        together = predict(client, {"text": texts, "horizon": 30, "sampling": SAMPLING})["prediction"]["text"]
        for text, whole in zip(texts, together, strict=True):
            alone = predict(client, {"text": text, "horizon": 12, "sampling": SAMPLING})["prediction"]["text"][0]
            assert alone == whole[:12]

    def test_a_temperature_of_zero_is_greedy(self, client, networks):
        network, ids = networks["letters"], [0, 1]
        with torch.no_grad():
            for _ in range(10):
                one_hot = torch.nn.functional.one_hot(torch.tensor([ids]), 4).float()
                ids.append(int(network.head(network.lstm(one_hot)[0])[0, -1].argmax()))
        told = predict(client, {"text": "ab", "horizon": 10, "sampling": {"temperature": 0, "top_k": 2}})
        assert told["prediction"]["text"] == ["".join("abc "[index] for index in ids[2:])]

    def test_only_the_likeliest_are_drawn(self, client):
        body = {"text": "ab", "horizon": 200, "sampling": {"temperature": 2.0, "top_k": 2}}
        told = predict(client, body)["prediction"]
        ranks = [sorted(values, reverse=True) for values in told["values"][0]]
        drawn = [
            values["abc ".index(label)] for values, label in zip(told["values"][0], told["labels"][0], strict=True)
        ]
        assert all(score >= ranked[1] for score, ranked in zip(drawn, ranks, strict=True))
        assert any(score < ranked[0] for score, ranked in zip(drawn, ranks, strict=True))

    def test_samples_are_told_and_the_other_fields_show_the_first(self, client):
        body = {"text": ["ab", "c"], "horizon": 15, "outputs": ["prediction", "output", "final_state"]}
        one = predict(client, body | {"sampling": SAMPLING})
        told = predict(client, body | {"sampling": SAMPLING | {"samples": 3}})
        samples = told["prediction"].pop("samples")
        assert [len(each) for each in samples] == [3, 3]
        assert told["prediction"]["text"] == one["prediction"]["text"] == [each[0]["text"] for each in samples]
        assert (told["tokens"], told["sequence_lengths"]) == (one["tokens"], one["sequence_lengths"])
        np.testing.assert_allclose(told["output"][0], one["output"][0], atol=1e-6)
        for each in samples:
            assert len({sample["text"] for sample in each}) == 3
            assert all("".join(sample["tokens"]) == sample["text"] for sample in each)
            assert {sample["finish_reason"] for sample in each} == {"length"}

    @pytest.mark.parametrize("stop", [["c", " "], ["ca"], ["bb", "a "]])
    def test_a_text_ends_with_a_stop(self, client, stop):
        body = {"text": ["ab", "c", "bb"], "horizon": 60}
        sampling = {"temperature": 1.5, "seed": 9, "samples": 4}
        free = predict(client, body | {"sampling": sampling})["prediction"]["samples"]
        told = predict(client, body | {"sampling": sampling | {"stop": stop}})
        for row, samples in enumerate(free):
            for sample, whole in enumerate(samples):
                ends = [at + len(each) for each in stop if (at := whole["text"].find(each)) >= 0]
                written = told["prediction"]["samples"][row][sample]
                assert written["text"] == (whole["text"][: min(ends)] if ends else whole["text"])
                assert written["finish_reason"] == ("stop" if ends else "length")
            first = told["prediction"]["samples"][row][0]
            assert told["prediction"]["finish_reason"][row] == first["finish_reason"]
            assert len(told["prediction"]["values"][row]) == len(first["tokens"])
            assert told["sequence_lengths"][row] == len(body["text"][row]) + len(first["tokens"])
            assert "".join(told["tokens"][row]) == body["text"][row] + first["text"]

    def test_a_model_of_ids_stops_at_token_ids(self, client):
        body = {"inputs": [[1, 2]], "horizon": 40, "sampling": {"temperature": 2.0, "seed": 1, "stop": [4, 0]}}
        told = predict(client, body, "ids")["prediction"]
        assert told["finish_reason"] == ["stop"]
        assert told["labels"][0][-1] in ("4", "0")
        assert not {"4", "0"} & set(told["labels"][0][:-1])
        assert "text" not in told

    def test_every_format_tells_the_samples_and_the_seed(self, client, tmp_path):
        body = {"text": ["ab", "c"], "horizon": 9, "sampling": SAMPLING | {"samples": 2, "stop": ["a"]}}
        plain = predict(client, body)
        (tmp_path / "reply").write_bytes(client.post(LETTERS, json=body, headers=SAFETENSORS).content)
        with safe_open(tmp_path / "reply", "np") as file:
            told = {name: json.loads(text) for name, text in file.metadata().items()}
            values = file.get_tensor("prediction.values")
        assert told["sampling"] == plain["sampling"]
        assert told["prediction"]["samples"] == plain["prediction"]["samples"]
        for row, expected in enumerate(plain["prediction"]["values"]):
            np.testing.assert_array_equal(values[row, : len(expected)], np.float32(expected))
            assert np.isnan(values[row, len(expected) :]).all()
        traced = client.post("/v1/models/letters/trace", json=body, headers={"Accept": "application/x-ndjson"})
        header, *_, end = map(json.loads, traced.text.splitlines())
        assert header["sampling"] == plain["sampling"]
        assert header["tokens"] == plain["tokens"]
        assert end["prediction"]["samples"] == plain["prediction"]["samples"]

    def test_a_stored_trace_covers_what_was_written_before_the_stop(self, client):
        body = {"text": "ab", "horizon": 60, "sampling": SAMPLING | {"stop": ["a"]}}
        length = predict(client, body)["sequence_lengths"][0]
        assert length < 62
        told = client.post("/v1/traces", json={"model": "letters"} | body).json()
        assert told["shape"][3] == length
        values = client.get(f"/v1/traces/{told['trace_id']}/values", params={"signals": "cell_state"}).json()
        traced = client.post("/v1/models/letters/trace", json=body | {"signals": ["cell_state"]}).json()
        np.testing.assert_allclose(values["signals"]["cell_state"], traced["signals"]["cell_state"], atol=1e-6)
        explained = {"trace_id": told["trace_id"], "time_step": length - 1, "unit": 0}
        reply = client.post("/v1/models/letters/explain", json=explained)
        assert reply.status_code == 200, reply.text
        assert reply.json()["residual"] < 1e-6


class TestRefusals:
    @pytest.mark.parametrize(
        ("sampling", "place", "message"),
        [
            ({"temperature": -0.1}, ["temperature"], "greater than or equal to 0"),
            ({"temperature": "hot"}, ["temperature"], "valid number"),
            ({"temperature": True}, ["temperature"], "valid number"),
            ({"top_k": 0}, ["top_k"], "greater than or equal to 1"),
            ({"top_k": 1.5}, ["top_k"], "valid integer"),
            ({"top_p": 0}, ["top_p"], "greater than 0"),
            ({"top_p": 1.01}, ["top_p"], "less than or equal to 1"),
            ({"seed": -1}, ["seed"], "greater than or equal to 0"),
            ({"seed": 2**32}, ["seed"], "less than or equal to 4294967295"),
            ({"samples": 0}, ["samples"], "greater than or equal to 1"),
            ({"samples": 129}, ["samples"], "less than or equal to 128"),
            ({"stop": "a"}, ["stop"], "must be a list of texts, or of token ids"),
            ({"stop": ["a"] * 17}, ["stop"], "has 17 entries; there may be 16"),
            ({"stop": [""]}, ["stop", 0], "has 0 characters"),
            ({"stop": ["a", 1.5]}, ["stop", 1], "must be a text or a token id"),
            ({"stop": ["a", 1]}, ["stop", 1], "must be a text, not 1: the model writes text"),
            ({"stop": ["a", "ax"]}, ["stop", 1], "'x' is not in the model's vocabulary, so it can never be written"),
            ({"temprature": 1}, ["temprature"], "did you mean 'temperature'?"),
        ],
    )
    def test_a_wrong_field_is_told_at_its_place(self, client, sampling, place, message):
        ((loc, told),) = refused(client, {"text": "ab", "horizon": 3, "sampling": sampling})
        assert loc == ["body", "sampling", *place]
        assert message in told

    @pytest.mark.parametrize("stop", [[6], ["4"], [-1]])
    def test_a_model_of_ids_takes_its_ids_alone(self, client, stop):
        body = {"inputs": [[1]], "horizon": 3, "sampling": {"stop": stop}}
        ((loc, told),) = refused(client, body, "ids")
        assert loc == ["body", "sampling", "stop", 0]
        assert "token id" in told

    def test_what_draws_no_tokens_takes_no_sampling(self, client):
        rows = [[10.0, 1.0]]
        ((loc, told),) = refused(client, {"inputs": rows, "sampling": {}}, "forecaster")
        assert (loc, "its task is regression" in told) == (["body", "sampling"], True)
        ((loc, told),) = refused(client, {"inputs": [[1.0] * 5], "sampling": {}}, "founding")
        assert (loc, "it has no head" in told) == (["body", "sampling"], True)
        ((loc, told),) = refused(client, {"text": "ab", "sampling": {}})
        assert (loc, "goes with 'horizon'" in told) == (["body", "sampling"], True)

    def test_samples_count_as_rows_and_as_bytes(self, serve):
        body = {"text": "ab", "horizon": 98, "sampling": {"samples": 11}}
        with serve(max_batch_steps=1000) as client:
            ((loc, told),) = refused(client, body)
            assert loc == ["body", "sampling", "samples"]
            assert "1 sequences of up to 100 time steps (with 98 of the horizon), 11 samples each, make" in told
            predict(client, body | {"sampling": {"samples": 10}})
        with serve(max_trace_bytes=4096) as client:
            predict(client, body | {"sampling": {"samples": 1}})
            reply = client.post(LETTERS, json=body)
            assert (reply.status_code, reply.json()["title"]) == (413, "ReplyTooLarge")

    def test_a_stream_is_of_tokens(self, client):
        ((loc, told),) = refused(client, {"text": "ab"}, headers=EVENTS)
        assert (loc, "give a 'horizon'" in told) == (["body", "horizon"], True)
        ((loc, told),) = refused(client, {"inputs": [[10.0, 1.0]]}, "forecaster", headers=EVENTS)
        assert (loc, "model 'forecaster' writes none" in told) == (["body", "horizon"], True)


class TestEvents:
    def test_the_tokens_come_and_then_the_reply(self, client):
        body = {"text": ["ab", "c"], "horizon": 20, "sampling": SAMPLING | {"samples": 2, "stop": ["a "]}}
        reply = client.post(LETTERS, json=body, headers=EVENTS)
        assert (reply.status_code, reply.headers["content-type"]) == (200, "text/event-stream")
        *tokens, (last, done) = events_of(reply.text)
        assert (last, done) == ("done", predict(client, body))
        assert {name for name, _ in tokens} == {"token"}
        steps = [token["step"] for _, token in tokens]
        assert steps == sorted(steps)
        for row, samples in enumerate(done["prediction"]["samples"]):
            for sample, written in enumerate(samples):
                own = [each for _, each in tokens if (each["sequence"], each["sample"]) == (row, sample)]
                assert [each["token"] for each in own] == written["tokens"]
                assert "".join(each["text"] for each in own) == written["text"]
                assert [each.get("finish_reason") for each in own[-2:]] == [None, written["finish_reason"]]

    def test_json_is_preferred_where_the_client_prefers_it(self, client):
        accept = {"Accept": "application/json, text/event-stream;q=0.5"}
        assert "json" in client.post(LETTERS, json={"text": "ab", "horizon": 2}, headers=accept).headers["content-type"]

    def test_an_error_before_the_first_token_is_a_problem(self, client, monkeypatch):
        def fail(self, query):
            raise RuntimeError("the secret inside")

        with monkeypatch.context() as patch:
            patch.setattr(Pipeline, "answer", fail)
            reply = client.post(LETTERS, json={"text": "ab", "horizon": 2}, headers=EVENTS)
        assert (reply.status_code, reply.json()["title"]) == (500, "InternalError")
        reply = client.post("/v1/models/nothing/predict", json={"text": "ab", "horizon": 2}, headers=EVENTS)
        assert (reply.status_code, reply.json()["title"]) == (404, "ModelNotFound")

    def test_a_deadline_after_the_first_token_is_an_error_event(self, client, slow):
        with slow(0.02):
            headers = EVENTS | {"X-Request-Timeout-Ms": "400"}
            reply = client.post(LETTERS, json={"text": "ab", "horizon": 500}, headers=headers)
        assert reply.status_code == 200
        *tokens, (last, problem) = events_of(reply.text)
        assert len(tokens) > 3
        assert {name for name, _ in tokens} == {"token"}
        assert (last, problem["title"], problem["status"]) == ("error", "DeadlineExceeded", 504)

    def test_an_unforeseen_error_after_the_first_token_is_an_error_event(self, client, monkeypatch):
        original = Pipeline.answer

        def fail(self, query):
            original(self, query)
            raise RuntimeError("the secret inside")

        with monkeypatch.context() as patch:
            patch.setattr(Pipeline, "answer", fail)
            reply = client.post(LETTERS, json={"text": "ab", "horizon": 3}, headers=EVENTS)
        *tokens, (last, problem) = events_of(reply.text)
        assert len(tokens) == 3
        assert (last, problem["title"]) == ("error", "InternalError")
        assert "secret" not in reply.text

    def test_tokens_come_while_others_are_still_to_be_drawn(self, client, slow):
        body = {"text": "ab", "horizon": 40}
        with slow(0.02), client.stream("POST", LETTERS, json=body, headers=EVENTS) as reply:
            began = time.monotonic()
            lines = reply.iter_lines()
            first = [next(lines), next(lines)]
            waited = time.monotonic() - began
            rest = list(lines)
        assert first[0] == "event: token"
        assert waited < 0.4 < time.monotonic() - began  # 40 steps take at least 0.8 s
        assert sum(line == "event: token" for line in rest) == 39

    def test_a_client_that_leaves_frees_the_computation(self, client, slow):
        with slow(0.02) as steps:
            with client.stream("POST", LETTERS, json={"text": "ab", "horizon": 5000}, headers=EVENTS) as reply:
                next(reply.iter_lines())
            until(lambda: count(client, 200) and _is_idle(client))
            drawn = len(steps)
            time.sleep(0.2)
            assert len(steps) == drawn < 500
        assert predict(client, {"text": "ab", "horizon": 2})

    def test_the_document_describes_the_events_and_its_example_works(self, client):
        document = client.get("/openapi.json").json()
        content = document["paths"]["/v1/models/{name}/predict"]["post"]["responses"]["200"]["content"]
        assert content["text/event-stream"]["schema"]["type"] == "string"
        examples = document["components"]["schemas"]["PredictRequest"]["examples"]
        (example,) = (each for each in examples if "sampling" in each)
        assert document["components"]["schemas"]["SamplingRequest"]["properties"].keys() == example["sampling"].keys()


class TestSessions:
    @pytest.fixture
    def opened(self, client):
        name = client.post("/v1/sessions", json={"model": "letters"}).json()["session_id"]
        yield name
        client.delete(f"/v1/sessions/{name}")

    @pytest.fixture
    def url(self, client, opened):
        return str(client.base_url).replace("http", "ws") + f"/v1/sessions/{opened}/stream"

    def test_a_step_writes_and_the_stream_goes_on_behind_its_inputs(self, client, opened):
        path = f"/v1/sessions/{opened}/steps"
        step = client.post(path, json={"text": "ab", "horizon": 9, "sampling": SAMPLING | {"samples": 2}}).json()
        whole = predict(client, {"text": "ab", "horizon": 9, "sampling": SAMPLING | {"samples": 2}})
        assert step["prediction"]["samples"] == whole["prediction"]["samples"]
        assert step["sampling"] == whole["sampling"]
        later = client.post(path, json={"text": "c", "horizon": 9, "sampling": SAMPLING}).json()
        assert (
            later["prediction"]["text"]
            == predict(client, {"text": "abc", "horizon": 9, "sampling": SAMPLING})["prediction"]["text"]
        )

    def test_a_message_may_ask_for_each_token(self, client, url):
        body = {"text": "ab", "horizon": 9, "sampling": SAMPLING}
        with connect(url) as stream:
            stream.send(json.dumps(body | {"stream": True}))
            tokens = [json.loads(stream.recv()) for _ in range(9)]
            reply = json.loads(stream.recv())
            assert [each["event"] for each in tokens] == ["token"] * 9
            assert "".join(each["text"] for each in tokens) == reply["prediction"]["text"][0]
            assert reply["steps"] == 1
            assert reply["prediction"]["text"] == predict(client, body)["prediction"]["text"]
            stream.send(json.dumps({"text": "c", "horizon": 2}))
            assert "prediction" in json.loads(stream.recv())
            stream.send(json.dumps({"text": "c", "stream": True}))
            assert json.loads(stream.recv())["errors"][0]["loc"] == ["body", "stream"]
            stream.send(json.dumps({"text": "c"}))
            assert json.loads(stream.recv())["steps"] == 3

    def test_steps_over_http_know_no_stream(self, client, opened):
        reply = client.post(f"/v1/sessions/{opened}/steps", json={"text": "ab", "horizon": 2, "stream": True})
        assert (reply.status_code, reply.json()["errors"][0]["loc"]) == (422, ["body", "stream"])

    def test_a_client_that_leaves_has_not_taken_the_step(self, client, opened, url, slow):
        with slow(0.02) as steps:
            with connect(url) as stream:
                stream.send(json.dumps({"text": "ab", "horizon": 5000, "stream": True}))
                stream.recv()
            until(lambda: _is_idle(client))
            drawn = len(steps)
            time.sleep(0.2)
            assert len(steps) == drawn < 500
        assert client.get(f"/v1/sessions/{opened}").json()["steps"] == 0


class TestUnknownTokens:
    def test_the_tokens_that_the_vocabulary_lacks_are_marked_in_every_format(self, client, tmp_path):
        body = {"text": ["sun is here .", "snow is hail"]}
        plain = predict(client, body, "mood")
        assert plain["tokens"][1] == ["snow", "is", "hail"]
        assert plain["unknown_tokens"] == [[], [0, 2]]
        assert [note["loc"] for note in plain["notes"][:2]] == [["body", "text", 1, 0], ["body", "text", 1, 2]]
        path = "/v1/models/mood/predict"
        (tmp_path / "reply").write_bytes(client.post(path, json=body, headers=SAFETENSORS).content)
        with safe_open(tmp_path / "reply", "np") as file:
            assert json.loads(file.metadata()["unknown_tokens"]) == [[], [0, 2]]
        assert "unknown_tokens" not in predict(client, {"text": "sun is here"}, "mood")


def _is_idle(client):
    """Whether no worker computes."""
    engine = client.app.state.context.engine
    return not engine._scheduler._running


@pytest.fixture
def slow(monkeypatch):
    """`with slow(seconds) as steps:` — each token takes so long; `steps` has one entry for each that was drawn."""
    original = Sampler.draw

    @contextmanager
    def slowed(seconds):
        steps = []

        def draw(self, scores):
            time.sleep(seconds)
            steps.append(1)
            return original(self, scores)

        with monkeypatch.context() as patch:
            patch.setattr(Sampler, "draw", draw)
            yield steps

    return slowed


class TestTheOpenInferenceProtocol:
    TEXT = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["ab", "c"]}  # noqa: RUF012 (read only)

    def infer(self, client, parameters, model="letters", tensor=TEXT):
        return client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor], "parameters": parameters})

    def test_sampling_is_a_parameter_and_so_are_the_texts(self, client):
        sampling = SAMPLING | {"samples": 2, "stop": ["a"]}
        plain = predict(client, {"text": ["ab", "c"], "horizon": 9, "sampling": sampling})
        told = self.infer(client, {"horizon": 9, "sampling": json.dumps(sampling)}).json()
        assert json.loads(told["parameters"]["sampling"]) == plain["sampling"]
        assert json.loads(told["parameters"]["samples"]) == plain["prediction"]["samples"]
        (output,) = told["outputs"]
        longest = max(map(len, plain["prediction"]["values"]))
        assert output["shape"] == [2, longest, 4]
        values = np.array(output["data"], dtype=float).reshape(output["shape"])
        for row, expected in enumerate(plain["prediction"]["values"]):
            np.testing.assert_allclose(values[row, : len(expected)], expected, atol=1e-6)
            assert np.isnan(values[row, len(expected) :]).all()

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"sampling": "{}"}, "parameters.sampling: goes with 'horizon'"),
            ({"horizon": 3, "sampling": "{"}, "parameters.sampling: must be an object in JSON"),
            ({"horizon": 3, "sampling": '{"top_k":0}'}, "sampling.top_k"),
            ({"horizon": 0}, "body.parameters.horizon"),
        ],
    )
    def test_what_is_wrong_is_told_at_its_parameter(self, client, parameters, message):
        reply = self.infer(client, parameters)
        assert reply.status_code == 400
        assert message in reply.json()["error"]

    def test_a_forecast_is_not_made_here(self, client):
        tensor = {"name": "inputs", "datatype": "FP32", "shape": [1, 1, 2], "data": [10.0, 1.0]}
        reply = self.infer(client, {"horizon": 2}, "forecaster", tensor)
        assert reply.status_code == 400
        assert "parameters.horizon: model 'forecaster' writes no tokens" in reply.json()["error"]
