"""Modules of their own behind the same routes: every format, every error, a choice of recurrent modules."""

import io
import json
from importlib import import_module

import numpy as np
import pytest
import torch
from safetensors.numpy import load
from safetensors.torch import save_model

import example_modules as examples
from example_modules import faulty
from gatescope.backends.reference import run
from gatescope.capture import over_time
from gatescope.cells import LSTM
from gatescope.state import State

FEATURES = 'kind = "features"\nfeatures = [{name = "a"}, {name = "b"}, {name = "c"}]'
TOKENS = 'kind = "tokens"\nvocabulary = "characters"\ncharacters = "abcde"'
MANIFEST = """
description = "of its own"
TASK
factory = "example_modules:FACTORY"
[factory_arguments]
ARGUMENTS
[input]
INPUT
[output]
OUTPUT
"""
XY, LETTERS = 'names = ["x", "y"]', 'labels = ["A", "B", "C", "D", "E"]'

MODELS = {
    "forecaster": ("Forecaster", "regression", FEATURES, XY + '\npredicts = "next_step"'),
    "decoder": ("EncoderDecoder", "regression", FEATURES, 'names = ["x"]'),
    "attention": ("ConvAttention", "classification", FEATURES, 'labels = ["P", "Q", "R"]'),
    "tagger": ("Tagger", "tagging", TOKENS, LETTERS),
    "writer": ("Tagger", "next_token", TOKENS, ""),
    "stateful": ("Stateful", "regression", FEATURES, XY),
    "siamese": ("Siamese", "regression", FEATURES.replace("]", ', {name = "d"}]'), 'names = ["x"]'),
    "alone": ("Alone", None, FEATURES, ""),
    "loop": ("cells:BothWays", "regression", FEATURES, XY),
    "stream": ("streams:CellStream", "regression", FEATURES, XY + '\npredicts = "next_step"'),
    "reader": ("streams:TokenStream", "next_token", TOKENS, ""),
    "mixed": ("cells:Mixed", "regression", FEATURES, 'names = ["x"]'),
    "failing": ("faulty:Faulty", "regression", FEATURES, XY),
}


def _made(factory):
    package, _, name = factory.rpartition(":")
    return getattr(import_module(f"example_modules.{package}") if package else examples, name)()


@pytest.fixture(scope="module")
def modules():
    torch.manual_seed(1)
    made = {
        name: (faulty.Faulty("refuses_long") if name == "failing" else _made(factory)).eval()
        for name, (factory, *_) in MODELS.items()
    }
    with torch.no_grad():
        for module in made.values():
            for parameter in module.parameters():
                parameter.uniform_(-0.6, 0.6)
    return made


@pytest.fixture(scope="module")
def folder(modules, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, (factory, task, inputs, output) in MODELS.items():
        (root / name / "1").mkdir(parents=True)
        manifest = MANIFEST.replace("INPUT", inputs).replace("OUTPUT", output)
        manifest = manifest.replace("TASK", f'task = "{task}"' if task else "")
        manifest = manifest.replace("example_modules:faulty:", "example_modules.faulty:")
        named = f"example_modules.{factory}" if ":" in factory else f"example_modules:{factory}"
        manifest = manifest.replace("example_modules:FACTORY", named)
        manifest = manifest.replace("ARGUMENTS", 'how = "refuses_long"' if name == "failing" else "")
        (root / name / "model.toml").write_text(manifest)
        save_model(modules[name], root / name / "1" / "model.safetensors")
    return root


@pytest.fixture(scope="module")
def server(folder, serve_models):
    with serve_models(folder, allow_code=True, max_trace_bytes=100_000) as client:
        yield client


@pytest.fixture(scope="module")
def rows():
    torch.manual_seed(2)
    return [torch.randn(length, 3) for length in (9, 4, 7)]


@pytest.fixture(scope="module")
def body(rows):
    return {"inputs": [row.tolist() for row in rows]}


@pytest.fixture
def post(server):
    def post(path, body, status=200, accept="application/json"):
        reply = server.post(f"/v1/models/{path}", json=body, headers={"Accept": accept})
        assert reply.status_code == status, reply.text
        kind = reply.headers["content-type"]
        return reply.json() if kind in {"application/json", "application/problem+json"} else reply.content

    return post


def test_predictions_are_the_modules_own(post, modules, rows, body):
    reply = post("forecaster/predict", body)
    assert reply["sequence_lengths"] == [9, 4, 7]
    for row, values in zip(rows, reply["prediction"]["values"], strict=True):
        np.testing.assert_allclose(values, modules["forecaster"](row[None])[0].detach(), atol=1e-5)
    reply = post("attention/predict", body)
    for row, probabilities in zip(rows, reply["prediction"]["probabilities"], strict=True):
        expected = modules["attention"](row[None])[0].softmax(dim=-1).detach()
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    values = post("decoder/predict", body)["prediction"]["values"]
    assert [np.shape(row) for row in values] == [(5, 1)] * 3


def test_text_is_tagged_and_written(post, modules):
    reply = post("tagger/predict", {"text": ["abba", "cd"]})
    assert reply["tokens"] == [list("abba"), list("cd")]
    expected = modules["tagger"](torch.tensor([[0, 1, 1, 0]]), torch.tensor([4]))[0].argmax(dim=-1)
    assert reply["prediction"]["labels"][0] == ["ABCDE"[index] for index in expected]
    written = post("writer/trace", {"text": "abba", "horizon": 3, "module": "above", "signals": ["cell_state"]})
    assert written["tokens"][0] == [*"abba", *written["prediction"]["text"][0]]
    assert len(written["tokens"][0]) == 7
    assert written["time_steps"] == list(range(7))


def test_model_info_names_every_lstm_and_the_first_is_the_default(server):
    info = server.get("/v1/models/decoder").json()
    assert [lstm["name"] for lstm in info["lstms"]] == ["encoder", "decoder"]
    assert info["lstm"]["input_size"] == info["lstms"][0]["input_size"] == 3
    assert [signal["name"] for signal in info["lstms"][1].pop("signals")][-2:] == ["cell_state", "hidden_state"]
    assert info["lstms"][1] == {
        "name": "decoder",
        "cell": "lstm",
        "input_size": 1,
        "hidden_size": 4,
        "num_layers": 1,
        "bias": True,
        "bidirectional": False,
        "proj_size": 0,
    }
    assert info["trace_method"] in {"workspace", "replay", "loop"}


@pytest.mark.parametrize("model", ["forecaster", "attention", "decoder", "alone", "loop", "mixed"])
def test_a_trace_is_the_same_in_all_four_formats(post, body, model):
    asked = body | {"outputs": ["output", "final_state"], "time": {"step": 2}}
    whole = post(f"{model}/trace", asked)
    tensors = load(post(f"{model}/trace", asked, accept="application/vnd.safetensors"))
    with np.load(io.BytesIO(post(f"{model}/trace", asked, accept="application/x-npz"))) as file:
        arrays = {name: file[name] for name in file.files}
    lines = [json.loads(line) for line in post(f"{model}/trace", asked, accept="application/x-ndjson").splitlines()]
    header, *steps, end = lines
    assert header["module"] == whole["module"]
    assert [step["time_step"] for step in steps] == header["time_steps"] == whole["time_steps"]
    assert end["residual"] == whole["residual"] < 1e-6
    assert end["output"] == whole["output"]
    assert header["sequence_lengths"] == whole["sequence_lengths"] == tensors["sequence_lengths"].tolist()
    for signal in whole["signals"]:
        np.testing.assert_array_equal(tensors[signal], arrays[signal])
        for row, (values, length) in enumerate(zip(whole["signals"][signal], whole["sequence_lengths"], strict=True)):
            kept = [index for index, step in enumerate(whole["time_steps"]) if step < length]
            np.testing.assert_array_equal(tensors[signal][row][:, :, kept], np.float32(values))
            streamed = [steps[index]["signals"][signal][row] for index in kept]
            np.testing.assert_array_equal(np.moveaxis(np.float32(streamed), 0, 2), np.float32(values))


def test_a_trace_over_half_the_steps_says_so(post, modules, rows, body):
    reply = post("attention/trace", body)
    assert reply["sequence_lengths"] == [5, 2, 4]
    assert reply["time_steps"] == list(range(5))
    module = modules["attention"]
    for row, values in zip(rows, reply["signals"]["cell_state"], strict=True):
        read = module.conv(row.T[None]).relu()[0].T
        np.testing.assert_allclose(values, run(module.lstm, read.double())["cell_state"].detach(), atol=1e-5)
    last = post("attention/trace", body | {"time": {"start": -1}, "signals": ["cell_state"]})
    assert last["time_steps"] == [4]


def test_model_info_names_cells_and_modules_of_every_kind(server):
    info = server.get("/v1/models/mixed").json()
    kinds = {"gru": "gru", "rnn": "rnn", "lstm": "lstm", "cells.0": "lstm", "cells.1": "rnn", "unused": "rnn"}
    assert {module["name"]: module["cell"] for module in info["modules"]} == kinds
    assert info["modules"][1]["states"] == ["hidden_state"]
    assert info["modules"][3]["spec"]["num_layers"] == 1


@pytest.mark.parametrize("module", ["gru", "rnn", "lstm", "cells.0", "cells.1"])
def test_each_module_and_cell_is_traced(post, rows, module):
    reply = post("mixed/trace", {"inputs": rows[0].tolist(), "module": module})
    assert reply["module"] == module
    assert reply["residual"] < 1e-6
    assert reply["sequence_lengths"] == ([3] if module.startswith("cells") else [9])
    final = post("mixed/predict", {"inputs": rows[0].tolist(), "module": module, "outputs": ["final_state"]})
    for name, value in final["final_state"].items():
        np.testing.assert_allclose(reply["final_state"][name], value, atol=1e-6)


def test_a_cell_that_reads_backwards_has_its_own_time(post, modules, rows):
    reply = post("loop/trace", {"inputs": rows[0].tolist(), "module": "backwards", "signals": ["hidden_state"]})
    state, cell = None, modules["loop"].backwards
    for index, step in enumerate(rows[0].flip(0)):
        state = cell(step, state)
        np.testing.assert_allclose(
            np.array(reply["signals"]["hidden_state"])[0, 0, 0, index], state.detach(), atol=1e-5
        )
    asked = {"inputs": rows[0].tolist(), "module": "backwards", "time_step": 0, "unit": 1}
    assert post("loop/explain", asked)["inputs"] is None


class TestChoice:
    def test_an_lstm_is_chosen_by_name(self, post, body):
        first, second = (post("decoder/trace", body | {"module": name}) for name in ("encoder", "decoder"))
        assert (first["module"], first["sequence_lengths"]) == ("encoder", [9, 4, 7])
        assert (second["module"], second["sequence_lengths"]) == ("decoder", [5, 5, 5])
        for name, value in first["final_state"].items():
            np.testing.assert_allclose(second["initial_state"][name], value, atol=1e-6)
        assert post("decoder/trace", body)["signals"] == first["signals"]
        reply = post("decoder/predict", body | {"module": "decoder", "outputs": ["output"]})
        assert np.shape(reply["output"]) == (3, 5, 4)

    def test_a_selection_is_of_the_chosen_one(self, post):
        problem = post("tagger/trace", {"text": "abba", "module": "above", "directions": ["reverse"]}, status=422)
        assert problem["errors"][0]["loc"] == ["body", "directions", 0]
        reply = post("tagger/trace", {"text": "abba", "module": "below", "directions": ["reverse"]})
        assert reply["directions"] == ["reverse"]

    def test_an_unknown_name_is_refused_with_the_nearest(self, post, body):
        [error] = post("decoder/trace", body | {"module": "decodr"}, status=422)["errors"]
        assert error["loc"] == ["body", "module"]
        assert error["msg"].endswith("no LSTM 'decodr'; did you mean 'decoder'?")
        [error] = post("decoder/explain", body | {"module": "x", "time_step": 0, "unit": 0}, status=422)["errors"]
        assert error["msg"].endswith("it has 'encoder', 'decoder'")

    def test_a_plain_model_has_one_too(self, call):
        reply = call("founding/trace", {"inputs": [[0.0] * 5], "module": "lstm", "signals": ["cell_state"]})
        assert reply.module == "lstm"


class TestExplain:
    def test_features_are_named_where_the_lstm_reads_them(self, post, rows):
        asked = {"inputs": rows[0].tolist(), "time_step": 2, "unit": 1}
        reply = post("forecaster/explain", asked)
        assert reply["inputs"].keys() == {"a", "b", "c"}
        assert {item["name"] for item in reply["gates"]["input_gate"]["largest_inputs"]} == {"a", "b", "c"}
        assert reply["residual"] < 1e-6

    def test_inputs_are_null_where_a_step_of_the_lstm_is_none_of_theirs(self, post, rows):
        reply = post("attention/explain", {"inputs": rows[0].tolist(), "time_step": -1, "unit": 1})
        assert (reply["module"], reply["time_step"], reply["inputs"], reply["token"]) == ("lstm", 4, None, None)
        assert reply["gates"]["input_gate"]["largest_inputs"][0]["name"].startswith("input ")
        problem = post("attention/explain", {"inputs": rows[0].tolist(), "time_step": 5, "unit": 1}, status=422)
        assert problem["errors"][0]["loc"] == ["body", "time_step"]

    def test_the_token_of_a_step_is_told_where_there_is_one(self, post):
        asked = {"text": "abba", "time_step": 1, "unit": 1}
        below, above = (post("tagger/explain", asked | {"module": name}) for name in ("below", "above"))
        assert [reply["token"] for reply in (below, above)] == ["b", None]


STATE = {"hidden_state": [[[0.5] * 4]] * 2, "cell_state": [[[0.25] * 4]] * 2}


class TestStates:
    def test_a_given_state_is_where_it_begins(self, post, modules, rows):
        reply = post("stateful/trace", {"inputs": rows[0].tolist(), "initial_state": STATE})
        given = tuple(torch.tensor(STATE[name]) for name in ("hidden_state", "cell_state"))
        expected = modules["stateful"](rows[0][None].clone(), initial_state=given)
        np.testing.assert_allclose(reply["prediction"]["values"], expected.detach(), atol=1e-5)
        assert reply["initial_state"] == STATE

    def test_a_module_that_takes_none_refuses_it_by_name(self, post, rows):
        problem = post("forecaster/predict", {"inputs": rows[0].tolist(), "initial_state": STATE}, status=422)
        assert problem["errors"] == [
            {
                "loc": ["body", "initial_state"],
                "msg": "model 'forecaster' takes none: its forward has no parameter `initial_state`",
            }
        ]


class TestParts:
    """A module that gives its state back is run part by part."""

    def test_a_trace_larger_than_any_at_once_is_made_in_parts(self, post, modules):
        torch.manual_seed(3)
        long, module = torch.randn(2500, 3), modules["stream"]
        body = {"inputs": long.tolist()}
        assert post("stream/trace", body, accept="application/json", status=413)["title"] == "TraceTooLarge"
        header, *steps, end = post("stream/trace", body, accept="application/x-ndjson").splitlines()
        begin = State(*(value.detach()[None, None] for value in (module.h0, module.c0)))
        for name, value in begin.named().items():
            np.testing.assert_allclose(json.loads(header)["initial_state"][name], value, atol=1e-6)
        oracle = run(over_time(module.cell), long.double(), State(*(value.double() for value in begin)))
        made = [json.loads(step)["signals"] for step in steps]
        assert len(made) == 2500
        for signal in LSTM.signal_names:
            values = [step[signal][0][0][0] for step in made]
            np.testing.assert_allclose(values, oracle[signal][0, 0].detach(), atol=1e-5)
        end = json.loads(end)
        assert end["residual"] < 1e-6
        expected, state = module(long[None])
        np.testing.assert_allclose(end["prediction"]["values"][0], expected[0].detach(), atol=1e-5)
        for name, value in zip(LSTM.states, state, strict=True):
            np.testing.assert_allclose(end["final_state"][name][0], value.detach(), atol=1e-5)

    @pytest.mark.parametrize("sizes", [[9], [1] * 9, [2, 7]])
    def test_a_session_is_the_whole_sequence(self, server, modules, rows, sizes):
        session = server.post("/v1/sessions", json={"model": "stream"})
        assert session.status_code == 201, session.text
        path, values = f"/v1/sessions/{session.json()['session_id']}", []
        for part in rows[0].split(sizes):
            step = server.post(f"{path}/steps", json={"inputs": part.tolist(), "trace": {"signals": ["cell_state"]}})
            assert step.status_code == 200, step.text
            assert step.json()["trace"]["residual"] < 1e-6
            values += step.json()["prediction"]["values"][0]
        expected, (h, c) = modules["stream"](rows[0][None])
        np.testing.assert_allclose(values, expected[0].detach(), atol=1e-5)
        state = server.get(f"{path}/state").json()
        for name, value in (("hidden_state", h), ("cell_state", c)):
            np.testing.assert_allclose(state[name][0], value.detach(), atol=1e-5)
        known = {"future_inputs": [[0.5, 0.25, 1.0]] * 3, "horizon": 3}
        ahead = server.post(f"{path}/steps", json={"inputs": rows[1].tolist()} | known)
        assert ahead.status_code == 200, ahead.text
        whole = torch.cat((rows[0], rows[1], torch.tensor([[0.5, 0.25, 1.0]] * 2)))
        np.testing.assert_allclose(
            ahead.json()["prediction"]["values"][0], modules["stream"](whole[None])[0][0, -3:].detach(), atol=1e-5
        )
        assert server.delete(path).status_code == 204

    def test_text_is_written_by_a_session(self, server, post):
        path = f"/v1/sessions/{server.post('/v1/sessions', json={'model': 'reader'}).json()['session_id']}"
        server.post(f"{path}/steps", json={"text": "ab"})
        step = server.post(f"{path}/steps", json={"text": "ba", "horizon": 3})
        assert step.status_code == 200, step.text
        assert (
            step.json()["prediction"]["text"]
            == post("reader/predict", {"text": "abba", "horizon": 3})["prediction"]["text"]
        )

    def test_signals_on_its_way_are_edited(self, post, modules):
        edit = {"signal": "update_gate", "set": 1, "time": {"start": 1}}  # it keeps what it has
        reply = post("reader/intervene", {"text": "abba", "interventions": [edit], "signals": ["hidden_state"]})
        hidden = np.array(reply["intervened"]["signals"]["hidden_state"])[0, 0, 0]
        assert (hidden == hidden[0]).all()
        values = modules["reader"].head(torch.tensor(hidden, dtype=torch.float32)).detach()
        np.testing.assert_allclose(reply["intervened"]["prediction"]["values"][0], values, atol=1e-5)
        difference = np.array(reply["difference"]["prediction"]["values"])[0]
        before = np.array(reply["baseline"]["prediction"]["values"])[0]
        np.testing.assert_allclose(difference, values.numpy() - before, atol=1e-5)
        body = {"text": "ab", "interventions": [{"signal": "cell_state", "set": 0}]}
        problem = post("reader/intervene", body, status=422)
        assert problem["errors"][0]["loc"] == ["body", "interventions", 0, "signal"]

    def test_a_step_of_its_session_is_edited(self, server, post):
        path = f"/v1/sessions/{server.post('/v1/sessions', json={'model': 'reader'}).json()['session_id']}"
        edit = {"signal": "update_gate", "set": 0.5, "units": [1]}
        first = server.post(f"{path}/steps", json={"text": "ab", "interventions": [edit]})
        assert first.status_code == 200, first.text
        second = server.post(f"{path}/steps", json={"text": "ba"})
        whole = post("reader/intervene", {"text": "abba", "interventions": [edit | {"time": {"stop": 2}}]})
        made = first.json()["prediction"]["values"][0] + second.json()["prediction"]["values"][0]
        np.testing.assert_allclose(made, whole["intervened"]["prediction"]["values"][0], atol=1e-5)

    def test_its_head_is_analysed_or_refused_with_the_reason(self, post, rows):
        body = {"inputs": rows[0].tolist()}
        found = post("forecaster/analyses/attribution", body)
        assert found["coordinates"]["output"] == ["x", "y"]
        assert found["check"]["value"] < 1e-4
        assert not any("not known to be those" in note["message"] for note in found["notes"])
        found = post("attention/analyses/lesions", body)
        assert "time steps are those of 'lstm'" in found["notes"][-1]["message"]
        problem = post("decoder/analyses/connectivity", body, status=422)
        assert "reads a state of 'encoder' that is no part of its output" in problem["detail"]

    def test_a_module_that_is_not_carried_says_why(self, server):
        for model, why in (("stateful", "its forward gives no state back"), ("loop", "no parameter `initial_state`")):
            reply = server.post("/v1/sessions", json={"model": model})
            assert reply.status_code == 422
            assert "is a custom module, which reads a sequence as a whole" in reply.text
            assert why in reply.text

    def test_a_given_state_of_a_cell_has_one_layer(self, post, modules, rows):
        state = {"hidden_state": [[[0.5, -0.25, 0.1, 0.0]]], "cell_state": [[[1.5, 0.0, -1.0, 0.25]]]}
        reply = post("stream/predict", {"inputs": rows[0].tolist(), "initial_state": state})
        given = tuple(torch.tensor(state[name][0]) for name in ("hidden_state", "cell_state"))
        expected, _ = modules["stream"](rows[0][None], given)
        np.testing.assert_allclose(reply["prediction"]["values"][0], expected[0].detach(), atol=1e-5)


def test_a_horizon_runs_on_or_is_refused_with_the_reason(post, rows):
    future = [[0.0, 1.0, 2.0]] * 4
    reply = post("forecaster/predict", {"inputs": rows[0].tolist(), "horizon": 4, "future_inputs": future})
    assert np.shape(reply["prediction"]["values"]) == (1, 4, 2)
    problem = post("decoder/predict", {"inputs": rows[0].tolist(), "horizon": 4}, status=422)
    assert "predicts 5 steps of its own" in problem["detail"]


def test_a_trace_that_is_too_large_is_refused_against_the_chosen_lstm(post):
    long = {"inputs": [[0.0, 0.0, 0.0]] * 1200}
    assert post("decoder/trace", long, status=413)["title"] == "TraceTooLarge"
    assert post("decoder/trace", long, status=413, accept="application/x-ndjson")["title"] == "TraceTooLarge"
    assert post("attention/trace", long, status=413)["title"] == "TraceTooLarge"
    assert post("decoder/trace", long | {"module": "decoder"})["sequence_lengths"] == [5]


def test_what_cannot_be_traced_is_refused_and_still_predicts(post, rows):
    inputs = {"inputs": [[*step, 1.0] for step in rows[0].tolist()]}
    for accept in ("application/json", "application/x-ndjson"):
        problem = post("siamese/trace", inputs, status=422, accept=accept)
        assert problem["errors"][0]["loc"] == ["body", "module"]
        assert "'lstm' is called 2 times" in problem["detail"]
    assert np.shape(post("siamese/predict", inputs)["prediction"]["values"]) == (1, 1)
    assert (
        "'unused' did not run" in post("alone/trace", {"inputs": [[0] * 3], "module": "unused"}, status=422)["detail"]
    )


@pytest.mark.parametrize("model", ["attention", "decoder", "alone"])
def test_a_trace_is_stored_with_the_lstms_own_time(server, post, body, model):
    whole = post(f"{model}/trace", body)
    reply = server.post("/v1/traces", json={"model": model} | body)
    assert reply.status_code == 201, reply.text
    path = f"/v1/traces/{reply.json()['trace_id']}"
    described, values = server.get(path).json(), server.get(f"{path}/values").json()
    assert described["sequence_lengths"] == values["sequence_lengths"] == whole["sequence_lengths"]
    for signal in LSTM.signal_names:
        for ours, theirs in zip(values["signals"][signal], whole["signals"][signal], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    point = {"time_step": -1, "unit": 1}
    stored = post(f"{model}/explain", point | {"trace_id": reply.json()["trace_id"], "sequence": 1})
    sent = post(f"{model}/explain", point | {"inputs": body["inputs"][1]})
    assert stored["time_step"] == sent["time_step"] == whole["sequence_lengths"][1] - 1
    assert stored["cell_update"]["cell_state"] == pytest.approx(sent["cell_update"]["cell_state"], abs=1e-5)
    assert (
        stored["gates"]["input_gate"]["largest_inputs"][0]["name"]
        == sent["gates"]["input_gate"]["largest_inputs"][0]["name"]
    )


def test_a_trace_that_turns_out_too_large_is_not_stored(server):
    long = {"inputs": [[0.0, 0.0, 0.0]] * 1200}
    for model in ("decoder", "attention"):
        reply = server.post("/v1/traces", json={"model": model} | long)
        assert (reply.status_code, reply.json()["title"]) == (413, "TraceTooLarge")


def test_a_forward_that_raises_is_a_named_500_and_the_server_goes_on(post, rows):
    long = {"inputs": [[0.0, 0.0, 0.0]] * 41}
    for path, accept in (
        ("predict", "application/json"),
        ("trace", "application/json"),
        ("trace", "application/x-ndjson"),
    ):
        problem = post(f"failing/{path}", long, status=500, accept=accept)
        assert problem["title"] == "ModuleFailed"
        assert "over a batch of 1 × 41 steps raised IndexError: index out of range in self" in problem["detail"]
    assert post("failing/trace", {"inputs": rows[0].tolist()})["residual"] < 1e-6


def test_without_permission_the_model_says_what_to_set(folder, serve_models):
    with serve_models(folder) as client:
        info = client.get("/v1/models/forecaster").json()
        assert info["state"] == "unavailable"
        assert (
            "set GATESCOPE_ALLOW_CODE=true if everyone who can write a manifest here may run any code" in info["reason"]
        )
        assert client.post("/v1/models/forecaster/predict", json={"inputs": [[0, 0, 0]]}).status_code == 503
