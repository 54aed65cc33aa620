"""What the API says of layered models, in every format: heads, static inputs, several modules, notes, verification."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from gatescope.server.serving import tuning
from tests.server.api import layered
from tests.server.api.layered import basin, best_path, sigmoid

TENSORS = {"Accept": "application/vnd.safetensors"}
ROWS = [[2451545.123456, 1.0], [2451545.223456, -0.5], [2451546.0, 0.25], [2451542.75, 2.0]]
STATIC = [130.5, 2]
ATOL = 2e-6


@pytest.fixture(scope="module")
def made():
    return layered.modules()


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    root = tmp_path_factory.mktemp("layered")
    layered.write(root, made)
    return root


@pytest.fixture(scope="module")
def client(folder, serve_models):
    with serve_models(folder) as client:
        yield client


@pytest.fixture
def post(client):
    def post(path, body, status=200, **headers):
        reply = client.post(f"/v1/{path}", json=body, headers=headers)
        assert reply.status_code == status, reply.text
        return reply

    return post


@pytest.fixture
def predict(post):
    return lambda model, body: SimpleNamespace(**post(f"models/{model}/predict", body).json())


@pytest.fixture
def refused(post):
    """The places of a refusal and what it says there."""

    def refused(path, body, status=422):
        problem = post(path, body, status).json()
        return [(place["loc"][1:], place["msg"]) for place in problem["errors"]]

    return refused


def asked(**more):
    return {"inputs": ROWS, "static_inputs": STATIC} | more


def metadata(content):
    size = int.from_bytes(content[:8], "little")
    return {name: json.loads(text) for name, text in json.loads(content[8 : 8 + size])["__metadata__"].items()}


class TestHeads:
    def test_each_says_what_its_layers_compute(self, predict, made):
        reply, (said, _, _) = predict("basin", asked()), basin(made["basin"], ROWS, STATIC)
        np.testing.assert_allclose(reply.prediction["values"][0], said["level"], atol=ATOL)
        assert reply.prediction.keys() == {"values"}
        assert reply.heads.keys() == {"flood", "kinds", "spread"}
        for name, head in reply.heads.items():
            np.testing.assert_allclose(head["values"][0], said[name], atol=ATOL)

    def test_a_binary_one_has_one_logit_two_probabilities_and_its_own_threshold(self, predict, made):
        flood, (said, _, _) = predict("basin", asked()).heads["flood"], basin(made["basin"], ROWS, STATIC)
        positive = sigmoid(said["flood"])[:, 0]
        np.testing.assert_allclose(flood["probabilities"][0], np.stack([1 - positive, positive], axis=1), atol=ATOL)
        assert flood["labels"][0] == ["wet" if each >= 0.57 else "dry" for each in positive]
        assert {"wet", "dry"} == set(flood["labels"][0])

    def test_labels_that_do_not_exclude_each_other_are_a_list_at_each_step(self, predict, made):
        kinds, (said, _, _) = predict("basin", asked()).heads["kinds"], basin(made["basin"], ROWS, STATIC)
        probabilities = sigmoid(said["kinds"])
        np.testing.assert_allclose(kinds["probabilities"][0], probabilities, atol=ATOL)
        labels = np.array(["rain", "snow", "hail"])
        assert kinds["labels"][0] == [labels[each >= 0.5].tolist() for each in probabilities]

    def test_behind_a_sigmoid_values_are_probabilities_already(self, predict, made):
        rows, each = [[0.1, 0.2], [-0.4, 2.0]], made["learned"]
        state = tuple(layered.further("learned")[name] for name in ("h0", "c0"))
        with torch.no_grad():
            output, _ = each["lstm"](torch.tensor([rows]).double(), state)
            probability = float(torch.sigmoid(each["head"](output[0, -1])))
        prediction = predict("learned", {"inputs": rows}).prediction
        assert prediction["values"][0] == [pytest.approx(probability, abs=ATOL)]
        assert prediction["probabilities"][0] == pytest.approx([1 - probability, probability], abs=ATOL)
        assert prediction["labels"] == ["yes" if probability >= 0.5 else "no"]

    def test_a_crf_answers_the_best_path_and_no_probabilities(self, predict, made):
        ids, each, crf = [[1, 4, 2, 0, 3], [2, 1]], made["path"], layered.further("path")
        prediction = predict("path", {"inputs": ids}).prediction
        assert prediction.keys() == {"values", "labels"}
        for row, tokens in enumerate(ids):
            with torch.no_grad():
                scores = each["scores"](each["lstm"](each["embedding"](torch.tensor([tokens])))[0])[0].numpy()
            parts = (crf[f"crf.{name}"].numpy() for name in ("transitions", "start_transitions", "end_transitions"))
            assert prediction["labels"][row] == ["XYZ"[label] for label in best_path(scores, *parts)]
            np.testing.assert_allclose(prediction["values"][row], scores, atol=ATOL)

    def test_ragged_rows_are_those_of_each_alone(self, predict):
        batch = predict("basin", {"inputs": [ROWS, ROWS[:2]], "static_inputs": [STATIC, [70, 1]]})
        alone = predict("basin", {"inputs": ROWS[:2], "static_inputs": [70, 1]})
        for name, head in alone.heads.items():
            np.testing.assert_allclose(batch.heads[name]["values"][1], head["values"][0], atol=ATOL)
        assert batch.heads["kinds"]["labels"][1] == alone.heads["kinds"]["labels"][0]

    def test_safetensors_has_each_under_its_path(self, post, predict):
        body = {"inputs": [ROWS, ROWS[:1]], "static_inputs": [STATIC, STATIC]}
        content = post("models/basin/predict", body, **TENSORS).content
        arrays, expected = load(content), predict("basin", body)
        for name, head in expected.heads.items():
            np.testing.assert_array_equal(arrays[f"heads.{name}.values"][0], np.float32(head["values"][0]))
            assert np.isnan(arrays[f"heads.{name}.values"][1, 1:]).all()
        told = metadata(content)
        assert told["heads"]["kinds"]["labels"] == expected.heads["kinds"]["labels"]
        assert told["model"] == {"name": "basin", "version": "1", "verified": False}
        assert [note["code"] for note in told["notes"]] == ["unverified"]

    def test_model_info_lists_them(self, client):
        output = client.get("/v1/models/basin").json()["output"]
        heads = {head["name"]: head for head in output["heads"]}
        assert list(heads) == ["prediction", "flood", "kinds", "spread"]
        assert (output["kind"], output["names"], output["quantiles"]) == ("regression", ["level"], None)
        assert (heads["flood"]["threshold"], heads["flood"]["labels"]) == (0.57, ["dry", "wet"])
        assert heads["spread"]["quantiles"] == [0.1, 0.5, 0.9]
        assert (heads["spread"]["names"], heads["spread"]["units"]) == (["low", "high"], ["m", "m"])
        assert client.get("/v1/models/path").json()["output"]["heads"][0]["threshold"] is None

    def test_all_of_them_count_for_the_size_of_a_reply(self, folder, serve_models):
        floats = len(ROWS) * (1 + (1 + 2) + (3 + 3) + 6)
        with serve_models(folder, max_trace_bytes=4 * floats) as roomy:
            assert roomy.post("/v1/models/basin/predict", json=asked()).status_code == 200
        with serve_models(folder, max_trace_bytes=4 * floats - 1) as narrow:
            assert narrow.post("/v1/models/basin/predict", json=asked()).json()["title"] == "ReplyTooLarge"


class TestRawDigits:
    def test_a_julian_day_keeps_its_digits(self, predict, made):
        said, _, _ = basin(made["basin"], ROWS, STATIC)
        rounded, _, _ = basin(made["basin"], np.float32(ROWS), STATIC)
        values = np.array(predict("basin", asked()).prediction["values"][0])
        assert np.abs(rounded["level"] - said["level"]).max() > 20 * ATOL  # so float32 would be told apart
        np.testing.assert_allclose(values, said["level"], atol=ATOL)

    def test_also_in_safetensors(self, client, made):
        said, _, _ = basin(made["basin"], ROWS, STATIC)
        arrays = {"inputs": np.array([ROWS]), "static_inputs": np.array([STATIC])}
        kind = {"Content-Type": "application/vnd.safetensors"}
        reply = client.post("/v1/models/basin/predict", content=save(arrays), headers=kind)
        np.testing.assert_allclose(reply.json()["prediction"]["values"][0], said["level"], atol=ATOL)
        single = {name: array.astype(np.float32) for name, array in arrays.items()}
        reply = client.post("/v1/models/basin/predict", content=save(single), headers=kind)
        rounded, _, _ = basin(made["basin"], np.float32(ROWS), np.float32(STATIC))
        np.testing.assert_allclose(reply.json()["prediction"]["values"][0], rounded["level"], atol=ATOL)

    @pytest.mark.parametrize("number", [1e39, -1e39])
    def test_what_float32_cannot_hold_is_refused(self, refused, number):
        ((loc, message),) = refused("models/basin/predict", asked(inputs=[ROWS[0], [number, 0.0]]))
        assert (loc, message) == (["inputs", 1, 0], f"must be a finite float32 number, not {number:.6g}")

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
    def test_what_is_no_number_is_refused(self, client, number):
        body = json.dumps(asked()).replace("2451546.0", number)
        reply = client.post("/v1/models/basin/predict", content=body, headers={"Content-Type": "application/json"})
        assert reply.status_code == 422
        assert reply.json()["errors"][0]["loc"] == ["body", "inputs", 2, 0]

    def test_null_is_refused_as_before(self, refused):
        ((loc, message),) = refused("models/basin/predict", asked(inputs=[[None, 0.0]]))
        assert (loc, message) == (["inputs", 0, 0], "must be a number, not null")

    def test_repeated_bodies_and_new_ones_are_read_alike(self, folder, serve_models, tmp_path):
        """A template reads the second one."""
        root = tmp_path / "models"
        (root / "clock").mkdir(parents=True)
        manifest = layered.VERIFIED.replace('{name = "a"}', '{name = "a", mean = 1.7e9, std = 1000.0}')
        (root / "clock" / "model.toml").write_text(manifest)
        (root / "clock" / "1").mkdir()
        (root / "clock" / "1" / "model.safetensors").write_bytes(
            (folder / "verified" / "1" / "model.safetensors").read_bytes()
        )
        rows = [[1.7e9 + 0.25, 1.0], [1.7e9 + 64.5, -1.0]]
        scaled = torch.tensor([[[0.00025, 1.0], [0.0645, -1.0]]]).double()
        each = layered.modules()["verified"]
        with torch.no_grad():
            expected = each["head"](each["lstm"](scaled)[0])[0].numpy()
        with serve_models(root) as client:
            for _ in range(3):
                reply = client.post("/v1/models/clock/predict", json={"inputs": rows})
                np.testing.assert_allclose(reply.json()["prediction"]["values"][0], expected, atol=1e-7)
            tensors = [
                {"name": "inputs", "shape": [1, 2, 2], "datatype": kind, "data": list(chain(*rows))}
                for kind in ("FP64", "FP32", "FP32")
            ]
            given = [client.post("/v2/models/clock/infer", json={"inputs": [tensor]}).json() for tensor in tensors]
            values = [np.array(each["outputs"][0]["data"]) for each in given]
            np.testing.assert_allclose(values[0], expected[:, 0], atol=1e-7)
            assert np.abs(values[1] - expected[:, 0]).max() > 1e-3  # FP32 is what was sent
            assert values[1].tolist() == values[2].tolist()
            huge = {"inputs": [[3.3e38, 0.0]]}
            assert client.post("/v1/models/clock/predict", json=huge).status_code == 200
            assert client.post("/v1/models/clock/predict", json={"inputs": [[1e39, 0.0]]}).status_code == 422


class TestStaticInputs:
    def test_are_read_at_every_step(self, predict, made):
        for static in (STATIC, [12.25, 1]):
            said, _, _ = basin(made["basin"], ROWS, static)
            values = predict("basin", asked(static_inputs=static)).prediction["values"][0]
            np.testing.assert_allclose(values, said["level"], atol=ATOL)

    def test_may_be_named_in_any_order(self, predict):
        named = asked(static_inputs=STATIC[::-1], static_columns=["soil", "area"])
        assert predict("basin", named).prediction == predict("basin", asked()).prediction
        columns = asked(inputs=[row[::-1] for row in ROWS], columns=["rain", "day"])
        assert predict("basin", columns).prediction == predict("basin", asked()).prediction

    @pytest.mark.parametrize(
        ("more", "loc", "message"),
        [
            (
                {"static_inputs": None},
                ["static_inputs"],
                "is missing: model 'basin' takes one vector of 'area', 'soil'",
            ),
            ({"static_inputs": [1.0]}, ["static_inputs"], "has 1 static feature; model 'basin' takes 2"),
            ({"static_inputs": [[1.0, 1], [1.0, 2]]}, ["static_inputs"], "has 2 vectors for 1 sequence"),
            ({"static_inputs": [1.0, None]}, ["static_inputs", 1], "must be a number, not null"),
            ({"static_inputs": [[1.0, "x"]]}, ["static_inputs", 0, 1], "must be a number, not the string 'x'"),
            ({"static_inputs": [1.0, 3]}, ["static_inputs", 1], "'soil' is 3; the model knows 1, 2"),
            ({"static_inputs": [[1e39, 1]]}, ["static_inputs", 0, 0], "must be a finite float32 number, not 1e+39"),
            (
                {"static_inputs": [3, 1.0], "static_columns": ["soil", "area"]},
                ["static_inputs", 0],
                "'soil' is 3; the model knows 1, 2",
            ),
            ({"static_columns": ["area", "soul"]}, ["static_columns", 1], "no feature 'soul'; did you mean 'soil'?"),
            ({"static_columns": ["area", "area"]}, ["static_columns"], "'area' stands there twice"),
            ({"static_columns": ["area"]}, ["static_columns"], "lacks 'soil'"),
            ({"columns": ["day", "rein"]}, ["columns", 1], "no feature 'rein'; did you mean 'rain'?"),
            ({"columns": []}, ["columns"], "at least 1 item"),
            ({"columns": [1, 2]}, ["columns", 0], "valid string"),
        ],
    )
    def test_that_do_not_fit_are_refused_at_their_place(self, refused, more, loc, message):
        body = {name: value for name, value in asked(**more).items() if value is not None}
        ((place, said),) = refused("models/basin/predict", body)
        assert place == loc
        assert message in said

    def test_of_a_model_that_takes_none_are_refused(self, refused):
        ((loc, said),) = refused("models/smooth/predict", {"inputs": [[1.0]], "static_inputs": [1.0]})
        assert (loc, said) == (["static_inputs"], "model 'smooth' takes none: it has no static features")
        ((loc, said),) = refused("models/smooth/predict", {"inputs": [[1.0]], "static_columns": ["a"]})
        assert (loc, said) == (["static_columns"], "goes with 'static_inputs'")
        ((loc, said),) = refused("models/path/predict", {"inputs": [[1]], "columns": ["a"]})
        assert (loc, said) == (["columns"], "model 'path' reads tokens, which have no columns")

    def test_many_requests_at_once_keep_their_own(self, client, made):
        statics = [[50.0 + 5 * index, 1 + index % 2] for index in range(24)]

        def ask(index):
            body = {"inputs": ROWS[: 1 + index % 4], "static_inputs": statics[index]}
            return client.post("/v1/models/basin/predict", json=body).json()["prediction"]["values"][0]

        with ThreadPoolExecutor(8) as pool:
            given = list(pool.map(ask, range(24)))
        for index, values in enumerate(given):
            said, _, _ = basin(made["basin"], ROWS[: 1 + index % 4], statics[index])
            np.testing.assert_allclose(values, said["level"], atol=ATOL)

    def test_model_info_names_them(self, client):
        assert client.get("/v1/models/basin").json()["static"] == {"feature_names": ["area", "soil"]}
        assert client.get("/v1/models/smooth").json()["static"] is None

    def test_a_long_sequence_in_chunks_keeps_them_for_each_row(self, client, made, monkeypatch):
        monkeypatch.setattr(tuning, "CHUNK_MULTIPLICATIONS", 1)
        engine = client.app.state.context.engine
        statistics = engine.statistics(engine.model("basin"))
        before = statistics.execution_count
        random = np.random.default_rng(0)
        rows = [
            np.stack([2451545.0 + random.normal(size=n) * 50, random.normal(size=n)], axis=1) for n in (700, 90, 500)
        ]
        statics = [[120.0, 1], [80.0, 2], [60.0, 2]]
        body = {"inputs": [row.tolist() for row in rows], "static_inputs": statics}
        reply = client.post("/v1/models/basin/predict", json=body)
        assert statistics.execution_count > before + 10
        heads = reply.json()["heads"]
        for row, (given, static) in enumerate(zip(rows, statics, strict=True)):
            said, _, _ = basin(made["basin"], given, static)
            np.testing.assert_allclose(reply.json()["prediction"]["values"][row], said["level"], atol=5e-6)
            np.testing.assert_allclose(heads["spread"]["values"][row], said["spread"], atol=5e-6)

    def test_the_lines_of_a_trace_and_a_stored_one_have_the_same_numbers(self, client, post, made):
        body = asked(module="encoder")
        _, _, outputs = basin(made["basin"], ROWS, STATIC)
        lines = [
            json.loads(line)
            for line in post("models/basin/trace", body, Accept="application/x-ndjson").text.splitlines()
        ]
        assert lines[0]["model"]["verified"] is False
        assert [note["code"] for note in lines[0]["notes"]] == ["unverified"]
        assert "notes" not in lines[-1]
        hidden = [line["signals"]["hidden_state"][0][1][0] for line in lines[1:-1]]
        np.testing.assert_allclose(hidden, outputs["encoder"], atol=ATOL)
        whole = post("models/basin/trace", body).json()
        np.testing.assert_allclose(lines[-1]["prediction"]["values"], whole["prediction"]["values"], atol=ATOL)
        assert lines[-1]["heads"].keys() == whole["heads"].keys()
        stored = post("traces", body | {"model": "basin"}, 201).json()
        told = client.get(f"/v1/traces/{stored['trace_id']}").json()
        assert told["static_inputs"] == [STATIC]
        assert told["inputs"] == [ROWS]
        assert told["model"]["verified"] is False
        values = client.get(f"/v1/traces/{stored['trace_id']}/values?signals=hidden_state").json()
        assert "verified" not in values["model"]
        assert "notes" not in values
        np.testing.assert_allclose(np.array(values["signals"]["hidden_state"])[0, 1, 0], outputs["encoder"], atol=ATOL)
        np.testing.assert_allclose(
            told["final_state"]["modules"]["decoder.rnn"]["cell_state"],
            whole["final_state"]["modules"]["decoder.rnn"]["cell_state"],
            atol=ATOL,
        )

    def test_a_walk_through_reads_them_sent_or_stored(self, post):
        point = {"unit": 3, "time_step": 2, "layer": 0}
        body = asked(module="encoder")
        sent = post("models/basin/explain", body | point).json()
        assert sent["inputs"] == {"day": ROWS[2][0], "rain": ROWS[2][1]}
        names = [each["name"] for each in sent["gates"]["input_gate"]["largest_inputs"]]
        assert set(names) <= {"day", "rain", "area", "soil=1", "soil=2"}
        assert {"area", "soil=2"} & set(names)
        assert sent["residual"] < 1e-6
        trace_id = post("traces", body | {"model": "basin"}, 201).json()["trace_id"]
        stored = post("models/basin/explain", {"trace_id": trace_id} | point).json()
        assert stored["gates"]["forget_gate"]["sum"] == pytest.approx(sent["gates"]["forget_gate"]["sum"], abs=1e-6)


class TestSeveralModules:
    def test_model_info_tells_of_each(self, client):
        info = client.get("/v1/models/basin").json()
        assert [module["name"] for module in info["modules"]] == ["encoder", "decoder.rnn"]
        encoder = info["modules"][0]
        assert encoder["spec"] == info["lstm"]
        assert (encoder["cell"], encoder["states"]) == ("lstm", ["hidden_state", "cell_state"])
        assert encoder["signals"] == info["signals"]

    def test_states_go_in_and_come_out_by_name(self, predict, made):
        _, ends, _ = basin(made["basin"], ROWS[:2], STATIC)
        half = predict("basin", asked(inputs=ROWS[:2], outputs=["final_state"])).final_state
        assert half.keys() == {"modules"}
        for name, (hidden, cell) in ends.items():
            np.testing.assert_allclose(half["modules"][name]["hidden_state"], hidden, atol=ATOL)
            np.testing.assert_allclose(half["modules"][name]["cell_state"], cell, atol=ATOL)
        rest = predict("basin", asked(inputs=ROWS[2:], initial_state=half))
        said, _, _ = basin(made["basin"], ROWS, STATIC)
        np.testing.assert_allclose(rest.prediction["values"][0], said["level"][2:], atol=ATOL)

    def test_in_safetensors_each_has_its_path(self, client, post, predict):
        content = post("models/basin/predict", asked(inputs=ROWS[:2], outputs=["final_state"]), **TENSORS).content
        states = load(content)
        assert {name for name in states if name.startswith("final_state")} == {
            f"final_state.modules.{module}.{state}"
            for module in ("encoder", "decoder.rnn")
            for state in ("hidden_state", "cell_state")
        }
        begin = {name.replace("final", "initial"): value for name, value in states.items() if "modules" in name}
        sent = save({"inputs": np.array([ROWS[2:]]), "static_inputs": np.array([STATIC]), **begin})
        kind = {"Content-Type": "application/vnd.safetensors"}
        reply = client.post("/v1/models/basin/predict", content=sent, headers=kind)
        assert reply.status_code == 200, reply.text
        whole = predict("basin", asked())
        np.testing.assert_allclose(
            reply.json()["prediction"]["values"][0], whole.prediction["values"][0][2:], atol=ATOL
        )

    def test_a_trace_of_the_second_tells_the_states_of_both(self, post, made):
        reply = post("models/basin/trace", asked(module="decoder.rnn", signals=["hidden_state"])).json()
        _, ends, outputs = basin(made["basin"], ROWS, STATIC)
        assert reply["module"] == "decoder.rnn"
        np.testing.assert_allclose(reply["signals"]["hidden_state"][0][0][0], outputs["decoder.rnn"], atol=ATOL)
        assert np.all(np.array(reply["initial_state"]["modules"]["encoder"]["hidden_state"]) == 0)
        for name, (hidden, _) in ends.items():
            np.testing.assert_allclose(reply["final_state"]["modules"][name]["hidden_state"], hidden, atol=ATOL)
        content = post("models/basin/trace", asked(module="decoder.rnn"), **TENSORS).content
        assert metadata(content)["final_state"].keys() == {"modules"}

    @pytest.mark.parametrize(
        ("state", "loc", "message"),
        [
            ({"hidden_state": [[[0.0]]], "cell_state": [[[0.0]]]}, [], "has several recurrent modules: give 'modules'"),
            ({"modules": {"encoder": {}}}, ["modules", "decoder.rnn"], "is missing"),
            ({"modules": {"encoder": {}, "decodr.rnn": {}}}, ["modules", "decodr.rnn"], "did you mean 'decoder.rnn'?"),
            ({"modules": []}, ["modules"], "must be an object of states by module, not a list"),
        ],
    )
    def test_states_that_do_not_fit_are_refused(self, refused, state, loc, message):
        places = refused("models/basin/predict", asked(initial_state=state))
        assert places[0][0] == ["initial_state", *loc]
        assert message in places[0][1]

    def test_a_lone_modules_state_stays_as_it_was(self, predict, refused):
        reply = predict("verified", {"inputs": [[1.0, 2.0]], "outputs": ["final_state"]})
        assert reply.final_state.keys() == {"hidden_state", "cell_state"}
        body = {"inputs": [[1.0, 2.0]], "initial_state": {"modules": {"lstm": reply.final_state}}}
        ((loc, message),) = refused("models/verified/predict", body)
        assert loc == ["initial_state", "modules"]
        assert "has one recurrent module: give 'hidden_state' and 'cell_state'" in message


class TestSessions:
    def test_a_stream_in_steps_gives_the_numbers_of_the_whole(self, client, post, made):
        said, ends, _ = basin(made["basin"], ROWS, STATIC)
        named = {"static_inputs": STATIC[::-1], "static_columns": ["soil", "area"]}
        opened = post("sessions", {"model": "basin", "session_id": "s"} | named, 201).json()
        assert opened["model"] == {"name": "basin", "version": "1"}
        for index, row in enumerate(ROWS):
            body = {"inputs": [row], "trace": {"signals": ["cell_state"]} if index == 2 else None}
            step = post("sessions/s/steps", body).json()
            np.testing.assert_allclose(step["prediction"]["values"][0], said["level"][index : index + 1], atol=ATOL)
            assert step["model"]["verified"] is False
            assert [note["code"] for note in step["notes"]] == ["unverified"]
            assert "final_state" not in step
            if index == 2:
                _, before, _ = basin(made["basin"], ROWS[:2], STATIC)
                begun = step["trace"]["initial_state"]["modules"]
                for name, (hidden, _) in before.items():
                    np.testing.assert_allclose(begun[name]["hidden_state"], hidden, atol=ATOL)
        state = client.get("/v1/sessions/s/state").json()
        for name, (_, cell) in ends.items():
            np.testing.assert_allclose(state["modules"][name]["cell_state"], cell, atol=ATOL)
        assert client.put("/v1/sessions/s/state", json=state).status_code == 200
        assert client.put("/v1/sessions/s/state", json={"modules": {}}).status_code == 422
        client.delete("/v1/sessions/s")

    def test_they_need_what_the_model_takes_once(self, post, refused):
        ((loc, message),) = refused("sessions", {"model": "basin"})
        assert loc == ["static_inputs"]
        assert "is missing: model 'basin' takes one vector" in message
        assert refused("sessions", {"model": "basin", "static_inputs": [[1.0, 1], [1.0, 1]]})[0][0] == ["static_inputs"]
        post("sessions", {"model": "basin", "session_id": "t", "static_inputs": STATIC}, 201)
        ((loc, message),) = refused("sessions/t/steps", asked(inputs=ROWS[:1]))
        assert loc == ["static_inputs"]
        assert "a session has those that it was opened with" in message

    def test_one_begins_in_the_state_that_was_learned(self, post, predict):
        rows = [[0.3, -0.2], [1.0, 0.5], [-1.0, 0.0]]
        post("sessions", {"model": "learned", "session_id": "u"}, 201)
        for row in rows:
            step = post("sessions/u/steps", {"inputs": [row]}).json()
        whole = predict("learned", {"inputs": rows}).prediction
        assert step["prediction"]["values"][0] == pytest.approx(whole["values"][0], abs=ATOL)

    def test_beside_one_with_a_state_another_begins_in_the_learned_one(self, client):
        zeros = {"hidden_state": [[[0.0] * 4]], "cell_state": [[[0.0] * 4]]}
        bodies = [{"inputs": [[0.5, 0.5]]}, {"inputs": [[0.5, 0.5]], "initial_state": zeros}] * 16

        def ask(body):
            return client.post("/v1/models/learned/predict", json=body).json()["prediction"]["values"][0][0]

        alone = [ask(body) for body in bodies[:2]]
        assert abs(alone[0] - alone[1]) > 1e-3
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, bodies)) == pytest.approx(alone * 16, abs=ATOL)

    @pytest.mark.parametrize(
        ("model", "reason"),
        [
            ("smooth", "reads neighbouring steps (a convolution)"),
            ("both", "is bidirectional: its reverse direction begins at the end"),
            ("summed", "predicts from all steps of a sequence at once"),
            ("path", "predicts from all steps of a sequence at once"),
        ],
    )
    def test_what_cannot_be_streamed_is_refused_with_the_reason(self, refused, model, reason):
        ((loc, message),) = refused("sessions", {"model": model})
        assert loc == ["model"]
        assert reason in message


class TestVerified:
    def test_nothing_is_added_for_a_model_that_was_compared(self, client, predict, post):
        info = client.get("/v1/models/verified").json()["verified"]
        assert (info["by"], info["tolerance"], info["sample"]) == ("sample", 1e-5, "two steps")
        assert 0 <= info["max_error"] < 1e-5
        reply = predict("verified", {"inputs": [[1.0, 2.0]]})
        assert reply.model == {"name": "verified", "version": "1"}
        assert not hasattr(reply, "notes")
        lines = post("models/verified/trace", {"inputs": [[1.0, 2.0]]}, Accept="application/x-ndjson").text.splitlines()
        assert json.loads(lines[0])["model"] == {"name": "verified", "version": "1"}
        assert client.get("/v1/models/basin").json()["verified"] is None

    def test_nor_where_there_is_no_prediction(self, predict, post):
        reply = predict("basin", asked(outputs=["output", "final_state"]))
        assert reply.model == {"name": "basin", "version": "1"}
        assert not hasattr(reply, "notes")
        lines = post("models/basin/trace", asked(outputs=["output"]), Accept="application/x-ndjson").text.splitlines()
        assert "verified" not in json.loads(lines[0])["model"]

    def test_npz_tells_it_in_its_metadata(self, post):
        content = post("models/basin/trace", asked(), Accept="application/x-npz").content
        told = json.loads(str(np.load(io.BytesIO(content))["metadata"]))
        assert told["model"]["verified"] is False
        assert [note["code"] for note in told["notes"]] == ["unverified"]
        assert told["notes"][0]["message"].endswith("import the model with --sample")


class TestUnknownTokens:
    def test_are_told_with_their_places(self, predict):
        reply = predict("path", {"text": ["sun is here", "moon is Rain"]})
        notes = [note for note in reply.notes if note["code"] == "unknown_token"]
        assert [note["loc"] for note in notes] == [["body", "text", 1, 0], ["body", "text", 1, 2]]
        assert notes[0]["message"] == "'moon' is not in the model's vocabulary; it was read as '<unknown>'"
        alone = predict("path", {"text": "moon", "outputs": ["output"]})
        assert [(note["code"], note["loc"]) for note in alone.notes] == [("unknown_token", ["body", "text", 0])]
        assert not hasattr(predict("path", {"text": "sun is here", "outputs": ["output"]}), "notes")
        assert not hasattr(predict("path", {"inputs": [[0, 1]], "outputs": ["output"]}), "notes")

    def test_of_many_the_first_are_told_and_the_others_counted(self, predict):
        reply = predict("path", {"text": " ".join(["moon"] * 25 + ["sun"] + ["moon"] * 3), "outputs": ["output"]})
        assert len(reply.notes) == 21
        assert reply.notes[19]["loc"] == ["body", "text", 19]
        assert "loc" not in reply.notes[20]
        assert reply.notes[20]["message"].startswith("8 more tokens")

    def test_are_told_in_every_format_and_of_stored_traces(self, client, post):
        body = {"text": "moon is here", "outputs": ["output"]}
        place = ["body", "text", 0]
        assert metadata(post("models/path/predict", body, **TENSORS).content)["notes"][0]["loc"] == place
        first = post("models/path/trace", body, Accept="application/x-ndjson").text.splitlines()[0]
        assert json.loads(first)["notes"][0]["loc"] == place
        stored = post("traces", body | {"model": "path"}, 201).json()
        assert stored["notes"][0]["loc"] == place
        assert client.get(f"/v1/traces/{stored['trace_id']}").json()["notes"][0]["loc"] == place
        explained = post("models/path/explain", {"text": "moon is", "unit": 0, "time_step": 0}).json()
        assert explained["notes"][0]["loc"] == place
        assert explained["token"] == "moon"  # noqa: S105 - a word


class TestIncomplete:
    def test_a_prediction_is_refused_with_what_is_missing_and_what_to_do(self, client, refused):
        ((loc, message),) = refused("models/incomplete/predict", {"inputs": [[1.0, 2.0]], "outputs": ["prediction"]})
        assert loc == ["outputs", 0]
        assert "'attention.in_proj_weight' (attention)" in message
        for remedy in ("--sample", "--layers", "custom module", "--ignore NAME"):
            assert remedy in message
        info = client.get("/v1/models/incomplete").json()
        assert info["ignored"] == ["teacher"]
        assert info["not_computed"] == [{"name": "attention.in_proj_weight", "kind": "attention", "place": "behind"}]
        reply = client.post("/v1/models/incomplete/predict", json={"inputs": [[1.0, 2.0]]}).json()
        assert reply.keys() == {"model", "sequence_lengths", "output"}


class TestProtocol:
    @pytest.fixture
    def infer(self, client):
        def infer(model, inputs, outputs=(), status=200, **parameters):
            body = {"inputs": inputs, "outputs": [{"name": name} for name in outputs], "parameters": parameters}
            reply = client.post(f"/v2/models/{model}/infer", json=body)
            assert reply.status_code == status, reply.text
            return reply.json()

        return infer

    @staticmethod
    def tensors(rows=ROWS, static=STATIC, kind="FP64"):
        return [
            {"name": "inputs", "shape": [1, len(rows), 2], "datatype": kind, "data": list(chain(*rows))},
            {"name": "static_inputs", "shape": [1, 2], "datatype": kind, "data": static},
        ]

    def test_heads_go_out_where_they_are_asked_for(self, client, infer, made):
        said, _, _ = basin(made["basin"], ROWS, STATIC)
        metadata_ = client.get("/v2/models/basin").json()
        shapes = {tensor["name"]: tensor["shape"] for tensor in metadata_["outputs"]}
        assert shapes["prediction.flood"] == [-1, -1, 1]
        assert shapes["prediction.spread"] == [-1, -1, 6]
        assert {"name": "static_inputs", "datatype": "FP32", "shape": [-1, 2]} in metadata_["inputs"]
        assert not {"final_hidden_state", "final_cell_state"} & shapes.keys()
        reply = infer("basin", self.tensors(), ["prediction.kinds", "prediction", "prediction.spread"])
        names = ["kinds", "level", "spread"]
        for output, name in zip(reply["outputs"], names, strict=True):
            np.testing.assert_allclose(np.reshape(output["data"], output["shape"])[0], said[name], atol=ATOL)
        assert [output["name"] for output in infer("basin", self.tensors())["outputs"]] == ["prediction"]

    def test_notes_and_verification_are_parameters(self, infer):
        parameters = infer("basin", self.tensors(), ["prediction.flood"])["parameters"]
        assert parameters["verified"] is False
        assert [note["code"] for note in json.loads(parameters["notes"])] == ["unverified"]
        assert "parameters" not in infer("basin", self.tensors(), ["output"])
        text = [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["sun", "here moon"]}]
        (note,) = json.loads(infer("path", text, ["output"])["parameters"]["notes"])
        assert (note["code"], note["loc"]) == ("unknown_token", ["text", 1, 1])

    def test_columns_are_parameters(self, infer):
        rows = [row[::-1] for row in ROWS]
        given = infer("basin", self.tensors(rows), columns='["rain", "day"]')["outputs"]
        assert given == infer("basin", self.tensors())["outputs"]
        assert "must be a list of names in JSON" in infer("basin", self.tensors(), status=400, columns="rain")["error"]

    @pytest.mark.parametrize(
        ("model", "inputs", "outputs", "message"),
        [
            ("basin", slice(0, 1), (), "static_inputs: is missing"),
            ("basin", slice(None), ("final_cell_state",), "several recurrent modules"),
            ("basin", slice(None), ("prediction.flod",), "did you mean 'prediction.flood'"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, infer, model, inputs, outputs, message):
        assert message in infer(model, self.tensors()[inputs], outputs, 400)["error"]

    def test_states_of_several_modules_are_refused_with_the_reason(self, infer):
        state = {"name": "initial_hidden_state", "shape": [1, 1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}
        assert "several recurrent modules" in infer("basin", [*self.tensors(), state], (), 400)["error"]
        incomplete = {"name": "inputs", "shape": [1, 1, 2], "datatype": "FP32", "data": [1, 2]}
        assert "--sample" in infer("incomplete", [incomplete], ["prediction"], 400)["error"]

    def test_a_sequence_gives_them_where_it_starts(self, infer, made):
        said, _, _ = basin(made["basin"], ROWS, STATIC)
        for index, row in enumerate(ROWS):
            flags = {"sequence_id": 77, "sequence_start": index == 0, "sequence_end": index == len(ROWS) - 1}
            reply = infer("basin", self.tensors([row])[: 2 if index == 0 else 1], **flags)
            np.testing.assert_allclose(reply["outputs"][0]["data"], said["level"][index], atol=ATOL)
            assert reply["parameters"]["verified"] is False
        without = infer("basin", self.tensors([ROWS[0]])[:1], status=400, sequence_id=78, sequence_start=True)
        assert "static_inputs: is missing" in without["error"]
        infer("basin", self.tensors([ROWS[0]]), sequence_id=79, sequence_start=True)
        later = infer("basin", self.tensors([ROWS[1]]), status=400, sequence_id=79)
        assert "goes with 'sequence_start'" in later["error"]
