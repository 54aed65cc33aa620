"""`GET /v1/analyses`, and analyses of models and of stored traces."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load
from safetensors.torch import save_file
from torch import nn

from gatescope import analyse, trace
from gatescope.analysis.registry import analyses

ACCEPTS = {"accept": "application/vnd.safetensors"}
BATCH = [[[1.0, 0.5, -2.0], [0.5, 0.1, 1.0], [2.0, -1.0, 0.3]], [[0.2, -0.4, 0.7]]]


def ask(client, model, analysis, body, **headers):
    return client.post(f"/v1/models/{model}/analyses/{analysis}", json=body, headers=headers)


def values_of(reply):
    return {name: np.array(each["values"], dtype=float) for name, each in reply["arrays"].items()}


def same(found, reply):
    for name, values in values_of(reply).items():
        np.testing.assert_allclose(values, found[name], rtol=1e-5, atol=1e-6)


def test_the_registry_is_listed(client):
    listed = client.get("/v1/analyses").json()["analyses"]
    assert [each["name"] for each in listed] == sorted(analyses())
    saturation = next(each for each in listed if each["name"] == "saturation")
    assert saturation["parameters"]["properties"]["left"]["default"] == 0.1
    assert saturation["arrays"]["left"] == ["signal", "layer", "direction", "unit"]


@pytest.mark.parametrize("name", ["saturation", "timescales", "variance"])
def test_statistics_are_those_of_the_library(client, networks, name):
    module = networks["both-ways"].lstm
    traced = trace(module, [torch.tensor(row) for row in BATCH])
    reply = ask(client, "both-ways", name, {"inputs": BATCH}).json()
    assert reply["model"] == {"name": "both-ways", "version": "1"}
    assert reply["analysis"] == name
    assert reply["coordinates"]["direction"] == ["forward", "reverse"]
    same(analyse(traced, name), reply)


def test_long_sequences_are_summed_up_in_chunks(client, networks):
    torch.manual_seed(1)
    inputs = torch.randn(6000, 5)
    reply = ask(client, "founding", "timescales", {"inputs": inputs.tolist()}).json()
    same(analyse(trace(networks["founding"].lstm, inputs), "timescales"), reply)


def test_a_selection_and_parameters_stand_side_by_side(client):
    body = {"inputs": [[0.1] * 5] * 4, "layers": [1], "units": "4:6", "left": 0.4}
    reply = ask(client, "founding", "saturation", body).json()
    assert reply["coordinates"] | {"signal": None} == {
        "signal": None,
        "layer": [1],
        "direction": ["forward"],
        "unit": [4, 5],
    }
    assert reply["parameters"] == {"left": 0.4, "right": 0.9}


def test_decomposition_adds_up_to_the_state(client):
    body = {"inputs": [[0.3, 0.1, -1.0, 2.0, 0.0]] * 9, "layer": 1, "units": [2]}
    reply = ask(client, "founding", "decomposition", body).json()
    found = values_of(reply)
    assert found["contribution"].sum() + found["initial"] == pytest.approx(found["state"], abs=1e-6)
    assert reply["check"]["kind"] == "residual"
    assert reply["check"]["value"] < 1e-6


def test_attribution_is_in_the_units_of_the_prediction(client):
    levels = [[10.0 + hour, float(hour)] for hour in range(6)]
    predicted = client.post("/v1/models/forecaster/predict", json={"inputs": levels}).json()["prediction"]["values"]
    reply = ask(client, "forecaster", "attribution", {"inputs": levels, "time_step": 3}).json()
    found = values_of(reply)
    assert reply["coordinates"]["output"] == ["level"]
    assert found["prediction"] == pytest.approx(predicted[0][3], rel=1e-6)
    total = found["contribution"].sum(1) + found["initial"] + found["bias"]
    assert total == pytest.approx(predicted[0][3], rel=1e-6)


def test_connectivity_of_a_label_is_that_of_autograd(client, networks):
    network = networks["mood"]
    ids = torch.tensor([[1, 3, 4, 5]])
    embedded = network.embedding(ids).detach().requires_grad_()
    network.head(network.lstm(embedded[0])[0].mean(0))[1].backward()
    reply = ask(client, "mood", "connectivity", {"text": "sun is here .", "target": "sad"}).json()
    np.testing.assert_allclose(values_of(reply)["gradient_norm"], embedded.grad[0].norm(dim=-1), rtol=1e-4)


def test_a_stored_trace_gives_what_its_sequences_give(client):
    stored = client.post("/v1/traces", json={"model": "both-ways", "inputs": BATCH}).json()["trace_id"]
    for name, parameters in (("variance", {}), ("timescales", {"units": [1]}), ("decomposition", {"sequence": 0})):
        sent = ask(client, "both-ways", name, {"inputs": BATCH, **parameters}).json()
        of_trace = client.post(f"/v1/traces/{stored}/analyses/{name}", json=parameters).json()
        assert of_trace == sent


def test_a_result_can_be_had_as_safetensors(client):
    body = {"inputs": [[0.1] * 5] * 4}
    reply = ask(client, "founding", "saturation", body).json()
    content = ask(client, "founding", "saturation", body, **ACCEPTS).content
    arrays = load(content)
    assert arrays["left"].dtype == np.float32
    np.testing.assert_array_equal(arrays["right"], np.float32(values_of(reply)["right"]))
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    assert json.loads(metadata["axes"])["left"] == ["signal", "layer", "direction", "unit"]
    assert json.loads(metadata["coordinates"]) == reply["coordinates"]


REFUSED = [
    ("founding", "saturations", {}, 404, "did you mean 'saturation'?"),
    ("founding", "saturation", {"lefft": 1}, 422, "did you mean 'left'?"),
    ("founding", "saturation", {"left": 3}, 422, "less than or equal to 1"),
    ("founding", "saturation", {"units": [9]}, 422, "units has no 9"),
    ("founding", "attribution", {}, 422, "'attribution' needs what makes the prediction"),
    ("founding", "decomposition", {"layer": 2}, 422, "there is no layer 2; there are 0 to 1"),
]


@pytest.mark.parametrize(("model", "analysis", "body", "status", "message"), REFUSED)
def test_what_cannot_be_is_refused(client, model, analysis, body, status, message):
    reply = ask(client, model, analysis, {"inputs": [[0.1] * 5] * 2, **body})
    assert reply.status_code == status
    assert message in reply.json()["detail"]


def test_a_cell_without_the_mathematics_is_refused(serve_models, tmp_path):
    folder = tmp_path / "plain"
    (folder / "1").mkdir(parents=True)
    torch.manual_seed(0)
    module = nn.RNN(2, 3)
    save_file({f"rnn.{name}": value for name, value in module.state_dict().items()}, folder / "1" / "model.safetensors")
    (folder / "model.toml").write_text(
        'format = 2\ndescription = "plain"\n[input]\nkind = "features"\nfeatures = [{name = "a"}, {name = "b"}]\n'
        '[[layers]]\nname = "rnn"\ntype = "rnn"\n'
    )
    with serve_models(tmp_path) as client:
        reply = ask(client, "plain", "timescales", {"inputs": [[1.0, 2.0]]})
        assert reply.status_code == 422
        assert "no mathematics for the cell 'rnn'" in reply.json()["detail"]
        assert ask(client, "plain", "variance", {"inputs": [[1.0, 2.0]]}).status_code == 200


def test_the_document_describes_each_analysis(client):
    document = client.get("/openapi.json").json()
    body = document["paths"]["/v1/models/{name}/analyses/{analysis}"]["post"]["requestBody"]["content"]
    names = [each["$ref"].rpartition("/")[2] for each in body["application/json"]["schema"]["oneOf"]]
    assert len(names) == len(analyses())
    assert "left" in document["components"]["schemas"]["SaturationRequest"]["properties"]
