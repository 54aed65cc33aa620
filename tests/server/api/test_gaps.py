"""Missing values in requests: filled as the manifest says, and told; else refused with their place."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import save_file
from torch import nn

from example_modules.missing import Flagged
from gatescope.client import Client

FILLED = """format = 2
description = "rain to level"

[input]
kind = "features"
features = [
  { name = "level", missing = "interpolate" },
  { name = "rain", missing = 0.5 },
  { name = "wind", missing = "hold" },
  { name = "heat", mean = 7.0, std = 2.0, missing = "mean" },
  { name = "sun" },
]

[[layers]]
name = "lstm"
type = "lstm"

[[layers]]
name = "head"
type = "linear"

[[heads]]
task = "regression"
names = ["level"]
predicts = "next_step"
"""
FLAGGED = """description = "reads gaps"
task = "regression"
factory = "example_modules.missing:Flagged"
[input]
kind = "features"
features = [{ name = "rain", missing = "nan" }, { name = "heat", missing = "nan" }, { name = "sun", missing = "nan" }]
[output]
names = ["level"]
"""
WITH_GAPS = [[1, None, 3, None, 5], [None, 1, None, 9, 5], [4, None, None, 8, 5], [2, 0, 1, 6, 5]]
BY_HAND = [[1, 0.5, 3, 7, 5], [2.5, 1, 3, 9, 5], [4, 0.5, 3, 8, 5], [2, 0, 1, 6, 5]]
NAMES = ["level", "rain", "wind", "heat", "sun"]
NOTES = [
    "1 value was missing and is filled in 'level': each lies on the line between the values before and behind it",
    "2 values were missing and are filled in 'rain': each is 0.5",
    "2 values were missing and are filled in 'wind': each is the value before it",
    "1 value was missing and is filled in 'heat': each is 7, its mean",
]


@pytest.fixture(scope="module")
def flagged():
    torch.manual_seed(3)
    return Flagged().eval()


@pytest.fixture(scope="module")
def client(tmp_path_factory, serve_models, flagged):
    root = tmp_path_factory.mktemp("gaps")
    torch.manual_seed(0)
    layered = nn.ModuleDict({"lstm": nn.LSTM(5, 3), "head": nn.Linear(3, 1)})
    for name, text, module in (("filled", FILLED, layered), ("flagged", FLAGGED, flagged)):
        (root / name / "1").mkdir(parents=True)
        (root / name / "model.toml").write_text(text)
        save_file(module.state_dict(), root / name / "1" / "model.safetensors")
    with serve_models(root, allow_code=True) as client:
        yield client


@pytest.fixture
def post(client):
    def post(path, body, status=200, **headers):
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        reply = client.post(f"/v1/{path}", **sent, headers=headers)
        assert reply.status_code == status, reply.text
        return reply.json()

    return post


def filled_notes(reply):
    return [note["message"] for note in reply["notes"] if note["code"] == "filled"]


def test_gaps_are_filled_as_the_manifest_says_and_told(post):
    given = post("models/filled/predict", {"inputs": [WITH_GAPS]})
    expected = post("models/filled/predict", {"inputs": [BY_HAND]})
    assert given["prediction"] == expected["prediction"]
    assert filled_notes(given) == NOTES
    assert "filled" not in {note["code"] for note in expected["notes"]}


def test_a_second_request_of_the_same_form_is_filled_too(post):
    """Requests that look alike are read by a template, which takes no gaps."""
    for _ in range(3):
        post("models/filled/predict", {"inputs": [BY_HAND]})
        assert filled_notes(post("models/filled/predict", {"inputs": [WITH_GAPS]})) == NOTES


def test_nan_in_binary_bodies_is_a_gap(post, client):
    expected = post("models/filled/predict", {"inputs": [BY_HAND]})["prediction"]
    array = np.array([WITH_GAPS], dtype=np.float32)
    kind = {"Content-Type": "application/vnd.safetensors"}
    assert post("models/filled/predict", save({"inputs": array}), **kind)["prediction"] == expected
    head = {"name": "inputs", "shape": [1, 4, 5], "datatype": "FP32", "parameters": {"binary_data_size": array.nbytes}}
    stated = json.dumps({"inputs": [head]}).encode()
    size = {"Inference-Header-Content-Length": str(len(stated))}
    inferred = client.post("/v2/models/filled/infer", content=stated + array.tobytes(), headers=size).json()
    outputs = {each["name"]: each for each in inferred["outputs"]}
    np.testing.assert_array_equal(outputs["prediction"]["data"], np.ravel(expected["values"]))
    assert [note["message"] for note in json.loads(inferred["parameters"]["notes"])[:4]] == NOTES


def test_a_data_frame_of_the_client_may_have_gaps(client):
    frame = pd.DataFrame(WITH_GAPS, columns=NAMES, dtype=float)[NAMES[::-1]]
    with Client(str(client.base_url)) as told:
        given = told.predict("filled", frame)
        expected = told.predict("filled", np.array(BY_HAND))
    np.testing.assert_array_equal(given.values, expected.values)


def test_padding_is_no_gap(post):
    padded = [WITH_GAPS, [BY_HAND[0], *[[None] * 5] * 3]]
    given = post("models/filled/predict", {"inputs": padded, "sequence_lengths": [4, 1]})
    assert given["prediction"] == post("models/filled/predict", {"inputs": [BY_HAND, BY_HAND[:1]]})["prediction"]
    assert filled_notes(given) == NOTES


def test_the_inputs_of_a_trace_are_the_filled_ones(post):
    given, expected = (post("models/filled/trace", {"inputs": [each]}) for each in (WITH_GAPS, BY_HAND))
    assert given["signals"] == expected["signals"]
    assert filled_notes(given) == NOTES
    stored, plain = (
        post("traces", {"model": "filled", "inputs": [each]}, 201)["trace_id"] for each in (WITH_GAPS, BY_HAND)
    )
    walks = [
        post("models/filled/explain", {"trace_id": each, "layer": 0, "time_step": 1, "unit": 0})
        for each in (stored, plain)
    ]
    assert walks[0]["gates"] == walks[1]["gates"]


def test_further_steps_are_filled_from_the_last_ones(post):
    future = [[None, None, None, None, 5], [None, 2, 4, 1, 5]]
    by_hand = [[None, 0.5, 1, 7, 5], [None, 2, 4, 1, 5]]
    given, expected = (
        post("models/filled/predict", {"inputs": [BY_HAND], "horizon": 2, "future_inputs": [each]})
        for each in (future, by_hand)
    )
    assert given["prediction"] == expected["prediction"]
    assert [note.partition(" in ")[2].partition(":")[0] for note in filled_notes(given)] == [
        "'rain'",
        "'wind'",
        "'heat'",
    ]
    assert "filled" not in {note["code"] for note in expected["notes"]}


@pytest.mark.parametrize(
    ("step", "feature", "said"),
    [
        (2, 4, "'sun' is missing: the model's manifest does not say what a gap of it means"),
        (0, 2, "'wind' is missing, and there is no value before it"),
        (0, 0, "'level' is missing, and there are no values on both sides"),
        (3, 0, "'level' is missing, and there are no values on both sides"),
    ],
)
@pytest.mark.parametrize("layout", ["batch_time_feature", "time_batch_feature"])
def test_what_cannot_be_filled_is_refused_where_it_was_sent(post, step, feature, said, layout):
    order = [3, 0, 4, 2, 1]
    rows = [[BY_HAND[row][index] for index in order] for row in range(4)]
    rows[step][order.index(feature)] = None
    inputs = [rows] if layout == "batch_time_feature" else [[row] for row in rows]
    body = {"inputs": inputs, "columns": [NAMES[index] for index in order], "layout": layout}
    (error,) = post("models/filled/predict", body, 422)["errors"]
    place = [0, step] if layout == "batch_time_feature" else [step, 0]
    assert error["loc"] == ["body", "inputs", *place, order.index(feature)]
    assert said in error["msg"]


def test_infinity_and_words_are_no_gaps(post):
    for value, said in (("x", "must be a number"), (1e300, "finite")):
        (error,) = post("models/filled/predict", {"inputs": [[[1, value, 3, 4, 5]]]}, 422)["errors"]
        assert said in error["msg"]


STREAM = [[1, 0, 3, 7, 5], [None, 2, None, 7, 5], [4, 0, None, 7, 5], [5, 1, None, 7, 5], [2, 0, 9, 7, 5]]
STREAM_BY_HAND = [[1, 0, 3, 7, 5], [2.5, 2, 3, 7, 5], [4, 0, 3, 7, 5], [5, 1, 3, 7, 5], [2, 0, 9, 7, 5]]


@pytest.mark.parametrize("parts", [[1, 2, 2], [1, 2, 1, 1], [5]])
def test_the_steps_of_a_session_fill_gaps_as_the_whole_sequence_does(post, parts):
    whole = post("models/filled/predict", {"inputs": STREAM_BY_HAND})["prediction"]["values"][0]
    session, values, first = post("sessions", {"model": "filled"}, 201)["session_id"], [], 0
    for steps in parts:
        given = post(f"sessions/{session}/steps", {"inputs": [STREAM[first : first + steps]]})
        values += given["prediction"]["values"][0]
        first += steps
    np.testing.assert_allclose(values, whole, rtol=0, atol=1e-6)


def test_a_sequence_of_v2_holds_values_of_earlier_requests(post, client):
    whole = post("models/filled/predict", {"inputs": STREAM_BY_HAND})["prediction"]["values"][0]
    values = []
    for first, steps in ((0, 1), (1, 2), (3, 2)):
        data = [STREAM[first : first + steps]]
        flags = {"sequence_id": 7, "sequence_start": first == 0, "sequence_end": first == 3}
        tensor = {"name": "inputs", "shape": [1, steps, 5], "datatype": "FP32", "data": data}
        reply = client.post("/v2/models/filled/infer", json={"inputs": [tensor], "parameters": flags})
        values += reply.json()["outputs"][0]["data"]
    np.testing.assert_allclose(values, np.ravel(whole), rtol=0, atol=1e-6)


def test_a_gap_of_a_session_without_a_value_before_it_is_refused_where_it_was_sent(post, client):
    body = {"inputs": [[[5, 0, None, 0, 1]]], "columns": ["sun", "rain", "wind", "heat", "level"]}
    session = post("sessions", {"model": "filled"}, 201)["session_id"]
    (error,) = post(f"sessions/{session}/steps", body, 422)["errors"]
    assert error["loc"] == ["body", "inputs", 0, 0, 2]
    assert "no value before it" in error["msg"]
    post(f"sessions/{session}/steps", {"inputs": [STREAM[:1]]})
    post(f"sessions/{session}/steps", body)
    client.put(f"/v1/sessions/{session}/state", json=client.get(f"/v1/sessions/{session}/state").json())
    assert "no value before it" in post(f"sessions/{session}/steps", body, 422)["errors"][0]["msg"]  # it is another's
    start = {"sequence_id": 8, "sequence_start": True}
    tensor = {"name": "inputs", "shape": [1, 1, 5], "datatype": "FP32", "data": [1, 0, None, 0, 5]}
    refused = client.post("/v2/models/filled/infer", json={"inputs": [tensor], "parameters": start})
    assert "inputs" in refused.text
    assert "no value before it" in refused.text


def test_a_step_that_is_sent_again_is_filled_as_the_first_time(post):
    session = post("sessions", {"model": "filled"}, 201)["session_id"]
    post(f"sessions/{session}/steps", {"inputs": [STREAM[:1]], "step_number": 0})
    step = {"inputs": [STREAM[1:3]], "step_number": 1}
    once, again = (post(f"sessions/{session}/steps", step) for _ in range(2))
    assert once["prediction"] == again["prediction"]


def test_null_in_tensors_of_v2_is_a_gap(post, client):
    tensor = {"name": "inputs", "shape": [1, 4, 5], "datatype": "FP32", "data": np.ravel(WITH_GAPS).tolist()}
    for data in (tensor["data"], [WITH_GAPS]):
        reply = client.post("/v2/models/filled/infer", json={"inputs": [tensor | {"data": data}]})
        expected = post("models/filled/predict", {"inputs": [BY_HAND]})["prediction"]["values"]
        np.testing.assert_array_equal(reply.json()["outputs"][0]["data"], np.ravel(expected))
    refused = client.post("/v2/models/filled/infer", json={"inputs": [tensor | {"data": [None] * 20}]})
    assert "'level' is missing" in refused.text


def test_the_document_says_that_inputs_may_be_null(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    choices = schemas["PredictRequest"]["properties"]["inputs"]["anyOf"]
    numbers = next(each for each in choices if each["title"] == "batch × time × feature")["items"]["items"]["items"]
    assert {"type": "null"} in numbers["anyOf"]


def test_a_sample_with_gaps_is_filled_and_checked(tmp_path, serve_models):
    torch.manual_seed(0)
    module = nn.ModuleDict({"lstm": nn.LSTM(5, 3, batch_first=True), "head": nn.Linear(3, 1)})
    fed = torch.tensor([BY_HAND]) - torch.tensor([0, 0, 0, 7.0, 0])
    expected = module["head"](module["lstm"](fed / torch.tensor([1, 1, 1, 2.0, 1]))[0]).tolist()
    refused = [[*WITH_GAPS[0][:4], None], *WITH_GAPS[1:]]
    for name, inputs in (("good", WITH_GAPS), ("bad", refused)):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "model.toml").write_text(FILLED)
        save_file(module.state_dict(), tmp_path / name / "1" / "model.safetensors")
        sample = {"request": {"inputs": [inputs]}, "expected": expected}
        (tmp_path / name / "1" / "sample.json").write_text(json.dumps(sample))
    with serve_models(tmp_path) as client:
        info = client.get("/v1/models/good").json()
        assert info["verified"]["max_error"] < 1e-5
        assert client.post("/v1/models/good/predict", json=info["examples"][0]["request"]).status_code == 200
        assert "'sun' is missing" in client.get("/v1/models/bad").json()["reason"]


def test_a_module_that_reads_nan_gets_it(post, flagged):
    inputs = [[[1, None, 2], [None, None, 1], [0, 3, 1]]]
    given = post("models/flagged/trace", {"inputs": inputs})
    with torch.no_grad():
        expected = flagged(torch.tensor(np.array(inputs, dtype=np.float32)))
    np.testing.assert_allclose(given["prediction"]["values"], expected, rtol=1e-6, atol=1e-7)
    assert given["residual"] < 1e-6
    assert "filled" not in {note["code"] for note in given.get("notes", ())}


def test_model_info_tells_which_values_may_be_missing(client):
    told = client.get("/v1/models/filled").json()["missing"]
    assert told == {"level": "interpolate", "rain": 0.5, "wind": "hold", "heat": "mean"}


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ('missing = "nan"', "no layer computes with NaN"),
        ('missing = "mean"', "states no mean"),
        ('period = 24, missing = "interpolate"', "of a category or a phase"),
        ("categories = [1, 2], missing = 3", "no category"),
        ('missing = "zero"', "missing"),
        ("missing = inf", "missing"),
    ],
)
def test_a_rule_that_means_nothing_is_refused_when_the_model_is_loaded(tmp_path, serve_models, feature, said):
    (tmp_path / "wrong" / "1").mkdir(parents=True)
    layers = FILLED.partition("\n]\n")[2]
    (tmp_path / "wrong" / "model.toml").write_text(
        f'format = 2\ndescription = "d"\n[input]\nkind = "features"\nfeatures = [{{ name = "a", {feature} }}]\n{layers}'
    )
    save_file({"lstm.weight": torch.ones(1)}, tmp_path / "wrong" / "1" / "model.safetensors")
    with serve_models(tmp_path) as client:
        assert said in client.get("/v1/models/wrong").json()["reason"]
