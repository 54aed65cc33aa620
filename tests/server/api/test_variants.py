"""Models around cells of other functions, over HTTP."""

import numpy as np
import pytest

from tests.cells import equations
from tests.server.api.variants import HIDDEN, MODELS, ROWS, weights, write


@pytest.fixture(scope="module")
def client(tmp_path_factory, serve_models):
    root = tmp_path_factory.mktemp("variants")
    write(root)
    with serve_models(root) as client:
        yield client


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def expected(name):
    """Every signal (layer, direction, time, unit) of `ROWS`, and the final states."""
    cell, functions, _ = MODELS[name]
    zeros = [np.zeros(HIDDEN)] * (2 if cell == "lstm" else 1)
    signals, _, final = equations.run(cell, functions, ROWS.astype(np.float64), [weights(cell)], [zeros])
    return signals, final


def posted(client, path, body, status=200):
    reply = client.post(path, json=body)
    assert reply.status_code == status, reply.text
    return reply.json()


def test_the_trace_is_that_of_the_equations(client, name, expected):
    reply = posted(client, f"/v1/models/{name}/trace", {"inputs": [ROWS.tolist()], "signals": list(expected[0])})
    for signal, values in expected[0].items():
        np.testing.assert_allclose(np.array(reply["signals"][signal])[0], values, rtol=1e-5, atol=1e-5)
    assert reply["residual"] <= 1e-6


def test_model_info_tells_the_functions_and_their_ranges(client, name):
    cell, functions, stated = MODELS[name]
    info = client.get(f"/v1/models/{name}").json()
    assert info["cell"] == cell
    assert info["trace_method"] == "stepwise"
    usual = {"lstm": {"activation": "tanh", "recurrent_activation": "sigmoid"}, "rnn": {}}
    usual["gru"] = usual["lstm"]
    for told in (info["lstm"], info["lstms"][0], info["modules"][0]["spec"]):
        assert {key: told[key] for key in usual[cell] | stated} == usual[cell] | stated
        assert "nonlinearity" not in told
        assert "output_activation" not in told
    ranges = {signal["name"]: (signal["low"], signal["high"]) for signal in info["signals"]}
    if functions["candidate"] == "relu":
        assert ranges["cell_candidate"] == ranges["hidden_state"] == (0, None)
        assert info["signals"][-1]["description"] == "the output: h_t = o_t·relu(c_t)"


def test_a_session_gives_the_numbers_of_the_whole(client, name, expected):
    session = posted(client, "/v1/sessions", {"model": name}, 201)["session_id"]
    outputs = []
    for part in (ROWS[:1], ROWS[1:5], ROWS[5:]):
        reply = posted(client, f"/v1/sessions/{session}/steps", {"inputs": part.tolist(), "trace": {}})
        outputs += reply["trace"]["signals"]["hidden_state"][0][0][0]
    np.testing.assert_allclose(np.array(outputs), expected[0]["hidden_state"][0, 0], rtol=1e-5, atol=1e-5)


def test_a_walk_through_adds_up_to_the_equations(client, name, expected):
    cell, functions, _ = MODELS[name]
    for step in (0, 4):
        body = {"inputs": [ROWS.tolist()], "time_step": step, "unit": 2, "layer": 0, "direction": "forward"}
        said = posted(client, f"/v1/models/{name}/explain", body)
        at = 0, 0, step, 2
        assert said["residual"] <= 1e-5
        for gate, told in said["gates"].items():
            assert told["value"] == pytest.approx(expected[0][gate][at], abs=1e-5)
            terms = [told[key] for key in ("input_contribution", "recurrent_contribution")]
            assert told["sum"] == pytest.approx(sum(terms) + told["bias_input"] + told["bias_recurrent"], abs=1e-6)
            assert "recurrent_scale" not in told
            place = "candidate" if gate in ("cell_candidate", "candidate", "hidden_state") else "gate"
            assert told["activation"] == functions[place]
        for state in {"lstm": ("cell", "hidden"), "gru": ("hidden",), "rnn": ()}[cell]:
            update = said[f"{state}_update"]
            assert update["value"] == pytest.approx(expected[0][f"{state}_state"][at], abs=1e-5)
            products = [np.prod([factor["value"] for factor in term["factors"]]) for term in update["terms"].values()]
            assert update["value"] == pytest.approx(sum(products), abs=1e-6)


def test_a_scaled_state_is_named_in_the_walk_through(client):
    body = {"inputs": [ROWS.tolist()], "time_step": 5, "unit": 1, "layer": 0, "direction": "forward"}
    candidate = posted(client, "/v1/models/before/explain", body)["gates"]["candidate"]
    assert candidate["state_scale"] == "reset_gate"
    largest = candidate["largest_recurrent"]
    assert {each["name"] for each in largest} == {f"reset_gate · unit {unit}" for unit in range(HIDDEN)}
    total = sum(each["contribution"] for each in largest)
    assert candidate["recurrent_contribution"] == pytest.approx(total, abs=1e-6)
