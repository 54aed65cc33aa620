"""`POST /v1/models/{name}/intervene`: its numbers are the library's, over a real server."""

import io
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load
from websockets.sync.client import connect

from gatescope import Intervention, intervene, safetensors_file
from gatescope.selection import Selection

LEVELS = [[[10.0 + hour % 3, float(hour % 24)] for hour in range(9)], [[11.0, float(hour)] for hour in range(5)]]
XYZ = [[[0.3, -1.0, 2.0], [0.0, 0.5, 1.0], [1.0, -0.5, -1.0]], [[1.0, 0.5, 0.2], [0.4, -0.3, 0.1]]]


@pytest.fixture
def refused(client):
    """The only place that a body is refused for, and the message."""

    def post(model, body, status=422):
        reply = client.post(f"/v1/models/{model}/intervene", json=body)
        assert reply.status_code == status, reply.text
        (error,) = reply.json()["errors"]
        return ".".join(map(str, error["loc"])), error["msg"]

    return post


def padded(signal):
    """(batch, layer, direction, time, unit) with NaN for null."""
    return np.array(signal, dtype=float)


def test_both_ways_edits_are_those_of_the_library(call, networks):
    edits = [
        {"signal": "forget_gate", "layer": 0, "direction": "reverse", "units": [1, 3], "set": 0.25},
        {"signal": "cell_state", "layer": 1, "units": "0:2", "time": {"start": 1}, "freeze": True},
        {"signal": "hidden_state", "sequences": [1], "units": "0:3", "scope": "outgoing", "scale": 2},
        {"signal": "output_gate", "layer": 1, "direction": "reverse", "time": {"stop": 2}, "mean": True},
    ]
    same = [
        Intervention("forget_gate", 0, "reverse", [1, 3], set=0.25),
        Intervention("cell_state", 1, units=[0, 1], start=1, freeze=True),
        Intervention("hidden_state", sequences=[1], units=[0, 1], scope="outgoing", scale=2),
        Intervention("output_gate", 1, "reverse", stop=2, mean=True),
    ]
    signals = ["forget_gate", "cell_state", "hidden_state"]
    said = call("both-ways/intervene", {"inputs": XYZ, "interventions": edits, "signals": signals})
    library = intervene(
        networks["both-ways"].lstm, [torch.tensor(each) for each in XYZ], same, selection=Selection(signals)
    )
    for run, expected in ((said.baseline, library.baseline), (said.intervened, library.intervened)):
        for row, length in enumerate((3, 2)):
            np.testing.assert_allclose(run["output"][row], expected.output[row, :length], atol=1e-6)
        for name in signals:
            np.testing.assert_allclose(padded(run["signals"][name]), expected.signals[name], atol=1e-6)
        for name, values in expected.final_state.named().items():
            np.testing.assert_allclose(run["final_state"][name], values, atol=1e-6)
        assert run["residual"] < 1e-6
    for name in signals:
        np.testing.assert_allclose(padded(said.difference["signals"][name]), library.difference[name], atol=1e-6)
    np.testing.assert_allclose(said.difference["output"][1], library.difference["output"][1, :2], atol=1e-6)
    assert not hasattr(said, "notes")  # an output is no prediction, and a hidden state with proj_size has no range


def test_a_prediction_follows_and_the_range_is_noted(call, networks):
    edit = {"signal": "forget_gate", "units": [2], "time": {"start": -7}, "shift": 0.5}
    said = call("forecaster/intervene", {"inputs": LEVELS, "interventions": [edit], "outputs": ["prediction"]})
    plain = call("forecaster/predict", {"inputs": LEVELS})
    assert said.baseline["prediction"] == plain.prediction
    hours = [np.array(row) for row in LEVELS]
    angles = [2 * np.pi * row[:, 1] / 24 for row in hours]
    read = [
        np.stack([(row[:, 0] - 10) / 2, np.sin(angle), np.cos(angle)], axis=1)
        for row, angle in zip(hours, angles, strict=True)
    ]
    net = networks["forecaster"]
    library = intervene(
        net.lstm,
        [torch.tensor(row, dtype=torch.float32) for row in read],
        [Intervention("forget_gate", units=[2], start=-7, shift=0.5)],
    )
    for row, length in enumerate((9, 5)):
        expected = net.head(library.intervened.output[row, :length]).detach().numpy() * 2 + 10
        np.testing.assert_allclose(said.intervened["prediction"]["values"][row], expected, atol=1e-5)
        change = np.array(said.difference["prediction"]["values"][row])
        np.testing.assert_allclose(change, expected - np.array(plain.prediction["values"][row]), atol=1e-5)
        assert np.count_nonzero(np.abs(change) > 1e-6) == length - 2  # from step 9 − 7 on
    assert [note["code"] for note in said.notes] == ["unverified", "out_of_range"]
    assert said.notes[1]["message"] == "forget_gate may leave its range, 0 to 1; no value is clipped"


def test_edited_texts_and_the_labels_that_change(call):
    body = {"text": ["abba", "cab"], "text_edited": ["abca", "cab"]}
    said = call("letters/intervene", body)
    before, after = (call("letters/predict", {"text": body[name]}) for name in ("text", "text_edited"))
    assert said.intervened["prediction"] == after.prediction
    assert said.intervened["tokens"] == after.tokens
    for name in ("values", "probabilities"):
        np.testing.assert_allclose(
            said.difference["prediction"][name][0],
            np.array(after.prediction[name][0]) - np.array(before.prediction[name][0]),
            atol=1e-6,
        )
        assert not np.any(said.difference["prediction"][name][1])
    both = zip(before.prediction["labels"][0], after.prediction["labels"][0], strict=True)
    assert said.difference["prediction"]["changed_labels"] == [
        {"sequence": 0, "step": step, "baseline": was, "intervened": became}
        for step, (was, became) in enumerate(both)
        if was != became
    ]


def test_a_text_may_grow_where_a_prediction_is_of_the_whole(call, refused):
    body = {"text": "sun is here", "text_edited": "rain is not here ."}
    said = call("mood/intervene", body)
    assert said.intervened["prediction"] == call("mood/predict", {"text": body["text_edited"]}).prediction
    assert "unknown_token" in [note["code"] for note in said.notes]  # of the edited text
    place, message = refused("mood", body | {"signals": ["cell_state"]})
    assert place == "body.text_edited"
    assert "sequence 0 has 5 time steps and had 3" in message


def test_a_stored_trace_is_run_again_and_patched_from_another(client, call):
    stored = client.post("/v1/traces", json={"model": "forecaster", "inputs": LEVELS}).json()["trace_id"]
    source = {"trace_id": stored, "sequence": 1}
    edits = [
        {"signal": name, "sequences": [0], "time": {"start": 4, "stop": 5}, "patch_from": source}
        for name in ("cell_state", "hidden_state")
    ]
    said = call("forecaster/intervene", {"trace_id": stored, "interventions": edits})
    assert said.baseline["prediction"] == call("forecaster/predict", {"inputs": LEVELS}).prediction
    other = LEVELS[1] + LEVELS[0][5:]
    expected = call("forecaster/predict", {"inputs": [other]}).prediction["values"][0]
    np.testing.assert_allclose(said.intervened["prediction"]["values"][0][4:], expected[4:], atol=1e-5)
    values = call("forecaster/trace", {"inputs": LEVELS[1]}).signals["cell_state"]
    by_value = {k: v for k, v in edits[0].items() if k != "patch_from"} | {"patch": values[0][0][0][4:5]}
    again = call("forecaster/intervene", {"inputs": LEVELS, "interventions": [by_value, edits[1]]})
    assert again.intervened["prediction"] == said.intervened["prediction"]


def test_a_session_goes_on_from_an_edited_step(client, call, networks):
    opened = client.post("/v1/sessions", json={"model": "founding"}).json()["session_id"]
    rows = [[0.1 * step, 0.2, -0.3, 0.4, 0.5] for step in range(4)]
    edit = {"signal": "cell_state", "layer": 1, "units": [0, 5], "time": {"start": 1}, "scale": -1}
    path = f"/v1/sessions/{opened}/steps"
    first = client.post(path, json={"inputs": rows[:2], "step_number": 0, "interventions": [edit]}).json()
    assert client.post(path, json={"inputs": rows[:2], "step_number": 0}).status_code == 409  # it was another step
    again = client.post(path, json={"inputs": rows[:2], "step_number": 0, "interventions": [edit]}).json()
    assert again["output"] == first["output"]
    second = client.post(path, json={"inputs": rows[2:], "step_number": 1}).json()
    same = Intervention("cell_state", 1, units=[0, 5], start=1, stop=2, scale=-1)
    library = intervene(networks["founding"].lstm, [torch.tensor(rows)], [same])
    np.testing.assert_allclose(first["output"][0] + second["output"][0], library.intervened.output[0], atol=1e-6)
    assert not {"out_of_range"} & {note["code"] for note in first.get("notes", ())}  # a cell state has no range
    client.delete(f"/v1/sessions/{opened}")


def test_a_forecast_and_a_session_go_on_from_edited_states(client, call):
    edit = {"signal": "cell_state", "units": [1, 2], "time": {"start": -3}, "scale": 0.25}
    future = {"horizon": 3, "future_inputs": [[None, float(hour)] for hour in (9, 10, 11)]}
    said = call("forecaster/intervene", {"inputs": LEVELS[0], "interventions": [edit]} | future)
    assert said.baseline["prediction"] == call("forecaster/predict", {"inputs": LEVELS[0]} | future).prediction
    whole = call("forecaster/intervene", {"inputs": LEVELS[0], "interventions": [edit]}).intervened["prediction"]
    ahead = np.array(said.intervened["prediction"]["values"][0])
    np.testing.assert_allclose(ahead[0], whole["values"][0][-1], atol=1e-5)
    change = np.array(said.difference["prediction"]["values"][0])
    np.testing.assert_allclose(change, ahead - np.array(said.baseline["prediction"]["values"][0]), atol=1e-5)
    # fed back by hand: as inputs behind the edited steps
    fed = LEVELS[0] + [[float(value), hour] for value, hour in zip(ahead[:, 0], (9.0, 10.0, 11.0), strict=True)]
    by_hand = call("forecaster/intervene", {"inputs": fed, "interventions": [edit | {"time": {"start": 6, "stop": 9}}]})
    np.testing.assert_allclose(ahead, by_hand.intervened["prediction"]["values"][0][8:11], atol=1e-4)
    path = f"/v1/sessions/{client.post('/v1/sessions', json={'model': 'forecaster'}).json()['session_id']}"
    step = client.post(f"{path}/steps", json={"inputs": LEVELS[0], "interventions": [edit]} | future).json()
    np.testing.assert_allclose(step["prediction"]["values"][0], ahead, atol=1e-5)
    further = client.post(f"{path}/steps", json={"inputs": fed[9:10]}).json()
    np.testing.assert_allclose(further["prediction"]["values"][0][0], ahead[1], atol=1e-4)
    assert client.delete(path).status_code == 204


def test_binary_replies_hold_every_array_under_its_path(client, call):
    edit = {"signal": "forget_gate", "units": [2], "set": 0.25}
    body = {"inputs": LEVELS, "interventions": [edit], "signals": ["forget_gate"], "outputs": ["prediction", "output"]}
    said = call("forecaster/intervene", body)
    path = "/v1/models/forecaster/intervene"
    tensors = client.post(path, json=body, headers={"Accept": "application/vnd.safetensors"})
    assert tensors.headers["content-type"] == "application/vnd.safetensors"
    arrays, metadata = load(tensors.content), safetensors_file.read(tensors.content).metadata
    packed = client.post(path, json=body, headers={"Accept": "application/x-npz"})
    with np.load(io.BytesIO(packed.content)) as file:
        for name, values in arrays.items():
            np.testing.assert_array_equal(file[name], values)
        assert json.loads(str(file["metadata"]))["intervened"]["module"] == "lstm"
    assert arrays["intervened.sequence_lengths"].tolist() == [9, 5]
    assert arrays["intervened.signals.forget_gate"].shape == (2, 1, 1, 9, 8)
    for run in ("baseline", "intervened", "difference"):
        told = getattr(said, run)
        for name, rows in (("prediction.values", told["prediction"]["values"]), ("output", told["output"])):
            for row, length in enumerate((9, 5)):
                found = arrays[f"{run}.{name}"][row]
                np.testing.assert_allclose(found[:length], rows[row], atol=1e-6)
                assert np.isnan(found[length:]).all()
    assert json.loads(metadata["model"])["name"] == "forecaster"
    refused = client.post(path, json=body, headers={"Accept": "text/csv"})
    assert refused.status_code == 406


def test_a_session_is_patched_from_a_stored_trace(client, call):
    stored = client.post("/v1/traces", json={"model": "forecaster", "inputs": LEVELS}).json()["trace_id"]
    edits = [
        {"signal": name, "time": {"start": 4, "stop": 5}, "patch_from": {"trace_id": stored, "sequence": 1}}
        for name in ("cell_state", "hidden_state")
    ]
    session = client.post("/v1/sessions", json={"model": "forecaster"}).json()["session_id"]
    path = f"/v1/sessions/{session}/steps"
    step = client.post(path, json={"inputs": LEVELS[0], "interventions": edits}).json()
    expected = call("forecaster/predict", {"inputs": [LEVELS[1] + LEVELS[0][5:]]}).prediction["values"][0]
    np.testing.assert_allclose(step["prediction"]["values"][0][4:], expected[4:], atol=1e-5)
    with connect(f"{str(client.base_url).replace('http', 'ws', 1)}/v1/sessions/{session}/stream") as stream:
        stream.send(json.dumps({"inputs": LEVELS[0], "interventions": edits}))
        assert "prediction" in json.loads(stream.recv())
    edits[0]["patch_from"] = {"trace_id": stored}
    reply = client.post(path, json={"inputs": LEVELS[0], "interventions": edits})
    (error,) = reply.json()["errors"]
    assert error["loc"] == ["body", "interventions", 0, "patch_from", "sequence"]
    edits[0]["patch_from"] = {"trace_id": "gone", "sequence": 0}
    reply = client.post(path, json={"inputs": LEVELS[0], "interventions": edits})
    assert (reply.status_code, reply.json()["title"]) == (404, "TraceNotFound")
    client.delete(f"/v1/sessions/{session}")


def test_texts_that_go_on_in_two_ways_are_refused(client):
    edit = {"signal": "cell_state", "set": 0}
    reply = client.post("/v1/models/ids/intervene", json={"inputs": [[1, 2]], "horizon": 2, "interventions": [edit]})
    assert reply.status_code == 422
    assert "the steps of a session take 'interventions' and a 'horizon'" in reply.json()["detail"]


REFUSED = [
    ({}, "body.interventions", "say what is to be changed"),
    ({"interventions": [{"signal": "forget_gate"}]}, "body.interventions.0", "it states none"),
    ({"interventions": [{"signal": "update_gate", "set": 0}]}, "body.interventions.0.signal", "has no signal"),
    ({"interventions": [{"signal": "input_gate", "set": 1.5}]}, "body.interventions.0.set", "1.5 is outside"),
    (
        {"interventions": [{"signal": "input_gate", "set": 0, "time": {"start": 9}}]},
        "body.interventions.0.time",
        "9: holds no time step",
    ),
    (
        {"interventions": [{"signal": "input_gate", "set": 0, "time": {"step": 2}}]},
        "body.interventions.0.time.step",
        "unknown field 'step'",
    ),
    (
        {"interventions": [{"signal": "forget_gat", "set": 0}]},
        "body.interventions.0.signal",
        "there is no 'forget_gat'; did you mean 'forget_gate'?",
    ),
    (
        {"interventions": [{"signal": "input_gate", "direction": "reverse", "set": 0}]},
        "body.interventions.0.direction",
        "no direction 'reverse'",
    ),
    (
        {"interventions": [{"signal": "input_gate", "patch": [[0.5], ["x"]]}]},
        "body.interventions.0.patch.1.0",
        "must be a number",
    ),
    ({"interventions": [{"signal": "input_gate", "set": 0}], "units": [1]}, "body.units", "goes with 'signals'"),
    ({"inputs_edited": [[1.0, 2.0]] * 3}, "body.inputs_edited", "has 1 sequences, but there are 2"),
    ({"inputs_edited": [*LEVELS[:1], [[1.0, 2.0]]]}, "body.inputs_edited", "sequence 1 has 1 time steps and had 5"),
    ({"inputs_edited": [*LEVELS[:1], [[1.0]]]}, "body.inputs_edited.1.0", "has 1 feature"),
    ({"text_edited": "x"}, "body.text_edited", "goes beside 'text'"),
]


@pytest.mark.parametrize(("given", "place", "message"), REFUSED)
def test_what_does_not_fit_is_refused_at_its_place(refused, given, place, message):
    at, said = refused("forecaster", {"inputs": LEVELS} | given)
    assert at == place
    assert message in said


def test_three_traces_must_fit_the_limit(serve):
    edit, body = {"signal": "input_gate", "set": 0}, {"inputs": [LEVELS[0]]}  # a signal: 9 · 8 numbers of 4 bytes
    with serve(max_trace_bytes=3 * 288) as client:
        for signals, status in ((["cell_state"], 200), (["cell_state", "input_gate"], 413)):
            asked = body | {"interventions": [edit], "signals": signals}
            reply = client.post("/v1/models/forecaster/intervene", json=asked)
            assert reply.status_code == status, reply.text
        asked = body | {"interventions": [edit, {"signal": "cell_state", "mean": True}]}
        assert client.post("/v1/models/forecaster/intervene", json=asked).status_code == 200


def test_a_version_is_asked_by_its_name(client, call):
    body = {"inputs": LEVELS, "interventions": [{"signal": "input_gate", "set": 0}]}
    assert vars(call("forecaster/versions/1/intervene", body)) == vars(call("forecaster/intervene", body))
    assert client.post("/v1/models/forecaster/versions/2/intervene", json=body).status_code == 404
