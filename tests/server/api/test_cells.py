"""Models around `nn.GRU` and `nn.RNN`, served in every way in which those around `nn.LSTM` are."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from websockets.sync.client import connect

from gatescope.cells import CELLS
from gatescope.server.serving import tuning
from tests.server.api import recurrent
from tests.server.api.recurrent import ALL, ON_REQUEST, SIGNALS, equations, fed

ATOL = 2e-6
LONE = ["gru", "gru-both", "gru-unbiased", "tanh", "relu", "relu-both"]
FORWARD = ["gru", "gru-unbiased", "tanh", "relu"]

JSON, TENSORS, NPZ, LINES = (
    "application/json",
    "application/vnd.safetensors",
    "application/x-npz",
    "application/x-ndjson",
)


def sequence(steps, seed=3):
    """A raw sequence (time, feature) of float32 numbers."""
    return np.random.default_rng(seed).normal(0, 1.5, (steps, 3)).astype(np.float32).tolist()


BOTH_STATES = {"hidden_state": [[[0.0] * 5]] * 2, "cell_state": [[[0.0] * 5]] * 2}
ROWS = [sequence(6), sequence(4, 4)]


@pytest.fixture(scope="module")
def made():
    return recurrent.made()


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    root = tmp_path_factory.mktemp("recurrent")
    recurrent.write(root, made)
    return root


@pytest.fixture(scope="module")
def client(folder, serve_models):
    with serve_models(folder) as client:
        yield client


@pytest.fixture(scope="module")
def post(client):
    def post(path, body, status=200, accept=JSON):
        reply = client.post(path, json=body, headers={"Accept": accept})
        assert reply.status_code == status, reply.text
        return reply

    return post


@pytest.fixture(scope="module")
def ask(post):
    return lambda path, body, **more: SimpleNamespace(**post(f"/v1/models/{path}", body, **more).json())


@pytest.fixture(scope="module")
def refused(client):
    """The places of a refusal and what it says there."""

    def refused(path, body, method="POST", **more):
        reply = client.request(method, path, **({"json": body} if body is not None else {}), **more)
        assert reply.status_code == 422, reply.text
        return [(place["loc"][1:], place["msg"]) for place in reply.json()["errors"]]

    return refused


def traced(reply, accept):
    """The signals of a trace reply (batch, layer, direction, time, unit), NaN in the padding, and its residual."""
    if accept == TENSORS:
        size = int.from_bytes(reply.content[:8], "little")
        described = json.loads(reply.content[8 : 8 + size])["__metadata__"]
        arrays = load(reply.content)
        return arrays, arrays.pop("sequence_lengths").tolist(), float(described["residual"])
    if accept == NPZ:
        arrays = dict(np.load(io.BytesIO(reply.content)))
        described = json.loads(str(arrays.pop("metadata")))
        return arrays, arrays.pop("sequence_lengths").tolist(), described["residual"]
    if accept == LINES:
        header, *steps, end = map(json.loads, reply.content.splitlines())
        lengths, signals = header["sequence_lengths"], {}
        for name in header["signals"]:
            rows = [[step["signals"][name][row] for step in steps[:length]] for row, length in enumerate(lengths)]
            signals[name] = padded([np.moveaxis(np.array(row), 0, 2) for row in rows])
        return signals, lengths, end["residual"]
    said = reply.json()
    signals = {name: padded([np.array(row) for row in rows]) for name, rows in said["signals"].items()}
    return signals, said["sequence_lengths"], said["residual"]


def in_order(names, accept):
    """The names in their order; safetensors files have none."""
    return sorted(names) if accept == TENSORS else list(names)


def padded(rows):
    """(layer, direction, time, unit) each."""
    longest = max(row.shape[2] for row in rows)
    return np.stack(
        [np.pad(r, ((0, 0), (0, 0), (0, longest - r.shape[2]), (0, 0)), constant_values=np.nan) for r in rows]
    )


class TestInfo:
    @pytest.mark.parametrize("name", LONE)
    def test_it_tells_cell_signals_states_and_arguments(self, client, made, name):
        info, each = client.get(f"/v1/models/{name}").json(), made[name]
        module, cell = each.module, each.cell
        assert (info["cell"], info["state"]) == (cell, "ready")
        assert [signal["name"] for signal in info["signals"] if not signal.get("on_request")] == SIGNALS[cell]
        assert [signal["name"] for signal in info["signals"] if signal.get("on_request")] == ON_REQUEST[cell]
        arguments = {
            "input_size": 3,
            "hidden_size": module.hidden_size,
            "num_layers": module.num_layers,
            "bias": module.bias,
            "bidirectional": module.bidirectional,
            "proj_size": 0,
        }
        arguments |= {"nonlinearity": module.nonlinearity} if cell == "rnn" else {}
        assert info["lstm"] == arguments
        (described,) = info["modules"]
        assert (described["spec"], described["states"]) == (arguments, ["hidden_state"])
        assert (described["cell"], described["signals"]) == (cell, info["signals"])
        assert info["trace_method"] in {backend for each in CELLS if each.name == cell for backend in each.backends}

    def test_modules_of_several_cells_are_each_described(self, client):
        info = client.get("/v1/models/mixed").json()
        assert [(each["name"], each["cell"], each["states"]) for each in info["modules"]] == [
            ("first", "gru", ["hidden_state"]),
            ("second", "lstm", ["hidden_state", "cell_state"]),
            ("third", "rnn", ["hidden_state"]),
        ]
        assert info["cell"] == "gru"

    def test_bounds_of_the_hidden_state_are_those_of_its_function(self, client):
        bounds = {}
        for name in ("gru", "tanh", "relu"):
            signals = {signal["name"]: signal for signal in client.get(f"/v1/models/{name}").json()["signals"]}
            bounds[name] = (signals["hidden_state"]["low"], signals["hidden_state"]["high"])
        assert bounds == {"gru": (None, None), "tanh": (-1, 1), "relu": (0, None)}

    def test_metrics_name_the_backend_that_traces_it(self, client):
        method = client.get("/v1/models/gru").json()["trace_method"]
        named = f'gatescope_trace_method{{method="{method}",model="gru",version="1"}} 1'
        assert named in client.get("/metrics").text


class TestPredict:
    @pytest.mark.parametrize("name", [*LONE, "mixed"])
    def test_each_sequence_of_a_batch_is_torchs_own(self, ask, made, name):
        outputs = ["prediction", "output", "final_state"]
        said = ask(f"{name}/predict", {"inputs": ROWS, "outputs": outputs})
        for row, rows in enumerate(ROWS):
            prediction, output, ends = made[name].run(rows)
            np.testing.assert_allclose(said.prediction["values"][row], prediction, atol=ATOL)
            first = next(iter(output.values()))
            np.testing.assert_allclose(said.output[row], first, atol=ATOL)
            if name == "mixed":
                continue
            assert said.final_state.keys() == {"hidden_state"}
            (end,) = ends.values()
            np.testing.assert_allclose(np.array(said.final_state["hidden_state"])[:, row], end[:, 0], atol=ATOL)

    @pytest.mark.parametrize("name", LONE)
    def test_it_begins_in_the_state_that_is_given(self, ask, client, made, name):
        module, rows = made[name].module, ROWS[0]
        entries = module.num_layers * (2 if module.bidirectional else 1)
        state = np.random.default_rng(8).normal(0, 1, (entries, 1, module.hidden_size)).astype(np.float32)
        expected, _, _ = made[name].run(rows, {next(iter(made[name].modules)): torch.from_numpy(state).double()})
        said = ask(f"{name}/predict", {"inputs": rows, "initial_state": {"hidden_state": state.tolist()}})
        np.testing.assert_allclose(said.prediction["values"][0], expected, atol=ATOL)
        null = ask(
            f"{name}/predict", {"inputs": rows, "initial_state": {"hidden_state": state.tolist(), "cell_state": None}}
        )
        assert null.prediction == said.prediction
        tensors = save({"inputs": np.array([rows], np.float32), "initial_state.hidden_state": state})
        reply = client.post(f"/v1/models/{name}/predict", content=tensors, headers={"Content-Type": TENSORS})
        assert reply.json()["prediction"] == said.prediction

    def test_requests_at_once_are_answered_as_one_by_one(self, ask, made):
        asked = [(name, sequence(3 + seed % 5, seed)) for seed in range(24) for name in ("gru", "tanh", "relu")]
        with ThreadPoolExecutor(16) as pool:
            said = list(pool.map(lambda each: ask(f"{each[0]}/predict", {"inputs": each[1]}), asked))
        for (name, rows), reply in zip(asked, said, strict=True):
            np.testing.assert_allclose(reply.prediction["values"][0], made[name].run(rows)[0], atol=ATOL)

    @pytest.mark.parametrize("name", FORWARD)
    def test_a_long_sequence_in_chunks_is_the_whole(self, ask, made, name, monkeypatch):
        monkeypatch.setattr(tuning, "CHUNK_MULTIPLICATIONS", 1)
        rows = sequence(700)
        said = ask(f"{name}/predict", {"inputs": rows, "outputs": ["prediction", "final_state"]})
        prediction, _, ends = made[name].run(rows)
        np.testing.assert_allclose(said.prediction["values"][0], prediction, atol=ATOL)
        (end,) = ends.values()
        np.testing.assert_allclose(said.final_state["hidden_state"], end, atol=ATOL)


class TestStatesOfOtherCells:
    @pytest.mark.parametrize(("name", "cell"), [("gru", "a gru"), ("tanh", "an rnn")])
    def test_they_are_refused_by_name(self, refused, name, cell):
        body = {"inputs": ROWS[0], "initial_state": BOTH_STATES}
        expected = [(["initial_state", "cell_state"], f"model '{name}' is {cell}: it has no cell_state")]
        for path in ("predict", "trace"):
            assert refused(f"/v1/models/{name}/{path}", body) == expected
        explained = body | {"unit": 0, "time_step": 0}
        assert refused(f"/v1/models/{name}/explain", explained) == expected
        assert refused("/v1/traces", body | {"model": name}) == expected
        assert refused("/v1/sessions", {"model": name, "initial_state": BOTH_STATES}) == expected

    @pytest.mark.parametrize("name", ["gru", "relu"])
    def test_a_missing_one_is_named(self, refused, name):
        missing = [(["initial_state", "hidden_state"], "'hidden_state' is missing")]
        assert refused(f"/v1/models/{name}/predict", {"inputs": ROWS[0], "initial_state": {}}) == missing

    def test_unknown_ones_are_told_those_of_this_cell(self, refused):
        body = {"inputs": ROWS[0], "initial_state": {"memory": []}}
        ((loc, message),) = refused("/v1/models/gru/predict", body)
        assert (loc, message) == (
            ["initial_state", "memory"],
            "unknown field 'memory'; known are hidden_state, modules",
        )

    def test_of_several_modules_the_module_is_named(self, refused):
        states = {
            "first": {"hidden_state": [[[0.0] * 4]], "cell_state": [[[0.0] * 4]]},
            "second": {"hidden_state": [[[0.0] * 5]], "cell_state": [[[0.0] * 5]]},
            "third": {"hidden_state": [[[0.0] * 3]]},
        }
        body = {"inputs": ROWS[0], "initial_state": {"modules": states}}
        assert refused("/v1/models/mixed/predict", body) == [
            (
                ["initial_state", "modules", "first", "cell_state"],
                "module 'first' of model 'mixed' is a gru: it has no cell_state",
            )
        ]
        del states["first"]["cell_state"], states["second"]["cell_state"]
        place = ["initial_state", "modules", "second", "cell_state"]
        assert refused("/v1/models/mixed/predict", body) == [(place, "'cell_state' is missing")]


class TestTrace:
    @pytest.mark.parametrize("accept", [JSON, TENSORS, NPZ, LINES])
    @pytest.mark.parametrize("name", LONE)
    def test_every_signal_is_that_of_the_equations(self, post, made, name, accept):
        each = made[name]
        body = {"inputs": ROWS, "signals": ALL[each.cell][::-1]}
        signals, lengths, residual = traced(post(f"/v1/models/{name}/trace", body, accept=accept), accept)
        assert in_order(signals, accept) == in_order(ALL[each.cell][::-1], accept)
        assert lengths == [6, 4]
        assert residual < 1e-6
        for row, rows in enumerate(ROWS):
            expected = equations(each.module, fed(rows))
            for signal, values in signals.items():
                np.testing.assert_allclose(values[row, :, :, : len(rows)], expected[signal], atol=5e-6, err_msg=signal)
                assert np.isnan(values[row, :, :, len(rows) :]).all()

    @pytest.mark.parametrize("accept", [JSON, TENSORS, NPZ, LINES])
    @pytest.mark.parametrize("name", ["gru", "tanh"])
    def test_without_names_it_has_the_signals_that_are_not_on_request(self, post, made, name, accept):
        signals, _, _ = traced(post(f"/v1/models/{name}/trace", {"inputs": ROWS}, accept=accept), accept)
        assert in_order(signals, accept) == in_order(SIGNALS[made[name].cell], accept)

    @pytest.mark.parametrize("name", LONE)
    def test_what_stands_beside_the_signals_is_the_prediction_and_the_states(self, ask, made, name):
        said = ask(f"{name}/trace", {"inputs": ROWS[0]})
        prediction, _, ends = made[name].run(ROWS[0])
        np.testing.assert_allclose(said.prediction["values"][0], prediction, atol=ATOL)
        assert said.initial_state.keys() == said.final_state.keys() == {"hidden_state"}
        np.testing.assert_allclose(said.final_state["hidden_state"], next(iter(ends.values())), atol=ATOL)
        assert said.directions == made[name].directions

    def test_a_part_of_it_keeps_the_order_asked_for(self, ask, made):
        part = {
            "signals": ["hidden_state", "reset_gate"],
            "layers": [1],
            "units": "1:4",
            "time": {"start": 1, "step": 2},
        }
        said, expected = ask("gru/trace", {"inputs": ROWS[0]} | part), equations(made["gru"].module, fed(ROWS[0]))
        assert list(said.signals) == part["signals"]
        for signal, values in said.signals.items():
            np.testing.assert_allclose(values[0][0], expected[signal][1, :, 1::2, 1:4], atol=5e-6)

    @pytest.mark.parametrize(
        ("name", "signal"), [("gru", "forget_gate"), ("tanh", "reset_gate"), ("relu", "cell_state")]
    )
    def test_a_signal_of_another_cell_is_refused_with_those_of_this(self, refused, made, name, signal):
        ((loc, message),) = refused(f"/v1/models/{name}/trace", {"inputs": ROWS[0], "signals": [signal]})
        assert loc == ["signals", 0]
        assert message.startswith(f"signals has no '{signal}'; this model has ")
        assert all(repr(known) in message for known in ALL[made[name].cell])

    @pytest.mark.parametrize("name", FORWARD)
    def test_lines_of_a_long_sequence_are_the_whole(self, post, made, name, monkeypatch):
        monkeypatch.setattr(tuning, "CHUNK_BYTES", 1)
        rows = sequence(300)
        body = {"inputs": rows, "signals": ALL[made[name].cell]}
        signals, _, residual = traced(post(f"/v1/models/{name}/trace", body, accept=LINES), LINES)
        expected = equations(made[name].module, fed(rows))
        for signal, values in signals.items():
            np.testing.assert_allclose(values[0], expected[signal], atol=1e-5)
        assert residual < 1e-6

    @pytest.mark.parametrize(("module", "cell"), [("first", "gru"), ("third", "rnn")])
    def test_of_several_modules_each_is_traced(self, ask, made, module, cell):
        each = made["mixed"]
        said = ask("mixed/trace", {"inputs": ROWS[0], "module": module, "signals": ALL[cell]})
        _, outputs, ends = each.run(ROWS[0])
        x = fed(ROWS[0]) if module == "first" else outputs["second"]
        expected = equations(each.modules[module], x)
        for signal in ALL[cell]:
            np.testing.assert_allclose(said.signals[signal][0], expected[signal], atol=5e-6)
        final = said.final_state["modules"]
        assert {name: list(state) for name, state in final.items()} == {
            "first": ["hidden_state"],
            "second": ["hidden_state", "cell_state"],
            "third": ["hidden_state"],
        }
        np.testing.assert_allclose(final["third"]["hidden_state"], ends["third"], atol=ATOL)
        np.testing.assert_allclose(final["second"]["cell_state"], ends["second"][1], atol=ATOL)


class TestStored:
    @pytest.fixture
    def store(self, post):
        return lambda name, **more: post("/v1/traces", {"model": name, "inputs": ROWS} | more, 201).json()["trace_id"]

    @pytest.mark.parametrize("accept", [JSON, TENSORS, NPZ, LINES])
    @pytest.mark.parametrize("name", ["gru", "gru-both", "relu"])
    def test_values_are_those_of_the_trace(self, client, store, made, name, accept):
        each = made[name]
        described = client.get(f"/v1/traces/{store(name)}").json()
        assert described["initial_state"].keys() == described["final_state"].keys() == {"hidden_state"}
        path = f"/v1/traces/{described['trace_id']}/values"
        signals, _, residual = traced(client.get(path, headers={"Accept": accept}), accept)
        assert in_order(signals, accept) == in_order(SIGNALS[each.cell], accept)
        assert residual < 1e-6
        for row, rows in enumerate(ROWS):
            expected = equations(each.module, fed(rows))
            for signal, values in signals.items():
                np.testing.assert_allclose(values[row, :, :, : len(rows)], expected[signal], atol=5e-6)

    def test_spans_of_time_are_reduced(self, client, store, made):
        query = {"signals": "update_gate", "sequence": 0, "bins": 2, "reduce": "max"}
        said = client.get(f"/v1/traces/{store('gru')}/values", params=query).json()
        expected = equations(made["gru"].module, fed(ROWS[0]))["update_gate"]
        spans = np.stack([expected[:, :, :3].max(axis=2), expected[:, :, 3:].max(axis=2)], axis=2)
        np.testing.assert_allclose(said["signals"]["update_gate"][0], spans, atol=5e-6)

    @pytest.mark.parametrize(("name", "signal"), [("gru", "recurrent_candidate"), ("tanh", "pre_activation")])
    def test_signals_on_request_are_not_kept_and_that_is_said(self, refused, store, name, signal):
        ((loc, message),) = refused(f"/v1/traces/{store(name)}/values?signals={signal}", None, "GET")
        assert loc == ["signals"]
        assert message.startswith(f"a stored trace does not hold '{signal}', only ")

    @pytest.mark.parametrize("name", LONE)
    def test_a_walk_through_of_it_is_that_of_its_inputs(self, ask, store, made, name):
        trace_id = store(name)
        for step in (0, 2):
            place = {"time_step": step, "unit": 1, "layer": made[name].module.num_layers - 1}
            stored = ask(f"{name}/explain", {"trace_id": trace_id, "sequence": 0} | place)
            sent = ask(f"{name}/explain", {"inputs": ROWS[0]} | place)
            assert stored.gates.keys() == sent.gates.keys()
            for gate, said in sent.gates.items():
                assert stored.gates[gate]["value"] == pytest.approx(said["value"], abs=1e-6)
            assert stored.previous_time_step == sent.previous_time_step


class TestSessions:
    @pytest.mark.parametrize("name", [*FORWARD, "mixed"])
    def test_a_stream_in_parts_is_the_whole(self, client, post, made, name):
        session, rows = post("/v1/sessions", {"model": name}, 201).json()["session_id"], sequence(9)
        prediction, _, ends = made[name].run(rows)
        said = []
        for part in (rows[:4], rows[4:5], rows[5:]):
            reply = post(f"/v1/sessions/{session}/steps", {"inputs": part, "trace": {}}).json()
            said += reply["prediction"]["values"][0]
            assert list(reply["trace"]["signals"]) == SIGNALS[made[name].cell]
            assert reply["trace"]["residual"] < 1e-6
        np.testing.assert_allclose(said, prediction, atol=ATOL)
        state = client.get(f"/v1/sessions/{session}/state").json()
        if name == "mixed":
            np.testing.assert_allclose(state["modules"]["first"]["hidden_state"], ends["first"], atol=ATOL)
            assert state["modules"]["third"].keys() == {"hidden_state"}
        else:
            assert state.keys() == {"hidden_state"}
            np.testing.assert_allclose(state["hidden_state"], next(iter(ends.values())), atol=ATOL)

    @pytest.mark.parametrize("name", [*FORWARD, "mixed"])
    def test_its_state_can_be_taken_elsewhere(self, client, post, made, name):
        rows = sequence(9)
        first = post("/v1/sessions", {"model": name}, 201).json()["session_id"]
        post(f"/v1/sessions/{first}/steps", {"inputs": rows[:5]})
        state = client.get(f"/v1/sessions/{first}/state").json()
        moved = post("/v1/sessions", {"model": name}, 201).json()["session_id"]
        assert client.put(f"/v1/sessions/{moved}/state", json=state).status_code == 200
        begun = post("/v1/sessions", {"model": name, "initial_state": state}, 201).json()["session_id"]
        for session in (moved, begun):
            said = post(f"/v1/sessions/{session}/steps", {"inputs": rows[5:]}).json()["prediction"]["values"][0]
            np.testing.assert_allclose(said, made[name].run(rows)[0][5:], atol=ATOL)

    def test_a_cell_state_is_refused(self, refused, post):
        session = post("/v1/sessions", {"model": "gru"}, 201).json()["session_id"]
        expected = [(["cell_state"], "model 'gru' is a gru: it has no cell_state")]
        assert refused(f"/v1/sessions/{session}/state", BOTH_STATES, "PUT") == expected
        ((_, message),) = refused(
            f"/v1/sessions/{session}/steps", {"inputs": ROWS[0], "trace": {"signals": ["forget_gate"]}}
        )
        assert "forget_gate" in message

    @pytest.mark.parametrize("name", ["gru-both", "relu-both"])
    def test_both_directions_cannot_be_streamed(self, refused, name):
        ((loc, message),) = refused("/v1/sessions", {"model": name})
        assert loc == ["model"]
        assert "is bidirectional" in message

    @pytest.mark.parametrize("name", ["gru", "relu"])
    def test_over_a_websocket_in_text_and_tensors(self, client, post, made, name):
        session, rows = post("/v1/sessions", {"model": name}, 201).json()["session_id"], sequence(6)
        expected, signals = made[name].run(rows)[0], equations(made[name].module, fed(rows))
        on_request = ON_REQUEST[made[name].cell][0]
        with connect(str(client.base_url).replace("http", "ws") + f"/v1/sessions/{session}/stream") as stream:
            stream.send(json.dumps({"inputs": rows[:3], "trace": {"signals": [on_request]}}))
            first = json.loads(stream.recv(10))
            np.testing.assert_allclose(first["prediction"]["values"][0], expected[:3], atol=ATOL)
            values = first["trace"]["signals"][on_request][0]
            np.testing.assert_allclose(values, signals[on_request][:, :, :3], atol=5e-6)
            stream.send(save({"inputs": np.array([rows[3:]], np.float32)}))
            second = load(stream.recv(10))
            np.testing.assert_allclose(second["prediction.values"][0], expected[3:], atol=ATOL)


def tensor(name, values):
    values = np.asarray(values, dtype=np.float32)
    return {"name": name, "shape": list(values.shape), "datatype": "FP32", "data": values.ravel().tolist()}


def opened(reply):
    return {each["name"]: np.array(each["data"], np.float32).reshape(each["shape"]) for each in reply.json()["outputs"]}


class TestV2:
    @pytest.mark.parametrize("name", LONE)
    def test_tensors_are_those_of_the_cell(self, client, made, name):
        said, each = client.get(f"/v2/models/{name}").json(), made[name]
        assert said["platform"] == f"pytorch_{each.cell}"
        entries, size = each.module.num_layers * len(each.directions), each.module.hidden_size
        inputs = {tensor["name"]: tensor["shape"] for tensor in said["inputs"]}
        assert inputs == {
            "inputs": [-1, -1, 3],
            "sequence_lengths": [-1],
            "initial_hidden_state": [-1, entries, size],
        }
        outputs = [tensor["name"] for tensor in said["outputs"]]
        known = client.get(f"/v1/models/{name}").json()["signals"]
        assert outputs == ["prediction", "output", "final_hidden_state", *(signal["name"] for signal in known)]

    @pytest.mark.parametrize("name", LONE)
    def test_every_output_is_torchs_own_from_the_state_that_is_given(self, client, made, name):
        each, rows = made[name], ROWS[0]
        entries, size = each.module.num_layers * len(each.directions), each.module.hidden_size
        state = np.random.default_rng(8).normal(0, 1, (1, entries, size)).astype(np.float32)
        signals = ALL[each.cell]
        wanted = ["prediction", "output", "final_hidden_state", *signals]
        body = {
            "inputs": [tensor("inputs", [rows]), tensor("initial_hidden_state", state)],
            "outputs": [{"name": output} for output in wanted],
        }
        said = opened(client.post(f"/v2/models/{name}/infer", json=body))
        begun = torch.from_numpy(state).double().transpose(0, 1)
        prediction, outputs, ends = each.run(rows, {next(iter(each.modules)): begun})
        np.testing.assert_allclose(said["prediction"][0], prediction, atol=ATOL)
        np.testing.assert_allclose(said["output"][0], next(iter(outputs.values())), atol=ATOL)
        np.testing.assert_allclose(said["final_hidden_state"][0], next(iter(ends.values()))[:, 0], atol=ATOL)
        expected = equations(each.module, fed(rows), begun[:, 0])
        for signal in signals:
            np.testing.assert_allclose(said[signal][0], expected[signal], atol=5e-6)

    def test_states_and_signals_of_other_cells_are_refused_by_name(self, client):
        inputs = [tensor("inputs", [ROWS[0]])]
        for name in ("final_cell_state", "cell_state"):
            reply = client.post("/v2/models/gru/infer", json={"inputs": inputs, "outputs": [{"name": name}]})
            assert "model 'gru' is a gru: it has no cell_state" in reply.json()["error"]
        reply = client.post("/v2/models/tanh/infer", json={"inputs": inputs, "outputs": [{"name": "reset_gate"}]})
        assert "model 'tanh' is an rnn: it has no reset_gate" in reply.json()["error"]
        state = tensor("initial_cell_state", np.zeros((1, 2, 5)))
        reply = client.post("/v2/models/gru/infer", json={"inputs": [*inputs, state]})
        assert "model 'gru' is a gru: it has no cell_state" in reply.json()["error"]

    @pytest.mark.parametrize("name", ["gru", "tanh"])
    def test_a_sequence_in_parts_is_the_whole(self, client, made, name):
        rows, said = sequence(7), []
        for start, stop in ((0, 3), (3, 7)):
            flags = {"sequence_id": 77, "sequence_start": start == 0, "sequence_end": stop == 7}
            body = {"inputs": [tensor("inputs", [rows[start:stop]])], "parameters": flags}
            said.append(opened(client.post(f"/v2/models/{name}/infer", json=body))["prediction"][0])
        np.testing.assert_allclose(np.concatenate(said), made[name].run(rows)[0], atol=ATOL)


def walked_through(name, made):
    """Places of a model: layer, direction, time step, unit."""
    module = made[name].module
    for layer in range(module.num_layers):
        for direction in made[name].directions:
            for step, unit in ((0, 0), (3, 2), (-1, 1)):
                yield layer, direction, step, unit


class TestExplain:
    @pytest.mark.parametrize("name", LONE)
    def test_it_agrees_with_the_equations_and_adds_up(self, ask, made, name):
        each, rows = made[name], ROWS[0]
        state = np.random.default_rng(9).normal(
            0, 1, (each.module.num_layers * len(each.directions), each.module.hidden_size)
        )
        state = state.astype(np.float32)
        expected = equations(each.module, fed(rows), state)
        given = {"inputs": rows, "initial_state": {"hidden_state": state[:, None].tolist()}}
        for layer, direction, step, unit in walked_through(name, made):
            place = {"layer": layer, "direction": direction, "time_step": step, "unit": unit}
            said = ask(f"{name}/explain", given | place)
            at = (layer, each.directions.index(direction), step % len(rows), unit)
            assert said.residual < 1e-6
            for gate, told in said.gates.items():
                assert told["value"] == pytest.approx(expected[gate][at], abs=5e-6)
                scale = told.get("recurrent_scale", {"value": 1.0})["value"]
                recurrent = scale * (told["recurrent_contribution"] + (told["bias_recurrent"] or 0))
                assert told["sum"] == pytest.approx(
                    told["input_contribution"] + (told["bias_input"] or 0) + recurrent, abs=1e-7
                )
                function = {"sigmoid": lambda z: 1 / (1 + np.exp(-z)), "tanh": np.tanh, "relu": lambda z: max(z, 0)}
                assert told["value"] == pytest.approx(function[told["activation"]](told["sum"]), abs=1e-12)
                assert told["formula"].startswith(told["activation"] + "(")
            previous = said.previous_time_step
            entry = layer * len(each.directions) + at[1]
            before = state[entry][unit] if previous is None else expected["hidden_state"][*at[:2], previous, unit]
            getattr(self, each.cell)(said, at, expected, before)

    @staticmethod
    def gru(said, at, expected, before):
        assert list(said.gates) == ["reset_gate", "update_gate", "candidate"]
        assert not hasattr(said, "cell_update")
        gates, update = said.gates, said.hidden_update
        candidate = gates["candidate"]
        assert candidate["recurrent_scale"] == {"gate": "reset_gate", "value": gates["reset_gate"]["value"]}
        bias = candidate["bias_recurrent"] or 0
        scaled = gates["reset_gate"]["value"] * (candidate["recurrent_contribution"] + bias)
        assert candidate["recurrent_term"] == pytest.approx(scaled, abs=1e-7)
        recurrent = candidate["recurrent_contribution"] + bias
        assert recurrent == pytest.approx(expected["recurrent_candidate"][at], abs=5e-6)
        assert not {"recurrent_scale", "recurrent_term"} & gates["update_gate"].keys()
        assert (gates["candidate"]["bias_input"] is None) == (gates["candidate"]["bias_recurrent"] is None)
        z, n = gates["update_gate"]["value"], gates["candidate"]["value"]
        assert list(update["terms"]) == ["candidate_term", "carried_term"]
        complement, other = update["terms"]["candidate_term"]["factors"]
        assert complement == {
            "name": "update_gate",
            "is_previous": False,
            "function": "complement",
            "argument": z,
            "value": 1 - z,
        }
        assert other == {"name": "candidate", "is_previous": False, "function": None, "argument": n, "value": n}
        gate, carried = update["terms"]["carried_term"]["factors"]
        assert (gate["name"], gate["value"]) == ("update_gate", z)
        assert (carried["name"], carried["is_previous"], carried["function"]) == ("hidden_state", True, None)
        assert carried["argument"] == carried["value"] == pytest.approx(before, abs=5e-6)
        for term in update["terms"].values():
            assert term["value"] == pytest.approx(np.prod([factor["value"] for factor in term["factors"]]), abs=1e-7)
        assert update["value"] == pytest.approx(sum(term["value"] for term in update["terms"].values()), abs=1e-9)
        assert update["value"] == pytest.approx(expected["hidden_state"][at], abs=5e-6)
        assert update["formula"].startswith("(1 − ")

    @staticmethod
    def rnn(said, at, expected, before):  # noqa: ARG004 - as the other
        assert list(said.gates) == ["hidden_state"]
        assert not hasattr(said, "cell_update")
        assert not hasattr(said, "hidden_update")
        assert said.gates["hidden_state"]["sum"] == pytest.approx(expected["pre_activation"][at], abs=5e-6)

    def test_contributors_are_named(self, ask):
        said = ask("gru/explain", {"inputs": ROWS[0], "time_step": 2, "unit": 0})
        assert {each["name"] for each in said.gates["candidate"]["largest_inputs"]} == {"a", "b", "c"}
        assert {each["name"] for each in said.gates["candidate"]["largest_recurrent"]} == {
            f"unit {k}" for k in range(5)
        }
        above = ask("gru/explain", {"inputs": ROWS[0], "time_step": 2, "unit": 0, "layer": 1})
        assert above.gates["reset_gate"]["largest_inputs"][0]["name"].startswith("layer 0 forward unit ")

    def test_of_several_modules_the_one_that_is_named(self, ask, made):
        body = {"inputs": ROWS[0], "time_step": 3, "unit": 1}
        kinds = {
            name: {key for key in vars(ask("mixed/explain", body | {"module": name})) if key.endswith("_update")}
            for name in made["mixed"].modules
        }
        assert kinds == {"first": {"hidden_update"}, "second": {"cell_update", "hidden_update"}, "third": set()}

    def test_a_step_far_into_a_long_sequence_is_reached_in_chunks(self, ask, made, monkeypatch):
        monkeypatch.setattr(tuning, "CHUNK_MULTIPLICATIONS", 1)
        rows = sequence(700)
        for name in ("gru", "relu"):
            said = ask(f"{name}/explain", {"inputs": rows, "time_step": 650, "unit": 2})
            expected = equations(made[name].module, fed(rows))
            for gate, told in said.gates.items():
                assert told["value"] == pytest.approx(expected[gate][0, 0, 650, 2], abs=1e-5)
            assert (said.time_step, said.previous_time_step) == (650, 649)

    def test_openapi_describes_what_is_replied(self, client, ask):
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
        gru = ask("gru/explain", {"inputs": ROWS[0], "time_step": 1, "unit": 0})
        assert vars(gru).keys() < schemas["ExplainReply"]["properties"].keys()
        assert gru.gates.keys() == schemas["GRUGatesReply"]["properties"].keys()
        assert gru.gates["candidate"].keys() == schemas["ScaledGateReply"]["properties"].keys()
        assert gru.hidden_update.keys() == schemas["UpdateReply"]["properties"].keys()
        (factor, *_) = gru.hidden_update["terms"]["candidate_term"]["factors"]
        assert factor.keys() == schemas["FactorReply"]["properties"].keys()
        rnn = ask("tanh/explain", {"inputs": ROWS[0], "time_step": 1, "unit": 0})
        assert rnn.gates.keys() == schemas["RNNGatesReply"]["properties"].keys()
