"""`POST /v1/models/{name}/trace`."""

import io

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from gatescope.backends.reference import run
from gatescope.cells import LSTM

WIDTHS = dict.fromkeys(LSTM.signal_names, 4) | {"hidden_state": 2}


@pytest.fixture(scope="module")
def sequences():
    torch.manual_seed(4)
    return [torch.randn(length, 3) for length in (6, 2, 9)]


@pytest.fixture(scope="module")
def body(sequences):
    return {"inputs": [sequence.tolist() for sequence in sequences]}


def test_a_ragged_bidirectional_projected_trace_is_what_the_equations_give(call, networks, sequences, body):
    reply = call("both-ways/trace", body)
    assert reply.residual < 1e-6
    for row, sequence in enumerate(sequences):
        oracle = run(networks["both-ways"].lstm, sequence.double())
        for signal in LSTM.signal_names:
            values = np.array(reply.signals[signal][row])
            assert values.shape == (2, 2, len(sequence), WIDTHS[signal])
            np.testing.assert_allclose(values, oracle[signal], atol=1e-5)


def test_a_selection_is_that_part_of_the_whole_in_the_order_asked_for(call, body):
    whole = call("both-ways/trace", body)
    part = call(
        "both-ways/trace",
        body
        | {
            "signals": ["cell_state", "forget_gate"],
            "layers": [1, 0],
            "directions": ["reverse"],
            "units": [3, 0],
            "time": {"start": 1, "stop": 8, "step": 3},
        },
    )
    assert list(part.signals) == ["cell_state", "forget_gate"]
    assert (part.layers, part.directions, part.units, part.time_steps) == ([1, 0], ["reverse"], [3, 0], [1, 4, 7])
    for signal, rows in part.signals.items():
        for row, values in enumerate(rows):
            full = np.array(whole.signals[signal][row])  # (layer, direction, time, unit)
            np.testing.assert_array_equal(np.array(values), full[[1, 0], 1:][:, :, 1:8:3][..., [3, 0]])


def test_units_may_be_a_slice(call, body):
    sliced, listed = (call("both-ways/trace", body | {"units": units}) for units in ("1:3", [1, 2]))
    assert sliced.units == [1, 2]
    assert sliced.signals == listed.signals


def test_safetensors_and_npz_hold_the_same_arrays_padded_with_nan(call, body):
    ragged = call("both-ways/trace", body)
    tensors = load(call("both-ways/trace", body, headers={"Accept": "application/vnd.safetensors"}))
    with np.load(io.BytesIO(call("both-ways/trace", body, headers={"Accept": "application/x-npz"}))) as file:
        arrays = {name: file[name] for name in file.files if name != "metadata"}
    assert tensors.keys() == arrays.keys() == {*LSTM.signal_names, "sequence_lengths"}
    for signal in LSTM.signal_names:
        np.testing.assert_array_equal(tensors[signal], arrays[signal])
        assert tensors[signal].dtype == np.float32
        for row, length in enumerate(tensors["sequence_lengths"]):
            np.testing.assert_array_equal(tensors[signal][row, :, :, :length], np.float32(ragged.signals[signal][row]))
            assert np.isnan(tensors[signal][row, :, :, length:]).all()


def test_what_was_read_stands_beside_the_trace_of_a_text(call):
    reply = call("letters/trace", {"text": "abba", "signals": ["forget_gate"]})
    assert reply.tokens == [["a", "b", "b", "a"]]
    assert reply.prediction["labels"][0][0] in "abc "


def test_a_trace_with_horizon_covers_the_steps_fed_back(call):
    traced = call("letters/trace", {"text": "ab", "horizon": 5})
    whole = call("letters/trace", {"text": "ab" + traced.prediction["text"][0]})
    assert traced.sequence_lengths == [7]
    np.testing.assert_allclose(traced.signals["cell_state"][0], whole.signals["cell_state"][0], atol=1e-6)


@pytest.mark.parametrize(
    ("selection", "place"),
    [
        ({"signals": ["forget"]}, ["signals", 0]),
        ({"layers": [0, 2]}, ["layers", 1]),
        ({"layers": [-1]}, ["layers", 0]),
        ({"layers": []}, ["layers"]),
        ({"layers": [0, 0]}, ["layers", 1]),
        ({"directions": ["backward"]}, ["directions", 0]),
        ({"units": [4]}, ["units", 0]),
        ({"units": "9:12"}, ["units"]),
        ({"units": "a:b"}, ["units"]),
        ({"time": {"step": 0}}, ["time", "step"]),
        ({"time": {"start": 50}}, ["time"]),
        ({"time": {"begin": 1}}, ["time", "begin"]),
    ],
)
def test_a_selection_of_what_is_not_there_is_refused_by_name(client, body, selection, place):
    reply = client.post("/v1/models/both-ways/trace", json=body | selection)
    assert reply.status_code == 422
    locs = [error["loc"] for error in reply.json()["errors"]]
    assert any(loc[1 : 1 + len(place)] == place for loc in locs), locs


def test_the_reverse_direction_is_refused_where_there_is_none(client):
    reply = client.post("/v1/models/founding/trace", json={"inputs": [[0.0] * 5], "directions": ["reverse"]})
    assert reply.status_code == 422
    assert "'forward'" in reply.json()["detail"]


def test_a_format_that_there_is_none_of_is_refused_before_the_work(client, body):
    reply = client.post("/v1/models/both-ways/trace", json=body, headers={"Accept": "image/png"})
    assert (reply.status_code, reply.json()["title"]) == (406, "NotAcceptable")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("text/html, application/json;q=0.9", "application/json"),
        ("application/json;q=0.2, application/x-npz", "application/x-npz"),
    ],
)
def test_the_format_is_the_one_preferred(client, body, accept, media_type):
    reply = client.post("/v1/models/both-ways/trace", json=body, headers={"Accept": accept})
    assert reply.headers["content-type"] == media_type


def test_a_trace_too_large_says_how_large(serve, body):
    with serve(max_trace_bytes=1000) as client:
        reply = client.post("/v1/models/both-ways/trace", json=body)
        smaller = client.post("/v1/models/both-ways/trace", json=body | {"signals": ["cell_state"], "units": [0]})
    size = 3 * 2 * 2 * 9 * 4 * 6 * 4
    assert reply.status_code == 413
    assert f"{size:,} bytes" in reply.json()["detail"]
    assert smaller.status_code == 200
