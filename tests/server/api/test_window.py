"""The window over HTTP: a head with one prediction per sequence reads the last time steps, and every reply says so."""

import io
import json

import httpx
import numpy as np
import pytest
import torch
from safetensors.numpy import load
from safetensors.torch import save_file
from torch import nn

WINDOW = 4
LAST = '[[layers]]\nname = "last"\ntype = "pool"\nhow = "last"\n'
HEADS = {
    "whole": LAST,
    "steps": "",
}
BOTH = """
[[layers]]
name = "lstm"
type = "lstm"
[[layers]]
name = "level"
type = "linear"
[[layers]]
name = "last"
type = "pool"
how = "last"
inputs = ["lstm"]
[[layers]]
name = "flood"
type = "linear"
[[heads]]
name = "level"
layer = "level"
task = "regression"
names = ["level"]
[[heads]]
name = "flood"
layer = "flood"
task = "binary"
labels = ["dry", "wet"]
"""


def manifest(pool):
    layers = f'[[layers]]\nname = "lstm"\ntype = "lstm"\n{pool}[[layers]]\nname = "level"\ntype = "linear"\n'
    return f'{layers}[[heads]]\ntask = "regression"\nnames = ["level"]\npredicts = "next_step"\n'


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(5)
    return nn.ModuleDict({"lstm": nn.LSTM(2, 5, batch_first=True), "level": nn.Linear(5, 1), "flood": nn.Linear(5, 1)})


@pytest.fixture(scope="module")
def client(tmp_path_factory, serve_models, module):
    root = tmp_path_factory.mktemp("window")
    for name, text in {**{name: manifest(pool) for name, pool in HEADS.items()}, "both": BOTH}.items():
        (root / name / "1").mkdir(parents=True)
        kept = {key: value for key, value in module.state_dict().items() if name == "both" or "flood" not in key}
        save_file(kept, root / name / "1" / "model.safetensors")
        head = f'format = 2\ndescription = "levels"\nwindow = {WINDOW}\n[input]\nkind = "features"\n'
        (root / name / "model.toml").write_text(f'{head}features = [{{name = "level"}}, {{name = "rain"}}]\n{text}')
    with serve_models(root) as client:
        yield client


@pytest.fixture
def post(client):
    def post(path, body, status=200, **headers):
        reply = client.post(path, json=body, headers=headers)
        assert reply.status_code == status, reply.text
        return reply if headers else reply.json()

    return post


def sequence(steps, seed=0):
    return np.random.default_rng(seed).normal(size=(steps, 2)).round(3).tolist()


def predicted(module, rows):
    with torch.no_grad():
        return module["level"](module["lstm"](torch.tensor([rows[-WINDOW:]]))[0][:, -1]).item()


def notes(reply):
    return [note["message"] for note in reply.get("notes", ()) if note["code"] == "window"]


READ = "each prediction reads the last 4 time steps before it, as many as training saw, of sequence 0 (9 time steps)"


def test_model_info_tells_the_window(client):
    assert client.get("/v1/models/whole").json()["window"] == WINDOW


def test_predictions_read_the_last_steps_and_say_so(post, module):
    rows = [sequence(9), sequence(3, 1)]
    for _ in range(3):  # a template reads what looks alike
        reply = post("/v1/models/whole/predict", {"inputs": rows})
        expected = [[predicted(module, row)] for row in rows]
        np.testing.assert_allclose(reply["prediction"]["values"], expected, rtol=0, atol=1e-6)
        assert notes(reply) == [READ]
        assert reply["sequence_lengths"] == [9, 3]
    assert not notes(post("/v1/models/whole/predict", {"inputs": [sequence(WINDOW)]}))


def test_every_way_to_ask_gives_the_same_trace(post, client, module):
    rows = sequence(9)
    with torch.no_grad():
        hidden = module["lstm"](torch.tensor([rows[-WINDOW:]]))[0][0].numpy()
    body = {"inputs": rows, "signals": ["hidden_state"]}
    told = post("/v1/models/whole/trace", body)
    assert told["time_steps"] == [5, 6, 7, 8]
    assert notes(told) == [READ]
    given = np.array(told["signals"]["hidden_state"], dtype=float)[0, 0, 0]
    np.testing.assert_allclose(given, hidden, rtol=0, atol=1e-6)
    arrays = load(post("/v1/models/whole/trace", body, accept="application/vnd.safetensors").content)
    np.testing.assert_array_equal(arrays["hidden_state"][0, 0, 0], given.astype(np.float32))
    npz = np.load(io.BytesIO(post("/v1/models/whole/trace", body, accept="application/x-npz").content))
    np.testing.assert_array_equal(npz["hidden_state"], arrays["hidden_state"])
    lines = post("/v1/models/whole/trace", body, accept="application/x-ndjson").text.splitlines()
    header, *steps, end = map(json.loads, lines)
    assert header["time_steps"] == told["time_steps"]
    assert [step["time_step"] for step in steps] == told["time_steps"]
    np.testing.assert_array_equal([step["signals"]["hidden_state"][0][0][0] for step in steps], given)
    assert end["prediction"] == told["prediction"]
    inputs = [{"name": "inputs", "shape": [1, 9, 2], "datatype": "FP32", "data": [rows]}]
    wanted = [{"name": "hidden_state"}, {"name": "prediction"}]
    inferred = post("/v2/models/whole/infer", {"inputs": inputs, "outputs": wanted})
    values = np.array(inferred["outputs"][0]["data"], dtype=float).reshape(inferred["outputs"][0]["shape"])
    assert np.isnan(values[0, 0, 0, :5]).all()
    np.testing.assert_array_equal(values[0, 0, 0, 5:], given)
    assert "window" in inferred["parameters"]["notes"]
    stored = post("/v1/traces", {"model": "whole", "inputs": rows}, 201)
    assert notes(stored) == [READ]
    seen = client.get(f"/v1/traces/{stored['trace_id']}/values?signals=hidden_state").json()
    values = np.array(seen["signals"]["hidden_state"], dtype=float)[0, 0, 0]
    assert np.isnan(values[: seen["time_steps"].index(5)]).all()
    np.testing.assert_array_equal(values[seen["time_steps"].index(5) :], given)
    assert client.get(f"/v1/traces/{stored['trace_id']}").json()["prediction"] == told["prediction"]
    point = {"layer": 0, "time_step": -1, "unit": 2}
    for asked in ({"inputs": rows}, {"trace_id": stored["trace_id"]}):
        explained = post("/v1/models/whole/explain", {**asked, **point})
        assert explained["time_step"] == 8
        assert explained["hidden_update"]["hidden_state"] == pytest.approx(hidden[-1, 2], abs=1e-6)
        refused = post("/v1/models/whole/explain", {**asked, **point, "time_step": 2}, 422)
        assert refused["errors"][0]["loc"] == ["body", "time_step"]


def test_a_selection_of_time_keeps_what_is_read(post):
    rows, path = sequence(9), "/v1/models/whole/trace"
    for asked, left in (({"start": 0, "step": 2}, [6, 8]), ({"step": -3}, [8, 5]), ({"stop": 6}, [5])):
        reply = post(path, {"inputs": rows, "signals": ["hidden_state"], "time": asked})
        assert reply["time_steps"] == left
        assert len(reply["signals"]["hidden_state"][0][0][0]) == len(left)
    refused = post(path, {"inputs": rows, "time": {"stop": 5}}, 422)
    assert refused["errors"][0]["loc"] == ["body", "time"]


def test_a_state_before_steps_that_are_not_read_is_refused(post):
    state = {"hidden_state": [[[0.0] * 5]], "cell_state": [[[0.0] * 5]]}
    refused = post("/v1/models/whole/predict", {"inputs": sequence(9), "initial_state": state}, 422)
    assert refused["errors"][0]["loc"] == ["body", "initial_state"]
    post("/v1/models/whole/predict", {"inputs": sequence(4), "initial_state": state})


def test_what_looks_at_whole_sequences_takes_no_more_than_the_window(post):
    edited = {"interventions": [{"signal": "forget_gate", "set": 0.0}]}
    for path, more, place in (("analyses/saturation", {}, "inputs"), ("intervene", edited, "interventions")):
        refused = post(f"/v1/models/whole/{path}", {"inputs": sequence(9), **more}, 422)
        assert refused["errors"][0]["loc"] == ["body", place]
        post(f"/v1/models/whole/{path}", {"inputs": sequence(4), **more})


def test_a_head_at_each_step_only_notes_what_training_saw(post):
    reply = post("/v1/models/steps/predict", {"inputs": sequence(9)})
    message = "training saw sequences of 4 time steps, and predictions of sequence 0 (9 time steps) read more"
    assert notes(reply) == [message]
    assert len(reply["prediction"]["values"][0]) == 9


def test_heads_of_both_kinds_take_no_more_than_the_window(post):
    refused = post("/v1/models/both/predict", {"inputs": sequence(9)}, 422)
    assert "send the last 4" in refused["errors"][0]["msg"]
    post("/v1/models/both/predict", {"inputs": sequence(4)})


def test_a_session_ends_where_its_window_does(client, post, module):
    rows = sequence(5)
    post("/v1/sessions", {"model": "whole", "session_id": "s"}, 201)
    post("/v1/sessions/s/steps", {"inputs": rows[:3]})
    reply = post("/v1/sessions/s/steps", {"inputs": rows[3:4], "step_number": 1})
    assert reply["prediction"]["values"][0][0] == pytest.approx(predicted(module, rows[:4]), abs=1e-6)
    assert post("/v1/sessions/s/steps", {"inputs": rows[3:4], "step_number": 1})["steps"] == 2
    refused = post("/v1/sessions/s/steps", {"inputs": rows[4:]}, 422)
    assert "open another session" in refused["errors"][0]["msg"]
    assert client.get("/v1/sessions/s").status_code == httpx.codes.OK


def test_a_stream_with_predictions_at_each_step_notes_the_whole_stream(post):
    post("/v1/sessions", {"model": "steps", "session_id": "long"}, 201)
    assert not notes(post("/v1/sessions/long/steps", {"inputs": sequence(4)}))
    assert "(5 time steps)" in notes(post("/v1/sessions/long/steps", {"inputs": sequence(1)}))[0]


def test_a_forecast_slides_its_window_along(post, module):
    rows, horizon = sequence(6), 3
    future = [[None, 0.5 * step] for step in range(horizon)]
    body = {"inputs": rows, "horizon": horizon, "future_inputs": future}
    reply = post("/v1/models/whole/predict", body)
    known = list(rows)
    for step in range(horizon):
        value = predicted(module, known)
        assert reply["prediction"]["values"][0][step][0] == pytest.approx(value, abs=1e-5)
        known.append([value, 0.5 * step])
    refused = post("/v1/models/whole/trace", body, 422)
    assert refused["errors"][0]["loc"] == ["body", "horizon"]
