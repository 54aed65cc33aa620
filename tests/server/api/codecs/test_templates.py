"""Bodies that are read by the template of an earlier one: the same numbers, and the same refusals, as without it."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from gatescope.server.api.codecs import safetensors
from gatescope.server.api.codecs.json import inputs as json_inputs
from gatescope.server.api.codecs.json import parsing
from gatescope.server.api.codecs.templates import MAX_TEMPLATES, Template, Templates
from tests.server.api.helpers import PREDICT

INFER = "/v2/models/founding/infer"
SAFETENSORS = {"Content-Type": "application/vnd.safetensors"}
JSON = {"Content-Type": "application/json"}
FORMATS = ("json", "safetensors", "infer", "binary")


@pytest.fixture(scope="module")
def outputs(networks):
    """(batch, time, feature) -> the output of PyTorch, as it is."""
    lstm = networks["founding"].lstm

    def compute(inputs):
        with torch.no_grad():
            return lstm(torch.from_numpy(np.asarray(inputs, np.float32)).transpose(0, 1))[0].transpose(0, 1).numpy()

    return compute


def numbers(seed, batch=2, time=3):
    return np.random.default_rng(seed).normal(size=(batch, time, 5)).astype(np.float32)


def framed(inputs, **more):
    described = {
        "name": "inputs",
        "shape": list(inputs.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": inputs.nbytes},
    }
    text = json.dumps({"inputs": [described]} | more).encode()
    return text + inputs.tobytes(), {"Inference-Header-Content-Length": str(len(text))}


def send(client, form, inputs, metadata=None):
    """The reply to a request in this format."""
    if form == "json":
        return client.post(PREDICT, content=json.dumps({"inputs": inputs.tolist()}).encode(), headers=JSON)
    if form == "safetensors":
        return client.post(PREDICT, content=save({"inputs": inputs}, metadata), headers=SAFETENSORS)
    if form == "infer":
        tensor = {"name": "inputs", "shape": list(inputs.shape), "datatype": "FP32", "data": inputs.ravel().tolist()}
        return client.post(INFER, json={"inputs": [tensor]})
    content, headers = framed(inputs)
    return client.post(INFER, content=content, headers=headers)


def output(reply):
    assert reply.status_code == 200, reply.text
    told = reply.json()
    if "outputs" in told:
        return np.array(told["outputs"][0]["data"]).reshape(told["outputs"][0]["shape"])
    return np.array(told["output"])


class TestNumbers:
    @pytest.mark.parametrize("form", FORMATS)
    @pytest.mark.parametrize(("batch", "time"), [(1, 1), (2, 3), (3, 1), (1, 40)])
    def test_are_those_of_each_body_itself(self, client, outputs, form, batch, time):
        for seed in range(4):
            inputs = numbers(seed, batch, time)
            assert output(send(client, form, inputs)) == pytest.approx(outputs(inputs), abs=1e-5)

    def test_a_lone_sequence_and_one_in_a_batch_differ_in_nothing(self, client, outputs):
        for seed in range(3):
            (lone,) = numbers(seed, 1, 4)
            for given in (lone.tolist(), [lone.tolist()]):
                reply = client.post(PREDICT, json={"inputs": given})
                assert output(reply) == pytest.approx(outputs([lone]), abs=1e-5)

    def test_spaces_and_signs_are_no_numbers(self, client, outputs):
        for text in ("[[1,2,3,4,5]]", "[[ 1 ,\n2,3 , 4,\t5 ]]", "[[-1e0,+2,3,4,5]]", "[[-1E+0,2.50,3e-1,4,5]]"):
            reply = client.post(PREDICT, content=f'{{"inputs":{text}}}'.encode(), headers=JSON)
            if "+2" in text:
                assert reply.status_code == 400  # no JSON
            else:
                assert output(reply) == pytest.approx(outputs([json.loads(text)]), abs=1e-5)

    def test_ragged_ones_are_never_mixed_up(self, client, outputs):
        for seed in range(3):
            rows = numbers(seed, 1, 5)[0]
            for first, second in ((1, 4), (4, 1), (2, 3)):
                given = [rows[:first].tolist(), rows[first : first + second].tolist()]
                told = client.post(PREDICT, json={"inputs": given}).json()["output"]
                for one, row in zip(told, given, strict=True):
                    assert np.array(one) == pytest.approx(outputs([row])[0], abs=1e-5)

    @pytest.mark.parametrize("times", [1, 3])
    def test_a_layout_in_the_metadata_counts_each_time(self, client, outputs, times):
        metadata = {"layout": '"time_batch_feature"'}
        for seed in range(7, 7 + times + 1):
            inputs = numbers(seed, 2, 3)
            turned = np.ascontiguousarray(inputs.transpose(1, 0, 2))
            reply = send(client, "safetensors", turned, metadata)
            assert output(reply) == pytest.approx(outputs(inputs), abs=1e-5)
            plain = send(client, "safetensors", turned)
            assert output(plain) == pytest.approx(outputs(turned), abs=1e-5)

    def test_what_else_stands_in_the_metadata_counts_each_time(self, client, outputs):
        for seed in range(3):
            inputs = numbers(seed)
            told = send(client, "safetensors", inputs, {"outputs": '["final_state"]'}).json()
            assert "output" not in told
            final = np.array(told["final_state"]["hidden_state"])[1]
            assert final == pytest.approx(outputs(inputs)[:, -1], abs=1e-5)
            told = send(client, "safetensors", inputs, {"sequence_lengths": "[1, 3]"}).json()
            assert [len(rows) for rows in told["output"]] == [1, 3]
            assert np.array(told["output"][0]) == pytest.approx(outputs(inputs)[0, :1], abs=1e-5)

    def test_ids_and_outputs_of_messages_count_each_time(self, client, outputs):
        for seed in range(3):
            inputs = numbers(seed, 1, 2)
            content, headers = framed(inputs, id=f"mine-{seed}", outputs=[{"name": "final_hidden_state"}])
            told = client.post(INFER, content=content, headers=headers).json()
            (named,) = told["outputs"]
            assert (told["id"], named["name"]) == (f"mine-{seed}", "final_hidden_state")
            final = np.array(named["data"]).reshape(named["shape"])[0, 1]
            assert final == pytest.approx(outputs(inputs)[0, -1], abs=1e-5)

    def test_each_model_has_its_own(self, client, call):
        rows = [[0.5, 1.5]]
        for _ in range(2):
            for name in ("forecaster", "founding"):
                given = rows if name == "forecaster" else [[1.0, 2.0, 3.0, 4.0, 5.0]]
                assert call(f"{name}/predict", {"inputs": given}).model["name"] == name
            assert client.post(PREDICT, json={"inputs": rows}).status_code == 422


def raw(text):
    return f'{{"inputs":{text}}}'.encode()


class TestRefusals:
    """Of bodies that have the skeleton of one that was answered, or nearly."""

    @pytest.mark.parametrize(
        ("content", "status", "loc"),
        [
            (raw("[[1,2,3,4,NaN]]"), 422, ["body", "inputs", 0, 4]),
            (raw("[[1,2,3,4,Infinity]]"), 422, ["body", "inputs", 0, 4]),
            (raw("[[1,2,-Infinity,4,5]]"), 422, ["body", "inputs", 0, 2]),
            (raw("[[1,2,3,4,1e39]]"), 422, ["body", "inputs", 0, 4]),
            (raw("[[1,2,3,-1e39,5]]"), 422, ["body", "inputs", 0, 3]),
            (raw("[[1,2,3,4]]"), 422, ["body", "inputs", 0]),
            (raw("[[1,2,3,4,5,6]]"), 422, ["body", "inputs", 0]),
            (raw("[[1,2,3,4,]]"), 400, None),
            (raw("[[1,2,,4,5]]"), 400, None),
            (raw("[[1 2,3,4,5,6]]"), 400, None),
            (raw("[[1,2,3,4,05]]"), 400, None),
            (raw("[[1,2,3,4,5e]]"), 400, None),
            (raw("[[1,2,3,4,5]]") + b"6", 400, None),
            (b"1" + raw("[[1,2,3,4,5]]"), 400, None),
            (raw("[[1,2,3,4,5]]").replace(b"inputs", b"inputse"), 422, ["body", "inputse"]),
            (raw("[[1,2,3,4,5]]").replace(b"inputs", b"inp1uts"), 422, ["body", "inp1uts"]),
            (raw("[[1,2,3,4,5]]").replace(b"inputs", b"inputs "), 422, ["body", "inputs "]),
            (raw("[[1,2,3,4,5]]").replace(b"inputs", b"-inputs"), 422, ["body", "-inputs"]),
        ],
        ids=str,
    )
    def test_of_json(self, client, content, status, loc):
        for _ in range(2):
            assert client.post(PREDICT, content=raw("[[1,2,3,4,5]]"), headers=JSON).status_code == 200
            reply = client.post(PREDICT, content=content, headers=JSON)
            assert reply.status_code == status, reply.text
            assert loc is None or loc in [error["loc"] for error in reply.json()["errors"]]

    def test_with_an_exponent_beyond_double_precision(self, client):
        for _ in range(2):
            assert client.post(PREDICT, content=raw("[[1,2,3,4,5]]"), headers=JSON).status_code == 200
            assert client.post(PREDICT, content=raw("[[1,2,3,4,1e999]]"), headers=JSON).status_code in (400, 422)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("form", ["safetensors", "binary"])
    def test_of_numbers_in_binary(self, client, form, value):
        inputs = numbers(0)
        for _ in range(2):
            assert send(client, form, inputs).status_code == 200
            wrong = inputs.copy()
            wrong[1, 2, 3] = value
            reply = send(client, form, wrong)
            assert reply.status_code == (422 if form == "safetensors" else 400)
            place = [error["loc"] for error in reply.json().get("errors", ())]
            assert place in ([["body", "inputs", 1, 2, 3]], []), reply.text

    def test_of_files_that_are_cut_or_longer(self, client):
        good = save({"inputs": numbers(0)})
        for _ in range(2):
            assert client.post(PREDICT, content=good, headers=SAFETENSORS).status_code == 200
            for wrong in (good[:-4], good[:-1], good + b"\0\0\0\0", good[:8], struct.pack("<Q", 1 << 60) + good[8:]):
                assert client.post(PREDICT, content=wrong, headers=SAFETENSORS).status_code == 422

    def test_of_messages_that_are_cut_or_longer(self, client):
        content, headers = framed(numbers(0))
        for _ in range(2):
            assert client.post(INFER, content=content, headers=headers).status_code == 200
            for wrong in (content[:-4], content[:-1], content + b"\0\0\0\0"):
                assert client.post(INFER, content=wrong, headers=headers).status_code == 400

    @pytest.mark.parametrize(
        "data", ["[1,2,3,4]", "[1,2,3,4,5,6]", "[1,2,3,4,]", "[1,2,3,4,NaN]", "[1,2,3,4,1e39]", '["1",2,3,4,5]']
    )
    def test_of_messages_in_json(self, client, data):
        text = '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":%s}]}'
        for _ in range(2):
            assert client.post(INFER, content=(text % "[1,2,3,4,5]").encode()).status_code == 200
            assert client.post(INFER, content=(text % data).encode()).status_code == 400

    def test_of_another_shape_with_as_many_numbers(self, client, outputs):
        text = '{"inputs":[{"name":"inputs","shape":%s,"datatype":"FP32","data":[1,2,3,4,5,6,7,8,9,10]}]}'
        rows = np.arange(1, 11, dtype=np.float32)
        for _ in range(2):
            for shape in ((1, 2, 5), (2, 1, 5)):
                reply = client.post(INFER, content=(text % list(shape)).encode())
                assert output(reply) == pytest.approx(outputs(rows.reshape(shape)), abs=1e-5)


class TestCost:
    """How often a body is parsed."""

    @pytest.fixture
    def parsed(self, monkeypatch):
        """The lengths of all that was parsed as a whole."""
        lengths = []

        def noting(module, name, length=len):
            call = getattr(module, name)
            monkeypatch.setattr(module, name, lambda given, *rest: lengths.append(length(given)) or call(given, *rest))

        noting(json_inputs, "_floats")
        noting(safetensors, "deserialize")
        noting(parsing, "_parse")
        return lengths

    def test_the_first_in_json_is_parsed_once(self, serve, parsed):
        with serve() as client:
            for seed in range(3):
                content = json.dumps({"inputs": numbers(seed, 2, 17).tolist()}).encode()
                parsed.clear()
                assert client.post(PREDICT, content=content, headers=JSON).status_code == 200
                assert parsed == [len(content)]

    def test_the_first_in_safetensors_is_parsed_once_and_others_never(self, serve, parsed):
        with serve() as client:
            for seed in range(3):
                content = save({"inputs": numbers(seed, 2, 18)})
                parsed.clear()
                assert client.post(PREDICT, content=content, headers=SAFETENSORS).status_code == 200
                assert parsed == ([] if seed else [len(content)])

    def test_the_first_message_is_parsed_once_and_others_never(self, serve, parsed):
        with serve() as client:
            for seed in range(3):
                inputs = numbers(seed, 2, 19)
                content, headers = framed(inputs)
                parsed.clear()
                assert client.post(INFER, content=content, headers=headers).status_code == 200
                assert parsed == ([] if seed else [len(content) - inputs.nbytes])


class TestStore:
    """The templates of a model."""

    @pytest.fixture
    def model(self, client):
        return client.app.state.context.engine.model("founding")

    @staticmethod
    def template(number):
        return Template((1, 1, 5), 5, None, number)

    def test_the_one_used_least_recently_goes_first(self, model):
        templates = Templates()
        for number in range(MAX_TEMPLATES):
            templates.put(model, b"%d" % number, self.template(number))
        assert templates.get(model, b"0").kept == 0
        templates.put(model, b"more", self.template(-1))
        assert templates.get(model, b"1") is None
        assert [templates.get(model, b"%d" % number).kept for number in (0, *range(2, MAX_TEMPLATES))] == [
            0,
            *range(2, MAX_TEMPLATES),
        ]
        assert templates.get(model, b"more").kept == -1

    def test_a_model_that_goes_takes_its_own_along(self, model, client):
        templates, other = Templates(), client.app.state.context.engine.model("forecaster")
        templates.put(model, b"a", self.template(1))
        templates.put(other, b"a", self.template(2))
        assert (templates.get(model, b"a").kept, templates.get(other, b"a").kept) == (1, 2)
        assert templates.get(model, b"b") is None
