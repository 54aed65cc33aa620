"""The four formats of a trace: the same numbers, and one of them streams."""

import io
import json
import math
import socket
import time
import tracemalloc
import weakref

import httpx
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load

from gatescope.errors import DeadlineExceeded, Overloaded
from gatescope.server.serving import tuning

NDJSON = {"Accept": "application/x-ndjson"}
STEPS = 20_000


def levels(*lengths):
    """Inputs of the forecaster."""
    generator = np.random.default_rng(1)
    return [[[10 + value, step % 24] for step, value in enumerate(generator.normal(size=n).round(3))] for n in lengths]


REQUESTS = {
    "ragged": ("forecaster", {"inputs": levels(70, 3, 41), "outputs": ["prediction", "output"]}),
    "one": ("founding", {"inputs": torch.ones(50, 5).tolist()}),
    "both ways": ("both-ways", {"inputs": [torch.ones(n, 3).tolist() for n in (6, 2, 9)]}),
    "words": ("mood", {"text": ["rain is here . " * 12, "sun"]}),
    "horizon": ("letters", {"text": ["ab", "cab a"], "horizon": 60}),
    "known ahead": ("river", {"inputs": [[1.0, 7], [2.0, 9]], "horizon": 2, "future_inputs": [[3.0, 7], [0.0, 9]]}),
    "part": (
        "forecaster",
        {"inputs": levels(80, 60), "signals": ["cell_state"], "units": [5, 2], "time": {"start": 35, "step": 4}},
    ),
    "backwards": ("forecaster", {"inputs": levels(9, 5), "time": {"step": -2}}),
}


@pytest.fixture
def small_chunks(monkeypatch):
    """About 340 steps of the forecaster's."""
    monkeypatch.setattr(tuning, "CHUNK_BYTES", 64 * 1024)


@pytest.fixture
def answers(client, monkeypatch):
    """Weak references to what the engine has made of traces."""
    engine, made = client.app.state.context.engine, []
    answer = type(engine).answer

    async def noted(model, query, *rest):
        result = await answer(engine, model, query, *rest)
        if result.trace is not None:
            made.append(weakref.ref(result.trace.signals["cell_state"]))
        return result

    monkeypatch.setattr(engine, "answer", noted)
    return made


def read_lines(client, name, body):
    reply = client.post(f"/v1/models/{name}/trace", json=body, headers=NDJSON)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/x-ndjson"), reply.text
    header, *steps, end = map(json.loads, reply.text.splitlines())
    return header, steps, end


@pytest.mark.parametrize("request_of", REQUESTS)
def test_the_numbers_are_the_same_in_all_four_formats(client, call, monkeypatch, request_of):
    monkeypatch.setattr(tuning, "CHUNK_BYTES", 1)  # so that even these traces have several chunks
    name, body = REQUESTS[request_of]
    whole = vars(call(f"{name}/trace", body))
    tensors = load(call(f"{name}/trace", body, headers={"Accept": "application/vnd.safetensors"}))
    with np.load(io.BytesIO(call(f"{name}/trace", body, headers={"Accept": "application/x-npz"}))) as file:
        arrays = {key: file[key] for key in file.files}
    header, steps, end = read_lines(client, name, body)
    signals = whole.pop("signals")
    assert header.pop("signals") == list(signals)
    assert [step["time_step"] for step in steps] == whole["time_steps"]
    for signal, rows in signals.items():
        np.testing.assert_array_equal(tensors[signal], arrays[signal])
        for row, values in enumerate(rows):
            running = [place for place, step in enumerate(steps) if step["time_step"] < whole["sequence_lengths"][row]]
            lines = [steps[place]["signals"][signal][row] for place in running]  # [time][layer][direction][unit]
            np.testing.assert_array_equal(tensors[signal][row][:, :, running], np.float32(values))
            np.testing.assert_allclose(np.moveaxis(np.array(lines), 0, 2), values, atol=1e-6)
            ended = [step["signals"][signal][row] for step in steps if step["time_step"] not in _at(steps, running)]
            assert set(map(type, ended)) <= {type(None)}
    assert not header.keys() & end.keys()
    assert (header | end).keys() == whole.keys()
    for field, value in (header | end).items():
        assert_close(value, whole[field], 1e-6 if field != "prediction" else 1e-5)


def _at(steps, places):
    return {steps[place]["time_step"] for place in places}


def assert_close(given, expected, tolerance):
    if isinstance(expected, dict):
        assert given.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(given[key], value, tolerance)
    elif isinstance(expected, list):
        assert len(given) == len(expected)
        for ours, theirs in zip(given, expected, strict=True):
            assert_close(ours, theirs, tolerance)
    elif isinstance(expected, float):
        assert given == pytest.approx(expected, abs=tolerance, rel=tolerance)
    else:
        assert given == expected


def test_the_metadata_of_safetensors_is_the_rest_of_the_reply(call, tmp_path):
    name, body = REQUESTS["both ways"]
    whole = vars(call(f"{name}/trace", body))
    path = tmp_path / "trace.safetensors"
    path.write_bytes(call(f"{name}/trace", body, headers={"Accept": "application/vnd.safetensors"}))
    with safe_open(path, "np") as file:
        rest = {key: json.loads(value) for key, value in file.metadata().items()}
        assert file.get_tensor("sequence_lengths").tolist() == whole["sequence_lengths"]
    assert rest == {key: whole[key] for key in whole if key not in ("signals", "sequence_lengths")}


def test_json_numbers_read_back_to_the_same_float32(call, client):
    name, body = REQUESTS["ragged"]
    tensors = load(call(f"{name}/trace", body, headers={"Accept": "application/vnd.safetensors"}))
    text = client.post(f"/v1/models/{name}/trace", json=body | {"signals": ["cell_state"]}).text
    values = np.array(json.loads(text)["signals"]["cell_state"][0], dtype=np.float32)
    np.testing.assert_array_equal(values, tensors["cell_state"][0])
    assert f'"cell_state":[[[[[{tensors["cell_state"][0, 0, 0, 0, 0]!s},' in text  # the shortest text of that float32


def test_a_long_trace_streams_while_others_are_answered(client, answers, small_chunks):
    computed, answered, text, lines, size = [], [], b"", 0, 0
    total = math.ceil(STEPS / (64 * 1024 // (8 * 6 * 4)))
    with client.stream("POST", "/v1/models/forecaster/trace", json={"inputs": levels(STEPS)}, headers=NDJSON) as reply:
        tracemalloc.start()
        for number, part in enumerate(reply.iter_raw()):
            lines, size, text = lines + part.count(b"\n"), size + len(part), (text + part)[-1_000_000:]
            if number % 20 == 0:
                computed.append(len(answers))
                assert sum(trace() is not None for trace in answers) <= 3
                other = client.post("/v1/models/founding/predict", json={"inputs": [[0.0] * 5]})
                answered.append(other.status_code)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert lines == STEPS + 2
    assert json.loads(text.splitlines()[-1]).keys() == {"prediction", "final_state", "residual"}
    assert computed[0] < total / 2 < computed[-1]
    assert set(answered) == {200}
    assert peak < size / 2


def test_the_end_of_a_long_trace_is_that_of_the_predict_route(client, call, small_chunks):
    body = {"inputs": levels(2000), "units": [0], "signals": ["hidden_state"]}
    _, steps, end = read_lines(client, "forecaster", body)
    whole = call("forecaster/predict", {"inputs": body["inputs"], "outputs": ["prediction", "final_state"]})
    assert len(steps) == 2000
    np.testing.assert_allclose(end["prediction"]["values"], whole.prediction["values"], atol=1e-5)
    np.testing.assert_allclose(end["final_state"]["cell_state"], whole.final_state["cell_state"], atol=1e-6)


def test_nothing_is_computed_for_a_client_that_reads_no_further_or_has_left(client, answers, small_chunks):
    lengths = [STEPS] * 4
    total = math.ceil(STEPS / (64 * 1024 // (4 * 8 * 6 * 4)))  # some 40 MB of text, more than the sockets hold
    transport = httpx.HTTPTransport(socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)])
    with httpx.Client(transport=transport, base_url=client.base_url, timeout=20) as slow:
        body = {"inputs": levels(*lengths), "outputs": ["final_state"]}
        with slow.stream("POST", "/v1/models/forecaster/trace", json=body, headers=NDJSON) as reply:
            next(reply.iter_lines())
            waiting = settled(answers)
    left = settled(answers)
    assert 1 <= waiting < total / 2
    assert left <= waiting + 1
    assert not any(trace() for trace in answers[:-1])


def settled(answers):
    """How many there are when no more come."""
    count = -1
    while count != len(answers):
        count = len(answers)
        time.sleep(0.25)
    return count


@pytest.mark.parametrize(
    ("error", "title", "status", "detail"),
    [
        (DeadlineExceeded("no answer"), "DeadlineExceeded", 504, "no answer"),
        (Overloaded("5 requests wait already"), "Overloaded", 429, "5 requests wait already"),
        (ZeroDivisionError("secret"), "InternalError", 500, "X-Request-ID"),
    ],
)
def test_an_error_on_the_way_ends_the_stream_with_a_problem(
    client, monkeypatch, small_chunks, error, title, status, detail
):
    engine = client.app.state.context.engine
    answer, calls = engine.answer, []

    async def failing(model, query, *rest):
        calls.append(query)
        if len(calls) == 2:
            raise error
        return await answer(model, query, *rest)

    monkeypatch.setattr(engine, "answer", failing)
    _, steps, end = read_lines(client, "forecaster", {"inputs": levels(400)})
    assert len(steps) == 64 * 1024 // (8 * 6 * 4)
    assert len(calls) == 2
    assert (end["error"]["title"], end["error"]["status"]) == (title, status)
    assert detail in end["error"]["detail"]
    assert "secret" not in str(end)


def test_an_error_before_the_first_line_has_its_own_status(client):
    headers = NDJSON | {"X-Request-Timeout-Ms": "1"}
    reply = client.post("/v1/models/founding/trace", json={"inputs": [[0.0] * 5] * 3000}, headers=headers)
    assert (reply.status_code, reply.json()["title"]) == (504, "DeadlineExceeded")


def test_the_largest_trace_bounds_what_is_made_at_once(serve):
    body = {"inputs": levels(40), "outputs": ["final_state"]}
    with serve(max_trace_bytes=8 * 6 * 4 * 3) as client:
        assert client.post("/v1/models/forecaster/trace", json=body).status_code == 413
        header, steps, _ = read_lines(client, "forecaster", body)
        backwards = client.post("/v1/models/forecaster/trace", json=body | {"time": {"step": -1}}, headers=NDJSON)
        wide = client.post("/v1/models/forecaster/trace", json={"inputs": levels(4, 4, 4, 4)}, headers=NDJSON)
    assert len(steps) == len(header["time_steps"]) == 40
    assert backwards.status_code == 413
    assert "shape [4, 1, 1, 1, 8]" in wide.json()["detail"]


def test_both_directions_are_bounded_whole(serve):
    with serve(max_trace_bytes=1000) as client:
        reply = client.post("/v1/models/both-ways/trace", json={"inputs": [[0.0] * 3] * 9}, headers=NDJSON)
    assert reply.status_code == 413


def test_what_cannot_be_written_names_what_can(client):
    reply = client.post("/v1/models/founding/trace", json={"inputs": [[0.0] * 5]}, headers={"Accept": "text/csv"})
    assert reply.status_code == 406
    assert "application/x-ndjson" in reply.json()["detail"]


def test_every_format_is_described(client):
    responses = client.get("/openapi.json").json()["paths"]["/v1/models/{name}/trace"]["post"]["responses"]
    assert list(responses["200"]["content"]) == [
        "application/json",
        "application/vnd.safetensors",
        "application/x-npz",
        "application/x-ndjson",
    ]
