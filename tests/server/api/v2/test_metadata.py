"""The server and its models, as clients ask for them before they infer."""

import pytest

SIGNAL = {"input_gate", "forget_gate", "cell_candidate", "output_gate", "cell_state", "hidden_state"}


def shapes(tensors, key="shape"):
    return {tensor["name"]: tensor[key] for tensor in tensors}


def test_health_is_told_and_the_server_names_its_extensions(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    told = client.get("/v2").json()
    assert told["name"] == "gatescope"
    assert {"binary_tensor_data", "sequence", "sequence(string_id)", "statistics"} < set(told["extensions"])


def test_until_the_models_are_loaded_nothing_is_ready(models_dir, wire, monkeypatch):
    import asyncio  # noqa: PLC0415
    import threading  # noqa: PLC0415

    import httpx  # noqa: PLC0415

    from gatescope.server.main import create_app  # noqa: PLC0415
    from gatescope.server.repository.repository import Repository  # noqa: PLC0415
    from gatescope.server.settings import Settings  # noqa: PLC0415

    loading = threading.Event()
    monkeypatch.setattr(Repository, "load", lambda _: loading.wait(10))
    app = create_app(Settings(models_dir=models_dir))

    async def ask():
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            replies = [
                await client.get(path) for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/ids/ready")
            ]
            index = await client.post("/v2/repository/index")
            loading.set()
            return *replies, index

    live, ready, model, index = asyncio.run(ask())
    assert live.status_code == 200
    wire.refusal(ready, 503)
    wire.refusal(model, 503)
    assert {"name": "ids", "version": "1", "state": "LOADING", "reason": ""} in index.json()


def test_metadata_has_every_tensor_with_its_shape(client):
    told = client.get("/v2/models/both-ways").json()
    assert (told["name"], told["versions"], told["platform"]) == ("both-ways", ["1"], "pytorch_lstm")
    assert shapes(told["inputs"]) == {
        "inputs": [-1, -1, 3],
        "sequence_lengths": [-1],
        "initial_hidden_state": [-1, 4, 2],
        "initial_cell_state": [-1, 4, 4],
    }
    outputs = shapes(told["outputs"])
    assert outputs.keys() == SIGNAL | {"output", "final_hidden_state", "final_cell_state"}
    assert outputs["output"] == [-1, -1, 4]
    assert outputs["forget_gate"] == [-1, 2, 2, -1, 4]
    assert outputs["hidden_state"] == [-1, 2, 2, -1, 2]
    assert outputs["final_hidden_state"] == [-1, 4, 2]
    assert {tensor["datatype"] for tensor in told["outputs"]} == {"FP32"}


@pytest.mark.parametrize(
    ("model", "inputs", "prediction"),
    [
        ("forecaster", {"inputs": "FP32", "sequence_lengths": "INT64"}, [-1, -1, 1]),
        ("mood", {"inputs": "INT64", "text": "BYTES", "sequence_lengths": "INT64"}, [-1, 3]),
        ("ids", {"inputs": "INT64", "sequence_lengths": "INT64"}, [-1, -1, 6]),
    ],
)
def test_metadata_follows_the_kind_of_the_model(client, model, inputs, prediction):
    told = client.get(f"/v2/models/{model}/versions/1").json()
    taken = shapes(told["inputs"], "datatype")
    assert {name: kind for name, kind in taken.items() if not name.startswith("initial")} == inputs
    assert shapes(told["outputs"])["prediction"] == prediction


def test_what_is_answered_has_the_shapes_that_the_metadata_states(client, ask, wire):
    told = client.get("/v2/models/both-ways").json()["outputs"]
    given = wire.opened(ask("both-ways", [wire.tensor("inputs", [[[1.0, 2.0, 3.0]] * 5] * 2)], shapes(told)))
    for name, shape in shapes(told).items():
        assert all(stated in (-1, size) for stated, size in zip(shape, given[name].shape, strict=True)), name


def test_a_configuration_leaves_the_batch_out(client):
    told = client.get("/v2/models/mood/config").json()
    assert told["max_batch_size"] == 256
    assert shapes(told["input"], "dims") | {"initial_cell_state": None, "initial_hidden_state": None} == {
        "inputs": [-1],
        "text": [],
        "sequence_lengths": [],
        "initial_hidden_state": None,
        "initial_cell_state": None,
    }
    assert shapes(told["input"], "data_type")["text"] == "TYPE_STRING"
    assert shapes(told["output"], "data_type")["prediction"] == "TYPE_FP32"
    assert [tensor["name"] for tensor in told["input"] if not tensor["optional"]] == ["inputs"]


@pytest.mark.parametrize(
    ("model", "scheduling"),
    [("founding", "sequence_batching"), ("both-ways", "dynamic_batching"), ("mood", "dynamic_batching")],
)
def test_a_configuration_says_whether_a_model_takes_sequences(client, model, scheduling):
    told = client.get(f"/v2/models/{model}/config").json()
    assert {name for name in told if name.endswith("_batching")} == {scheduling}


def test_a_model_is_ready_when_it_answers(client):
    assert client.get("/v2/models/founding/ready").json() == {"name": "founding", "version": "1", "ready": True}
    assert client.get("/v2/models/founding/versions/1/ready").status_code == 200


def test_the_documentation_describes_the_protocol(client):
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/v2/models/{name}/infer"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/InferRequest")
    assert operation["responses"]["200"]["content"].keys() == {"application/json", "application/octet-stream"}
    error = operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"]
    assert document["components"]["schemas"][error.rpartition("/")[2]]["required"] == ["error"]
    example = document["components"]["schemas"]["InferRequest"]["examples"][0]
    reply = client.post("/v2/models/mood/infer", json=example)
    assert [output["name"] for output in reply.json()["outputs"]] == ["prediction", "forget_gate"]
