"""Steps that the training skipped, Keras's masks, are refused wherever a request can have them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

MANIFEST = """
format = 2
description = "{name}"
{input}
{layers}
[[layers]]
name = "lstm"
type = "lstm"
[[layers]]
name = "head"
type = "linear"
[[heads]]
task = "{task}"
{more}
predicts = "next_step"
"""
TOKENS = '[input]\nkind = "tokens"\nvocabulary = "{kind}"\npadding = 0\n{entries}'
FEATURES = """[input]
kind = "features"
masked = 0.0
features = [{name = "a"}, {name = "b", mean = 1.0, std = 2.0}]
"""
EMBEDDING = '[[layers]]\nname = "embedding"\ntype = "embedding"'


@pytest.fixture(scope="module")
def client(tmp_path_factory, serve_models):
    root = tmp_path_factory.mktemp("skipped")
    texts = {
        "ids": (TOKENS.format(kind="ids", entries="size = 4"), EMBEDDING, "next_token", ""),
        "text": (TOKENS.format(kind="characters", entries='characters = "_abc"'), EMBEDDING, "next_token", ""),
        "features": (FEATURES, "", "regression", 'names = ["a"]'),
    }
    torch.manual_seed(0)
    for name, (inputs, layers, task, more) in texts.items():
        (root / name / "1").mkdir(parents=True)
        stated = {"name": name, "input": inputs, "layers": layers, "task": task, "more": more}
        (root / name / "model.toml").write_text(MANIFEST.format(**stated))
        wide = 2 if name == "features" else 3
        modules = {"lstm": nn.LSTM(wide, 5), "head": nn.Linear(5, 1 if name == "features" else 4)}
        if wide == 3:
            modules["embedding"] = nn.Embedding(4, 3)
        save_file(nn.ModuleDict(modules).state_dict(), root / name / "1" / "model.safetensors")
    with serve_models(root) as client:
        yield client


PADDING = "is 0, which stands for padding: the model skips it, so leave it out of the sequence"
MASKED = "all its numbers are fed as 0, which marks steps that the model skips: leave the step out"


def refused(reply):
    assert reply.status_code == 422, reply.text
    (error,) = reply.json()["errors"]
    return error["loc"], error["msg"] if "msg" in error else error["message"]


@pytest.mark.parametrize("route", ["predict", "trace"])
@pytest.mark.parametrize(
    ("name", "body", "loc", "message"),
    [
        ("ids", {"inputs": [[1, 2], [3, 0, 1]]}, ["inputs", 1, 1], PADDING),
        ("ids", {"inputs": [[0]]}, ["inputs", 0, 0], PADDING),
        ("text", {"text": "ab_c"}, ["text"], PADDING),
        ("features", {"inputs": [[[1.0, 1.0], [0.0, 1.0]]]}, ["inputs", 0, 1], MASKED),
    ],
)
def test_they_are_refused_with_their_place(client, route, name, body, loc, message):
    said, text = refused(client.post(f"/v1/models/{name}/{route}", json=body))
    assert said[-len(loc) :] == loc
    assert message in text


def test_steps_that_only_look_like_one_are_served(client):
    for rows in ([[0.0, 0.0]], [[1.0, 1.0]], [[0.0, 1.0000001]]):
        assert client.post("/v1/models/features/predict", json={"inputs": [rows]}).status_code == 200
    assert client.post("/v1/models/ids/predict", json={"inputs": [[1, 2, 3]]}).status_code == 200


def test_padding_that_lengths_cut_off_is_not_read(client):
    given = {"inputs": [[1, 2, 3], [2, 0, 0]], "sequence_lengths": [3, 1]}
    reply = client.post("/v1/models/ids/predict", json=given).json()
    alone = client.post("/v1/models/ids/predict", json={"inputs": [[2]]}).json()
    np.testing.assert_allclose(reply["prediction"]["values"][1][0], alone["prediction"]["values"][0][0], atol=1e-6)


def test_a_body_like_an_earlier_one_is_checked_too(client):
    """A body that differs in numbers only may be read by a template; not where numbers are refused."""
    for _ in range(3):
        assert client.post("/v1/models/features/predict", json={"inputs": [[[1.0, 2.0]]]}).status_code == 200
    assert refused(client.post("/v1/models/features/predict", json={"inputs": [[[0.0, 1.0]]]}))[1] == MASKED
    tensor = {"name": "inputs", "shape": [1, 1, 2], "datatype": "FP32", "data": [1.0, 2.0]}
    for _ in range(3):
        assert client.post("/v2/models/features/infer", json={"inputs": [tensor]}).status_code == 200
    reply = client.post("/v2/models/features/infer", json={"inputs": [{**tensor, "data": [0.0, 1.0]}]})
    assert reply.status_code in (400, 422)
    assert MASKED in json.dumps(reply.json())


def test_sessions_refuse_them(client):
    session = client.post("/v1/sessions", json={"model": "ids"}).json()["session_id"]
    assert client.post(f"/v1/sessions/{session}/steps", json={"inputs": [1, 2]}).status_code == 200
    assert refused(client.post(f"/v1/sessions/{session}/steps", json={"inputs": [3, 0]}))[1] == PADDING


def test_what_is_known_ahead_is_checked(client):
    body = {"inputs": [[[1.0, 1.0]]], "horizon": 1, "future_inputs": [[[0.0, 1.0]]]}
    loc, message = refused(client.post("/v1/models/features/predict", json=body))
    assert loc == ["body", "future_inputs", 0, 0, 0]
    assert message == MASKED


def test_a_model_that_may_write_its_padding_has_no_horizon(client):
    loc, message = refused(client.post("/v1/models/ids/predict", json={"inputs": [[1, 2]], "horizon": 2}))
    assert loc[-1] == "horizon"
    assert "may predict 0, its padding, which it does not read" in message
