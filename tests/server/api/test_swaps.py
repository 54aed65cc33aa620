"""Models are loaded, swapped and unloaded under load: no request fails, or is answered by two versions at once."""

import itertools
import os
import shutil
import threading
import time

import pytest
import torch
from safetensors.torch import save, save_file

from tests.bulk import number

ROUNDS = number(48, 200)
PREDICT = "/v1/models/tiny/predict"
VERSION_1 = "/v1/models/tiny/versions/1/predict"
BODY = {"inputs": [[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]}
INPUTS = torch.tensor([BODY["inputs"]])
SCALED = (INPUTS - torch.tensor([1.0, 0.0, 0.0])) / torch.tensor([2.0, 1.0, 1.0])  # as the manifest of `tiny` feeds it


class Load:
    """Clients that ask on and on; every answer is kept."""

    def __init__(self, client, clients=2):
        self.replies = []
        self._client, self._over = client, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self):
        for path in itertools.cycle((PREDICT, VERSION_1)):
            if self._over.is_set():
                return
            self.replies.append((path, self._client.post(path, json=BODY)))

    def assert_answered(self, expected):
        """Every answer is that of the version that it names; `expected` has the modules that a version was."""
        assert len(self.replies) > 20
        for path, reply in self.replies:
            assert reply.status_code == 200, reply.text
            version = reply.json()["model"]["version"]
            assert version == "1" or path == PREDICT
            values = torch.tensor(reply.json()["prediction"]["values"])
            distances = [float((values - answer).abs().max()) for answer in expected[version]]
            assert min(distances) < 1e-5, (version, distances)


@pytest.fixture
def folder(model_folder):
    """`models/tiny` with version 1, which is there all the time."""
    return model_folder(seed=1)


def until(reached, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.random
def test_loading_swapping_and_unloading_fail_no_request(folder, serve_models, plain):
    second = plain(seed=2)
    folder.save(second.state_dict(), "2")
    with serve_models(folder.models_dir) as client, Load(client) as load:
        for round_ in range(ROUNDS):
            step = ("versions/2/unload", "versions/2/load", "load", "versions/1/load")[round_ % 4]
            assert client.post(f"/v1/models/tiny/{step}").status_code == 200
    load.assert_answered({"1": [folder.module(SCALED)], "2": [second(SCALED)]})
    assert {reply.json()["model"]["version"] for _, reply in load.replies} == {"1", "2"}


@pytest.fixture
def quick(monkeypatch):
    """Looks that follow each other closely."""
    monkeypatch.setattr("gatescope.server.repository.watcher.SETTLE_S", 0.03)


@pytest.mark.usefixtures("quick")
def test_versions_that_appear_change_break_and_go_are_swapped_in_while_requests_are_answered(
    folder, serve_models, plain, tmp_path
):
    first, others = folder.module, [plain(seed=seed) for seed in range(2, 5)]
    expected = {"1": [first(SCALED)]}
    with serve_models(folder.models_dir, watch=True) as client, Load(client) as load:

        def answers():
            reply = client.post(PREDICT, json=BODY).json()
            return reply["model"]["version"], torch.tensor(reply["prediction"]["values"])

        def takes_over(version, module):
            expected.setdefault(version, []).append(module(SCALED))
            until(lambda: answers()[0] == version and torch.allclose(answers()[1], module(SCALED), atol=1e-5))

        for number, module in enumerate(others, start=2):
            expected.setdefault(str(number), []).append(module(SCALED))
            folder.save(module.state_dict(), str(number))  # written in place
            takes_over(str(number), module)
        for module in others:  # a version is replaced in one go
            expected["4"].append(module(SCALED))
            save_file(module.state_dict(), tmp_path / "next")
            os.replace(tmp_path / "next", folder.weights("4"))  # noqa: PTH105 - as a careful script does it
            takes_over("4", module)
        whole = save(others[0].state_dict())
        expected["4"].append(others[0](SCALED))
        with folder.weights("4").open("r+b") as file:  # or byte by byte, over what is served
            for start in range(0, len(whole), 256):
                file.write(whole[start : start + 256])
                file.flush()
                time.sleep(0.02)
        takes_over("4", others[0])
        folder.save({"head.weight": torch.zeros(2, 4)}, "5")
        until(lambda: "no 'head.0.weight'" in str(client.get("/v1/models/tiny/versions/5").json().get("reason")))
        info = client.get("/v1/models/tiny").json()
        assert (info["version"], info["state"]) == ("4", "ready")
        assert "version '5' is unavailable" in info["reason"]
        assert client.get("/health/ready").status_code == 200
        for gone in ("5", "4", "3"):
            shutil.rmtree(folder.path / gone)
            until(lambda gone=gone: gone not in client.get("/v1/models/tiny").json()["versions"])
        takes_over("2", others[0])
        until(lambda: client.get("/v1/models/tiny").json()["reason"] is None)
    load.assert_answered(expected)


@pytest.mark.usefixtures("quick")
def test_a_model_that_was_unloaded_is_left_alone_by_the_watch(folder, serve_models, plain):
    newer = plain(seed=2)
    with serve_models(folder.models_dir, watch=True) as client:
        assert client.post("/v1/models/tiny/unload").status_code == 200
        (folder.path / "README.md").write_text("touched")
        other = folder.path.with_name("other")
        shutil.copytree(folder.path, other)
        until(lambda: client.get("/v1/models/other").json().get("state") == "ready")
        assert client.get("/v1/models/tiny").json()["reason"] == "it was unloaded"
        folder.save(newer.state_dict())
        until(lambda: client.post(PREDICT, json=BODY).status_code == 200)
