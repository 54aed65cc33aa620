"""`POST /v2/models/{name}/infer`: the numbers, and the forms in which they come and go."""

import gzip
import json
import zlib

import numpy as np
import pytest
import torch

from gatescope.backends import reference
from gatescope.cells import LSTM

INFER = "/v2/models/founding/infer"


@pytest.fixture
def inputs():
    return torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def own(network, inputs, state=None):
    """Its own forward, batch first: the output, and the states (batch, layers · directions, unit)."""
    output, (h, c) = network.lstm(inputs.transpose(0, 1), state)
    return output.transpose(0, 1), h.transpose(0, 1), c.transpose(0, 1)


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_outputs_are_the_modules_own_in_binary_and_json(client, wire, networks, inputs, binary_in, binary_out):
    names = ["final_cell_state", "output", "final_hidden_state"]
    tensor = wire.tensor("inputs", inputs)
    if binary_in:
        tensor = {key: value for key, value in tensor.items() if key != "data"}
        tensor["parameters"] = {"binary_data_size": inputs.numel() * 4}
    body = {"inputs": [tensor], "outputs": [{"name": name} for name in names]}
    body["parameters"] = {"binary_data_output": binary_out}
    content, headers = wire.framed(body, inputs.numpy().tobytes() if binary_in else b"")
    reply = client.post(INFER, content=content, headers=headers)
    assert ("inference-header-content-length" in reply.headers) == binary_out
    assert reply.headers["content-type"] == ("application/octet-stream" if binary_out else "application/json")
    given = wire.opened(reply)
    assert list(given) == names
    output, hidden, cell = own(networks["founding"], inputs)
    for name, expected in (("output", output), ("final_hidden_state", hidden), ("final_cell_state", cell)):
        np.testing.assert_allclose(given[name], expected, atol=1e-6)


@pytest.mark.parametrize("signal", LSTM.signal_names)
def test_every_signal_is_that_of_the_equations(ask, wire, networks, signal):
    inputs = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(2))
    reply = ask("both-ways", [wire.tensor("inputs", inputs)], [signal])
    given = wire.opened(reply)[signal]
    for row, sequence in enumerate(inputs):
        expected = reference.run(networks["both-ways"].lstm, sequence.double())[signal]
        np.testing.assert_allclose(given[row], expected, atol=1e-5)
    assert reply.json()["parameters"]["residual"] < 1e-5


def test_signals_and_outputs_come_together_in_the_order_asked_for_and_nothing_else(ask, wire, call, inputs):
    names = ["forget_gate", "output", "cell_state"]
    reply = ask("founding", [wire.tensor("inputs", inputs)], names)
    given = wire.opened(reply)
    traced = call("founding/trace", {"inputs": inputs.tolist(), "signals": ["forget_gate", "cell_state"]})
    assert list(given) == names
    np.testing.assert_allclose(given["forget_gate"], np.array(traced.signals["forget_gate"]), atol=1e-6)
    np.testing.assert_allclose(given["cell_state"], np.array(traced.signals["cell_state"]), atol=1e-6)


def test_a_state_that_came_out_goes_in_again(ask, wire, networks, inputs):
    whole = own(networks["founding"], inputs)[0]
    first = wire.opened(
        ask("founding", [wire.tensor("inputs", inputs[:, :3])], ["final_hidden_state", "final_cell_state"])
    )
    states = [wire.tensor(f"initial_{part}", first[f"final_{part}"]) for part in ("hidden_state", "cell_state")]
    rest = wire.opened(ask("founding", [wire.tensor("inputs", inputs[:, 3:]), *states]))
    np.testing.assert_allclose(rest["output"], whole[:, 3:], atol=1e-6)


@pytest.mark.parametrize("binary", [True, False])
def test_padding_is_nan_in_binary_and_null_in_json(client, wire, call, inputs, binary):
    tensors = [wire.tensor("inputs", inputs), wire.tensor("sequence_lengths", [4, 2], "INT64")]
    names = ["output", "hidden_state"]
    body = {"inputs": tensors, "outputs": [{"name": name, "parameters": {"binary_data": binary}} for name in names]}
    reply = client.post(INFER, json=body)
    given = wire.opened(reply)
    assert np.isnan(given["output"][1, 2:]).all()
    assert np.isnan(given["hidden_state"][1, :, :, 2:]).all()
    assert binary or reply.json()["outputs"][0]["data"][-1] is None
    alone = call("founding/predict", {"inputs": inputs[1, :2].tolist()})
    np.testing.assert_allclose(given["output"][1, :2], alone.output[0], atol=1e-6)


@pytest.mark.parametrize(
    ("datatype", "dtype"), [("FP64", np.float64), ("FP16", np.float16), ("INT32", np.int32), ("UINT8", np.uint8)]
)
def test_numbers_of_other_types_are_converted(client, wire, call, datatype, dtype):
    values = np.arange(10).reshape(1, 2, 5).astype(dtype)
    tensor = {"name": "inputs", "shape": [1, 2, 5], "datatype": datatype}
    content, headers = wire.framed(
        {"inputs": [tensor | {"parameters": {"binary_data_size": values.nbytes}}]}, values.tobytes()
    )
    given = wire.opened(client.post(INFER, content=content, headers=headers))
    np.testing.assert_allclose(given["output"], call("founding/predict", {"inputs": values.tolist()}).output, atol=1e-6)


def test_predictions_are_those_of_v1(ask, wire, call):
    rows = [[[10.0, 0.0], [11.0, 1.0]]]
    given = wire.opened(ask("forecaster", [wire.tensor("inputs", rows)]))
    np.testing.assert_array_equal(
        given["prediction"], np.array(call("forecaster/predict", {"inputs": rows}).prediction["values"], np.float32)
    )


def test_text_and_ids_give_the_scores_of_a_classifier(ask, wire, call):
    text = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["sun is here.", "rain"]}
    expected = call("mood/predict", {"text": text["data"]}).prediction["values"]
    given = wire.opened(ask("mood", [text]))["prediction"]
    assert given.shape == (2, 3)
    np.testing.assert_allclose(given, expected, atol=1e-6)
    ids = wire.opened(ask("mood", [wire.tensor("inputs", [[2]], "INT32")]))["prediction"]
    np.testing.assert_allclose(ids[0], expected[1], atol=1e-6)


@pytest.mark.parametrize(("model", "named"), [("founding", "output"), ("forecaster", "prediction")])
@pytest.mark.parametrize("outputs", [None, []])
def test_where_no_output_is_named_the_prediction_comes_or_the_output_without_a_head(
    client, wire, model, named, outputs
):
    width = {"founding": 5, "forecaster": 2}[model]
    body = {"inputs": [wire.tensor("inputs", np.zeros((1, 1, width)))], "outputs": outputs}
    assert list(wire.opened(client.post(f"/v2/models/{model}/infer", json=body))) == [named]


def test_an_id_is_echoed_and_an_empty_one_is_not(ask, wire, inputs):
    for sent, told in (("7", "7"), ("", None), (None, None)):
        assert ask("founding", [wire.tensor("inputs", inputs)], id=sent).json().get("id") == told


def test_parameters_and_fields_of_others_are_passed_over(ask, wire, inputs):
    tensor = wire.tensor("inputs", inputs) | {"parameters": {"content_type": "np"}, "other": 1}
    reply = ask("founding", [tensor], parameters={"priority": 1, "mine": {"deep": []}}, model_name="founding")
    assert list(wire.opened(reply)) == ["output"]
    assert reply.json().keys() == {"model_name", "model_version", "outputs"}


def test_a_version_may_be_named(client, wire, inputs):
    body = {"inputs": [wire.tensor("inputs", inputs)]}
    assert client.post("/v2/models/founding/versions/1/infer", json=body).json()["model_version"] == "1"


@pytest.mark.parametrize("media_type", [None, "application/octet-stream", "application/json", "text/plain"])
def test_the_content_type_does_not_matter(client, wire, inputs, media_type):
    content = json.dumps({"inputs": [wire.tensor("inputs", inputs)]}).encode()
    request = client.build_request("POST", INFER, content=content)
    if media_type is None:
        request.headers.pop("content-type", None)
    else:
        request.headers["content-type"] = media_type
    wire.opened(client.send(request))


def test_a_header_as_long_as_the_body_means_that_all_of_it_is_json(client, wire, inputs):
    content, headers = wire.framed({"inputs": [wire.tensor("inputs", inputs)]})
    wire.opened(client.post(INFER, content=content, headers=headers))


class TestRaw:
    """A body that is the one tensor that a model needs."""

    HEADERS = {"Inference-Header-Content-Length": "0"}  # noqa: RUF012

    def test_features_are_one_sequence(self, client, wire, networks, inputs):
        reply = client.post(INFER, content=inputs[0].numpy().tobytes(), headers=self.HEADERS)
        np.testing.assert_allclose(wire.opened(reply)["output"], own(networks["founding"], inputs[:1])[0], atol=1e-6)

    def test_a_model_of_text_reads_one(self, client, wire, call):
        reply = client.post("/v2/models/mood/infer", content=b"sun is here.", headers=self.HEADERS)
        expected = call("mood/predict", {"text": "sun is here."}).prediction["values"]
        np.testing.assert_allclose(wire.opened(reply)["prediction"], expected, atol=1e-6)

    def test_ids_are_one_sequence(self, client, wire, call):
        content = np.array([1, 5, 0]).tobytes()
        reply = client.post("/v2/models/ids/infer", content=content, headers=self.HEADERS)
        expected = call("ids/predict", {"inputs": [[1, 5, 0]]}).prediction["values"]
        np.testing.assert_allclose(wire.opened(reply)["prediction"], expected, atol=1e-6)

    @pytest.mark.parametrize(
        ("model", "content", "message"),
        [
            ("founding", bytes(19), "inputs: has 19 bytes; a time step of FP32 has 20"),
            ("founding", b"", "inputs: has shape [1, 0, 5]: its axis 'time' is empty"),
            ("ids", bytes(9), "inputs: has 9 bytes; a time step of INT64 has 8"),
            ("mood", b"\xff", "text: is no UTF-8 text"),
            ("mood", b"", "text.0: the text has no tokens"),
            ("founding", np.full(5, np.nan, np.float32).tobytes(), "inputs.0.0.0: must be a finite float32 number"),
        ],
    )
    def test_what_cannot_be_one_is_refused(self, client, wire, model, content, message):
        reply = client.post(f"/v2/models/{model}/infer", content=content, headers=self.HEADERS)
        assert message in wire.refusal(reply)


class TestCompression:
    """gzip and deflate, both ways."""

    PACK = {"gzip": gzip.compress, "deflate": zlib.compress}  # noqa: RUF012
    UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress}  # noqa: RUF012

    @pytest.mark.parametrize("coding", PACK)
    def test_requests_are_unpacked_and_the_header_counts_what_was_packed(self, client, wire, inputs, coding):
        tensor = {"name": "inputs", "shape": [2, 4, 5], "datatype": "FP32"}
        content, headers = wire.framed(
            {"inputs": [tensor | {"parameters": {"binary_data_size": 160}}]}, inputs.numpy().tobytes()
        )
        packed = client.post(INFER, content=self.PACK[coding](content), headers=headers | {"Content-Encoding": coding})
        assert packed.json()["outputs"] == client.post(INFER, content=content, headers=headers).json()["outputs"]

    @pytest.mark.parametrize("coding", PACK)
    def test_replies_are_packed_where_that_is_asked_for(self, client, wire, inputs, coding):
        body = {"inputs": [wire.tensor("inputs", inputs)], "parameters": {"binary_data_output": True}}
        headers = {"Accept-Encoding": coding}
        with client.stream("POST", INFER, json=body, headers=headers) as reply:
            content = b"".join(reply.iter_raw())
        assert reply.headers["content-encoding"] == coding
        unpacked = self.UNPACK[coding](content)
        length = int(reply.headers["inference-header-content-length"])
        assert json.loads(unpacked[:length])["outputs"][0]["name"] == "output"
        assert len(unpacked) == length + 2 * 4 * 6 * 4

    @pytest.mark.parametrize("accepted", ["br", "identity", "gzip;q=0"])
    def test_but_not_in_another_way(self, client, wire, inputs, accepted):
        body = {"inputs": [wire.tensor("inputs", inputs)]}
        reply = client.post(INFER, json=body, headers={"Accept-Encoding": accepted})
        assert "content-encoding" not in reply.headers
        wire.opened(reply)

    @pytest.mark.parametrize(
        "path", ["/v2", "/v2/models/founding", "/v2/models/founding/config", "/v2/models/stats", "/v2/models/nobody"]
    )
    def test_nothing_but_inference_is_ever_packed(self, client, path):
        assert "content-encoding" not in client.get(path, headers={"Accept-Encoding": "gzip, deflate, br"}).headers
