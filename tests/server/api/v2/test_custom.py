"""Modules with code of their own, by the protocol."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_model

import example_modules as examples

MANIFEST = """
description = "of its own"
task = "{task}"
factory = "example_modules:{factory}"
[input]
kind = "features"
features = [{{name = "a"}}, {{name = "b"}}, {{name = "c"}}]
[output]
{output}
"""
MODELS = {
    "decoder": ("EncoderDecoder", "regression", 'names = ["x"]', [-1, 5, 1]),
    "attention": ("ConvAttention", "classification", 'labels = ["P", "Q", "R"]', [-1, 3]),
    "stateful": ("Stateful", "regression", 'names = ["x", "y"]', [-1, 2]),
}


@pytest.fixture(scope="module")
def modules():
    torch.manual_seed(1)
    return {name: getattr(examples, factory)().eval() for name, (factory, *_) in MODELS.items()}


@pytest.fixture(scope="module")
def server(modules, serve_models, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, (factory, task, output, _) in MODELS.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "model.toml").write_text(MANIFEST.format(task=task, factory=factory, output=output))
        save_model(modules[name], root / name / "1" / "model.safetensors")
    with serve_models(root, allow_code=True) as client:
        yield client


@pytest.mark.parametrize("name", MODELS)
def test_every_output_has_the_shape_that_the_metadata_states_and_the_prediction_is_the_modules(
    server, wire, modules, name
):
    told = server.get(f"/v2/models/{name}").json()
    outputs = {tensor["name"]: tensor["shape"] for tensor in told["outputs"]}
    assert outputs["prediction"] == MODELS[name][3]
    inputs = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(3))
    body = {"inputs": [wire.tensor("inputs", inputs)], "outputs": [{"name": output} for output in outputs]}
    given = wire.opened(server.post(f"/v2/models/{name}/infer", json=body))
    for output, shape in outputs.items():
        assert all(stated in (-1, size) for stated, size in zip(shape, given[output].shape, strict=True)), output
    with torch.no_grad():
        expected = torch.cat([modules[name](row[None]) for row in inputs])
    np.testing.assert_allclose(given["prediction"], expected, atol=1e-5)


def test_a_state_is_offered_only_where_the_module_takes_one(server, wire):
    for name in MODELS:
        told = server.get(f"/v2/models/{name}").json()["inputs"]
        assert ("initial_hidden_state" in {tensor["name"] for tensor in told}) == (name == "stateful")
        assert "dynamic_batching" in server.get(f"/v2/models/{name}/config").json()
    state = wire.tensor("initial_hidden_state", np.zeros((1, 1, 4)))
    body = {"inputs": [wire.tensor("inputs", np.zeros((1, 2, 3))), state]}
    said = wire.refusal(server.post("/v2/models/decoder/infer", json=body))
    assert "model 'decoder' has no input 'initial_hidden_state'" in said


def test_a_sequence_of_one_is_refused(server, wire):
    body = {
        "inputs": [wire.tensor("inputs", np.zeros((1, 2, 3)))],
        "parameters": {"sequence_id": 1, "sequence_start": True},
    }
    said = wire.refusal(server.post("/v2/models/decoder/infer", json=body))
    assert "is a custom module, which reads a sequence as a whole" in said
