"""Which models there are, and how they come and go."""

import shutil

import pytest
from tritonclient.utils import InferenceServerException

LOAD, UNLOAD = "/v2/repository/models/founding/load", "/v2/repository/models/founding/unload"


@pytest.fixture(scope="module")
def own_models(models_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "models"
    shutil.copytree(models_dir, folder)
    return folder


@pytest.fixture(scope="module")
def owner(own_models, serve_models):
    with serve_models(own_models) as client:
        yield client


def test_the_index_has_every_version_with_its_state(client):
    listed = {told["name"]: told for told in client.post("/v2/repository/index").json()}
    assert listed["founding"] == {"name": "founding", "version": "1", "state": "READY", "reason": ""}
    assert listed["contradicting"]["state"] == "UNAVAILABLE"
    assert "hidden_size" in listed["contradicting"]["reason"]
    assert (listed["weightless"]["version"], listed["weightless"]["state"]) == ("", "UNAVAILABLE")


@pytest.mark.parametrize("body", ['{"ready": true}', ' {"ready": true, "more": 1}'])
def test_the_index_may_leave_out_what_is_not_ready(client, body):
    listed = client.post("/v2/repository/index", content=body).json()
    assert {told["state"] for told in listed} == {"READY"}
    everything = client.post("/v2/repository/index", content="{}").json()
    assert len(listed) == len(everything) - 2


@pytest.mark.parametrize("body", ["[]", '{"ready": 1}', "ready", '{"parameters": []}'])
def test_what_cannot_be_asked_of_the_repository_is_refused(client, wire, body):
    wire.refusal(client.post("/v2/repository/index", content=body))


def test_the_stock_client_unloads_and_loads(owner, stock_client):
    triton = stock_client(owner)
    triton.unload_model("founding")
    assert not triton.is_model_ready("founding")
    (told,) = [told for told in triton.get_model_repository_index() if told["name"] == "founding"]
    assert (told["state"], told["reason"]) == ("UNAVAILABLE", "it was unloaded")
    with pytest.raises(InferenceServerException, match="it was unloaded") as caught:
        triton.get_model_metadata("founding")
    assert caught.value.status() == "503"
    triton.load_model("founding")
    assert triton.is_model_ready("founding")
    assert triton.is_model_ready("founding", "1")


def test_a_load_reads_what_lies_on_disk_now(owner, own_models, stock_client):
    triton = stock_client(owner)
    (own_models / "founding" / "2").mkdir()
    shutil.copy(own_models / "founding" / "1" / "model.safetensors", own_models / "founding" / "2")
    assert not triton.is_model_ready("founding", "2")
    triton.load_model("founding")
    assert triton.is_model_ready("founding", "2")
    assert triton.get_model_metadata("founding")["versions"] == ["1", "2"]
    assert [told["version"] for told in triton.get_inference_statistics("founding")["model_stats"]] == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("nobody", "404", "there is no model 'nobody'"),
        ("contradicting", "400", "hidden_size"),
        ("weightless", "400", ""),
    ],
)
def test_what_cannot_be_loaded_says_that_it_failed_and_why(owner, stock_client, name, status, message):
    with pytest.raises(InferenceServerException, match=f"failed to load '{name}': .*{message}") as caught:
        stock_client(owner).load_model(name)
    assert caught.value.status() == status


def test_what_is_not_there_cannot_be_unloaded(owner, stock_client):
    with pytest.raises(InferenceServerException, match="failed to unload 'nobody'"):
        stock_client(owner).unload_model("nobody")


@pytest.mark.parametrize(
    "more",
    [{"config": "{}"}, {"config": "{}", "files": {"file:../../etc/passwd": b"x"}}, {"files": {"file:1/model.pt": b""}}],
)
def test_files_and_configurations_are_refused(owner, own_models, stock_client, more):
    before = sorted(own_models.rglob("*"))
    with pytest.raises(InferenceServerException, match=r"failed to load 'founding': .*not supported"):
        stock_client(owner).load_model("founding", **({"config": "{}"} | more))
    assert sorted(own_models.rglob("*")) == before


def test_a_file_alone_is_refused(owner, wire):
    reply = owner.post(LOAD, json={"parameters": {"file:1/model.safetensors": "AAAA"}})
    assert "parameters.file:1/model.safetensors: is not supported" in wire.refusal(reply)


@pytest.mark.parametrize("path", [LOAD, UNLOAD, "/v2/repository/models/nobody/load"])
def test_they_need_an_admin_key(serve, wire, path):
    with serve(api_keys=("reader",), admin_keys=("boss",)) as client:
        said = wire.refusal(client.post(path, headers={"X-API-Key": "reader"}), 401)
        assert "admin keys" in said
        assert client.post(path, headers={"X-API-Key": "boss"}).status_code in (200, 404)
        assert client.post("/v2/repository/index", headers={"X-API-Key": "reader"}).status_code == 200


def test_no_page_of_another_origin_may_use_them(client, wire):
    for path in (LOAD, UNLOAD):
        said = wire.refusal(client.post(path, headers={"Origin": "https://evil.example"}), 403)
        assert "GATESCOPE_CORS_ORIGINS" in said
