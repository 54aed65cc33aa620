"""Load, unload and upload over HTTP."""

import asyncio
import errno
import io
import json
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save

from gatescope.checkpoints.structure.options import Options
from gatescope.pipeline.model import Model
from gatescope.server.repository.repository import Repository
from tests.checkpoints.keras.files import recurrent, run, sequential, weights_of, write_keras

TINY = "/v1/models/tiny"
BODY = {"inputs": [[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]}
INPUTS = torch.tensor([BODY["inputs"]])
SCALED = (INPUTS - torch.tensor([1.0, 0.0, 0.0])) / torch.tensor([2.0, 1.0, 1.0])  # as the manifest of `tiny` feeds it


@pytest.fixture
def folder(model_folder):
    """`models/tiny` with version 1."""
    return model_folder(seed=1)


@pytest.fixture
def client(folder, serve_models):
    with serve_models(folder.models_dir) as client:
        yield client


def checkpoint(module):
    """A module's weights as `torch.save` writes them."""
    file = io.BytesIO()
    torch.save({"epoch": 7, "state_dict": module.state_dict()}, file)
    return file.getvalue()


def predicted(client, path=TINY):
    reply = client.post(f"{path}/predict", json=BODY)
    assert reply.status_code == 200, reply.text
    return reply.json()["model"]["version"], torch.tensor(reply.json()["prediction"]["values"])


def assert_predicts(client, path, version, expected):
    given, values = predicted(client, path)
    assert given == version
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=0)


def refused(reply, status, title):
    assert (reply.status_code, reply.json()["title"]) == (status, title), reply.text
    return reply.json()["detail"]


def nothing_left(folder, seconds=10.0):
    """The folder of models has no hidden remains; what removes them runs after the reply."""
    deadline = time.monotonic() + seconds
    while any(path.name.startswith(".") for path in folder.models_dir.rglob("*")):
        assert time.monotonic() < deadline, list(folder.models_dir.rglob("*"))
        time.sleep(0.01)
    return True


class TestLoadAndUnload:
    def test_unload_and_load_again(self, folder, client):
        gone = client.post(f"{TINY}/unload")
        assert (gone.status_code, gone.json()["state"], gone.json()["reason"]) == (
            200,
            "unavailable",
            "it was unloaded",
        )
        assert "it was unloaded" in refused(client.post(f"{TINY}/predict", json=BODY), 503, "ModelUnavailable")
        assert client.get("/health/ready").status_code == 200
        back = client.post(f"{TINY}/load")
        assert (back.status_code, back.json()["state"], back.json()["reason"]) == (200, "ready", None)
        assert back.json() == client.get(TINY).json()
        assert_predicts(client, TINY, "1", folder.module(SCALED))

    def test_one_version_of_several(self, folder, client, plain):
        newer = plain(seed=2)
        folder.save(newer.state_dict(), "2")
        assert_predicts(client, TINY, "1", folder.module(SCALED))  # nobody watches
        assert client.post(f"{TINY}/versions/2/load").json()["version"] == "2"
        assert_predicts(client, TINY, "2", newer(SCALED))
        gone = client.post(f"{TINY}/versions/2/unload").json()
        assert (gone["version"], gone["state"]) == ("2", "unavailable")
        assert_predicts(client, TINY, "1", folder.module(SCALED))
        assert_predicts(client, f"{TINY}/versions/1", "1", folder.module(SCALED))
        refused(client.post(f"{TINY}/versions/2/predict", json=BODY), 503, "ModelUnavailable")

    def test_a_failed_load_is_422_and_what_served_goes_on(self, folder, client):
        folder.weights().write_bytes(b"x")
        why = refused(client.post(f"{TINY}/load"), 422, "ModelError")
        assert "tiny/1/model.safetensors cannot be read" in why
        info = client.get(TINY).json()
        assert info["state"] == "ready"
        assert "what was loaded before still answers" in info["reason"]
        assert_predicts(client, TINY, "1", folder.module(SCALED))

    @pytest.mark.parametrize("change", ["load", "unload"])
    def test_what_is_not_there_is_404(self, client, change):
        assert "did you mean 'tiny'" in refused(client.post(f"/v1/models/tine/{change}"), 404, "ModelNotFound")
        refused(client.post(f"{TINY}/versions/9/{change}"), 404, "VersionNotFound")
        refused(client.post(f"/v1/models/%2e%2e/{change}"), 404, "ModelNotFound")
        refused(client.post(f"/v1/models/tiny%2F1/{change}"), 404, "NotFound")

    def test_metrics_count_versions_and_loads(self, folder, client):
        folder.save({"head.weight": torch.zeros(2, 4)}, "2")
        client.post(f"{TINY}/load")
        text = client.get("/metrics").text
        assert 'gatescope_versions_loaded{model="tiny"} 1.0' in text
        assert 'gatescope_loads_total{model="tiny",outcome="loaded"} 2.0' in text
        assert 'gatescope_loads_total{model="tiny",outcome="failed"} 1.0' in text
        shutil.rmtree(folder.path)
        client.post(f"{TINY}/load")
        assert "gatescope_versions_loaded{" not in client.get("/metrics").text

    def test_requests_go_on_while_a_model_loads(self, folder, client, monkeypatch):
        right = Model.load.__func__

        def slowly(cls, *arguments, **more):
            time.sleep(1)
            return right(cls, *arguments, **more)

        monkeypatch.setattr(Model, "load", classmethod(slowly))
        with ThreadPoolExecutor(1) as pool:
            loading, answers = pool.submit(client.post, f"{TINY}/load"), 0
            while not loading.done():
                assert_predicts(client, TINY, "1", folder.module(SCALED))
                answers += 1
        assert loading.result().status_code == 200
        assert answers > 10

    def test_a_deadline_is_kept_and_what_has_begun_goes_on(self, client, monkeypatch):
        right, loads = Model.load.__func__, []

        def slowly(cls, *arguments, **more):
            time.sleep(0.3)
            loads.append(right(cls, *arguments, **more))
            return loads[-1]

        monkeypatch.setattr(Model, "load", classmethod(slowly))
        late = client.post(f"{TINY}/load", headers={"X-Request-Timeout-Ms": "50"})
        assert "what has begun goes on" in refused(late, 504, "DeadlineExceeded")
        assert client.post(f"{TINY}/unload").json()["state"] == "unavailable"  # after it, in turn
        assert len(loads) == 1


class TestUpload:
    def test_a_checkpoint_becomes_a_model(self, client, folder, plain):
        module = plain(head=(2,), seed=5)
        reply = client.put("/v1/models/new", content=checkpoint(module), params={"features": "a,b,c", "outputs": "x,y"})
        assert reply.status_code == 201, reply.text
        assert reply.headers["location"] == "/v1/models/new/versions/1"
        told = reply.json()
        assert (told["name"], told["version"], told["state"]) == ("new", "1", "ready")
        assert told["notes"]
        assert {**client.get("/v1/models/new").json(), "notes": told["notes"]} == told
        assert told["input"]["feature_names"] == ["a", "b", "c"]
        assert_predicts(client, "/v1/models/new", "1", module(INPUTS))
        example = told["examples"][0]["request"]
        assert client.post("/v1/models/new/predict", json=example).status_code == 200
        assert nothing_left(folder)

    def test_a_keras_file_becomes_a_model(self, client, folder, tmp_path):
        weights = {"layers/lstm/cell": weights_of("LSTM", 3, 4)}
        file = write_keras(tmp_path / "m.keras", sequential(recurrent("LSTM", 4, activation="relu")), weights)
        reply = client.put("/v1/models/keras", content=file.read_bytes(), params={"outputs": "a,b,c,d"})
        assert reply.status_code == 201, reply.text
        assert reply.json()["lstm"]["activation"] == "relu"
        rows = np.random.default_rng(0).normal(0, 1, (5, 3)).astype(np.float32)
        answer = client.post("/v1/models/keras/predict", json={"inputs": [rows.tolist()]}).json()
        expected = run("LSTM", rows, weights["layers/lstm/cell"], activation=lambda x: np.maximum(x, 0))[-1]
        np.testing.assert_allclose(answer["prediction"]["values"][0], expected, atol=1e-6)
        damaged = file.read_bytes().replace(b"\x89HDF", b"\x89HDX")
        refused(client.put("/v1/models/other", content=damaged), 422, "CheckpointError")
        assert nothing_left(folder)

    def test_safetensors_become_the_next_version_under_the_manifest_that_is_there(self, client, plain, folder):
        module = plain(seed=5)
        reply = client.put(TINY, content=save(module.state_dict()))
        assert reply.headers["location"] == f"{TINY}/versions/2"
        assert_predicts(client, TINY, "2", module(SCALED))
        assert_predicts(client, f"{TINY}/versions/1", "1", folder.module(SCALED))

    def test_a_version_is_named_and_exists_once(self, client, plain):
        content = save(plain(seed=5).state_dict())
        assert client.put(f"{TINY}/versions/7", content=content).headers["location"] == f"{TINY}/versions/7"
        refused(client.put(f"{TINY}/versions/7", content=content), 409, "VersionExists")
        refused(client.put(TINY, content=content, params={"version": "7"}), 409, "VersionExists")
        assert client.put(TINY, content=content).json()["version"] == "8"

    def test_an_upload_into_an_unloaded_model_serves(self, client, plain):
        client.post(f"{TINY}/unload")
        module = plain(seed=5)
        client.put(TINY, content=save(module.state_dict()))
        assert_predicts(client, TINY, "2", module(SCALED))

    def test_what_does_not_fit_is_422_and_leaves_nothing(self, client, folder, plain):
        before = sorted(folder.models_dir.rglob("*"))
        refused(client.put("/v1/models/new", content=b"no checkpoint"), 422, "CheckpointError")
        refused(client.put("/v1/models/new", content=b""), 422, "CheckpointError")
        assert client.put(TINY, content=save(plain(9, 4).state_dict())).status_code == 422
        refused(client.get("/v1/models/new"), 404, "ModelNotFound")
        assert nothing_left(folder)
        assert sorted(folder.models_dir.rglob("*")) == before
        assert_predicts(client, TINY, "1", folder.module(SCALED))

    @pytest.mark.parametrize(
        ("query", "loc", "message"),
        [
            ({"taks": "regression"}, ["query", "taks"], "did you mean 'task'?"),
            ({"task": "guessing"}, ["query", "task"], "must be regression"),
            ({"version": "../2"}, ["query", "version"], "not '../2'"),
            ([("task", "tagging"), ("task", "tagging")], ["query", "task"], "is given 2 times"),
            ({"features": "a,,c"}, ["query", "features"], "not empty"),
        ],
    )
    def test_a_parameter_that_cannot_be_is_named(self, client, query, loc, message):
        reply = client.put("/v1/models/new", params=query, content=b"unread")
        refused(reply, 422, "InvalidInput")
        assert reply.json()["errors"][0]["loc"] == loc
        assert message in reply.json()["errors"][0]["msg"]

    def test_values_with_commas_are_given_one_by_one(self, client, plain):
        query = [("labels", "yes, surely"), ("labels", "no"), ("task", "tagging")]
        reply = client.put("/v1/models/new", params=query, content=checkpoint(plain()))
        assert reply.json()["output"]["labels"] == ["yes, surely", "no"], reply.text

    @pytest.mark.parametrize("name", ["%2e%2e", "%2e", ".hidden", "a b", "a%00b", "%2e%2e%5cx", "x" * 65, "caf%C3%A9"])
    def test_a_name_that_cannot_be_is_refused_unread(self, client, folder, name):
        before = sorted(folder.models_dir.parent.rglob("*"))
        reply = client.put(f"/v1/models/{name}", content=b"unread")
        refused(reply, 422, "InvalidInput")
        assert reply.json()["errors"][0]["loc"] == ["path", "name"]
        assert sorted(folder.models_dir.parent.rglob("*")) == before

    @pytest.mark.parametrize("path", ["/v1/models/a%2Fb", "/v1/models/a%2F..%2Fb", "/v1/models/..%2Fx/versions/1"])
    def test_a_name_is_no_path(self, client, path):
        assert client.put(path, content=b"unread").status_code in {404, 405}

    def test_a_version_in_the_path_is_not_given_again(self, client):
        reply = client.put(f"{TINY}/versions/2", params={"version": "3"}, content=b"unread")
        assert reply.json()["errors"][0]["loc"] == ["query", "version"]

    def test_a_form_or_a_compressed_body_is_415(self, client):
        form = client.put(TINY, files={"file": b"x"})
        assert "curl -T FILE" in refused(form, 415, "UnsupportedMediaType")
        refused(client.put(TINY, content=b"x", headers={"Content-Encoding": "gzip"}), 415, "UnsupportedMediaType")

    def test_more_bytes_than_are_taken_are_413(self, folder, serve_models):
        def chunks():
            for _ in range(20):
                yield b"x" * 100

        with serve_models(folder.models_dir, max_upload_bytes=1500) as client:
            assert "1,500 bytes" in refused(client.put(TINY, content=b"x" * 2000), 413, "BodyTooLarge")
            refused(client.put(TINY, content=chunks()), 413, "BodyTooLarge")
            assert nothing_left(folder)

    def test_a_large_body_goes_to_the_disk_whole(self, client, plain, folder):
        """More than one block: weights of 4 MB, which are the same on the other side."""
        module = plain(3, 500, seed=5)
        assert client.put("/v1/models/large", content=checkpoint(module)).status_code == 201
        values = predicted(client, "/v1/models/large")[1]
        torch.testing.assert_close(values, module(INPUTS), atol=1e-5, rtol=0)
        assert nothing_left(folder)

    def test_a_client_that_falls_silent_is_answered_504(self, folder, serve_models):
        def silent():
            yield b"begin"
            time.sleep(1)
            yield b"end"

        with serve_models(folder.models_dir, request_timeout_s=0.2) as client:
            late = client.put(TINY, content=silent())
            assert "no more of the body came within 0.2 seconds" in refused(late, 504, "DeadlineExceeded")
            assert nothing_left(folder)

    def test_one_that_goes_on_slowly_may_take_longer_than_other_requests(self, folder, serve_models, plain):
        content = save(plain(seed=5).state_dict())

        def slowly():
            for start in range(0, len(content), 200):
                time.sleep(0.1)
                yield content[start : start + 200]

        with serve_models(folder.models_dir, request_timeout_s=0.6) as client:
            assert client.put(TINY, content=slowly()).status_code == 201

    def test_one_that_leaves_in_the_middle_leaves_nothing_behind(self, client, folder):
        for _ in range(3):
            with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
                connection.sendall(
                    b"PUT /v1/models/new HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 5000
                )
                while not any(folder.models_dir.glob(".upload-*/upload")):
                    time.sleep(0.005)
        assert nothing_left(folder)
        refused(client.get("/v1/models/new"), 404, "ModelNotFound")

    def test_many_at_once_become_as_many_versions(self, client, plain, folder):
        modules = [plain(seed=seed) for seed in range(2, 8)]
        with ThreadPoolExecutor(6) as pool:
            replies = list(pool.map(lambda module: client.put(TINY, content=checkpoint(module)), modules))
        assert {reply.status_code for reply in replies} == {201}
        assert {reply.json()["version"] for reply in replies} == set("234567")
        for reply, module in zip(replies, modules, strict=True):
            assert_predicts(
                client, f"{TINY}/versions/{reply.json()['version']}", reply.json()["version"], module(SCALED)
            )
        assert nothing_left(folder)

    def test_of_two_of_one_version_one_wins(self, client, plain):
        modules = [plain(seed=seed) for seed in (2, 3)]
        with ThreadPoolExecutor(2) as pool:
            replies = list(pool.map(lambda m: client.put("/v1/models/new/versions/1", content=checkpoint(m)), modules))
        assert sorted(reply.status_code for reply in replies) == [201, 409]
        winner = modules[[reply.status_code for reply in replies].index(201)]
        assert_predicts(client, "/v1/models/new", "1", winner(INPUTS))

    def test_a_folder_that_takes_nothing_is_503_with_the_reason(self, client, monkeypatch):
        def refuse(*_, **__):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(Path, "mkdir", refuse)
        why = refused(client.put(TINY, content=b"x"), 503, "Unavailable")
        assert why == "this server cannot write into its folder of models: Read-only file system"

    def test_so_is_a_full_disk_in_the_middle(self, client, monkeypatch, folder):
        monkeypatch.setattr("gatescope.server.serving.local.import_checkpoint", full_disk)
        assert "No space left" in refused(client.put(TINY, content=b"x"), 503, "Unavailable")
        assert nothing_left(folder)

    def test_curl_sends_it_in_one_line(self, client, tmp_path, plain, folder):
        module = plain(seed=5)
        (tmp_path / "weights.pt").write_bytes(checkpoint(module))
        url = f"{client.base_url}/v1/models/curled?outputs=x,y"
        said = subprocess.run(["curl", "-sS", "-T", tmp_path / "weights.pt", url], check=True, capture_output=True)  # noqa: S607
        assert json.loads(said.stdout)["state"] == "ready"
        assert_predicts(client, "/v1/models/curled", "1", module(INPUTS))
        assert nothing_left(folder)

    def test_what_a_query_may_say_is_in_the_openapi_document(self, client):
        document = client.get("/openapi.json").json()
        for path, surplus in (("/v1/models/{name}", set()), ("/v1/models/{name}/versions/{version}", {"version"})):
            operation = document["paths"][path]["put"]
            named = {item["name"] for item in operation["parameters"] if item.get("in") == "query"}
            assert named == set(Options.__dataclass_fields__) - surplus
            assert operation["requestBody"]["content"]["application/octet-stream"]["schema"]["format"] == "binary"
            assert "201" in operation["responses"]


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_upload_in_the_middle_of_a_shutdown_leaves_nothing_behind(folder):
    from gatescope.server.serving.local import LocalEngine  # noqa: PLC0415

    async def begin_and_stop():
        engine = LocalEngine(Repository(folder.models_dir, torch.device("cpu")), max_queue_size=4)
        await engine.start()
        arriving = asyncio.Event()

        async def endless():
            yield b"x" * 3_000_000
            arriving.set()
            await asyncio.sleep(60)

        upload = asyncio.create_task(engine.upload("new", endless(), Options()))
        await arriving.wait()
        upload.cancel()
        await engine.stop()
        with pytest.raises(asyncio.CancelledError):
            await upload

    asyncio.run(begin_and_stop())
    assert nothing_left(folder)


def test_a_server_that_is_told_to_stop_while_it_loads_stops_soon(model_folder, serve_models, monkeypatch):
    right = Model.load.__func__

    def slowly(cls, *arguments, **more):
        time.sleep(0.2)
        return right(cls, *arguments, **more)

    folder = model_folder()
    for version in range(2, 60):
        folder.save(folder.module.state_dict(), str(version))
    with serve_models(folder.models_dir) as client:
        monkeypatch.setattr(Model, "load", classmethod(slowly))
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{TINY}/load", timeout=0.3)
        started = time.monotonic()
    assert time.monotonic() - started < 8
