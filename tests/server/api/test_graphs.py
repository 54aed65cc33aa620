"""ONNX graphs behind the same routes as every model: predictions, traces, sessions, batches, /v2."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.numpy import load
from torch import nn

from example_graphs import exported
from gatescope.backends.reference import run
from gatescope.checkpoints.importer import Options, import_checkpoint


class Stream(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.LSTM(3, 6, 2, batch_first=True), nn.Linear(6, 2)

    def forward(self, x, h, c):
        y, (h, c) = self.rnn(x, (h, c))
        return self.fc(y), h, c


class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.GRU(3, 6, batch_first=True, bidirectional=True), nn.Linear(12, 2)

    def forward(self, x):
        return self.fc(self.rnn(x)[0][:, -1])


@pytest.fixture(scope="module")
def modules():
    torch.manual_seed(1)
    return {"stream": Stream().eval(), "fixed": Fixed().eval()}


@pytest.fixture(scope="module")
def folder(modules, tmp_path_factory):
    root = tmp_path_factory.mktemp("graphs")
    axes = {"x": {0: "b", 1: "t"}, "h0": {1: "b"}, "c0": {1: "b"}}
    given = (torch.randn(2, 5, 3), torch.zeros(2, 2, 6), torch.zeros(2, 2, 6))
    stream = exported(modules["stream"], given, root / "s.onnx", ("x", "h0", "c0"), ("y", "hn", "cn"), axes)
    fixed = exported(modules["fixed"], (torch.randn(2, 8, 3),), root / "f.onnx", open_axes={"x": {0: "b"}})
    names = Options(features=("a", "b", "c"), outputs=("p", "q"))
    import_checkpoint(stream, root / "models", "stream", names)
    import_checkpoint(fixed, root / "models", "fixed", names)
    return root / "models"


@pytest.fixture(scope="module")
def server(folder, serve_models):
    with serve_models(folder) as client:
        yield client


@pytest.fixture(scope="module")
def rows():
    torch.manual_seed(2)
    return [torch.randn(length, 3) for length in (9, 4, 9)]


def test_model_info_says_that_it_is_a_graph(server):
    info = server.get("/v1/models/stream").json()
    assert (info["state"], info["verified"]["by"], info["verified"]["sample"]) == ("ready", "graph", None)
    assert [module["name"] for module in info["modules"]] == ["rnn", "rnn.1"]
    assert info["trace_method"] == "replay"
    assert info["parameters"] == sum(each.numel() for each in Stream().parameters())


def test_ragged_predictions_are_the_modules_own(server, modules, rows):
    reply = server.post("/v1/models/stream/predict", json={"inputs": [row.tolist() for row in rows]}).json()
    assert "verified" not in reply["model"]
    for row, values in zip(rows, reply["prediction"]["values"], strict=True):
        expected = modules["stream"](row[None], torch.zeros(2, 1, 6), torch.zeros(2, 1, 6))[0][0]
        np.testing.assert_allclose(values, expected.detach(), atol=1e-5)


def test_a_trace_is_what_the_equations_give(server, modules, rows):
    body = {"inputs": [row.tolist() for row in rows], "module": "rnn"}
    headers = {"Accept": "application/vnd.safetensors"}
    arrays = load(server.post("/v1/models/stream/trace", json=body, headers=headers).content)
    lstm = modules["stream"].rnn
    for index, row in enumerate(rows):
        exact = run(lstm, row.double())
        for name in ("input_gate", "forget_gate", "cell_candidate", "output_gate", "cell_state", "hidden_state"):
            found = arrays[name][index, 0, 0, : len(row)]
            np.testing.assert_allclose(found, exact[name][0, 0], atol=1e-5)


def test_a_session_goes_on_where_it_stood(server, modules):
    torch.manual_seed(6)
    inputs = torch.randn(10, 3)
    whole = modules["stream"](inputs[None], torch.zeros(2, 1, 6), torch.zeros(2, 1, 6))[0][0].detach().numpy()
    name = server.post("/v1/sessions", json={"model": "stream"}).json()["session_id"]
    made = []
    for part in inputs.split(3):
        reply = server.post(f"/v1/sessions/{name}/steps", json={"inputs": part.tolist()})
        assert reply.status_code == 200, reply.text
        made += reply.json()["prediction"]["values"][0]
    np.testing.assert_allclose(made, whole, atol=1e-5)
    state = server.get(f"/v1/sessions/{name}/state").json()
    assert np.shape(state["hidden_state"]) == (2, 1, 6)


def test_requests_that_come_together_are_batched(server, modules):
    torch.manual_seed(7)
    inputs = torch.randn(40, 6, 3)

    def ask(row):
        return server.post("/v1/models/stream/predict", json={"inputs": row.tolist()}).json()["prediction"]["values"]

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(ask, inputs))
    expected = modules["stream"](inputs, torch.zeros(2, 40, 6), torch.zeros(2, 40, 6))[0].detach()
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)
    stats = server.get("/v2/models/stream/stats").json()["model_stats"][0]
    assert stats["execution_count"] < stats["inference_count"]


def test_another_length_than_the_graph_takes_is_refused_with_its_place(server):
    body = {"inputs": [[[0.0] * 3] * 8, [[0.0] * 3] * 7]}
    reply = server.post("/v1/models/fixed/predict", json=body)
    assert reply.status_code == 422
    (error,) = reply.json()["errors"]
    assert error["loc"] == ["body", "inputs", 1]
    assert "7 time steps; model 'fixed' takes exactly 8" in error["msg"]


def test_a_graph_without_state_cannot_be_streamed(server):
    reply = server.post("/v1/sessions", json={"model": "fixed"})
    assert reply.status_code == 422
    assert "bidirectional" in reply.text


def test_an_initial_state_that_the_graph_does_not_take_is_refused(server):
    state = {"hidden_state": np.zeros((2, 1, 6)).tolist()}
    reply = server.post("/v1/models/fixed/predict", json={"inputs": [[0.0] * 3] * 8, "initial_state": state})
    assert reply.status_code == 422
    assert "its graph takes no state" in reply.text


def test_v2_answers_predictions_and_signals(server, modules):
    torch.manual_seed(8)
    inputs = torch.randn(2, 8, 3)
    body = {
        "inputs": [{"name": "inputs", "datatype": "FP32", "shape": [2, 8, 3], "data": inputs.flatten().tolist()}],
        "outputs": [{"name": "prediction"}, {"name": "update_gate"}],
    }
    reply = server.post("/v2/models/fixed/infer", content=json.dumps(body)).json()
    found = {each["name"]: np.reshape(each["data"], each["shape"]) for each in reply["outputs"]}
    np.testing.assert_allclose(found["prediction"], modules["fixed"](inputs).detach(), atol=1e-5)
    exact = run(modules["fixed"].rnn, inputs[0].double())["update_gate"]
    np.testing.assert_allclose(found["update_gate"][0], exact, atol=1e-5)


def test_one_step_is_explained(server):
    body = {"inputs": [[0.1, 0.2, 0.3]] * 8, "layer": 0, "direction": "reverse", "time_step": 2, "unit": 1}
    reply = server.post("/v1/models/fixed/explain", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["residual"] < 1e-6


def test_an_upload_of_a_graph_is_served(server, folder):
    content = (folder / "stream" / "1" / "model.onnx").read_bytes()
    reply = server.put("/v1/models/uploaded", content=content)
    assert reply.status_code == 201, reply.text
    assert reply.json()["verified"]["by"] == "graph"
