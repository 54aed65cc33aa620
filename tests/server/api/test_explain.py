"""`POST /v1/models/{name}/explain`."""

import itertools

import numpy as np
import pytest
import torch

from gatescope.cells import LSTM

GATES = LSTM.signal_names[:4]
CONTRIBUTOR = {"name", "value", "weight", "contribution"}

RIVER = [[float(day), 7 if day % 2 else 9] for day in range(5)]
LEVELS = [[10.0 + hour, float(hour)] for hour in range(4)]


@pytest.fixture(scope="module")
def founding():
    """The founding example's first row: (time 1, batch 1, feature 5), with states given."""
    torch.manual_seed(5)
    inputs, h0, c0 = torch.randn(1, 3, 5), torch.randn(2, 3, 6), torch.randn(2, 3, 6)
    state = {"hidden_state": h0[:, :1].tolist(), "cell_state": c0[:, :1].tolist()}
    return {"inputs": inputs[:, :1].tolist(), "layout": "time_batch_feature", "initial_state": state}


@pytest.fixture(scope="module")
def projected():
    torch.manual_seed(4)
    return {"inputs": torch.randn(4, 3).tolist()}


def assert_agrees(explained, traced):
    """Every value of the walk-through is what the trace says of this unit, here and at the step before."""
    layer, direction, unit = (explained.layer, traced.directions.index(explained.direction), explained.unit)
    signals = {name: np.array(values[0][layer][direction]) for name, values in traced.signals.items()}  # (time, unit)
    now = {name: values[explained.time_step] for name, values in signals.items()}
    cell, hidden = explained.cell_update, explained.hidden_update
    for name in GATES:
        assert explained.gates[name]["value"] == pytest.approx(now[name][unit], abs=1e-5)
        assert {**cell, **hidden}[name] == explained.gates[name]["value"]
    previous = explained.previous_time_step
    entry = layer * len(traced.directions) + direction
    before = traced.initial_state["cell_state"][entry][0] if previous is None else signals["cell_state"][previous]
    assert cell["previous_cell_state"] == pytest.approx(before[unit], abs=1e-5)
    assert cell["cell_state"] == hidden["cell_state"] == pytest.approx(now["cell_state"][unit], abs=1e-5)
    assert hidden["tanh_cell_state"] == pytest.approx(np.tanh(now["cell_state"][unit]), abs=1e-5)
    if hidden["projected_hidden_state"] is None:
        assert hidden["hidden_state"] == pytest.approx(now["hidden_state"][unit], abs=1e-5)
        assert hidden["unprojected_hidden_state"] is None
    else:
        np.testing.assert_allclose(hidden["projected_hidden_state"], now["hidden_state"], atol=1e-5)
        expected = now["output_gate"][unit] * np.tanh(now["cell_state"][unit])
        assert hidden["unprojected_hidden_state"] == pytest.approx(expected, abs=1e-5)
        assert hidden["hidden_state"] is None
    assert explained.residual < 1e-6


def assert_adds_up(explained):
    """The parts of every sum add up, and what is listed is sorted."""
    for gate in explained.gates.values():
        parts = ("input_contribution", "recurrent_contribution", "bias_input", "bias_recurrent")
        assert gate["sum"] == pytest.approx(sum(gate[part] for part in parts), abs=1e-7)
        activation = {"sigmoid": lambda z: 1 / (1 + np.exp(-z)), "tanh": np.tanh}[gate["activation"]]
        assert gate["value"] == pytest.approx(activation(gate["sum"]), abs=1e-12)
        for listed in (gate["largest_inputs"], gate["largest_recurrent"]):
            assert len(listed) <= 8
            assert all(item.keys() == CONTRIBUTOR for item in listed)
            sizes = [abs(item["contribution"]) for item in listed]
            assert sizes == sorted(sizes, reverse=True)
            for item in listed:
                assert item["contribution"] == pytest.approx(item["value"] * item["weight"], abs=1e-6)
    cell, hidden = explained.cell_update, explained.hidden_update
    assert cell["kept"] == pytest.approx(cell["forget_gate"] * cell["previous_cell_state"], abs=1e-7)
    assert cell["written"] == pytest.approx(cell["input_gate"] * cell["cell_candidate"], abs=1e-12)
    assert cell["cell_state"] == pytest.approx(cell["kept"] + cell["written"], abs=1e-12)
    shown = hidden["hidden_state"] if hidden["hidden_state"] is not None else hidden["unprojected_hidden_state"]
    assert shown == pytest.approx(hidden["output_gate"] * hidden["tanh_cell_state"], abs=1e-12)


def inputs_of(explained, gate="input_gate"):
    return {item["name"]: item["value"] for item in explained.gates[gate]["largest_inputs"]}


def test_the_founding_example_is_walked_through(call, networks, founding):
    lstm = networks["founding"].lstm
    traced = call("founding/trace", founding)
    for layer, unit in itertools.product(range(2), range(6)):
        explained = call("founding/explain", founding | {"layer": layer, "time_step": 0, "unit": unit})
        assert_agrees(explained, traced)
        assert_adds_up(explained)
        for row, gate in enumerate(explained.gates.values()):
            assert gate["bias_input"] == pytest.approx(
                getattr(lstm, f"bias_ih_l{layer}")[6 * row + unit].item(), abs=1e-7
            )
            assert gate["bias_recurrent"] == pytest.approx(
                getattr(lstm, f"bias_hh_l{layer}")[6 * row + unit].item(), abs=1e-7
            )
            assert len(gate["largest_recurrent"]) == 6
            assert {item["name"] for item in gate["largest_recurrent"]} == {f"unit {other}" for other in range(6)}
            below = set("abcde") if layer == 0 else {f"layer 0 forward unit {other}" for other in range(6)}
            assert {item["name"] for item in gate["largest_inputs"]} == below
    assert explained.previous_time_step is None
    assert (explained.model, explained.direction, explained.token) == (
        {"name": "founding", "version": "1"},
        "forward",
        None,
    )
    assert list(explained.inputs) == list("abcde")
    assert np.float32(list(explained.inputs.values())).tolist() == founding["inputs"][0][0]


BODIES = {
    "forecaster": {"inputs": LEVELS},
    "river": {"inputs": RIVER},
    "letters": {"text": "abba c"},
    "mood": {"text": "sun is here ."},
    "both-ways": {"inputs": [[0.3, -1.0, 2.0], [0.0, 0.5, 1.0], [1.0, -0.5, -1.0]]},
}
PLACES = [("forecaster", 0, "forward"), ("river", 0, "forward"), ("letters", 0, "forward"), ("mood", 0, "forward")]
PLACES += [("both-ways", layer, direction) for layer in range(2) for direction in ("forward", "reverse")]


@pytest.mark.parametrize("time_step", [0, 1, -1])
@pytest.mark.parametrize(("model", "layer", "direction"), PLACES)
def test_every_kind_of_model_agrees_with_its_trace(call, model, layer, direction, time_step):
    place = {"layer": layer, "direction": direction, "time_step": time_step, "unit": 3}
    traced = call(f"{model}/trace", BODIES[model])
    explained = call(f"{model}/explain", BODIES[model] | place)
    assert explained.time_step == time_step % traced.sequence_lengths[0]
    assert_agrees(explained, traced)
    assert_adds_up(explained)


def test_formulas_are_written_with_the_replys_numbers(call, founding):
    explained = call("founding/explain", founding | {"time_step": 0, "unit": 2})

    def shown(value):
        return f"{value:.4g}".replace("-", "−")

    for gate in explained.gates.values():
        assert gate["formula"].startswith(f"{gate['activation']}({shown(gate['input_contribution'])} ")
        assert gate["formula"].endswith(f") = {shown(gate['value'])}")
        assert shown(abs(gate["recurrent_contribution"])) in gate["formula"]
    for update in (explained.cell_update, explained.hidden_update):
        numbers = [
            value for name, value in update.items() if isinstance(value, float) and name not in ("kept", "written")
        ]
        assert all(shown(value) in update["formula"] for value in numbers)


def test_features_are_named_as_the_lstm_is_fed_them(call):
    scaled = call("forecaster/explain", {"inputs": LEVELS, "time_step": 1, "unit": 0})
    assert scaled.inputs == {"level": 11.0, "hour": 1.0}
    assert inputs_of(scaled) == pytest.approx(
        {"level": 0.5, "hour (sin)": np.sin(2 * np.pi / 24), "hour (cos)": np.cos(2 * np.pi / 24)}, abs=1e-6
    )
    category = call("river/explain", {"inputs": RIVER, "time_step": 3, "unit": 0})
    assert category.inputs == {"rain": 3.0, "gauge": 7.0}
    assert inputs_of(category) == {"rain": 3.0, "gauge=7": 1.0}  # gauge=9 contributes nothing


def test_tokens_are_named_by_themselves_or_by_the_places_of_their_embedding(call, networks):
    letter = call("letters/explain", {"text": "ab", "time_step": 1, "unit": 0})
    assert (letter.token, letter.inputs) == ("b", None)
    assert inputs_of(letter) == {"b": 1.0}
    word = call("mood/explain", {"text": "Zounds sun", "time_step": 0, "unit": 0})
    assert (word.token, word.inputs) == ("Zounds", None)  # as it was sent, though it is read as <unknown>
    embedding = networks["mood"].embedding.weight[0].tolist()
    assert inputs_of(word) == pytest.approx(
        {f"embedding {index}": value for index, value in enumerate(embedding)}, abs=1e-6
    )


def test_a_higher_layer_reads_both_directions_of_the_layer_below(call, projected):
    explained = call("both-ways/explain", projected | {"layer": 1, "time_step": 2, "unit": 1})
    traced = call("both-ways/trace", projected | {"layers": [0], "signals": ["hidden_state"]})
    hidden = np.array(traced.signals["hidden_state"][0][0])[:, 2]  # (direction, unit)
    assert inputs_of(explained) == pytest.approx(
        {
            f"layer 0 {direction} unit {unit}": hidden[row, unit]
            for row, direction in enumerate(("forward", "reverse"))
            for unit in range(2)
        },
        abs=1e-6,
    )


@pytest.mark.parametrize(("direction", "previous"), [("forward", [None, 0, 1, 2]), ("reverse", [1, 2, 3, None])])
def test_the_state_before_is_that_of_the_step_that_the_direction_read_before(call, projected, direction, previous):
    place = {"direction": direction, "unit": 0}
    replies = [call("both-ways/explain", projected | place | {"time_step": step}) for step in range(4)]
    assert [reply.previous_time_step for reply in replies] == previous
    at_start = replies[previous.index(None)]
    assert at_start.cell_update["previous_cell_state"] == 0
    assert at_start.gates["forget_gate"]["largest_recurrent"] == []  # a zero state contributes nothing
    for reply, before in zip(replies, previous, strict=True):
        if before is not None:
            kept = replies[before].cell_update["cell_state"]
            assert reply.cell_update["previous_cell_state"] == pytest.approx(kept, abs=1e-6)


def test_steps_fed_back_are_walked_through_too(call):
    letters = {"text": "ab", "horizon": 5}
    traced = call("letters/trace", letters)
    explained = call("letters/explain", letters | {"time_step": -1, "unit": 3})
    assert (explained.time_step, explained.previous_time_step) == (6, 5)
    assert explained.token == traced.tokens[0][6]
    assert_agrees(explained, traced)

    levels = {"inputs": LEVELS, "horizon": 2, "future_inputs": [[[None, 4.0], [None, 5.0]]]}
    explained = call("forecaster/explain", levels | {"time_step": 4, "unit": 3})
    forecast = call("forecaster/predict", levels).prediction["values"][0][0][0]
    assert explained.inputs == pytest.approx({"level": forecast, "hour": 4.0}, abs=1e-5)
    assert_agrees(explained, call("forecaster/trace", levels))


def test_padding_lengths_and_a_batch_of_one_are_taken_as_in_predict(call):
    place = {"time_step": -1, "unit": 0}
    alone = call("river/explain", {"inputs": RIVER[:3]} | place)
    padded = call("river/explain", {"inputs": [RIVER], "sequence_lengths": [3]} | place)
    assert vars(alone) == vars(padded)
    assert alone.time_step == 2
    version = call("river/versions/1/explain", {"inputs": RIVER[:3]} | place)
    assert vars(version) == vars(alone)


@pytest.mark.parametrize(
    ("place", "loc", "message"),
    [
        ({"unit": 99}, "unit", "unit has no 99; this model has 0 to 5"),
        ({"unit": -1}, "unit", "unit has no -1; this model has 0 to 5"),
        ({"layer": 2}, "layer", "layer has no 2; this model has 0 to 1"),
        ({"direction": "reverse"}, "direction", "direction has no 'reverse'; this model has 'forward'"),
        ({"time_step": 3}, "time_step", "this sequence has 0 to 2, or -3 to -1 counted from its end"),
        ({"time_step": -4}, "time_step", "time_step has no -4"),
        ({"direction": "backward"}, "direction", "'forward' or 'reverse'"),
        ({"unit": True}, "unit", "valid integer"),
        ({"unit": 2**40}, "unit", "this model has 0 to 5"),
        ({"units": [1]}, "units", "did you mean 'unit'?"),
        ({"inputs": [[[0.0] * 5], [[1.0] * 5]]}, "inputs", "there are 2 sequences; a walk-through is of one"),
    ],
)
def test_what_is_not_there_is_refused_by_name(client, place, loc, message):
    body = {"inputs": [[0.0] * 5] * 3, "time_step": 0, "unit": 0} | place
    reply = client.post("/v1/models/founding/explain", json=body)
    assert (reply.status_code, reply.json()["title"]) == (422, "InvalidInput")
    error = reply.json()["errors"][0]
    assert error["loc"] == ["body", loc]
    assert message in error["msg"]


def test_unit_and_time_step_must_be_given_and_every_wrong_part_is_named(client):
    reply = client.post("/v1/models/founding/explain", json={"inputs": [[0.0] * 5]})
    assert {error["loc"][1]: error["msg"] for error in reply.json()["errors"]} == {
        "time_step": "'time_step' is missing",
        "unit": "'unit' is missing",
    }
    wrong = {"layer": 9, "direction": "reverse", "time_step": 9, "unit": 9}
    reply = client.post("/v1/models/founding/explain", json={"inputs": [[0.0] * 5]} | wrong)
    assert [error["loc"][1] for error in reply.json()["errors"]] == list(wrong)


def test_several_texts_are_refused_at_their_place(client):
    reply = client.post("/v1/models/letters/explain", json={"text": ["a", "b"], "time_step": 0, "unit": 0})
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["loc"] == ["body", "text"]


def test_the_reply_has_the_fields_that_openapi_describes(client, call, projected):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    explained = call("both-ways/explain", projected | {"time_step": 0, "unit": 3})
    assert vars(explained).keys() == schemas["ExplainReply"]["properties"].keys() - {"notes"}
    assert explained.gates.keys() == schemas["GatesReply"]["properties"].keys()
    for gate in explained.gates.values():
        assert gate.keys() == schemas["GateReply"]["properties"].keys()
    assert explained.cell_update.keys() == schemas["CellUpdateReply"]["properties"].keys()
    assert explained.hidden_update.keys() == schemas["HiddenUpdateReply"]["properties"].keys()
    example = schemas["ExplainRequest"]["examples"][0]
    assert example.keys() >= {"time_step", "unit"}
