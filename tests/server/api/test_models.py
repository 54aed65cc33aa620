"""`GET /v1/models` and the OpenAPI document."""

import re

import torch

from gatescope.cells import LSTM
from gatescope.server.api.routes import ROUTES, WEBSOCKET


def info_of(client, name):
    reply = client.get(f"/v1/models/{name}")
    assert reply.status_code == 200
    return reply.json()


def test_every_folder_with_a_manifest_is_listed(client):
    models = {model["name"]: model["state"] for model in client.get("/v1/models").json()["models"]}
    ready = dict.fromkeys(("founding", "both-ways", "forecaster", "river", "letters", "mood", "ids"), "ready")
    assert models == ready | {"contradicting": "unavailable", "weightless": "unavailable"}


def test_a_model_tells_what_it_is(client):
    info = info_of(client, "both-ways")
    assert info["lstm"] == {
        "input_size": 3,
        "hidden_size": 4,
        "num_layers": 2,
        "bias": True,
        "bidirectional": True,
        "proj_size": 2,
    }
    assert (info["version"], info["versions"], info["state"], info["reason"]) == ("1", ["1"], "ready", None)
    assert (info["device"], info["dtype"], info["task"]) == ("cpu", "float32", None)
    assert info["trace_method"] == "replay"  # it is projected, which oneDNN does not run
    assert info_of(client, "founding")["trace_method"] == "workspace"
    assert info["input"] == {
        "kind": "features",
        "feature_names": ["x", "y", "z"],
        "vocabulary_size": None,
        "derived": None,
        "text": False,
    }
    assert info["output"]["kind"] == "output"


def test_signals_are_described_with_their_bounds(client):
    info = info_of(client, "founding")
    assert info["cell"] == "lstm"
    assert [signal["name"] for signal in info["signals"]] == list(LSTM.signal_names)
    assert [signal["symbol"] for signal in info["signals"]] == list("ifgoch")
    assert all(signal["description"] for signal in info["signals"])
    bounds = {signal["name"]: (signal["low"], signal["high"]) for signal in info["signals"]}
    assert bounds["forget_gate"] == (0, 1)
    assert bounds["hidden_state"] == (-1, 1)
    assert bounds["cell_state"] == (None, None)
    projected = {signal["name"]: (signal["low"], signal["high"]) for signal in info_of(client, "both-ways")["signals"]}
    assert projected == bounds | {"hidden_state": (None, None)}
    assert info_of(client, "weightless")["signals"] == []


def test_a_models_inputs_outputs_and_parameters_are_told(client, networks):
    letters, mood, forecaster = (info_of(client, name) for name in ("letters", "mood", "forecaster"))
    tokens = {"kind": "tokens", "feature_names": None, "derived": None}
    assert letters["input"] == tokens | {"vocabulary_size": 4, "text": True}
    told = {"names": None, "labels": None, "predicts": None, "quantiles": None}
    for info in (letters, mood, forecaster):
        assert [head["name"] for head in info["output"].pop("heads")] == ["prediction"]
    assert letters["output"] == told | {"kind": "next_token", "labels": ["a", "b", "c", " "], "predicts": "next_step"}
    assert mood["output"] == told | {"kind": "classification", "labels": ["glad", "sad", "neither"]}
    assert forecaster["output"] == told | {"kind": "regression", "names": ["level"], "predicts": "next_step"}
    assert info_of(client, "river")["output"]["predicts"] == "same_step"
    assert mood["parameters"] == sum(parameter.numel() for parameter in networks["mood"].parameters())


def test_tokens_of_which_only_the_number_is_known_are_told_by_their_ids(client, call, networks):
    info = info_of(client, "ids")
    assert (info["input"]["kind"], info["input"]["vocabulary_size"], info["input"]["text"]) == ("tokens", 6, False)
    assert info["output"]["labels"] == list("012345")
    reply = call("ids/predict", {"inputs": [[5, 0, 3]], "horizon": 4})
    assert reply.tokens[0][:3] == ["5", "0", "3"]
    assert set(reply.prediction["labels"][0]) <= set("012345")
    assert "text" not in reply.prediction
    network = networks["ids"]
    with torch.no_grad():
        expected = network.head(network.lstm(network.embedding(torch.tensor([5, 0, 3])))[0])[-1]
    torch.testing.assert_close(torch.tensor(reply.prediction["values"][0][0]), expected, rtol=0, atol=1e-5)


def test_examples_are_complete_requests(client, call):
    example = info_of(client, "forecaster")["examples"][0]
    assert example["title"] == "two hours"
    assert call("forecaster/predict", example["request"]).prediction["values"]


def test_what_could_not_be_loaded_gives_its_reason(client):
    assert "lstm.hidden_size = 7, but the weights say hidden_size = 6" in info_of(client, "contradicting")["reason"]
    assert "model.safetensors is missing" in info_of(client, "weightless")["reason"]


def test_the_openapi_document_has_every_route_with_its_bodies(client):
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for route in (route for route in ROUTES if route.method != WEBSOCKET):
        operation = document["paths"][route.path][route.method.lower()]
        assert operation["description"]
        if route.reads:
            reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            assert schemas[reference.rsplit("/", 1)[1]]["properties"]
    assert all(field.get("description") for field in schemas["TraceRequest"]["properties"].values())


def test_every_reference_in_the_openapi_document_resolves(client):
    document = client.get("/openapi.json").json()

    def references(node):
        if isinstance(node, dict):
            yield from [node["$ref"]] if "$ref" in node else []
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    for reference in references(document):
        target = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_the_interactive_documentation_is_served(client):
    page = client.get("/docs")
    scripts = re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', page.text)
    assert len(scripts) == 2
    assert all(client.get(path).status_code == 200 for path in scripts)  # from here, not from a far-off host
