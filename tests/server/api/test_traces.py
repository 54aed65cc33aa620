"""`/v1/traces`: what is stored is what the trace route answers, and a picture of it is NumPy's own."""

import io
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load

from gatescope.backends.reference import run
from gatescope.cells import LSTM
from gatescope.server.serving import tuning

TENSORS, LINES = {"Accept": "application/vnd.safetensors"}, {"Accept": "application/x-ndjson"}
ORACLES = {"mean": np.nanmean, "min": np.nanmin, "max": np.nanmax}
OWN = {"trace_id", "shape", "bytes", "expires_at"}


def levels(*lengths):
    """Inputs of the forecaster."""
    generator = np.random.default_rng(1)
    return [[[10 + value, step % 24] for step, value in enumerate(generator.normal(size=n).round(3))] for n in lengths]


REQUESTS = {
    "ragged": ("forecaster", {"inputs": levels(70, 3, 41), "outputs": ["prediction", "output", "final_state"]}),
    "one": ("founding", {"inputs": torch.ones(50, 5).tolist()}),
    "padded": ("founding", {"inputs": torch.ones(2, 9, 5).tolist(), "sequence_lengths": [9, 4]}),
    "both ways, projected": ("both-ways", {"inputs": [torch.ones(n, 3).tolist() for n in (6, 2, 9)]}),
    "words": ("mood", {"text": ["rain is here . " * 12, "snow is here"]}),
    "ids": ("ids", {"inputs": [[0, 5, 2], [1]]}),
    "horizon": ("letters", {"text": ["ab", "cab a"], "horizon": 60}),
    "known ahead": ("river", {"inputs": [[1.0, 7], [2.0, 9]], "horizon": 2, "future_inputs": [[3.0, 7], [0.0, 9]]}),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """So that even short traces have several."""
    monkeypatch.setattr(tuning, "CHUNK_BYTES", 1)


@pytest.fixture(scope="module")
def keep(client):
    """Store a trace; its id."""

    def keep(name, body, server=client):
        reply = server.post("/v1/traces", json={"model": name} | body)
        assert reply.status_code == 201, reply.text
        return reply.json()["trace_id"]

    return keep


@pytest.fixture(scope="module")
def look(client):
    """The values of a stored trace as JSON, or in the format asked for."""

    def look(trace_id, query="", headers=None, server=client):
        reply = server.get(f"/v1/traces/{trace_id}/values{query}", headers=headers)
        assert reply.status_code == 200, reply.text
        return reply.json() if headers is None else load(reply.content) if headers == TENSORS else reply.content

    return look


def refused(reply, status, title):
    assert (reply.status_code, reply.json()["title"]) == (status, title), reply.text
    return reply.json()


def assert_close(given, expected, atol=1e-5):
    """Equal, but for the last digits of floats: chunks are computed apart."""
    if isinstance(expected, dict):
        assert given.keys() == expected.keys()
        for key, value in expected.items():
            if key != "residual":
                assert_close(given[key], value, atol)
    elif isinstance(expected, list) and expected and isinstance(expected[0], list | float | dict):
        assert len(given) == len(expected)
        for ours, theirs in zip(given, expected, strict=True):
            assert_close(ours, theirs, atol)
    elif isinstance(expected, float):
        assert given == pytest.approx(expected, abs=atol)
    else:
        assert given == expected


def test_storing_answers_where_the_trace_is_how_large_and_until_when(client):
    body = {"model": "both-ways", "version": "1", "inputs": [torch.ones(n, 3).tolist() for n in (6, 2)]}
    reply = client.post("/v1/traces", json=body)
    told = reply.json()
    assert (reply.status_code, told.keys(), told["shape"]) == (201, OWN, [2, 2, 2, 6, 4])
    assert reply.headers["location"] == f"/v1/traces/{told['trace_id']}"
    assert told["bytes"] > 2 * 2 * 2 * 6 * (5 * 4 + 2) * 4
    assert told["expires_at"] == pytest.approx(time.time() + 3600, abs=5)
    again = client.post("/v1/traces", json=body).json()
    assert again["trace_id"] != told["trace_id"]


@pytest.mark.parametrize("request_of", REQUESTS)
def test_a_stored_trace_is_the_trace_routes_reply_in_two_parts(client, call, keep, look, request_of):
    name, body = REQUESTS[request_of]
    whole = vars(call(f"{name}/trace", body))
    trace_id = keep(name, body)
    described = client.get(f"/v1/traces/{trace_id}").json()
    assert described["residual"] < 1e-6
    assert described.get("horizon") == body.get("horizon")
    told = _without(described, "inputs", "horizon", *OWN)
    assert_close(told, _without(whole, "signals"))
    values = look(trace_id)
    whole["model"].pop("verified", None)  # of the prediction
    assert_close(values, _without(whole, "notes", "prediction", "output", "tokens", "unknown_tokens", "sampling"))


def test_what_a_model_of_features_read_is_told_with_the_steps_ahead(client, keep):
    def read(request_of):
        name, body = REQUESTS[request_of]
        return client.get(f"/v1/traces/{keep(name, body)}").json().get("inputs"), body

    (ragged, given), (padded, _), (ahead, known) = map(read, ("ragged", "padded", "known ahead"))
    assert_close(ragged, given["inputs"])
    assert [len(row) for row in padded] == [9, 4]
    assert_close(ahead, [[*known["inputs"], *known["future_inputs"]]])
    assert read("words")[0] is None


def test_the_values_are_what_the_equations_give(networks, keep, look):
    torch.manual_seed(4)
    sequences = [torch.randn(length, 3) for length in (6, 2, 9)]
    values = look(keep("both-ways", {"inputs": [sequence.tolist() for sequence in sequences]}))
    for row, sequence in enumerate(sequences):
        oracle = run(networks["both-ways"].lstm, sequence.double())
        for signal in LSTM.signal_names:
            np.testing.assert_allclose(values["signals"][signal][row], oracle[signal], atol=1e-5)


def _without(reply, *names):
    return {name: value for name, value in reply.items() if name not in names}


QUERIES = {
    "all": ("", {}),
    "signals": ("?signals=cell_state,forget_gate", {"signals": ["cell_state", "forget_gate"]}),
    "repeated": ("?signals=cell_state&signals=hidden_state", {"signals": ["cell_state", "hidden_state"]}),
    "unit": ("?units=3", {"units": [3]}),
    "units": ("?units=3,0,1", {"units": [3, 0, 1]}),
    "slice": ("?units=1:4:2&layers=1,0", {"units": "1:4:2", "layers": [1, 0]}),
    "reverse": ("?directions=reverse,forward&layers=1", {"directions": ["reverse", "forward"], "layers": [1]}),
    "time": ("?start=2&stop=7", {"time": {"start": 2, "stop": 7}}),
    "the end": ("?start=-3", {"time": {"start": -3}}),
    "but the end": ("?stop=-2&units=:2", {"time": {"stop": -2}, "units": ":2"}),
}


@pytest.fixture(scope="module")
def three_ways(keep):
    """A ragged batch of a bidirectional, projected model: how it is asked for, and its stored trace."""
    torch.manual_seed(4)
    body = {"inputs": [torch.randn(length, 3).tolist() for length in (6, 2, 9)]}
    return body, keep("both-ways", body)


@pytest.mark.parametrize("asked", QUERIES)
def test_a_selection_is_the_trace_routes_in_all_four_formats(client, call, look, three_ways, asked):
    query, selection = QUERIES[asked]
    body, trace_id = three_ways
    whole = vars(call("both-ways/trace", body | selection))
    assert_close(look(trace_id, query), _without(whole, "output"), 1e-6)
    expected = load(call("both-ways/trace", body | selection, headers=TENSORS))
    tensors = look(trace_id, query, TENSORS)
    with np.load(io.BytesIO(look(trace_id, query, {"Accept": "application/x-npz"}))) as file:
        arrays, metadata = {name: file[name] for name in file.files}, json.loads(str(file["metadata"]))
    assert tensors.keys() == expected.keys() == arrays.keys() - {"metadata"}
    for name, values in expected.items():
        np.testing.assert_allclose(tensors[name], values, atol=1e-6)
        np.testing.assert_array_equal(arrays[name], tensors[name])
    assert_close(metadata, _without(whole, "output", "signals", "sequence_lengths"), 1e-6)
    reply = client.post("/v1/models/both-ways/trace", json=body | selection, headers=LINES)
    for ours, theirs in zip(*map(read_lines, (look(trace_id, query, LINES), reply.content)), strict=True):
        assert_close(ours, theirs, 1e-6)


def read_lines(content):
    """The time steps of a reply line by line, and what stands around them."""
    header, *steps, end = map(json.loads, content.splitlines())
    return steps, _without(header | end, "output")


@pytest.mark.parametrize("row", [0, 1, 2])
def test_one_sequence_of_a_batch_is_a_batch_of_one_with_its_own_time(client, look, three_ways, row):
    _, trace_id = three_ways
    whole, alone = look(trace_id), look(trace_id, f"?sequence={row}")
    length = whole["sequence_lengths"][row]
    assert (alone["sequence_lengths"], alone["time_steps"]) == ([length], list(range(length)))
    for signal in LSTM.signal_names:
        assert alone["signals"][signal] == whole["signals"][signal][row : row + 1]
    for state in ("initial_state", "final_state"):
        for name, entries in whole[state].items():
            assert alone[state][name] == [entry[row : row + 1] for entry in entries]
    assert look(trace_id, f"?sequence={row}&start=-1")["time_steps"] == [length - 1]


class TestBins:
    @pytest.mark.parametrize("reduce", ORACLES)
    @pytest.mark.parametrize("bins", [1, 4, 33, 70])
    def test_each_bin_is_numpys_reduction_of_its_steps(self, keep, look, reduce, bins):
        name, body = REQUESTS["ragged"]
        trace_id = keep(name, body)
        whole = look(trace_id, "", TENSORS)
        picture = look(trace_id, f"?bins={bins}&reduce={reduce}", TENSORS)
        ragged = look(trace_id, f"?bins={bins}&reduce={reduce}")
        assert (ragged["bins"], ragged["reduce"], len(ragged["time_steps"])) == (bins, reduce, bins)
        edges = [*ragged["time_steps"], 70]
        assert [math.ceil(index * 70 / bins) for index in range(bins + 1)] == edges
        for signal in LSTM.signal_names:
            for index in range(bins):
                steps = whole[signal][:, :, :, edges[index] : edges[index + 1]]
                present = ~np.isnan(steps).all(axis=(1, 2, 3, 4))
                expected = ORACLES[reduce](steps[present].astype(np.float64), axis=3)
                np.testing.assert_allclose(picture[signal][present, :, :, index], expected, atol=1e-6)
                assert np.isnan(picture[signal][~present, :, :, index]).all()
            for row, values in enumerate(ragged["signals"][signal]):
                there = ~np.isnan(picture[signal][row, 0, 0, :, 0])
                np.testing.assert_array_equal(np.float32(values), picture[signal][row][:, :, there])

    def test_of_a_selection_and_a_span_of_time(self, keep, look):
        name, body = REQUESTS["both ways, projected"]
        trace_id = keep(name, body)
        whole = look(trace_id, "?start=1&stop=9&units=3,1&layers=1&sequence=2", TENSORS)
        picture = look(trace_id, "?start=1&stop=9&units=3,1&layers=1&sequence=2&bins=4", TENSORS)
        for signal in LSTM.signal_names:
            values = whole[signal].reshape(*whole[signal].shape[:3], 4, 2, -1)
            np.testing.assert_allclose(picture[signal], values.mean(axis=4), atol=1e-6)

    def test_more_bins_than_steps_are_the_steps(self, keep, look):
        trace_id = keep(*REQUESTS["one"])
        steps, binned = look(trace_id), look(trace_id, "?bins=1000&reduce=max")
        assert (binned["bins"], binned["time_steps"]) == (50, steps["time_steps"])
        assert binned["signals"] == steps["signals"]

    def test_line_by_line(self, keep, look):
        trace_id = keep(*REQUESTS["ragged"])
        whole = look(trace_id, "?bins=33&signals=cell_state")
        header, *steps, _ = map(json.loads, look(trace_id, "?bins=33&signals=cell_state", LINES).splitlines())
        assert (header["bins"], header["reduce"]) == (33, "mean")
        assert [step["time_step"] for step in steps] == header["time_steps"] == whole["time_steps"]
        for row, values in enumerate(whole["signals"]["cell_state"]):
            lines = [step["signals"]["cell_state"][row] for step in steps]
            count = len(values[0][0])
            assert [line[0][0] for line in lines[:count]] == values[0][0]
            assert set(lines[count:] if count < 33 else [None]) == {None}

    def test_binary_metadata_says_so_too(self, keep, look, tmp_path):
        trace_id = keep(*REQUESTS["one"])
        (tmp_path / "picture").write_bytes(look(trace_id, "?bins=5", {"Accept": "application/vnd.safetensors;q=1"}))
        with safe_open(tmp_path / "picture", "np") as file:
            metadata = file.metadata()
        assert (metadata["bins"], metadata["reduce"]) == ("5", '"mean"')
        assert json.loads(metadata["time_steps"]) == [0, 10, 20, 30, 40]


@pytest.mark.parametrize(
    ("query", "name", "message"),
    [
        ("signal=forget_gate", "signal", "unknown field 'signal'; did you mean 'signals'?"),
        ("signals=forget", "signals", "signals has no 'forget'; this model has 'input_gate'"),
        ("signals=cell_state,cell_state", "signals", "'cell_state' is asked for twice"),
        ("signals=", "signals", "is empty"),
        ("layers=2", "layers", "layers has no 2; this model has 0 to 1"),
        ("layers=0,x", "layers", "must be whole numbers, separated by commas, not 'x'"),
        ("layers=0,0", "layers", "0 is asked for twice"),
        ("directions=backward", "directions", "directions has no 'backward'; this model has 'forward', 'reverse'"),
        ("units=4", "units", "units has no 4; this model has 0 to 3"),
        ("units=-1", "units", "units has no -1"),
        ("units=a:b", "units", "must be indices such as 3,17 or a slice such as 0:16, not 'a:b'"),
        ("units=9:12", "units", "units is empty"),
        ("units=1.5", "units", "must be whole numbers, separated by commas, not '1.5'"),
        ("sequence=3", "sequence", "there is no sequence 3; this trace has 0 to 2"),
        ("sequence=-1", "sequence", "there is no sequence -1"),
        ("sequence=0&sequence=1", "sequence", "must be one whole number of at most 9 digits, not '0,1'"),
        ("start=9", "start", "start 9 leave none of the 9 time steps"),
        ("start=5&stop=5", "start", "start 5 and stop 5 leave none of the 9 time steps"),
        ("stop=0", "stop", "stop 0 leave none of the 9 time steps"),
        ("stop=99999999999", "stop", "must be one whole number of at most 9 digits"),
        ("sequence=1&start=4", "start", "none of the 2 time steps"),
        ("bins=0", "bins", "must be at least 1, not 0"),
        ("bins=many", "bins", "must be one whole number of at most 9 digits, not 'many'"),
        ("bins=3&reduce=median", "reduce", "must be one of mean, min, max, not 'median'"),
        ("bins=3&reduce=mean,max", "reduce", "must be one of mean, min, max, not 'mean,max'"),
        ("reduce=max", "reduce", "goes with 'bins'"),
    ],
)
def test_a_query_that_cannot_be_is_refused_by_name(client, three_ways, query, name, message):
    reply = client.get(f"/v1/traces/{three_ways[1]}/values?{query}")
    problem = refused(reply, 422, "InvalidInput")
    assert problem["errors"][0]["loc"] == ["query", name]
    assert message in problem["errors"][0]["msg"]


@pytest.mark.parametrize(
    ("body", "loc", "message"),
    [
        ({"inputs": [[1, 2, 3, 4, 5]]}, ["body", "model"], "'model' is missing"),
        ({"model": 3, "inputs": [[1, 2, 3, 4, 5]]}, ["body", "model"], "must be the name of a model"),
        ({"model": "founding", "version": 1, "inputs": [[1, 2, 3, 4, 5]]}, ["body", "version"], "valid string"),
        ({"model": "founding"}, ["body", "inputs"], "'inputs' is missing"),
        ({"model": "founding", "inputs": [[1, 2]]}, ["body", "inputs", 0], "model 'founding' takes 5"),
        ({"model": "founding", "inputs": [[1, 2, 3, 4, 5]], "signals": []}, ["body", "signals"], "unknown field"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_place(client, body, loc, message):
    problem = refused(client.post("/v1/traces", json=body), 422, "InvalidInput")
    assert problem["errors"][0]["loc"] == loc
    assert message in problem["errors"][0]["msg"]


def test_models_that_are_not_there_cannot_be_traced(client):
    refused(client.post("/v1/traces", json={"model": "rivr", "inputs": [[1]]}), 404, "ModelNotFound")
    body = {"model": "founding", "version": "7", "inputs": [[1]]}
    refused(client.post("/v1/traces", json=body), 404, "VersionNotFound")
    refused(client.post("/v1/traces", json={"model": "weightless", "inputs": [[1]]}), 503, "ModelUnavailable")


class TestGone:
    def test_deleted_and_never_there(self, client, keep):
        trace_id = keep(*REQUESTS["one"])
        reply = client.delete(f"/v1/traces/{trace_id}")
        assert (reply.status_code, reply.content) == (204, b"")
        for path, method in (("", "GET"), ("/values", "GET"), ("", "DELETE")):
            problem = refused(client.request(method, f"/v1/traces/{trace_id}{path}"), 404, "TraceNotFound")
            assert problem["detail"] == f"the trace '{trace_id}' is gone: it was deleted"
        problem = refused(client.get("/v1/traces/unheard-of"), 404, "TraceNotFound")
        assert problem["detail"].startswith("there is no trace 'unheard-of'")

    def test_made_room_for_others_and_not_looked_at(self, serve, keep):
        with serve(trace_store_bytes=80_000, trace_store_timeout_s=1.0) as server:
            name, body = REQUESTS["one"]
            first, second, third = (keep(name, body, server) for _ in range(3))
            assert "is gone: it made room for others" in server.get(f"/v1/traces/{first}").json()["detail"]
            assert server.get(f"/v1/traces/{second}").status_code == 200
            metrics = server.get("/metrics").text
            assert "gatescope_stored_traces 2.0" in metrics
            held = sum(server.get(f"/v1/traces/{trace_id}").json()["bytes"] for trace_id in (second, third))
            assert f"gatescope_stored_trace_bytes {float(held)}" in metrics
            time.sleep(1.2)
            assert "gatescope_stored_traces 0.0" in server.get("/metrics").text
            problem = refused(server.get(f"/v1/traces/{third}/values"), 404, "TraceNotFound")
            assert problem["detail"] == f"the trace '{third}' is gone: nobody looked at it for 1 seconds"

    def test_a_stream_of_a_trace_that_goes_meanwhile_ends_with_the_reason(self, client, keep, monkeypatch):
        monkeypatch.undo()  # the chunks are as large as they are
        trace_id = keep("forecaster", {"inputs": levels(50_000), "outputs": ["final_state"]})
        with client.stream("GET", f"/v1/traces/{trace_id}/values", headers=LINES) as reply:
            lines = reply.iter_lines()
            assert json.loads(next(lines))["sequence_lengths"] == [50_000]
            client.delete(f"/v1/traces/{trace_id}")
            read = list(lines)
        assert 0 < len(read) < 50_000
        assert json.loads(read[-1])["error"]["title"] == "TraceNotFound"


class TestBounds:
    def test_a_trace_larger_than_what_is_made_at_once_is_stored_but_seen_in_parts(self, serve, call, keep, look):
        name, body = "forecaster", {"inputs": levels(2000), "outputs": ["final_state"]}
        expected = load(call(f"{name}/trace", body, headers=TENSORS))
        with serve(max_trace_bytes=100_000) as server:
            trace_id = keep(name, body, server)
            problem = refused(server.get(f"/v1/traces/{trace_id}/values"), 413, "TraceTooLarge")
            assert "these values have 384,000 bytes (6 signals of shape [1, 1, 1, 2000, 8])" in problem["detail"]
            seen = look(trace_id, "?signals=cell_state", TENSORS, server)
            np.testing.assert_allclose(seen["cell_state"], expected["cell_state"], atol=1e-5)
            assert look(trace_id, "?bins=100", None, server)["bins"] == 100
            assert look(trace_id, "", LINES, server).count(b"\n") == 2002

    def test_a_trace_larger_than_the_store_is_413(self, serve):
        with serve(trace_store_bytes=100_000) as server:
            problem = refused(
                server.post("/v1/traces", json={"model": "forecaster", "inputs": levels(2000)}), 413, "TraceTooLarge"
            )
            assert "this server stores at most 100,000 in all" in problem["detail"]
        with serve(trace_store_bytes=0) as server:
            refused(server.post("/v1/traces", json={"model": "forecaster", "inputs": levels(2)}), 413, "TraceTooLarge")

    def test_of_both_directions_only_what_is_made_at_once(self, serve):
        with serve(max_trace_bytes=100_000) as server:
            body = {"model": "both-ways", "inputs": torch.ones(1000, 3).tolist(), "outputs": ["final_state"]}
            problem = refused(server.post("/v1/traces", json=body), 413, "TraceTooLarge")
            assert "cannot be made in parts, because the model reads both ways" in problem["detail"]

    def test_others_are_answered_while_a_long_trace_is_computed(self, client, keep):
        with ThreadPoolExecutor(1) as pool:
            storing = pool.submit(keep, "forecaster", {"inputs": levels(5000), "outputs": ["final_state"]})
            answered = 0
            while not storing.done():
                assert client.post("/v1/models/founding/predict", json={"inputs": [[0.0] * 5]}).status_code == 200
                answered += 1
            storing.result()
        assert answered > 3

    def test_too_late_is_504_and_nothing_is_kept(self, client):
        held = client.get("/metrics").text.partition("\ngatescope_stored_traces ")[2].partition("\n")[0]
        body = {"model": "forecaster", "inputs": levels(20_000), "outputs": ["final_state"]}
        refused(client.post("/v1/traces", json=body, headers={"X-Request-Timeout-Ms": "50"}), 504, "DeadlineExceeded")
        assert f"\ngatescope_stored_traces {held}\n" in client.get("/metrics").text


def test_a_hundred_thousand_steps_are_stored_and_a_picture_of_them_is_small(client, keep, look, monkeypatch):
    monkeypatch.undo()  # the chunks are as large as they are
    trace_id = keep("forecaster", {"inputs": levels(100_000), "outputs": ["final_state"]})
    whole = look(trace_id, "?signals=cell_state", TENSORS)["cell_state"]
    assert whole.shape == (1, 1, 1, 100_000, 8)
    for reduce, oracle in ORACLES.items():
        picture = look(trace_id, f"?signals=cell_state&bins=1000&reduce={reduce}", TENSORS)["cell_state"]
        expected = oracle(whole.reshape(1, 1, 1, 1000, 100, 8).astype(np.float64), axis=4)
        np.testing.assert_allclose(picture, expected, atol=1e-6)
    tile = client.get(f"/v1/traces/{trace_id}/values?start=60000&stop=61000&signals=cell_state", headers=TENSORS)
    np.testing.assert_array_equal(load(tile.content)["cell_state"], whole[:, :, :, 60_000:61_000])
    assert len(tile.content) < 100_000
    body = {"trace_id": trace_id, "time_step": 99_999, "unit": 2}
    explained = client.post("/v1/models/forecaster/explain", json=body).json()
    assert explained["cell_update"]["cell_state"] == pytest.approx(float(whole[0, 0, 0, -1, 2]), abs=1e-5)


class TestExplain:
    @pytest.mark.parametrize("request_of", ["ragged", "both ways, projected", "words", "known ahead"])
    def test_a_stored_trace_stands_in_place_of_the_inputs(self, call, keep, request_of):
        name, body = REQUESTS[request_of]
        trace_id = keep(name, body)
        sent = body.get("text") or body["inputs"]
        rows = [sent] if request_of == "known ahead" else sent
        ahead = {field: body[field] for field in ("horizon", "future_inputs") if field in body}
        field = "text" if "text" in body else "inputs"
        for row, sequence in enumerate(rows):
            point = {"time_step": -1, "unit": 1}
            stored = call(f"{name}/explain", point | {"trace_id": trace_id, "sequence": row})
            expected = call(f"{name}/explain", point | {field: sequence} | ahead)
            assert_close(vars(stored), _without(vars(expected), "notes"))

    def test_the_given_state_comes_from_the_store(self, call, keep):
        torch.manual_seed(5)
        state = {"hidden_state": torch.randn(2, 1, 6).tolist(), "cell_state": torch.randn(2, 1, 6).tolist()}
        body = {"inputs": torch.randn(4, 5).tolist(), "initial_state": state}
        trace_id = keep("founding", body)
        for time_step in (0, 3):
            point = {"layer": 1, "time_step": time_step, "unit": 5}
            stored, sent = (
                call("founding/explain", point | {"trace_id": trace_id}),
                call("founding/explain", point | body),
            )
            assert_close(vars(stored), vars(sent))

    @pytest.mark.parametrize(
        ("path", "more", "loc", "message"),
        [
            ("founding", {"inputs": [[1, 2, 3, 4, 5]]}, ["body", "inputs"], "'trace_id' stands in its place"),
            ("founding", {"horizon": 3}, ["body", "horizon"], "'trace_id' stands in its place"),
            ("river", {}, ["body", "trace_id"], "is a trace of model 'founding', version '1'"),
            ("founding/versions/2", {}, ["body", "trace_id"], "is a trace of model 'founding', version '1'"),
            ("founding", {"sequence": None}, ["body", "sequence"], "is missing: this trace has 2 sequences"),
            ("founding", {"sequence": 2}, ["body", "sequence"], "there is no sequence 2; this trace has 0 to 1"),
            ("founding", {"time_step": 4}, ["body", "time_step"], "this sequence has 0 to 3"),
            ("founding", {"unit": 6}, ["body", "unit"], "this model has 0 to 5"),
            ("founding", {"trace_id": 5}, ["body", "trace_id"], "valid string"),
            ("founding", {"tracid": 5}, ["body", "tracid"], "did you mean 'trace_id'?"),
        ],
    )
    def test_what_does_not_fit_it_is_refused_by_place(self, client, keep, path, more, loc, message):
        trace_id = keep("founding", {"inputs": torch.ones(2, 9, 5).tolist(), "sequence_lengths": [9, 4]})
        body = {"trace_id": trace_id, "sequence": 1, "time_step": 0, "unit": 0} | more
        problem = refused(client.post(f"/v1/models/{path}/explain", json=body), 422, "InvalidInput")
        assert problem["errors"][0]["loc"] == loc
        assert message in problem["errors"][0]["msg"]

    def test_a_sequence_goes_with_a_stored_trace_and_one_that_is_gone_is_404(self, client, keep):
        body = {"inputs": [[1, 2, 3, 4, 5]], "sequence": 0, "time_step": 0, "unit": 0}
        problem = refused(client.post("/v1/models/founding/explain", json=body), 422, "InvalidInput")
        assert problem["errors"] == [{"loc": ["body", "sequence"], "msg": "goes with 'trace_id'"}]
        trace_id = keep(*REQUESTS["one"])
        client.delete(f"/v1/traces/{trace_id}")
        body = {"trace_id": trace_id, "time_step": 0, "unit": 0}
        refused(client.post("/v1/models/founding/explain", json=body), 404, "TraceNotFound")

    def test_the_model_stays_with_its_trace_when_it_is_served_no_more(self, serve, keep, look):
        with serve() as server:
            trace_id = keep(*REQUESTS["one"], server)
            assert server.post("/v1/models/founding/unload").status_code == 200
            body = {"trace_id": trace_id, "time_step": 3, "unit": 0}
            assert server.post("/v1/models/founding/explain", json=body).json()["time_step"] == 3
            assert look(trace_id, "?bins=2", None, server)["model"] == {"name": "founding", "version": "1"}
            refused(server.post("/v1/traces", json={"model": "founding", "inputs": [[1]]}), 503, "ModelUnavailable")


def test_the_openapi_document_has_the_query_and_the_reply(client):
    document = client.get("/openapi.json").json()
    values = document["paths"]["/v1/traces/{trace_id}/values"]["get"]
    named = {entry["name"] for entry in values["parameters"] if entry.get("in") == "query"}
    assert named == {"signals", "layers", "directions", "units", "sequence", "start", "stop", "bins", "reduce"}
    assert set(values["responses"]["200"]["content"]) == {
        "application/json",
        *(kind["Accept"] for kind in (TENSORS, LINES)),
        "application/x-npz",
    }
    example = document["components"]["schemas"]["StoreTraceRequest"]["examples"][0]
    assert example["model"] == "pos-tagger"
    assert "201" in document["paths"]["/v1/traces"]["post"]["responses"]
